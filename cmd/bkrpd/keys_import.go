package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/cli"
	"github.com/seed05845750/bkrp/internal/keyform"
)

// formDC is where keys come from that were in no file, for the audit trail.
const formDC = "from-dc"

// importOptions say which keys are copied, and from where: a domain controller
// or a file.
type importOptions struct {
	From string
	User string
	Keys []string

	File       string
	GUID       string
	Cert       string
	Identities []string
	Current    bool

	asJSON bool
}

func newKeysImportCommand(std stdio) *cobra.Command {
	var (
		file string
		o    importOptions
	)
	cmd := &cobra.Command{
		Use:   `import { FILE | --from-dc HOST -U DOMAIN\NAME } --config FILE`,
		Short: "put keys of a file, or of an existing domain, into the store",
		Long: `Import puts keys from elsewhere into the sealed store. What was wrapped under them
can be unwrapped at once, by the same SIDs; keys that are in the store stay, unless
they are damaged and are what is imported.

FILE is what "bkrpd keys export" wrote, or another tool; which form it has shows
by itself:

  age  keys encrypted by export, opened by an identity: --identity FILE
  lsa  the value of the LSA secret of a key
  pvk  a private key as recovery tools export it, without its certificate
  pem  a private key (PKCS#8 or PKCS#1), with its certificate or without

A form that does not name its key takes the GUID from --guid, or else from the name
of the file. An RSA key without a certificate gets a new one, unless --cert gives
the old. Each key is checked before the store is touched, and read again from the
store after. With --current the key becomes the one that new secrets are wrapped
under; of an age file, those that were current where they were exported.

With --from-dc the current keys of a domain are copied out of the LSA secrets of one
of its domain controllers, where they become the current ones here too, and every
key named by --key. The LSA does not enumerate its secrets: a key that is no longer
current has to be named by its GUID, which "bkrp inspect" reads out of what was
wrapped with it. The account has to be one of the domain's administrators. Its
password is asked for on a terminal, or is the first line of the file that
BKRPD_PASSWORD_FILE names, or else of standard input. Nothing is changed in the
domain, and nothing in the store before all keys have been read and understood.`,
		Example: `  bkrpd keys import keys.age --identity me.key --config /var/lib/bkrpd/bkrpd.toml
  bkrpd keys import ntds_capi_0_45cbf2fb-b468-471a-a374-3ca17b50cf3b.pvk --config /var/lib/bkrpd/bkrpd.toml
  bkrpd keys import --from-dc dc1.example.com -U 'EXAMPLE\Administrator' --config /var/lib/bkrpd/bkrpd.toml`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				o.File = args[0]
			}
			if err := o.check(); err != nil {
				return err
			}
			cfg, err := loadConfig(file, nil)
			if err != nil {
				return err
			}
			if o.File != "" {
				return importFile(cmd.Context(), std, cfg, o)
			}
			return importFromDC(cmd.Context(), std, cfg, o)
		},
	}
	addConfigFlag(cmd, &file)
	cmd.Flags().StringVar(&o.From, "from-dc", "", "the domain controller, HOST or HOST:PORT")
	cmd.Flags().StringVarP(&o.User, "user", "U", "", `an administrator of the domain, DOMAIN\NAME`)
	cmd.Flags().StringArrayVar(&o.Keys, "key", nil, "GUID of a further key to copy; may be given again")
	cmd.Flags().StringVar(&o.GUID, "guid", "", "GUID of the key in FILE, where neither the file nor its name tells")
	cmd.Flags().StringVar(&o.Cert, "cert", "", "file with the key's certificate, PEM or DER, where FILE has none")
	cmd.Flags().StringArrayVar(&o.Identities, "identity", nil, "file (mode 0600) with age identities that open FILE; may be given again")
	cmd.Flags().BoolVar(&o.Current, "current", false, "wrap new secrets under the key from now on")
	cli.AddJSONFlag(cmd, &o.asJSON)
	return cmd
}

// check finds mistakes in the command line.
func (o *importOptions) check() error {
	switch {
	case o.File == "" && o.From == "":
		return cli.Usagef("keys import: name a file, or a domain controller by --from-dc")
	case o.File != "" && (o.From != "" || o.User != "" || len(o.Keys) != 0):
		return cli.Usagef("keys import: --from-dc, -U and --key do not go with a file")
	case o.From != "" && o.User == "":
		return cli.Usagef(`keys import: --from-dc needs an administrator of the domain, -U DOMAIN\NAME`)
	case o.From != "" && (o.GUID != "" || o.Cert != "" || len(o.Identities) != 0 || o.Current):
		return cli.Usagef("keys import: --guid, --cert, --identity and --current go with a file")
	}
	return nil
}

// importFile puts the keys of a file into the store.
func importFile(ctx context.Context, std stdio, cfg *config, o importOptions) error {
	keys, form, err := readKeyFile(std, cfg, o)
	defer clearKeys(keys)
	if err != nil {
		return fmt.Errorf("%s: %w", o.File, err)
	}
	if err := markCurrent(keys, o.Current); err != nil {
		return fmt.Errorf("%s: %w", o.File, err)
	}
	return askImport(ctx, std, cfg, keys, string(form), o.asJSON)
}

