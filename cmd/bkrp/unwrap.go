package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/seed05845750/bkrp/dpapi"
	"github.com/seed05845750/bkrp/internal/cli"
)

// openFlags say what opens a wrapped secret: a server, for its owner, or the
// domain's key at hand, for whoever has that.
type openFlags struct {
	client clientFlags
	keys   keyFlags
	asJSON bool
}

func (f *openFlags) register(cmd *cobra.Command) {
	f.keys.register(cmd)
	f.client.register(cmd, keyFileFlag)
	cli.AddJSONFlag(cmd, &f.asJSON)
}

// open opens a wrapped secret of either kind. A key at hand tells whose it is; a
// server is asked who the caller is for JSON alone. The caller clears the result.
func (f *openFlags) open(ctx context.Context, blob []byte, stderr io.Writer) (*opened, error) {
	if err := f.keys.check(); err != nil {
		return nil, err
	}
	if f.keys.file != "" {
		return f.keys.open(blob, stderr)
	}
	w, err := parseWrapped(blob)
	if err != nil {
		return nil, err
	}
	c, err := f.client.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	secret, err := c.Unwrap(ctx, blob)
	if err != nil {
		return nil, fmt.Errorf("opening what is wrapped under %s key %v: %w", w.kind, w.key, err)
	}
	o := &opened{wrapped: w, by: fmt.Sprintf("%s key %v", w.kind, w.key), secret: secret}
	if f.asJSON {
		o.owner = callerSID(ctx, c, stderr)
	}
	return o, nil
}

// newUnwrapCommand is "bkrp unwrap".
func newUnwrapCommand(stdin io.Reader, stdout, stderr io.Writer) *cobra.Command {
	var (
		flags    openFlags
		in, outF string
	)
	cmd := &cobra.Command{
		Use:   "unwrap {{--server HOST[:PORT] | --domain DNSNAME} -U DOMAIN\\NAME | --key-file FILE} [-i FILE] [-o FILE]",
		Short: "have a wrapped secret opened for its owner",
		Long: `Unwrap reads a wrapped secret of either kind and writes the secret. The server
opens it only for the user it belongs to.

With --key-file it is opened here, by a key of the domain that was exported with
the domain's authority: without the server, and whoever it belongs to. The SID of
the owner goes to standard error. The file is a key as a domain controller stores
it (the LSA secret), PVK, PEM, or what bkrpd keys export writes; the latter takes
--identity. If it is another key, the GUID of the one that is needed is said.

--json prints what was opened, by what, and whose it is. It needs -o FILE, since
standard output is the secret's otherwise.`,
		Example: `  bkrp unwrap --server dc1.example.com -U 'EXAMPLE\alice' -i disk.wrapped | cryptsetup open --key-file - /dev/sdb1 data
  bkrp unwrap --key-file keys.age --identity me.key -i disk.wrapped -o disk.secret`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := toFile(flags.asJSON, outF, stdout); err != nil {
				return err
			}
			blob, err := readInput(in, stdin)
			if err != nil {
				return err
			}
			if _, err := dpapi.ParseFile(blob); err == nil {
				return cli.Usagef("the input is a DPAPI master key file: bkrp dpapi recover opens it")
			}
			o, err := flags.open(cmd.Context(), blob, stderr)
			if err != nil {
				return err
			}
			defer clear(o.secret)
			if !o.owner.IsZero() {
				fmt.Fprintf(stderr, "a secret of %v, opened by %s\n", o.owner, o.by)
			}
			if err := writeOutput(outF, stdout, o.secret); err != nil || !flags.asJSON {
				return err
			}
			return cli.PrintJSON(stdout, secretReport{
				wrappedReport: o.report(), place: flags.place(), Owner: o.owner, Out: outF, Size: len(o.secret),
			})
		},
	}
	flags.register(cmd)
	cmd.Flags().StringVarP(&in, "in", "i", "", "the file that holds the wrapped secret (default: standard input)")
	cmd.Flags().StringVarP(&outF, "out", "o", "", "the file to write the secret to, mode 0600 (default: standard output)")
	return cmd
}
