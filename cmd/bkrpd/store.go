package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/seed05845750/bkrp/keystore"
	"github.com/seed05845750/bkrp/keystore/boltstore"
	"github.com/seed05845750/bkrp/keystore/etcdstore"
	"github.com/seed05845750/bkrp/keystore/lsastore"
)

// serveOptions are those of the store that a daemon serves.
func serveOptions(cfg *config, log *slog.Logger) (keystore.Options, error) {
	o := keystore.Options{Log: log, Preload: true}
	if cfg.Store.Backend != backendEtcd {
		return o, nil
	}
	var err error
	if o.Replica = cfg.Store.Replica; o.Replica == "" {
		if o.Replica, err = os.Hostname(); err != nil {
			err = fmt.Errorf("naming this server: %w: set store.replica", err)
		}
	}
	return o, err
}

// openStore opens the configured store. closeStore closes the store and what is
// under it.
func openStore(ctx context.Context, cfg *config, o keystore.Options) (store *keystore.Store, closeStore func() error, err error) {
	var backend keystore.Backend
	if cfg.Store.Backend == backendLSA {
		backend, store, err = openDomainStore(ctx, cfg, o)
	} else {
		backend, store, err = openSealedStore(ctx, cfg, o)
	}
	if err != nil {
		return nil, nil, err
	}
	return store, func() error { return errors.Join(store.Close(), backend.Close()) }, nil
}

// openBackend opens what is under a sealed store.
func openBackend(ctx context.Context, cfg *config) (keystore.Backend, error) {
	if cfg.Store.Backend != backendEtcd {
		return boltstore.Open(cfg.Store.Bolt.Path, boltstore.Options{})
	}
	return openEtcd(ctx, &cfg.Store.Etcd)
}

// openEtcd connects to the cluster.
func openEtcd(ctx context.Context, c *etcdConfig) (*etcdstore.Store, error) {
	o := etcdstore.Options{
		Endpoints: c.Endpoints, Prefix: c.Prefix,
		CAFile: c.CAFile, CertFile: c.CertFile, KeyFile: c.KeyFile, Plaintext: c.Plaintext == plaintextAnywhere,
		User: c.User, Timeout: time.Duration(c.Timeout),
	}
	if c.PasswordFile != "" {
		password, err := readFirstLine("etcd's password", c.PasswordFile)
		if err != nil {
			return nil, err
		}
		defer clear(password)
		o.Password = etcdstore.Password(password)
	}
	return etcdstore.Open(ctx, o)
}

// openSealedStore opens the store in a file or in etcd.
func openSealedStore(ctx context.Context, cfg *config, o keystore.Options) (keystore.Backend, *keystore.Store, error) {
	keys, err := openStoreKeys(ctx, cfg, o.Log)
	if err != nil {
		return nil, nil, err
	}
	opened, err := openBackend(ctx, cfg)
	if err != nil {
		return nil, nil, errors.Join(err, keys.Close())
	}
	backend := tokenBackend{opened, keys}
	store, err := keystore.Open(ctx, backend, keys.sealer, keys.options(cfg, o))
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("opening %s: %w", cfg.Store.place(), err), backend.Close())
	}
	if err := checkDomain(cfg, store.Domain(), "the store "+cfg.Store.place()); err != nil {
		return nil, nil, errors.Join(err, store.Close(), backend.Close())
	}
	return backend, store, nil
}

// openDomainStore opens the LSA secrets of a domain controller, of the domain
// that the configuration is for.
func openDomainStore(ctx context.Context, cfg *config, o keystore.Options) (keystore.Backend, *keystore.Store, error) {
	if cfg.HSM.Token != "" {
		return nil, nil, errors.New(`hsm.token must be empty if store.backend is "lsa": domain controllers read the domain's keys`)
	}
	password, err := readFirstLine("the domain controller's password", cfg.Store.LSA.PasswordFile)
	if err != nil {
		return nil, nil, err
	}
	defer clear(password)
	domain, user, _ := strings.Cut(cfg.Store.LSA.User, `\`)
	backend, err := lsastore.Open(ctx, lsastore.Config{
		Server: cfg.Store.LSA.Server, Domain: domain, User: user, Password: lsastore.Password(password),
		Poll: time.Duration(cfg.Store.LSA.Poll), Timeout: time.Duration(cfg.Store.LSA.Timeout),
	})
	if err != nil {
		return nil, nil, err
	}
	self, err := backend.Self(ctx)
	if err == nil {
		if sid, _, _ := self.Cut(); sid != cfg.Domain.SID {
			err = fmt.Errorf("domain.sid is %v, and the domain of %s has %v: set domain to what it is", cfg.Domain.SID, cfg.Store.LSA.User, sid)
		}
	}
	if err != nil {
		return nil, nil, errors.Join(err, backend.Close())
	}
	store, err := keystore.OpenDomain(ctx, backend, cfg.Domain.stored(), o)
	if err != nil {
		return nil, nil, errors.Join(err, backend.Close())
	}
	return backend, store, nil
}

// checkDomain refuses a configuration that belongs to another store, or to
// another one than was backed up, whichever of is: secrets would be bound to the
// SIDs of another domain. The names are the store's too: users log on with them.
func checkDomain(cfg *config, d keystore.Domain, of string) error {
	var key, have, want string
	switch {
	case cfg.Domain.SID != d.SID:
		key, have, want = "domain.sid", cfg.Domain.SID.String(), d.SID.String()
	case !strings.EqualFold(cfg.Domain.Name, d.DNSName):
		key, have, want = "domain.name", cfg.Domain.Name, d.DNSName
	case !strings.EqualFold(cfg.Domain.NetBIOS, d.NetBIOSName):
		key, have, want = "domain.netbios", cfg.Domain.NetBIOS, d.NetBIOSName
	default:
		return nil
	}
	return fmt.Errorf("%s is %s, and %s was made for %s: use the configuration that belongs to it", key, have, of, want)
}

// openKEK takes the key-encryption key from where the configuration says.
func openKEK(ctx context.Context, cfg *config) (keystore.Sealer, error) {
	uri := cfg.Seal.KEK
	switch uri.Scheme {
	case kekFile:
		return keystore.ReadKeyFile(uri.Path)
	case kekKMS:
		return openTokenKEK(ctx, uri, cfg.HSM.Timeout, false)
	}
	passphrase, err := readFirstLine("the passphrase", uri.Path)
	if err != nil {
		return nil, err
	}
	defer clear(passphrase)
	return keystore.NewPassphrase(passphrase)
}

// maxLine bounds a passphrase or password in a file, in octets.
const maxLine = 4096

// readFirstLine reads the first line of a file that nobody else may read; what
// says what it is.
func readFirstLine(what, path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", what, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", what, err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("reading %s: others may read %s (mode %v): chmod 600 it", what, path, fs.FileMode(info.Mode().Perm()))
	}
	b, err := io.ReadAll(io.LimitReader(f, maxLine+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", what, err)
	}
	line, _, _ := bytes.Cut(b, []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	if len(line) == 0 || len(line) > maxLine {
		clear(b)
		return nil, fmt.Errorf("reading %s: the first line of %s has %d octets; it takes 1 to %d", what, path, len(line), maxLine)
	}
	return line, nil
}
