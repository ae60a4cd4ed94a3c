package bkrptest_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/bkrpserver"
	"github.com/seed05845750/bkrp/bkrptest"
	"github.com/seed05845750/bkrp/internal/dclocator/locatortest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func dial(t *testing.T, cfg bkrpclient.Config) *bkrpclient.Client {
	t.Helper()
	c, err := bkrpclient.Dial(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// wrapping is what a Client and a Domain of package bkrpclient have in common.
type wrapping interface {
	Wrap(ctx context.Context, secret []byte, o bkrpclient.WrapOptions) ([]byte, error)
	Unwrap(ctx context.Context, blob []byte) ([]byte, error)
}

// roundTrip wraps and unwraps a secret in each way.
func roundTrip(t *testing.T, c wrapping) {
	t.Helper()
	secret := []byte("correct horse battery staple")
	for _, o := range []bkrpclient.WrapOptions{{}, {Version: 3}, {Mode: bkrpclient.ModeServer}} {
		blob, err := c.Wrap(t.Context(), secret, o)
		if err != nil {
			t.Errorf("%+v: %v", o, err)
			continue
		}
		if got, err := c.Unwrap(t.Context(), blob); err != nil || !bytes.Equal(got, secret) {
			t.Errorf("%+v: %q, %v", o, got, err)
		}
	}
}

func TestClients(t *testing.T) {
	t.Parallel()
	d := bkrptest.NewDomain(t)
	alice, bob := d.User("alice"), d.User("Bob")
	for name, config := range map[string]func(*bkrptest.User) bkrpclient.Config{
		"NTLM": (*bkrptest.User).NTLM, "Kerberos": (*bkrptest.User).Kerberos,
		"Kerberos by a host name": func(u *bkrptest.User) bkrpclient.Config {
			cfg := u.Kerberos()
			cfg.Server = strings.Replace(cfg.Server, "127.0.0.1", "localhost", 1)
			return cfg
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, config(alice))
			if sid, err := c.SID(t.Context()); err != nil || sid != alice.SID {
				t.Errorf("SID %v, %v, want %v", sid, err, alice.SID)
			}
			roundTrip(t, c)
			blob, err := c.Wrap(t.Context(), []byte("alice's"), bkrpclient.WrapOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := dial(t, config(bob)).Unwrap(t.Context(), blob); !errors.Is(err, bkrp.StatusInvalidAccess) {
				t.Errorf("bob unwraps alice's secret: %v", err)
			}
		})
	}
	mechanisms := make(map[string]int)
	for _, e := range d.Events() {
		mechanisms[e.Caller.Mechanism]++
	}
	if mechanisms["ntlm"] == 0 || mechanisms["krb5"] == 0 || len(mechanisms) != 2 {
		t.Errorf("mechanisms on the audit trail: %v", mechanisms)
	}
}

func TestRefusedLogon(t *testing.T) {
	t.Parallel()
	d := bkrptest.NewDomain(t, bkrptest.WithUsers("carol", "dave"))
	carol, dave := d.User("carol"), d.User("dave")
	wrong := carol.NTLM()
	wrong.Credential.Password = dave.Password
	if _, err := bkrpclient.Dial(t.Context(), wrong); !errors.Is(err, bkrpclient.ErrLogon) {
		t.Errorf("a wrong password: %v", err)
	}
	open, tickets := dial(t, carol.NTLM()), carol.Kerberos()
	carol.Disable()
	if _, err := open.RetrieveKey(t.Context()); !errors.Is(err, bkrp.StatusAccessDenied) {
		t.Errorf("a call of who was disabled: %v", err)
	}
	if _, err := bkrpclient.Dial(t.Context(), carol.NTLM()); !errors.Is(err, bkrpclient.ErrLogon) {
		t.Errorf("NTLM of who was disabled: %v", err)
	}
	if _, err := bkrpclient.Dial(t.Context(), tickets); !errors.Is(err, bkrpclient.ErrTicket) {
		t.Errorf("Kerberos of who was disabled: %v", err)
	}
}

