package docs_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/bkrpserver"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/doctest"
	"github.com/seed05845750/bkrp/keystore"
	"github.com/seed05845750/bkrp/keystore/boltstore"
)

func create(ctx context.Context, dir string) (err error) {
	kek, err := keystore.CreateKeyFile(filepath.Join(dir, "kek.bin"))
	if err != nil {
		return err
	}
	backend, err := boltstore.Create(filepath.Join(dir, "domain.db"), boltstore.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, backend.Close()) }()
	return keystore.Create(ctx, backend, kek, keystore.Domain{
		DNSName:     "example.com",
		NetBIOSName: "EXAMPLE",
		SID:         keystore.RandomDomainSID(),
	})
}

func open(ctx context.Context, dir string) (store *keystore.Store, end func() error, err error) {
	kek, err := keystore.ReadKeyFile(filepath.Join(dir, "kek.bin"))
	if err != nil {
		return nil, nil, err
	}
	backend, err := boltstore.Open(filepath.Join(dir, "domain.db"), boltstore.Options{})
	if err != nil {
		return nil, nil, err
	}
	store, err = keystore.Open(ctx, backend, kek, keystore.Options{Log: slog.Default()})
	if err != nil {
		return nil, nil, errors.Join(err, backend.Close())
	}
	return store, func() error { return errors.Join(store.Close(), backend.Close()) }, nil
}

func serve(ctx context.Context, store *keystore.Store, l net.Listener, audit bkrpserver.Auditor) error {
	srv, err := bkrpserver.New(bkrpserver.Config{
		Service: &bkrpserver.Service{Store: store, Audit: audit},
	})
	if err != nil {
		return errors.Join(err, l.Close())
	}
	failed := make(chan error, 1)
	go func() {
		defer close(failed)
		failed <- srv.Serve(context.WithoutCancel(ctx), l) // calls in flight outlive ctx
	}()
	select {
	case <-ctx.Done():
	case err = <-failed: // the listener did
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return errors.Join(err, srv.Shutdown(grace), <-failed)
}

func addUser(ctx context.Context, store *keystore.Store, name, password string) error {
	account, err := store.AddAccount(ctx, name, password)
	if errors.Is(err, keystore.ErrAccountExists) {
		return nil
	}
	if err == nil {
		slog.Info("added an account", "name", account.Name, "sid", account.SID)
	}
	return err
}

func alarm(_ context.Context, e *bkrpserver.Event) error {
	slog.Info("call", "action", e.Action, "caller", e.Caller.SID, "key", e.Key, "status", e.Status)
	if e.Owner != (dtyp.SID{}) && e.Owner != e.Caller.SID {
		slog.Warn("somebody asked for another one's secret", "caller", e.Caller.SID, "owner", e.Owner)
	}
	return nil
}

func unwrap(ctx context.Context, service *bkrpserver.Service, caller dtyp.SID, blob []byte) ([]byte, error) {
	out, status := service.BackuprKey(ctx, bkrpserver.Caller{SID: caller}, bkrp.ActionRestore, blob)
	if status != bkrp.StatusOK {
		return nil, status
	}
	return bkrp.ParseUnwrapped(out)
}

// A domain is made, served, used by a client and by a call without SMB, and is
// there again when it is opened anew.
func TestEmbed(t *testing.T) {
	doctest.Open(t, "embed.md").Go("embed_test.go")
	dir := t.TempDir()
	if err := create(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	if err := create(t.Context(), dir); err == nil {
		t.Error("a domain is made where one is")
	}
	const password = "Correct.Horse.1"
	var blob []byte
	embedded(t, dir, func(store *keystore.Store, addr string, calls *atomic.Int32) {
		for range 2 { // the second time it is there
			if err := addUser(t.Context(), store, "alice", password); err != nil {
				t.Fatal(err)
			}
		}
		c, err := bkrpclient.Dial(t.Context(), config(addr, "EXAMPLE", "alice", password))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if blob, err = c.Wrap(t.Context(), []byte("correct horse"), bkrpclient.WrapOptions{}); err != nil {
			t.Fatal(err)
		}
		if calls.Load() == 0 {
			t.Error("nothing is on the audit trail")
		}
	})
	embedded(t, dir, func(store *keystore.Store, addr string, calls *atomic.Int32) {
		c, err := bkrpclient.Dial(t.Context(), config(addr, "EXAMPLE", "alice", password))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if got, err := c.Unwrap(t.Context(), blob); err != nil || string(got) != "correct horse" {
			t.Errorf("%q, %v", got, err)
		}

		accounts, err := store.Accounts(t.Context())
		if err != nil || len(accounts) != 1 {
			t.Fatalf("%d accounts, %v", len(accounts), err)
		}
		service := &bkrpserver.Service{Store: store, Audit: alarm}
		if got, err := unwrap(t.Context(), service, accounts[0].SID, blob); err != nil || string(got) != "correct horse" {
			t.Errorf("without SMB: %q, %v", got, err)
		}
		other := dtyp.MustParseSID("S-1-5-21-1-2-3-1100")
		if _, err := unwrap(t.Context(), service, other, blob); !errors.Is(err, bkrp.StatusInvalidAccess) {
			t.Errorf("without SMB, for another SID: %v", err)
		}
	})
}

// embedded serves the domain in dir while use runs; calls counts what is on the
// audit trail.
func embedded(t *testing.T, dir string, use func(store *keystore.Store, addr string, calls *atomic.Int32)) {
	t.Helper()
	store, end, err := open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := end(); err != nil {
			t.Error(err)
		}
	}()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var calls atomic.Int32
	audit := func(ctx context.Context, e *bkrpserver.Event) error {
		calls.Add(1)
		return alarm(ctx, e)
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- serve(ctx, store, l, audit) }()
	defer func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	use(store, l.Addr().String(), &calls)
}
