package bkrpclient_test

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/bkrpserver"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/keystore"
)

const (
	testDomain   = "BKRP"
	testUser     = "alice"
	testPassword = "Correct.Horse.9"
)

// hangTime tells a call that hangs from one that is slow.
const hangTime = 2 * time.Minute

// server is a BackupKey server on loopback with one user.
type server struct {
	addr string
	sid  dtyp.SID // the user's
	svc  *bkrpserver.Service
}

func startServer(t testing.TB, cfg bkrpserver.Config) *server {
	t.Helper()
	sealer, err := keystore.CreateKeyFile(filepath.Join(t.TempDir(), "kek.bin"))
	if err != nil {
		t.Fatal(err)
	}
	backend := keystore.NewMemory()
	domain := keystore.Domain{DNSName: "bkrp.example", NetBIOSName: testDomain, SID: dtyp.MustParseSID("S-1-5-21-1-2-3")}
	if err := keystore.Create(t.Context(), backend, sealer, domain); err != nil {
		t.Fatal(err)
	}
	store, err := keystore.Open(t.Context(), backend, sealer, keystore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	if _, err := store.AddAccount(t.Context(), testUser, testPassword); err != nil {
		t.Fatal(err)
	}
	account, err := store.Account(t.Context(), testUser)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{sid: account.SID, svc: &bkrpserver.Service{
		Store: store, Logger: slog.New(slog.DiscardHandler),
		Audit: func(context.Context, *bkrpserver.Event) error { return nil },
	}}
	cfg.Service, cfg.Logger, cfg.ComputerName = s.svc, s.svc.Logger, "DC1"
	srv, err := bkrpserver.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l := listen(t)
	s.addr = l.Addr().String()
	served := make(chan error, 1)
	go func() { served <- srv.Serve(context.Background(), l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), hangTime)
		defer cancel()
		if err := srv.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return s
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func configFor(addr string) bkrpclient.Config {
	return bkrpclient.Config{Server: addr, Timeout: hangTime, Credential: bkrpclient.Credential{
		Domain: testDomain, User: testUser, Password: testPassword,
	}}
}

func dial(t *testing.T, cfg bkrpclient.Config) *bkrpclient.Client {
	t.Helper()
	c, err := bkrpclient.Dial(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// serverStatus is the code of a ServerError.
func serverStatus(t *testing.T, err error) bkrp.Status {
	t.Helper()
	e, ok := err.(*bkrpclient.ServerError)
	if !ok {
		t.Fatalf("%v is no *ServerError", err)
	}
	return e.Status
}
