package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/cli"
	"github.com/seed05845750/bkrp/keystore"
	"github.com/seed05845750/bkrp/keystore/lsastore"
)

// newKeysCommand is "bkrpd keys".
func newKeysCommand(std stdio) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "manage the keys of the domain",
		Args:  cobra.NoArgs, // or cobra takes a mistyped command for a plea for help
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},
	}
	cmd.AddCommand(newKeysImportCommand(std))
	return cmd
}

// importOptions say which keys are copied, and from where.
type importOptions struct {
	From string
	User string
	Keys []string
}

func newKeysImportCommand(std stdio) *cobra.Command {
	var (
		file string
		o    importOptions
	)
	cmd := &cobra.Command{
		Use:   `import --from-dc HOST -U DOMAIN\NAME --config FILE`,
		Short: "copy the keys of an existing domain into the store",
		Long: `Import copies the current keys of a domain out of the LSA secrets of one of its
domain controllers into the sealed store, where they become the current ones, and
every key named by --key. Keys that are in the store stay. What the domain's users
have had wrapped under these keys can then be unwrapped here, by the same SIDs.

The LSA does not enumerate its secrets: a key that is no longer current has to be
named by its GUID, which "bkrp inspect" reads out of what was wrapped with it.

The account has to be one of the domain's administrators. Its password is asked
for on a terminal, or is the first line of the file that BKRPD_PASSWORD_FILE
names, or else of standard input. Nothing is changed in the domain, and nothing
in the store before all keys have been read and understood.`,
		Example: `  bkrpd keys import --from-dc dc1.example.com -U 'EXAMPLE\Administrator' --config /var/lib/bkrpd/bkrpd.toml`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(file, nil)
			if err != nil {
				return err
			}
			return importKeys(cmd.Context(), std, cfg, o)
		},
	}
	addConfigFlag(cmd, &file)
	cmd.Flags().StringVar(&o.From, "from-dc", "", "the domain controller, HOST or HOST:PORT")
	cmd.Flags().StringVarP(&o.User, "user", "U", "", `an administrator of the domain, DOMAIN\NAME`)
	cmd.Flags().StringArrayVar(&o.Keys, "key", nil, "GUID of a further key to copy; may be given again")
	cmd.MarkFlagRequired("from-dc")
	cmd.MarkFlagRequired("user")
	return cmd
}

func importKeys(ctx context.Context, std stdio, cfg *config, o importOptions) error {
	domain, user, ok := strings.Cut(o.User, `\`)
	if !ok || domain == "" || user == "" {
		return cli.Usagef(`-U %s: it must be DOMAIN\NAME`, o.User)
	}
	var guids []dtyp.GUID
	for _, text := range o.Keys {
		guid, err := dtyp.ParseGUID(text)
		if err != nil {
			return cli.Usagef("--key %s: %w", text, err)
		}
		guids = append(guids, guid)
	}
	if cfg.Store.Backend == backendLSA {
		return errors.New(`keys import: the store of this configuration is a domain controller (store.backend is "lsa"); there is nothing to copy to`)
	}
	password, err := readDomainPassword(std, o.User)
	if err != nil {
		return err
	}
	defer clear(password)
	dc, err := lsastore.Open(ctx, lsastore.Config{
		Server: o.From, Domain: domain, User: user, Password: lsastore.Password(password),
	})
	if err != nil {
		return err
	}
	defer dc.Close()
	warnOfOtherDomain(ctx, std, cfg, dc)
	keys, err := domainKeys(ctx, dc, guids)
	defer func() {
		for _, k := range keys {
			clear(k.Secret)
		}
	}()
	if err != nil {
		return fmt.Errorf("reading the keys of %s: %w", o.From, err)
	}
	for i := range keys {
		k := &keys[i]
		if _, err := ask(ctx, cfg, &adminRequest{Verb: verbKeysImport, Name: k.GUID.String(), Key: k}); err != nil {
			return fmt.Errorf("%s: %v: %w", verbKeysImport, k.GUID, err)
		}
		fmt.Fprintf(std.out, "imported %s\n", k)
	}
	return nil
}

// warnOfOtherDomain tells that secrets of the domain's users are bound to SIDs
// that nobody has in the store's domain.
func warnOfOtherDomain(ctx context.Context, std stdio, cfg *config, dc *lsastore.Backend) {
	self, err := dc.Self(ctx)
	if err != nil {
		fmt.Fprintf(std.err, "warning: the domain's SID is not known: %v\n", err)
		return
	}
	if sid, _, _ := self.Cut(); sid != cfg.Domain.SID {
		fmt.Fprintf(std.err, "warning: the keys are of the domain %v, and this server's is %v: only callers with SIDs of the former unwrap what was wrapped there\n", sid, cfg.Domain.SID)
	}
}

// domainKeys reads the domain's current keys and those named. The keys read so
// far are returned with an error as well, to be cleared.
func domainKeys(ctx context.Context, dc *lsastore.Backend, guids []dtyp.GUID) (keys []adminKey, err error) {
	for _, p := range []struct{ pointer, kind string }{
		{keystore.CurrentClientSecret, kindClientWrap},
		{keystore.CurrentServerSecret, kindServerWrap},
	} {
		value, _, err := dc.Get(ctx, p.pointer)
		if errors.Is(err, keystore.ErrNotFound) {
			continue // the domain has never needed one
		}
		if err != nil {
			return keys, fmt.Errorf("reading %s: %w", p.pointer, err)
		}
		if len(value) != dtyp.GUIDSize {
			return keys, fmt.Errorf("%s has %d octets and is no GUID", p.pointer, len(value))
		}
		key, err := domainKey(ctx, dc, dtyp.GUID(value))
		if err != nil {
			return keys, err
		}
		key.Current = true
		keys = append(keys, key)
		if key.Kind != p.kind {
			return keys, fmt.Errorf("%s leads to a %s", p.pointer, &key)
		}
	}
	for _, guid := range guids {
		key, err := domainKey(ctx, dc, guid)
		if err != nil {
			return keys, err
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, errors.New("the domain has no current key; name others by --key")
	}
	return keys, nil
}

func domainKey(ctx context.Context, dc *lsastore.Backend, guid dtyp.GUID) (adminKey, error) {
	secret, _, err := dc.Get(ctx, keystore.SecretPrefix+guid.String())
	if err != nil {
		return adminKey{}, fmt.Errorf("reading key %v: %w", guid, err)
	}
	k := adminKey{GUID: guid, Secret: secret}
	if k.Kind, err = kindOf(guid, secret); err != nil {
		clear(secret)
		return adminKey{}, err
	}
	return k, nil
}

// passwordFileEnv names the variable with the file that the password of an
// administrator of another domain is in.
const passwordFileEnv = environmentPrefix + "PASSWORD_FILE"

// readDomainPassword takes the password of an account from a file, a terminal
// or standard input.
func readDomainPassword(std stdio, user string) ([]byte, error) {
	if path := os.Getenv(passwordFileEnv); path != "" {
		return readFirstLine("the password ("+passwordFileEnv+")", path)
	}
	if f, ok := std.in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return cli.ReadPassword(std.err, f, "Password for "+user+": ")
	}
	return readPasswordLine(io.Reader(std.in))
}
