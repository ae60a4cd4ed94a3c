package main

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/seed05845750/bkrp/bkrpserver"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/dclocator/locatortest"
	"github.com/seed05845750/bkrp/keystore"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"bkrp": func() {
			os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
		},
	})
}

// TestScript runs the command lines of testdata/script as a user would, with
// $SERVER a server of the domain BKRP. The DNS server $DNS has it and a read-only
// one as domain controllers of bkrp.example, on port $PORT. Its users are alice and bob, and their
// passwords are in the files alice and bob.
func TestScript(t *testing.T) {
	addr := startServer(t)
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	domain := locatortest.Start(t, "bkrp.example",
		&locatortest.DC{Name: "branch", Reply: locatortest.ReadOnly}, &locatortest.DC{Name: "dc1", Priority: 1})
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("SERVER", addr)
			e.Setenv("DNS", domain.DNS)
			e.Setenv("PORT", port)
			for user, password := range passwords {
				if err := os.WriteFile(filepath.Join(e.WorkDir, user), []byte(password+"\n"), 0o600); err != nil {
					return err
				}
			}
			return nil
		},
	})
}

var passwords = map[string]string{"alice": "Correct.Horse.1", "bob": "Correct.Horse.2"}

func startServer(t *testing.T) (addr string) {
	t.Helper()
	store := newStore(t, "S-1-5-21-1-2-3")
	for _, user := range []string{"alice", "bob"} { // RIDs in this order
		if _, err := store.AddAccount(t.Context(), user, passwords[user]); err != nil {
			t.Fatal(err)
		}
	}
	return serve(t, store)
}

// newStore is a store in memory of the domain BKRP with that SID.
func newStore(t *testing.T, sid string) *keystore.Store {
	t.Helper()
	sealer, err := keystore.CreateKeyFile(filepath.Join(t.TempDir(), "kek.bin"))
	if err != nil {
		t.Fatal(err)
	}
	backend := keystore.NewMemory()
	domain := keystore.Domain{DNSName: "bkrp.example", NetBIOSName: "BKRP", SID: dtyp.MustParseSID(sid)}
	if err := keystore.Create(t.Context(), backend, sealer, domain); err != nil {
		t.Fatal(err)
	}
	store, err := keystore.Open(t.Context(), backend, sealer, keystore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return store
}

// serve serves a store until the test ends.
func serve(t *testing.T, store *keystore.Store) (addr string) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	srv, err := bkrpserver.New(bkrpserver.Config{
		Service: &bkrpserver.Service{Store: store, Logger: log},
		Logger:  log,
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(context.Background(), l) }()
	t.Cleanup(func() {
		if err := srv.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}
