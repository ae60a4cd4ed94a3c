package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed05845750/bkrp/internal/backup"
	"github.com/seed05845750/bkrp/internal/cli"
	"github.com/seed05845750/bkrp/keystore"
	"github.com/seed05845750/bkrp/keystore/boltstore"
)

// verbRestore is for the audit trail; no daemon is asked for it.
const verbRestore adminVerb = "restore"

// newRestoreCommand is "bkrpd restore".
func newRestoreCommand(std stdio) *cobra.Command {
	var (
		file   string
		o      openOptions
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "restore FILE { --identity FILE | --share-file FILE... } --config FILE",
		Short: "fill an empty store with what is in a backup",
		Long: `Restore makes the store that the configuration describes out of a backup. There may
be none yet, or one that "bkrpd init" made and nobody used; anything else is left
alone. The domain of the configuration has to be that of the backup, with its SID;
all else may differ: another machine, etcd in place of the file, another
key-encryption key, which seals what is restored (its file is made if there is none).

An interrupted restore leaves a store that no server serves; run it again with the
same backup, and it goes on. In the end everything is read again and compared, and a
secret is wrapped and opened under every key.

What comes of it is a store of its own: values and servers of the old one do not mix
with it. The next RID for an account is set ` + fmt.Sprint(keystore.RestoredRIDs) + ` higher than in the backup, so that
nobody gets the SID of an account that was added after it.

` + openHelp,
		Example: `  bkrpd restore monday.bkrp --identity me.key --config /var/lib/bkrpd/bkrpd.toml`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := loadConfig(file, nil)
			if err != nil {
				return err
			}
			if cfg.Store.Backend == backendLSA {
				return errors.New(`restore: store.backend is "lsa": the domain keeps its keys itself, and its own backup has them`)
			}
			b, err := o.open(std, args[0])
			if err != nil {
				return fmt.Errorf("restore: %w", err)
			}
			defer b.Clear()
			if err := restore(cmd.Context(), std, cfg, args[0], b, asJSON); err != nil {
				return fmt.Errorf("restore: %w", err)
			}
			return nil
		},
	}
	addConfigFlag(cmd, &file)
	o.addFlags(cmd)
	cli.AddJSONFlag(cmd, &asJSON)
	return cmd
}

// restoreReport is what was restored, and where to, as --json prints it.
type restoreReport struct {
	File string `json:"file"`
	Into string `json:"into"` // the store: a file, or a cluster
	backup.Manifest
	// Problems is what is wrong with entries that are not damaged as such.
	Problems []string `json:"problems"`
}

// restore fills the store, puts that on the audit trail, and proves what came of
// it.
func restore(ctx context.Context, std stdio, cfg *config, path string, b *backup.Backup, asJSON bool) error {
	m := &b.Manifest
	if err := checkDomain(cfg, m.Domain, "the store that was backed up"); err != nil {
		return fmt.Errorf("%w, or make one: bkrpd init --domain %s --netbios %s --sid %v (the backup is of %s)",
			err, m.Domain.DNSName, m.Domain.NetBIOSName, m.Domain.SID, m.Domain.DNSName)
	}
	report := restoreReport{File: path, Into: cfg.Store.place(), Manifest: *m, Problems: []string{}}
	for _, problem := range b.Dump.Check() {
		report.Problems = append(report.Problems, problem.Error())
		cli.Warnf(std.err, "in the backup, and so in the store: %s", backup.Shown(problem.Error()))
	}
	audit := &keyAudit{Log: slog.New(auditHandler{newLogger(std.err, cfg).Handler()}), UID: os.Getuid()}
	err := fillStore(ctx, std, cfg, b.Dump)
	if err == nil {
		err = proveStore(ctx, std, cfg, m)
	}
	auditErr := audit.recordOther(ctx, verbRestore, err, slog.String("backup", path), slog.String("of", m.Store.String()),
		slog.Time("taken", m.Taken), slog.Int("keys", len(m.Keys)), slog.Int("accounts", m.Accounts))
	if err := errors.Join(err, auditErr); err != nil {
		return err
	}
	if asJSON {
		return cli.PrintJSON(std.out, report)
	}
	fmt.Fprintf(std.out, "restored %s to %s: %s, as they were on %s\n", m.Domain.DNSName, cfg.Store.place(),
		countEntries(len(m.Keys), m.Accounts, m.Entries), m.Taken.Format("2006-01-02 15:04:05 MST"))
	return nil
}