func TestInDomain(t *testing.T) {
	t.Parallel()
	d := bkrptest.NewDomain(t, bkrptest.WithControllers(2), bkrptest.WithReadOnly(), bkrptest.WithName("corp.example", "CORP"))
	for name, cfg := range map[string]bkrpclient.DomainConfig{
		"NTLM": d.User("alice").InDomain(), "Kerberos": d.User("alice").InDomainKerberos(),
	} {
		t.Run(name, func(t *testing.T) {
			c, err := bkrpclient.OpenDomain(cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			roundTrip(t, c)
			var trace bkrpclient.Trace
			broken := d.Inject(bkrptest.Answer(bkrp.StatusInternalError).Times(1))
			if _, err := c.RetrieveKey(bkrpclient.WithTrace(t.Context(), &trace)); err != nil {
				t.Errorf("with one broken answer: %v", err)
			}
			if broken.Hits() != 1 || !strings.Contains(trace.String(), "dc1") || !strings.Contains(trace.String(), "dc2") {
				t.Errorf("%d hits, %v", broken.Hits(), trace)
			}
		})
	}
	t.Run("read-only", func(t *testing.T) {
		cfg := d.User("bob").InDomain()
		c, err := bkrpclient.OpenDomain(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		var trace bkrpclient.Trace
		if _, err := c.RetrieveKey(bkrpclient.WithTrace(t.Context(), &trace)); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(trace.String(), "rodc.corp.example: read-only") {
			t.Error(trace)
		}
	})
}

// TestMemberIsNoController: A-43. DNS names a machine of the domain that proves its
// own name as it should, and is no domain controller: who requires proof is not
// taken in by it, and who does not is.
func TestMemberIsNoController(t *testing.T) {
	t.Parallel()
	d := bkrptest.NewDomain(t)
	rogue := locatortest.Start(t, d.Name, &locatortest.DC{Name: "member"})
	for _, required := range []bool{true, false} {
		cfg := d.User("alice").InDomainKerberos()
		cfg.Resolver, cfg.Address = rogue.Resolver(), func(string, netip.Addr) string { return d.Addr() }
		cfg.Client.RequireMutual = required
		c, err := bkrpclient.OpenDomain(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, err = c.Wrap(t.Context(), []byte("secret"), bkrpclient.WrapOptions{})
		if required && (!errors.Is(err, bkrpclient.ErrTicket) || !strings.Contains(err.Error(), "ldap/member.bkrp.test/bkrp.test")) || !required && err != nil {
			t.Errorf("required %v: %v", required, err)
		}
	}
	if n := len(d.Events()); n != 1 {
		t.Errorf("%d calls were made", n)
	}
}

func TestRotate(t *testing.T) {
	t.Parallel()
	d := bkrptest.NewDomain(t)
	c := dial(t, d.User("alice").NTLM())
	for _, mode := range []bkrpclient.Mode{bkrpclient.ModeClient, bkrpclient.ModeServer} {
		old, err := c.Wrap(t.Context(), []byte("secret"), bkrpclient.WrapOptions{Mode: mode})
		if err != nil {
			t.Fatal(err)
		}
		before := d.Certificate().GUID
		d.Rotate()
		cert, err := c.RetrieveKey(t.Context())
		if err != nil || cert.GUID == before || cert.GUID != d.Certificate().GUID {
			t.Errorf("key %v after %v, %v", cert.GUID, before, err)
		}
		if got, err := c.Unwrap(t.Context(), old); err != nil || string(got) != "secret" {
			t.Errorf("a secret under the old key: %q, %v", got, err)
		}
	}
}

func TestWithKey(t *testing.T) {
	t.Parallel()
	pair, err := bkrp.GenerateKeyPair("bkrp.test", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		d := bkrptest.NewDomain(t, bkrptest.WithKey(pair))
		if d.Certificate().GUID != pair.GUID() {
			t.Errorf("key %v, want %v", d.Certificate().GUID, pair.GUID())
		}
		roundTrip(t, dial(t, d.User("alice").NTLM()))
	}
}

func TestWithServer(t *testing.T) {
	t.Parallel()
	var logged bytes.Buffer
	var mu sync.Mutex
	d := bkrptest.NewDomain(t,
		bkrptest.WithLogger(slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			return logged.Write(p)
		}), nil))),
		bkrptest.WithServer(func(cfg *bkrpserver.Config) {
			cfg.Encryption = bkrpserver.EncryptionRequire
			cfg.Service.ErrorCodes = bkrpserver.WindowsCodes
		}))
	c := dial(t, d.User("alice").Kerberos())
	roundTrip(t, c)
	blob, err := c.Wrap(t.Context(), []byte("secret"), bkrpclient.WrapOptions{})
	if err != nil {
		t.Fatal(err)
	}
	d.Inject(bkrptest.UnknownKey())
	if _, err := c.Unwrap(t.Context(), blob); !errors.Is(err, bkrp.StatusInvalidData) {
		t.Errorf("A-08 %v", err)
	}
	mu.Lock()
	defer mu.Unlock()
	if !strings.Contains(logged.String(), d.User("alice").SID.String()) {
		t.Errorf("the logon is not in the log:\n%s", logged.String())
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestFilesAreInTempDir(t *testing.T) {
	t.Parallel()
	d := bkrptest.NewDomain(t)
	if filepath.Dir(d.Krb5Conf()) != filepath.Dir(d.User("alice").CCache()) {
		t.Errorf("%s and a ccache elsewhere", d.Krb5Conf())
	}
	info, err := os.Stat(d.User("alice").CCache())
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}
