package bkrpserver_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"testing"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/bkrpserver"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/keystore"
)

// newBackend is a store in memory that is to be opened.
func newBackend(t testing.TB) (keystore.Backend, keystore.Sealer) {
	t.Helper()
	sealer, err := keystore.CreateKeyFile(filepath.Join(t.TempDir(), "kek.bin"))
	if err != nil {
		t.Fatal(err)
	}
	backend := keystore.NewMemory()
	domain := keystore.Domain{DNSName: "bkrp.example", NetBIOSName: "BKRP", SID: dtyp.MustParseSID("S-1-5-21-1-2-3")}
	if err := keystore.Create(t.Context(), backend, sealer, domain); err != nil {
		t.Fatal(err)
	}
	return backend, sealer
}

// quietService is a service on a store in memory, without an audit trail.
func quietService(t testing.TB) *bkrpserver.Service {
	t.Helper()
	backend, sealer := newBackend(t)
	store, err := keystore.Open(t.Context(), backend, sealer, keystore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return &bkrpserver.Service{
		Store:  store,
		Logger: slog.New(slog.DiscardHandler),
		Audit:  func(context.Context, *bkrpserver.Event) error { return nil },
	}
}

// serve serves a service on loopback, with one user.
func serve(t testing.TB, s *bkrpserver.Service) bkrpclient.Config {
	t.Helper()
	const password = "Correct.Horse.9"
	if _, err := s.Store.AddAccount(t.Context(), "alice", password); err != nil {
		t.Fatal(err)
	}
	srv, err := bkrpserver.New(bkrpserver.Config{Service: s, Logger: s.Logger})
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
	return bkrpclient.Config{Server: l.Addr().String(), Credential: bkrpclient.Credential{
		Domain: "BKRP", User: "alice", Password: password,
	}}
}

// TestAccountEnds: a connection that stands is of no more use once its account
// is disabled or removed, not for BackupKey and not for the LSA.
func TestAccountEnds(t *testing.T) {
	for name, end := range map[string]func(*keystore.Store) error{
		"removed":  func(s *keystore.Store) error { return s.RemoveAccount(t.Context(), "alice") },
		"disabled": func(s *keystore.Store) error { return s.SetDisabled(t.Context(), "alice", true) },
	} {
		t.Run(name, func(t *testing.T) {
			s := quietService(t)
			var last bkrpserver.Event
			s.Audit = func(_ context.Context, e *bkrpserver.Event) error {
				last = *e
				return nil
			}
			c, err := bkrpclient.Dial(t.Context(), serve(t, s))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			blob, err := c.Wrap(t.Context(), randomSecret(64), bkrpclient.WrapOptions{Mode: bkrpclient.ModeServer})
			if err != nil {
				t.Fatal(err)
			}
			if err := end(s.Store); err != nil {
				t.Fatal(err)
			}
			_, err = c.Unwrap(t.Context(), blob)
			var refused *bkrpclient.ServerError
			if !errors.As(err, &refused) || refused.Status != bkrp.StatusAccessDenied {
				t.Errorf("unwrapping afterwards: %v", err)
			}
			if last.Status != bkrp.StatusAccessDenied || last.Caller.Name != "alice" || last.Reason == "" {
				t.Errorf("the audit trail does not tell of it: %+v", last)
			}
			if sid, err := c.SID(t.Context()); err == nil {
				t.Errorf("the LSA still answers: %v", sid)
			}
		})
	}
}

// TestInputLimit: a caller learns why an input beyond the limit is refused
//
func TestInputLimit(t *testing.T) {
	s := quietService(t)
	s.MaxInput = 8 << 10
	c, err := bkrpclient.Dial(t.Context(), serve(t, s))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	o := bkrpclient.WrapOptions{Mode: bkrpclient.ModeServer}
	if _, err := c.Wrap(t.Context(), randomSecret(8<<10), o); err != nil {
		t.Errorf("an input at the limit: %v", err)
	}
	if _, err := c.Wrap(t.Context(), randomSecret(64<<10), o); !errors.Is(err, bkrpclient.ErrTooLarge) {
		t.Errorf("an input beyond the limit: %v", err)
	}
	if _, err := c.Wrap(t.Context(), randomSecret(64), o); err != nil {
		t.Errorf("the next call: %v", err)
	}
}
