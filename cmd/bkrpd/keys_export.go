package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/cli"
	"github.com/seed05845750/bkrp/internal/keyform"
)

// exportOptions say which keys are exported, in which form, to where.
type exportOptions struct {
	GUIDs     []string
	All       bool
	Form      string
	Plaintext bool
	Output    string
	To        []string
	ToFiles   []string

	asJSON bool
}

// newKeysExportCommand is "bkrpd keys export".
func newKeysExportCommand(std stdio) *cobra.Command {
	var (
		file string
		o    exportOptions
	)
	cmd := &cobra.Command{
		Use:   "export { GUID... | --all } -o FILE --to RECIPIENT --config FILE",
		Short: "write keys to a file, encrypted",
		Long: `Export writes keys to a new file of mode 0600, which "bkrpd keys import" reads. A
file that exists is left alone. Whoever can open it can open everything that was
ever wrapped under the keys in it; each export stands in the audit trail.

The file is encrypted by age to the recipients given by --to (age1..., which
age-keygen makes) and --to-file (a file of them); any one of them opens it. With -o -
it goes to standard output, and there is no --json.

Other programs read one key in the clear, which has to be asked for by --plaintext:

  --format lsa  the value of the LSA secret, as a Windows or Samba domain keeps it
  --format pvk  the private key of a ClientWrap key, for recovery tools
  --format pem  the same with its certificate, PKCS#8

Neither lsa of a ServerWrap key nor pvk names the key: keep its GUID in the name of
the file.`,
		Example: `  bkrpd keys export --all -o keys.age --to age1... --config /var/lib/bkrpd/bkrpd.toml
  bkrpd keys export 45cbf2fb-b468-471a-a374-3ca17b50cf3b --format pvk --plaintext \
      -o 45cbf2fb-b468-471a-a374-3ca17b50cf3b.pvk --config /var/lib/bkrpd/bkrpd.toml`,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.GUIDs = args
			guids, err := o.check()
			if err != nil {
				return err
			}
			recipients, err := o.recipients()
			if err != nil {
				return err
			}
			cfg, err := loadConfig(file, nil)
			if err != nil {
				return err
			}
			return exportKeys(cmd.Context(), std, cfg, &o, guids, recipients)
		},
	}
	addConfigFlag(cmd, &file)
	cmd.Flags().BoolVar(&o.All, "all", false, "export every key of the store")
	cmd.Flags().StringVarP(&o.Output, "out", "o", "", "the file to make")
	cmd.Flags().StringVar(&o.Form, "format", string(keyform.Age), "age, lsa, pvk or pem")
	cmd.Flags().BoolVar(&o.Plaintext, "plaintext", false, "write the key in the clear")
	cmd.Flags().StringArrayVar(&o.To, "to", nil, "age recipient who can open the file; may be given again")
	cmd.Flags().StringArrayVar(&o.ToFiles, "to-file", nil, "file of age recipients, one a line; may be given again")
	cli.AddJSONFlag(cmd, &o.asJSON)
	cmd.MarkFlagRequired("out")
	return cmd
}

// check finds mistakes in the command line.
func (o *exportOptions) check() (guids []dtyp.GUID, err error) {
	for _, text := range o.GUIDs {
		guid, err := dtyp.ParseGUID(text)
		if err != nil {
			return nil, cli.Usagef("keys export %s: %w", text, err)
		}
		guids = append(guids, guid)
	}
	form := keyform.Form(o.Form)
	switch form {
	case keyform.Age, keyform.LSA, keyform.PVK, keyform.PEM:
	default:
		return nil, cli.Usagef("--format %s: it is age, lsa, pvk or pem", o.Form)
	}
	encrypted := len(o.To)+len(o.ToFiles) != 0
	switch {
	case o.Output == "":
		return nil, cli.Usagef("--out: it is empty")
	case o.Output == "-" && o.asJSON:
		return nil, cli.Usagef("--json: with -o - the keys go to standard output; name a file")
	case (len(guids) == 0) != o.All:
		return nil, cli.Usagef("keys export: name keys by their GUIDs, or all by --all")
	case form.Plaintext() && !o.Plaintext:
		return nil, cli.Usagef("--format %s: it holds the key in the clear; add --plaintext if that is meant", form)
	case form.Plaintext() && encrypted:
		return nil, cli.Usagef("--format %s: nothing encrypts it; --to and --to-file go with age", form)
	case form.Plaintext() && len(guids) != 1:
		return nil, cli.Usagef("--format %s: it holds one key", form)
	case form.Plaintext() && o.Output == "-":
		return nil, cli.Usagef("--format %s: a key in the clear goes to a file, of mode 0600, and not to standard output", form)
	case !form.Plaintext() && o.Plaintext:
		return nil, cli.Usagef("--plaintext: choose a --format, lsa, pvk or pem")
	case !form.Plaintext() && !encrypted:
		return nil, cli.Usagef("keys export: say by --to or --to-file who can open the file")
	}
	return guids, nil
}