// fillStore restores a dump into the store that is configured.
func fillStore(ctx context.Context, std stdio, cfg *config, dump *keystore.Dump) error {
	backend, err := emptyBackend(ctx, cfg)
	if err != nil {
		return err
	}
	sealer, err := createKEK(ctx, cfg)
	if errors.Is(err, keystore.ErrKeyFile) {
		err = fmt.Errorf("%w; if it is what an interrupted restore left, remove it", err)
	}
	if err != nil {
		return errors.Join(err, backend.Close())
	}
	counted := &countedBackend{Backend: backend}
	stop := cli.ShowProgress(std.err, func(elapsed time.Duration) string {
		// The first and the last write are of the header, which is no entry.
		return fmt.Sprintf("restoring: %d of %d entries, %v", min(counted.writes.Load(), int64(len(dump.Entries))), len(dump.Entries), cli.Elapsed(elapsed))
	})
	defer stop()
	err = keystore.Restore(ctx, counted, sealer, dump)
	if err != nil {
		err = fmt.Errorf("into %s: %w", cfg.Store.place(), err)
	}
	return errors.Join(err, closeKEK(sealer), backend.Close())
}

// countedBackend is a backend that counts what is written to it.
type countedBackend struct {
	keystore.Backend
	writes atomic.Int64
}

// CompareAndSwap writes an entry.
func (c *countedBackend) CompareAndSwap(ctx context.Context, name string, old keystore.Revision, value []byte) (keystore.Revision, error) {
	rev, err := c.Backend.CompareAndSwap(ctx, name, old, value)
	c.writes.Add(1)
	return rev, err
}

// emptyBackend opens what is to hold the store, and makes its file if there is
// none.
func emptyBackend(ctx context.Context, cfg *config) (keystore.Backend, error) {
	if cfg.Store.Backend == backendEtcd {
		return openEtcd(ctx, &cfg.Store.Etcd)
	}
	backend, err := boltstore.Create(cfg.Store.Bolt.Path, boltstore.Options{})
	if errors.Is(err, fs.ErrExist) {
		backend, err = boltstore.Open(cfg.Store.Bolt.Path, boltstore.Options{})
	}
	if errors.Is(err, keystore.ErrCorrupt) {
		err = fmt.Errorf("%w; if it is what an interrupted restore left and no daemon ever used it, remove it", err)
	}
	if errors.Is(err, boltstore.ErrInUse) {
		err = fmt.Errorf("%w: a daemon serves it, and a backup is restored into an empty store", err)
	}
	if err != nil {
		return nil, err
	}
	return backend, nil
}

// proveStore opens the store as a daemon does and tries every key in it.
func proveStore(ctx context.Context, std stdio, cfg *config, m *backup.Manifest) error {
	store, closeStore, err := openStore(ctx, cfg, keystore.Options{})
	if err != nil {
		return fmt.Errorf("opening what was restored: %w", err)
	}
	var tried atomic.Int64
	defer showTrying(std, &tried, len(m.Keys))()
	var failed []error
	for _, k := range m.Keys {
		tried.Add(1)
		if k.Kind == backup.KindDamaged || k.State == keystore.KeyLocked {
			continue // it is as it was, and not to be opened
		}
		switch r := tryKey(ctx, store, k); {
		case !r.OK:
			failed = append(failed, fmt.Errorf("key %v does not open what is wrapped under it: %s", k.GUID, r.Result))
		case r.Result == resultToken:
			cli.Warnf(std.err, "key %v needs the token that it was made in (hsm.token)", k.GUID)
		}
	}
	return errors.Join(append(failed, closeStore())...)
}
