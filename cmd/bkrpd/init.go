package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/cli"
	"github.com/seed05845750/bkrp/keystore"
	"github.com/seed05845750/bkrp/keystore/boltstore"
)

// configName is the configuration file that init makes in its directory.
const configName = "bkrpd.toml"

// initOptions say what "bkrpd init" makes, and where.
type initOptions struct {
	Dir     string
	Domain  string
	NetBIOS string
	// SID is the domain's; "" draws one.
	SID string
	// KEK is where the key-encryption key comes from; zero makes a key file.
	KEK string
	// Set are other values of the configuration, KEY=VALUE.
	Set []string
}

// newInitCommand is "bkrpd init".
func newInitCommand(std stdio) *cobra.Command {
	var (
		o      initOptions
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "init --dir DIR --domain DNSNAME",
		Short: "make a domain: its store, its SID, its key-encryption key, its configuration",
		Long: `Init makes DIR (mode 0700) with

  bkrpd.toml  the configuration: every option with its default and a line on it
  bkrpd.db    the store, sealed; keys are made in it when they are first needed
  kek.bin     the key-encryption key that seals the store, mode 0600

Keep a copy of kek.bin somewhere else: without it nothing in the store, and so
nothing that was ever wrapped, can be opened. With --kek passphrase-file:FILE the
first line of that file is the passphrase that seals the store, and no kek.bin is
made. With --kek 'kms:pkcs11:token=LABEL;object=NAME?module-path=/LIBRARY&pin-source=/FILE'
an RSA key in a hardware module does, which is made there if the token has none of
that name; see to the token's own backup. An existing domain is left alone.

With --set store.backend=etcd and --set store.etcd.endpoints=URL,URL the store is
made in an etcd cluster, and no bkrpd.db. Further servers on the same store take
copies of bkrpd.toml and kek.bin, without init.

The domain gets a SID of its own, unless it is to serve one that exists, whose
SID is given by --sid.`,
		Example: `  bkrpd init --dir /var/lib/bkrpd --domain example.com --netbios EXAMPLE`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			made, err := initDomain(cmd.Context(), o)
			if err != nil {
				return err
			}
			if !asJSON {
				fmt.Fprintf(std.out, "made the domain %s; its configuration is %s\n", o.Domain, made.Config)
			} else if err := cli.PrintJSON(std.out, made); err != nil {
				return err
			}
			fmt.Fprintf(std.text(asJSON), "add users with: bkrpd user add NAME --config %s\n", made.Config)
			return nil
		},
	}
	cmd.Flags().StringVar(&o.Dir, "dir", "", "the directory to make")
	cmd.Flags().StringVar(&o.Domain, "domain", "", "DNS name of the domain")
	cmd.Flags().StringVar(&o.NetBIOS, "netbios", "", "NetBIOS name of the domain (default: the first label of its DNS name, in upper case)")
	cmd.Flags().StringVar(&o.SID, "sid", "", "SID of an existing domain that is to be served (default: a random one)")
	cmd.Flags().StringVar(&o.KEK, "kek", "", "what seals the store, file:PATH (made if it is not there), passphrase-file:PATH or kms:pkcs11:URI (made if it is not there) (default: file:kek.bin)")
	cmd.Flags().StringArrayVar(&o.Set, "set", nil, "another value of the configuration, KEY=VALUE as in smb.encryption=require; the elements of a list are separated by commas; may be repeated")
	cli.AddJSONFlag(cmd, &asJSON)
	cmd.MarkFlagRequired("dir")
	cmd.MarkFlagRequired("domain")
	return cmd
}

// madeDomain is what init made, and where, as --json prints it.
type madeDomain struct {
	Config string          `json:"config"`
	Domain keystore.Domain `json:"domain"`
	Store  string          `json:"store"` // the file, or the cluster
	KEK    kekURI          `json:"kek"`
}

