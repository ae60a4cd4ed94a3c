package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/seed05845750/bkrp/dpapi"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/cli"
	"github.com/seed05845750/bkrp/internal/keyform"
)

// newRecoverCommand is "bkrp dpapi recover".
func newRecoverCommand(stdin io.Reader, stdout, stderr io.Writer) *cobra.Command {
	var (
		flags        openFlags
		format, outF string
	)
	cmd := &cobra.Command{
		Use:   "recover FILE {--server HOST[:PORT] -U DOMAIN\\NAME | --key-file FILE} [--format FORMAT] [-o FILE]",
		Short: "recover the master key in a DPAPI master key file",
		Long: `Recover opens the domain key part of a master key file, as it stands in
%APPDATA%\Microsoft\Protect\SID, or as credential roaming keeps it in the
directory, and writes the master key. The user's old password is not needed, and
nothing is done with passwords here.

A server opens it for its owner only; with --key-file a key of the domain that
was exported with the domain's authority opens it here (bkrp unwrap --help).

  --format hex   (default) 128 digits and a line end
  --format raw   the 64 octets, not to a terminal
  --format sha1  {GUID}:SHA1, the line that tools which decrypt blobs take as
                 the key. It is as secret as the key.
  --format json  all of it, and how it was opened

--json prints which key was written where, and how it was opened, and not the key. It
needs -o FILE, since standard output is the key's otherwise.

What is checked: that the domain key part is as it was wrapped, that the caller
is its owner (by a server), and that what it holds is as long as a master key. A
file whose name or folder is another key's or user's gets a warning. Nothing else
in the file can be checked without the password of the user: only a blob that it
decrypts proves that the master key is the right one.`,
		Example: `  bkrp dpapi recover 7fc19508-7b85-4a7c-9e5d-15f9e00e7ce5 --server dc1.example.com -U 'EXAMPLE\alice' -o master.key
  bkrp dpapi recover 7fc19508-7b85-4a7c-9e5d-15f9e00e7ce5 --key-file domain.pvk --format sha1`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := toFile(flags.asJSON, outF, stdout); err != nil {
				return err
			}
			if err := checkFormat(format, outF, stdout); err != nil {
				return err
			}
			f, err := readMasterKeyFile(args[0], stdin)
			if err != nil {
				return err
			}
			r, err := flags.recover(cmd.Context(), f, stderr)
			if err != nil {
				return err
			}
			defer r.key.Clear()
			r.checkPlace(args[0], stderr)
			text, err := r.format(format)
			if err != nil {
				return err
			}
			defer clear(text)
			if err := writeOutput(outF, stdout, text); err != nil || !flags.asJSON {
				return err
			}
			return cli.PrintJSON(stdout, recoveredReport{
				GUID: r.key.GUID, OpenedBy: r.by.by, place: flags.place(), Owner: r.by.owner,
				File: args[0], Format: format, Out: outF, Size: len(text),
			})
		},
	}
	flags.register(cmd)
	cmd.Flags().StringVar(&format, "format", "hex", "how the key is written: hex, raw, sha1 or json")
	cmd.Flags().StringVarP(&outF, "out", "o", "", "the file to write the master key to, mode 0600 (default: standard output)")
	return cmd
}

// checkFormat keeps octets that are no text, and no one else's to see, from a
// terminal, by whatever name.
func checkFormat(format, name string, stdout io.Writer) error {
	switch format {
	case "hex", "sha1", "json":
		return nil
	case "raw":
	default:
		return cli.Usagef("--format %q: it is hex, raw, sha1 or json", format)
	}
	terminal := (name == "" || name == "-") && cli.IsTerminal(stdout)
	if info, err := os.Stat(name); err == nil && info.Mode()&os.ModeCharDevice != 0 {
		if f, err := os.OpenFile(name, os.O_WRONLY, 0); err == nil {
			terminal = cli.IsTerminal(f)
			f.Close()
		}
	}
	if terminal {
		return cli.Usagef("--format raw: a terminal is no place for it; give -o FILE")
	}
	return nil
}

func readMasterKeyFile(name string, stdin io.Reader) (*dpapi.MasterKeyFile, error) {
	b, err := readInput(name, stdin)
	if err != nil {
		return nil, err
	}
	f, err := dpapi.ParseFile(b)
	if err == nil {
		return f, nil
	}
	if _, errWrapped := parseWrapped(b); errWrapped == nil {
		return nil, cli.Usagef("%s is a wrapped secret and no master key file: bkrp unwrap opens it", name)
	}
	return nil, fmt.Errorf("%s: %w", name, err)
}

// recovered is a master key and how it was had.
type recovered struct {
	key *dpapi.MasterKey
	by  *opened // without the secret
}

func (f *openFlags) recover(ctx context.Context, file *dpapi.MasterKeyFile, stderr io.Writer) (*recovered, error) {
	r := new(recovered)
	key, err := file.Recover(ctx, func(ctx context.Context, blob []byte) ([]byte, error) {
		o, err := f.open(ctx, blob, stderr)
		if err != nil {
			return nil, err
		}
		r.by = &opened{wrapped: o.wrapped, owner: o.owner, by: o.by}
		return o.secret, nil
	})
	if err != nil {
		return nil, err
	}
	r.key = key
	whose := "the caller"
	if !r.by.owner.IsZero() {
		whose = r.by.owner.String()
	}
	fmt.Fprintf(stderr, "%v of %s, opened by %s\n", key, whose, r.by.by)
	return r, nil
}

// checkPlace warns when the file is not where Windows keeps it, in a folder that
// the owner's SID names, by a name that is the GUID. Another place says nothing.
func (r *recovered) checkPlace(name string, stderr io.Writer) {
	if guid, ok := keyform.GUIDInName(filepath.Base(name)); ok && guid != r.key.GUID {
		cli.Warnf(stderr, "%s holds another master key than its name says, %v", name, r.key.GUID)
	}
	path, err := filepath.Abs(name)
	if err != nil || r.by.owner.IsZero() {
		return
	}
	if folder, err := dtyp.ParseSID(filepath.Base(filepath.Dir(path))); err == nil && folder != r.by.owner {
		cli.Warnf(stderr, "%s lies in the folder of %v, and its master key was wrapped for %v", name, folder, r.by.owner)
	}
}

// format writes the key. The caller clears the result.
func (r *recovered) format(format string) ([]byte, error) {
	octets, sum := r.key.Octets(), r.key.SHA1()
	defer clear(sum[:])
	switch format {
	case "raw":
		return bytes.Clone(octets), nil
	case "sha1":
		return fmt.Appendf(nil, "{%v}:%X\n", r.key.GUID, sum), nil
	case "json":
		return r.json()
	}
	return append(hex.AppendEncode(make([]byte, 0, 2*len(octets)+1), octets), '\n'), nil
}

// recoveredJSON is what --format json writes.
type recoveredJSON struct {
	GUID     string `json:"guid"`
	Owner    string `json:"owner,omitempty"`
	OpenedBy string `json:"opened_by"`
	Key      string `json:"key"`
	SHA1     string `json:"sha1"`
}

func (r *recovered) json() ([]byte, error) {
	v := recoveredJSON{GUID: r.key.GUID.String(), OpenedBy: r.by.by, Key: hex.EncodeToString(r.key.Octets())}
	sum := r.key.SHA1()
	v.SHA1 = hex.EncodeToString(sum[:])
	if !r.by.owner.IsZero() {
		v.Owner = r.by.owner.String()
	}
	b, err := json.Marshal(&v)
	return append(b, '\n'), err
}