// recipients reads those of the command line and of the files.
func (o *exportOptions) recipients() (all []age.Recipient, err error) {
	for _, text := range o.To {
		r, err := age.ParseRecipients(strings.NewReader(text))
		if err != nil {
			return nil, cli.Usagef("--to %q: it is no age recipient, age1...", text)
		}
		all = append(all, r...)
	}
	for _, path := range o.ToFiles {
		b, _, err := readFile(path, 1<<20)
		if err != nil {
			return nil, fmt.Errorf("--to-file: %w", err)
		}
		r, err := age.ParseRecipients(bytes.NewReader(b))
		if err != nil {
			// age's error may quote a line, and somebody may have named the
			// file of an identity by mistake.
			return nil, fmt.Errorf("--to-file: %s is no list of age recipients, one age1... a line", path)
		}
		all = append(all, r...)
	}
	return all, nil
}

// exportKeys gets the keys and writes them. The file is made before the keys are
// asked for: what fails for the file's sake leaves no trace of an export.
func exportKeys(ctx context.Context, std stdio, cfg *config, o *exportOptions, guids []dtyp.GUID, recipients []age.Recipient) error {
	form := keyform.Form(o.Form)
	done := exportedEntry{Out: o.Output, Format: form, Left: []dtyp.GUID{}}
	write := func(w io.Writer) error {
		resp, err := ask(ctx, std, cfg, &adminRequest{Verb: verbKeysExport, Form: o.Form, GUIDs: guids})
		if err != nil {
			return fmt.Errorf("%s: %w", verbKeysExport, err)
		}
		defer clearKeys(resp.Keys)
		done.Left = append(done.Left, resp.Left...)
		for _, guid := range resp.Left {
			cli.Warnf(std.err, "key %v is not exported: its private half is in a token and does not leave it", guid)
		}
		done.Keys = movedEntries(resp.Keys)
		if form.Plaintext() {
			return writePlaintext(w, form, resp.Keys)
		}
		bundle := keyform.Bundle{Domain: cfg.Domain.Name, SID: cfg.Domain.SID, Exported: time.Now(), Keys: resp.Keys}
		return bundle.Seal(w, recipients...)
	}
	report := std.out
	var err error
	if o.Output == "-" {
		report = std.err
		err = write(std.out)
	} else {
		err = writeNewFile(o.Output, write)
	}
	if err != nil {
		return err
	}
	if o.asJSON {
		err = cli.PrintJSON(std.out, done)
	} else {
		done.print(report)
	}
	if form.Plaintext() && form != keyform.PEM {
		if g, ok := keyform.GUIDInName(filepath.Base(o.Output)); !ok || g != guids[0] {
			fmt.Fprintf(std.err, "note: the GUID is not in the name of %s; import it with --guid %v\n", o.Output, guids[0])
		}
	}
	return err
}

// exportedEntry is what was exported, as --json prints it.
type exportedEntry struct {
	Out    string       `json:"out"`
	Format keyform.Form `json:"format"`
	Keys   []movedEntry `json:"keys"`
	// Left are keys whose private halves are in a token.
	Left []dtyp.GUID `json:"left"`
}

func (e *exportedEntry) print(w io.Writer) {
	for _, k := range e.Keys {
		fmt.Fprintf(w, "exported %v key %v\n", k.Kind, k.GUID)
	}
}

func writePlaintext(w io.Writer, form keyform.Form, keys []*keyform.Key) error {
	if len(keys) != 1 {
		return errors.New("the store answered with another number of keys than was asked for")
	}
	b, err := keys[0].Marshal(form)
	if err != nil {
		return err
	}
	defer clear(b)
	_, err = w.Write(b)
	return err
}
