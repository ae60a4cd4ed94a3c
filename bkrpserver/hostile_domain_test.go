package bkrpserver_test

import (
	"context"
	"log/slog"
	"net"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/bkrpserver"
	"github.com/seed05845750/bkrp/dtyp"
)

const (
	domainName     = "BKRP"
	aliceName      = "alice"
	bobName        = "bob"
	domainPassword = "Correct.Horse.9"
)

// hostileDomain is a server on loopback with two users, whose store is in
// memory, and blobs of alice of every kind.
type hostileDomain struct {
	addr    string
	service *bkrpserver.Service
	sid     dtyp.SID // alice's
	// inputs succeed for alice, one for each action.
	inputs map[bkrp.Action][]byte
	// honest are connections of users who have nothing to suffer from the
	// others. Each counts its calls.
	honest []func(calls *atomic.Int64) error
	server *bkrpserver.Server
	// goroutines is how many there were before it served.
	goroutines int
	stop       func()
}

// startHostileDomain serves until stop, or the end of the test.
func startHostileDomain(t *testing.T, cfg bkrpserver.Config) *hostileDomain {
	t.Helper()
	f := newFixture(t)
	f.Service.Logger = slog.New(failOnError{t})
	f.Service.Audit = func(context.Context, *bkrpserver.Event) error { return nil }
	for _, name := range []string{aliceName, bobName} {
		if _, err := f.Store.AddAccount(t.Context(), name, domainPassword); err != nil {
			t.Fatal(err)
		}
	}
	account, err := f.Store.Account(t.Context(), aliceName)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Service, cfg.ComputerName, cfg.Logger = f.Service, "DC1", f.Service.Logger
	// So that LSA secrets are within a hostile client's reach.
	cfg.Administrators = []dtyp.SID{account.SID}
	srv, err := bkrpserver.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &hostileDomain{addr: l.Addr().String(), service: f.Service, sid: account.SID}
	d.makeInputs(t)
	d.server = srv
	for range 2 {
		d.honest = append(d.honest, honestUser{d.client(), d.sid}.call)
	}
	d.goroutines = runtime.NumGoroutine()
	served := make(chan error, 1)
	go func() { served <- srv.Serve(context.Background(), l) }()
	d.stop = func() {
		ctx, cancel := context.WithTimeout(context.Background(), hangTime)
		defer cancel()
		if err := srv.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	}
	return d
}

// honestUser is how a user logs on, and who that is.
type honestUser struct {
	cfg bkrpclient.Config
	sid dtyp.SID
}

// failOnError is a log in which nothing may stand at the level of an error: no
// client can make the server fail, and a panic that ended one connection is
// told there.
type failOnError struct{ t *testing.T }

func (f failOnError) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelError }
func (f failOnError) WithAttrs([]slog.Attr) slog.Handler           { return f }
func (f failOnError) WithGroup(string) slog.Handler                { return f }

func (f failOnError) Handle(_ context.Context, r slog.Record) error {
	var attrs []any
	r.Attrs(func(a slog.Attr) bool {
		attrs = append(attrs, a.String())
		return true
	})
	f.t.Errorf("the server logs: %s %v", r.Message, attrs)
	return nil
}

func (d *hostileDomain) makeInputs(t *testing.T) {
	t.Helper()
	caller := bkrpserver.Caller{SID: d.sid, Domain: domainName, Name: aliceName, Mechanism: "ntlm"}
	call := func(a bkrp.Action, in []byte) []byte {
		out, status := d.service.BackuprKey(t.Context(), caller, a, in)
		if status != bkrp.StatusOK {
			t.Fatal(a, status)
		}
		return out
	}
	secret := randomSecret(64)
	cert, err := bkrp.ParseCertificate(call(bkrp.ActionRetrieve, nil))
	if err != nil {
		t.Fatal(err)
	}
	blob, err := bkrp.WrapClient(cert, d.sid, secret, bkrp.ClientWrappedVersion3)
	if err != nil {
		t.Fatal(err)
	}
	d.inputs = map[bkrp.Action][]byte{
		bkrp.ActionBackup:       secret,
		bkrp.ActionRestoreWin2K: call(bkrp.ActionBackup, secret),
		bkrp.ActionRestore:      blob,
		bkrp.ActionRetrieve:     nil,
	}
}

func (d *hostileDomain) client() bkrpclient.Config {
	return bkrpclient.Config{Server: d.addr, Timeout: hangTime, Credential: bkrpclient.Credential{
		Domain: domainName, User: aliceName, Password: domainPassword,
	}}
}

// hangTime tells a server that hangs from one that is slow. No speed is
// asserted: everything ends long before.
const hangTime = 2 * time.Minute