// markCurrent leaves the mark to those keys that are to be current: where
// wanted, of each kind the marked one, or the only one.
func markCurrent(keys []*keyform.Key, wanted bool) error {
	count := make(map[keyform.Kind]int)
	marked := make(map[keyform.Kind]bool)
	for _, k := range keys {
		count[k.Kind]++
		marked[k.Kind] = marked[k.Kind] || k.Current
	}
	any := false
	for _, k := range keys {
		k.Current = wanted && (k.Current || !marked[k.Kind] && count[k.Kind] == 1)
		any = any || k.Current
	}
	if wanted && !any {
		return errors.New("--current: it holds several keys and does not say which of them was current")
	}
	return nil
}

// readKeyFile reads and checks the keys of a file.
func readKeyFile(std stdio, cfg *config, o importOptions) ([]*keyform.Key, keyform.Form, error) {
	b, open, err := readFile(o.File, keyform.MaxSize)
	if err != nil {
		return nil, "", err
	}
	defer clear(b)
	form, err := keyform.Detect(b)
	if err != nil {
		return nil, "", err
	}
	if form == keyform.Age {
		keys, err := openBundle(std, cfg, o, b)
		return keys, form, err
	}
	if len(o.Identities) != 0 {
		return nil, "", cli.Usagef("--identity: the file is in the form %s and not encrypted", form)
	}
	if open {
		cli.Warnf(std.err, "others may read %s, and the key in it is in the clear", o.File)
	}
	given := keyform.Given{Domain: cfg.Domain.Name, Now: time.Now()}
	if o.GUID != "" {
		if given.GUID, err = dtyp.ParseGUID(o.GUID); err != nil {
			return nil, "", cli.Usagef("--guid %s: %w", o.GUID, err)
		}
	}
	if o.Cert != "" {
		certificate, _, err := readFile(o.Cert, 1<<20)
		if err != nil {
			return nil, "", fmt.Errorf("--cert: %w", err)
		}
		if given.Certificate, err = keyform.ParseCertificateFile(certificate); err != nil {
			return nil, "", fmt.Errorf("--cert %s: %w", o.Cert, err)
		}
	}
	key, err := keyform.Parse(form, b, given)
	if errors.Is(err, keyform.ErrNoGUID) {
		// A name may be any file's; it serves where nothing better does.
		var ok bool
		if given.GUID, ok = keyform.GUIDInName(filepath.Base(o.File)); !ok {
			return nil, "", fmt.Errorf("%w, by --guid or in the name of the file", err)
		}
		key, err = keyform.Parse(form, b, given)
	}
	if err != nil {
		return nil, "", err
	}
	return []*keyform.Key{key}, form, nil
}

func openBundle(std stdio, cfg *config, o importOptions, b []byte) ([]*keyform.Key, error) {
	if o.GUID != "" || o.Cert != "" {
		return nil, cli.Usagef("--guid and --cert do not go with an age file, which has both")
	}
	identities, err := readIdentities(o.Identities)
	if err != nil {
		return nil, err
	}
	bundle, err := keyform.OpenBundle(b, identities...)
	if err != nil {
		return nil, err
	}
	warnOfOtherSID(std, cfg, bundle.SID)
	return bundle.Keys, nil
}

// readIdentities reads the identities that an age file may be opened by.
func readIdentities(files []string) (identities []age.Identity, err error) {
	if len(files) == 0 {
		return nil, cli.Usagef("the file is encrypted; name the file of an age identity that opens it by --identity")
	}
	for _, path := range files {
		b, open, err := readFile(path, 1<<20)
		if err != nil {
			return nil, fmt.Errorf("--identity: %w", err)
		}
		defer clear(b)
		if open {
			return nil, fmt.Errorf("--identity: others may read %s: chmod 600 it", path)
		}
		// The error of age may quote a line, which is a secret.
		ids, err := parseIdentities(b)
		if err != nil {
			return nil, fmt.Errorf("--identity: %s is no list of age identities, one AGE-SECRET-KEY-... a line", path)
		}
		identities = append(identities, ids...)
	}
	return identities, nil
}

// importedEntry is what was imported, as --json prints it.
type importedEntry struct {
	Format string       `json:"format"` // "from-dc" if the keys were in no file
	Keys   []movedEntry `json:"keys"`
}

// movedEntry is a key that went in or out, without its secret.
type movedEntry struct {
	GUID    dtyp.GUID    `json:"guid"`
	Kind    keyform.Kind `json:"kind"`
	Current bool         `json:"current"`
}

func movedEntries(keys []*keyform.Key) []movedEntry {
	entries := make([]movedEntry, len(keys))
	for i, k := range keys {
		entries[i] = movedEntry{k.GUID, k.Kind, k.Current}
	}
	return entries
}

// askImport has keys put into the store, all or, after an error, some of them.
func askImport(ctx context.Context, std stdio, cfg *config, keys []*keyform.Key, form string, asJSON bool) error {
	defer cli.ShowProgress(std.err, cli.Doing("importing "+count(len(keys), "key", "keys")))()
	resp, err := ask(ctx, std, cfg, &adminRequest{Verb: verbKeysImport, Form: form, Keys: keys})
	if err != nil {
		return fmt.Errorf("%s: %w", verbKeysImport, err)
	}
	if asJSON {
		return cli.PrintJSON(std.out, importedEntry{form, movedEntries(resp.Keys)})
	}
	for _, k := range resp.Keys {
		if k.Current {
			fmt.Fprintf(std.out, "imported %v, now current\n", k)
		} else {
			fmt.Fprintf(std.out, "imported %v\n", k)
		}
	}
	return nil
}

func clearKeys(keys []*keyform.Key) {
	for _, k := range keys {
		k.Clear()
	}
}