// initDomain makes a domain. The configuration is written last: where it stands,
// the domain is whole.
func initDomain(ctx context.Context, o initOptions) (*madeDomain, error) {
	if o.Dir == "" {
		return nil, cli.Usagef("--dir: it is empty")
	}
	file := filepath.Join(o.Dir, configName)
	if _, err := os.Lstat(file); err == nil {
		return nil, fmt.Errorf("%s exists: this directory holds a domain already", file)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	cfg, err := initConfig(o)
	if err != nil {
		return nil, err
	}
	if err := makeDirectory(o.Dir); err != nil {
		return nil, err
	}
	resolved := *cfg
	resolved.resolve(o.Dir)
	made := &madeDomain{Config: file, Domain: resolved.Domain.stored(), Store: resolved.Store.place(), KEK: resolved.Seal.KEK}
	if err := createStore(ctx, &resolved); err != nil {
		return nil, err
	}
	return made, writeConfig(file, cfg)
}

// initConfig is the default configuration with the domain filled in.
func initConfig(o initOptions) (*config, error) {
	cfg := defaultConfig()
	cfg.Domain.Name = strings.ToLower(o.Domain)
	cfg.Domain.NetBIOS = strings.ToUpper(o.NetBIOS)
	if o.NetBIOS == "" {
		label, _, _ := strings.Cut(o.Domain, ".")
		cfg.Domain.NetBIOS = strings.ToUpper(label)
	}
	var err error
	if cfg.Domain.SID, err = domainSID(o.SID); err != nil {
		return nil, cli.Usagef("--sid: %w", err)
	}
	if o.KEK != "" {
		if err := cfg.Seal.KEK.UnmarshalText([]byte(o.KEK)); err != nil {
			return nil, cli.Usagef("--kek: %w", err)
		}
		// The configuration is read relative to its own directory, the flag
		// relative to this one.
		if path := cfg.Seal.KEK.path(); path != nil {
			if *path, err = filepath.Abs(*path); err != nil {
				return nil, err
			}
		}
	}
	for _, setting := range o.Set {
		if err := cfg.setText(setting); err != nil {
			return nil, cli.Usagef("--set %w", err)
		}
	}
	setsNTLM := slices.ContainsFunc(o.Set, func(s string) bool { return strings.HasPrefix(s, "auth.ntlm=") })
	if cfg.Auth.Keytab != "" && !setsNTLM {
		cfg.Auth.NTLM = ntlmOff // as where the line is left out
	}
	for _, f := range cfg.check() {
		return nil, cli.Usagef("%s: %w", f.key, f.err)
	}
	return &cfg, nil
}

// domainSID reads the SID of a domain ([MS-DTYP] 2.4.2.4), S-1-5-21 and three
// numbers; it draws one for "".
func domainSID(text string) (dtyp.SID, error) {
	if text == "" {
		return keystore.RandomDomainSID(), nil
	}
	sid, err := dtyp.ParseSID(text)
	if err != nil {
		return dtyp.SID{}, err
	}
	if parent, _, ok := sid.Cut(); !ok || !strings.HasPrefix(parent.String(), "S-1-5-21-") || strings.Count(sid.String(), "-") != 6 {
		return dtyp.SID{}, errors.New("must be S-1-5-21 and three numbers; an account's has one more, which is not the domain's")
	}
	return sid, nil
}

// setText takes a setting KEY=VALUE.
func (c *config) setText(setting string) error {
	key, value, ok := strings.Cut(setting, "=")
	for _, o := range c.options() {
		if !ok || o.key != key {
			continue
		}
		if err := o.setText(value); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		return nil
	}
	return fmt.Errorf("%q: is not KEY=VALUE with a key of the configuration", key)
}

// stored is the domain as a store has it.
func (c *domainConfig) stored() keystore.Domain {
	return keystore.Domain{DNSName: c.Name, NetBIOSName: c.NetBIOS, SID: c.SID}
}

// createStore makes the sealed store and, unless there is one, its key file.
func createStore(ctx context.Context, c *config) error {
	sealer, err := createKEK(ctx, c)
	if err != nil {
		return err
	}
	backend, err := createBackend(ctx, c)
	if err != nil {
		return errors.Join(err, closeKEK(sealer))
	}
	err = keystore.Create(ctx, backend, sealer, c.Domain.stored())
	return errors.Join(err, backend.Close(), closeKEK(sealer))
}

// createBackend makes the file of the store, or finds the cluster for it.
func createBackend(ctx context.Context, c *config) (keystore.Backend, error) {
	switch c.Store.Backend {
	case backendEtcd:
		return openEtcd(ctx, &c.Store.Etcd)
	case backendLSA:
		return nil, errors.New("store.backend \"lsa\" has no store to make: the domain keeps the keys; write the configuration by hand")
	}
	backend, err := boltstore.Create(c.Store.Bolt.Path, boltstore.Options{})
	if errors.Is(err, fs.ErrExist) {
		err = fmt.Errorf("%w: without a %s beside it, it is what an interrupted init left; if no daemon ever used it, remove it", err, configName)
	}
	if err != nil {
		return nil, err
	}
	return backend, nil
}

func createKEK(ctx context.Context, cfg *config) (keystore.Sealer, error) {
	uri := cfg.Seal.KEK
	switch uri.Scheme {
	case kekPassphraseFile:
		return openKEK(ctx, cfg)
	case kekKMS:
		return openTokenKEK(ctx, uri, cfg.HSM.Timeout, true)
	}
	if _, err := os.Lstat(uri.Path); err == nil {
		return keystore.ReadKeyFile(uri.Path)
	}
	return keystore.CreateKeyFile(uri.Path)
}

// makeDirectory makes a directory of mode 0700, and those above it, which are on
// the disk with their names when it returns.
func makeDirectory(path string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	var made []string // those that are not there yet, the innermost first
	for above := path; ; above = filepath.Dir(above) {
		if _, err := os.Stat(above); err == nil || above == filepath.Dir(above) {
			break
		}
		made = append(made, above)
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	var errs []error
	for _, dir := range made {
		errs = append(errs, syncDirectory(filepath.Dir(dir)))
	}
	return errors.Join(errs...)
}

// writeConfig writes the configuration whole or not at all.
func writeConfig(file string, cfg *config) error {
	f, err := os.CreateTemp(filepath.Dir(file), configName+".*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already when all went well
	if err := errors.Join(writeSample(f, *cfg), f.Sync(), f.Close()); err != nil {
		return err
	}
	return errors.Join(os.Rename(f.Name(), file), syncDirectory(filepath.Dir(file)))
}
