package main

import (
	"io"

	"github.com/spf13/cobra"

	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/cli"
)

// newWrapCommand is "bkrp wrap".
func newWrapCommand(stdin io.Reader, stdout io.Writer) *cobra.Command {
	var (
		flags    clientFlags
		mode     string
		version  uint32
		sid      string
		in, outF string
		asJSON   bool
	)
	cmd := &cobra.Command{
		Use:   "wrap {--server HOST[:PORT] | --domain DNSNAME} -U DOMAIN\\NAME [-i FILE] [-o FILE]",
		Short: "wrap a secret so that only its owner gets it back",
		Long: `Wrap reads a secret and writes a wrapped secret, which can be kept anywhere:
only its owner, logged on to a server of the domain, gets the secret back.

  --mode client  (default) wraps here, under the domain's public key. The secret
                 does not travel. At most 205 octets (version 2) or 181 (version
                 3) with a 2048-bit key.
  --mode server  has the server wrap it; any length up to the server's limit.
  --mode auto    client if the secret is short enough for it, server otherwise.

--json prints what was made, and whose it is. It needs -o FILE, since standard output
is the wrapped secret's otherwise.`,
		Example: `  head -c 32 /dev/urandom | bkrp wrap --server dc1.example.com -U 'EXAMPLE\alice' -o disk.wrapped
  bkrp wrap --domain example.com -k -i disk.key -o disk.wrapped
  bkrp wrap --server dc1.example.com -U 'EXAMPLE\alice' --mode server -i notes.txt -o notes.wrapped`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := wrapOptions(mode, version, sid)
			if err != nil {
				return err
			}
			if err := toFile(asJSON, outF, stdout); err != nil {
				return err
			}
			if outF == "" && cli.IsTerminal(stdout) {
				return cli.Usagef("a wrapped secret is no text for a terminal: give -o FILE, or -o - to have it there all the same")
			}
			secret, err := readInput(in, stdin)
			if err != nil {
				return err
			}
			defer clear(secret)
			c, err := flags.dial(cmd.Context())
			if err != nil {
				return err
			}
			defer c.Close()
			blob, err := c.Wrap(cmd.Context(), secret, o)
			if err != nil {
				return err
			}
			if err := writeOutput(outF, stdout, blob); err != nil || !asJSON {
				return err
			}
			r, err := madeReport(blob)
			if err != nil {
				return err
			}
			if r.Owner = o.SID; o.SID.IsZero() || r.Kind == serverWrapped {
				r.Owner = callerSID(cmd.Context(), c, cmd.ErrOrStderr())
			}
			r.place, r.Out = flags.place(), outF
			return cli.PrintJSON(stdout, r)
		},
	}
	cmd.Flags().BoolVar(&flags.domain.fallBack, "fall-back", false, "with --domain: have the server wrap the secret when the domain's public key is not to be had, as Windows does; whoever can bring that about then chooses for you")
	flags.register(cmd)
	cmd.MarkFlagsMutuallyExclusive("server", "fall-back")
	cmd.Flags().StringVar(&mode, "mode", "client", "where to wrap: client, server or auto")
	cmd.Flags().Uint32Var(&version, "version", 2, "version of the client's format: 2 (3DES, SHA-1) or 3 (AES-256, SHA-512)")
	cmd.Flags().StringVar(&sid, "sid", "", "whom the secret will belong to (default: the caller, as the server names it); what the server wraps is the caller's, and refused for another")
	cmd.Flags().StringVarP(&in, "in", "i", "", "the file that holds the secret (default: standard input)")
	cmd.Flags().StringVarP(&outF, "out", "o", "", "the file to write the wrapped secret to, mode 0600 (default: standard output)")
	cli.AddJSONFlag(cmd, &asJSON)
	return cmd
}

func wrapOptions(mode string, version uint32, sid string) (o bkrpclient.WrapOptions, err error) {
	switch mode {
	case "client":
		o.Mode = bkrpclient.ModeClient
	case "server":
		o.Mode = bkrpclient.ModeServer
	case "auto":
		o.Mode = bkrpclient.ModeAuto
	default:
		return o, cli.Usagef("mode %q: it is client, server or auto", mode)
	}
	if version != 2 && version != 3 {
		return o, cli.Usagef("version %d: it is 2 or 3", version)
	}
	o.Version = version
	if sid != "" {
		if o.Mode == bkrpclient.ModeServer {
			return o, cli.Usagef("--sid: in mode server the secret always belongs to the caller")
		}
		if o.SID, err = dtyp.ParseSID(sid); err != nil {
			return o, cli.UsageError{Err: err}
		}
	}
	return o, nil
}
