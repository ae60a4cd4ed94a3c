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

	"github.com/seed05845750/bkrp/keystore"
	"github.com/seed05845750/bkrp/keystore/boltstore"
)

// openStore opens the configured store. closeStore closes the store and the
// file under it.
func openStore(ctx context.Context, cfg *config, log *slog.Logger) (store *keystore.Store, closeStore func() error, err error) {
	sealer, err := openKEK(cfg.Seal.KEK)
	if err != nil {
		return nil, nil, err
	}
	backend, err := boltstore.Open(cfg.Store.Bolt.Path, boltstore.Options{})
	if err != nil {
		return nil, nil, err
	}
	store, err = keystore.Open(ctx, backend, sealer, keystore.Options{Log: log})
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("opening %s: %w", cfg.Store.Bolt.Path, err), backend.Close())
	}
	closeStore = func() error { return errors.Join(store.Close(), backend.Close()) }
	if err := checkDomain(cfg, store.Domain()); err != nil {
		return nil, nil, errors.Join(err, closeStore())
	}
	return store, closeStore, nil
}

// checkDomain refuses a configuration that belongs to another store: secrets
// would be bound to the SIDs of another domain. The names are the store's too:
// users log on with them.
func checkDomain(cfg *config, d keystore.Domain) error {
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
	return fmt.Errorf("%s is %s, and the store %s was made for %s: use the configuration that belongs to it",
		key, have, cfg.Store.Bolt.Path, want)
}

// openKEK takes the key-encryption key from where the configuration says.
func openKEK(uri kekURI) (keystore.Sealer, error) {
	if uri.Scheme == kekFile {
		return keystore.ReadKeyFile(uri.Path)
	}
	passphrase, err := readPassphraseFile(uri.Path)
	if err != nil {
		return nil, err
	}
	defer clear(passphrase)
	return keystore.NewPassphrase(passphrase)
}

// maxPassphrase bounds a passphrase, in octets.
const maxPassphrase = 4096

// readPassphraseFile reads the first line of a file that nobody else may read.
func readPassphraseFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading the passphrase: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("reading the passphrase: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("reading the passphrase: others may read %s (mode %v): chmod 600 it", path, fs.FileMode(info.Mode().Perm()))
	}
	b, err := io.ReadAll(io.LimitReader(f, maxPassphrase+1))
	if err != nil {
		return nil, fmt.Errorf("reading the passphrase: %w", err)
	}
	line, _, _ := bytes.Cut(b, []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	if len(line) == 0 || len(line) > maxPassphrase {
		clear(b)
		return nil, fmt.Errorf("reading the passphrase: the first line of %s has %d octets; it takes 1 to %d", path, len(line), maxPassphrase)
	}
	return line, nil
}
