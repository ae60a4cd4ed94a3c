package bkrpclient_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/bkrpserver"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/backuprkey"
	"github.com/seed05845750/bkrp/internal/dcerpc"
	"github.com/seed05845750/bkrp/internal/dclocator"
	"github.com/seed05845750/bkrp/internal/dclocator/locatortest"
	"github.com/seed05845750/bkrp/internal/ndr"
)

const dnsDomain = "bkrp.example"

// fakeDomain is a domain whose domain controllers do as they are told, and a log
// of who was asked what, in the order in which it was.
type fakeDomain struct {
	*locatortest.Domain
	addresses map[string]string // of SMB, by name

	mu  sync.Mutex
	log []string
}

// dcAt is a domain controller: how it answers pings, and where its SMB is.
type dcAt struct {
	locatortest.DC
	addr string
}

func startDomain(t testing.TB, dcs ...*dcAt) *fakeDomain {
	t.Helper()
	d := &fakeDomain{addresses: make(map[string]string)}
	var pinged []*locatortest.DC
	for i, dc := range dcs {
		dc.Priority = uint16(i)
		d.addresses[dc.Name+"."+dnsDomain] = dc.addr
		pinged = append(pinged, &dc.DC)
	}
	d.Domain = locatortest.Start(t, dnsDomain, pinged...)
	return d
}

// fake is a domain controller that answers calls by f, and has them logged.
func (d *fakeDomain) fake(t *testing.T, name string, f answer) {
	t.Helper()
	addr, _ := startFake(t, func(q backuprkey.Request, enc ndr.Encoding) ([]byte, error) {
		d.mu.Lock()
		d.log = append(d.log, fmt.Sprintf("%s %v", name, bkrp.Action(q.Action)))
		d.mu.Unlock()
		return f(q, enc)
	})
	d.mu.Lock()
	defer d.mu.Unlock()
	d.addresses[name+"."+dnsDomain] = addr
}

// fakes starts a domain of dc1, dc2 and so on.
func fakes(t *testing.T, answers ...answer) *fakeDomain {
	t.Helper()
	var dcs []*dcAt
	for i := range answers {
		dcs = append(dcs, &dcAt{DC: locatortest.DC{Name: fmt.Sprintf("dc%d", i+1)}})
	}
	d := startDomain(t, dcs...)
	for i, f := range answers {
		d.fake(t, dcs[i].Name, f)
	}
	return d
}

// asked is the log of calls since the last time.
func (d *fakeDomain) asked() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	log := d.log
	d.log = nil
	return log
}

func (d *fakeDomain) wantAsked(t *testing.T, want ...string) {
	t.Helper()
	if got := d.asked(); !slices.Equal(got, want) {
		t.Errorf("asked %q, want %q", got, want)
	}
}

func (d *fakeDomain) config() bkrpclient.DomainConfig {
	cfg := configFor("")
	return bkrpclient.DomainConfig{
		Domain: dnsDomain, Client: cfg, Resolver: d.Resolver(), PingDelay: hangTime, SID: dtyp.MustParseSID("S-1-5-21-1-2-3-1104"),
		Address: func(dc string, _ netip.Addr) string {
			d.mu.Lock()
			defer d.mu.Unlock()
			return d.addresses[dc]
		},
	}
}

func openDomain(t *testing.T, cfg bkrpclient.DomainConfig) *bkrpclient.Domain {
	t.Helper()
	d, err := bkrpclient.OpenDomain(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func (d *fakeDomain) open(t *testing.T) *bkrpclient.Domain { return openDomain(t, d.config()) }

// certificate is the domain key of a new server.
func certificate(t *testing.T) []byte {
	t.Helper()
	s := startServer(t, bkrpserver.Config{})
	cert, err := dial(t, configFor(s.addr)).RetrieveKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return cert.Raw
}

// wantDomainError looks at what a failed call on a Domain gives.
func wantDomainError(t *testing.T, err error, in ...string) *bkrpclient.DomainError {
	t.Helper()
	var e *bkrpclient.DomainError
	if !errors.As(err, &e) {
		t.Fatalf("%v is no *DomainError", err)
	}
	text := err.Error()
	if strings.ContainsAny(text, "\n\x1b") {
		t.Errorf("%q", text)
	}
	rest := text
	for _, want := range in {
		_, after, ok := strings.Cut(rest, want)
		if !ok {
			t.Errorf("%q is not in the error, or not in its place: %s", want, text)
		}
		rest = after
	}
	return e
}

// blobOf is a well-formed ClientWrap blob.
func blobOf(t *testing.T, der []byte) []byte {
	t.Helper()
	cert, err := bkrp.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	blob, err := bkrp.WrapClient(cert, dtyp.MustParseSID("S-1-5-21-1-2-3-1104"), []byte("secret"), 2)
	if err != nil {
		t.Fatal(err)
	}
	return blob
}

// TestRetry: the rule of 3.2.4 for what failed at a server.
func TestRetry(t *testing.T) {
	blob := blobOf(t, certificate(t))
	opened := good([]byte("\x00\x00\x00\x00secret"), 0)
	for _, status := range []uint32{2, 5, 0xC, 0xD, 0x57, 0xFFFFFFFF} {
		t.Run(fmt.Sprintf("C-3.2.4-17 C-3.2.4-18 status %#x", status), func(t *testing.T) {
			var first, second []byte
			d := fakes(t, func(q backuprkey.Request, enc ndr.Encoding) ([]byte, error) {
				first = bytes.Clone(q.Data)
				return good(nil, status)(q, enc)
			}, func(q backuprkey.Request, enc ndr.Encoding) ([]byte, error) {
				second = bytes.Clone(q.Data)
				return opened(q, enc)
			}, opened)
			secret, err := d.open(t).Unwrap(t.Context(), blob)
			if err != nil || string(secret) != "secret" {
				t.Errorf("%q, %v", secret, err)
			}
			d.wantAsked(t, "dc1 RESTORE", "dc2 RESTORE")
			if !bytes.Equal(first, blob) || !bytes.Equal(second, blob) {
				t.Error("the second was not asked for the same")
			}
		})
	}
	for name, broken := range map[string]answer{
		"a fault":                   func(backuprkey.Request, ndr.Encoding) ([]byte, error) { return nil, dcerpc.FaultAccessDenied },
		"no NDR":                    bent(func([]byte) []byte { return nil }),
		"no UnwrappedSecret in it":  good([]byte("secret"), 0),
		"a status, and octets with": good([]byte("octets"), 5),
	} {
		t.Run("C-3.2.4-18 "+name, func(t *testing.T) {
			d := fakes(t, broken, opened)
			if secret, err := d.open(t).Unwrap(t.Context(), blob); err != nil || string(secret) != "secret" {
				t.Errorf("%q, %v", secret, err)
			}
			d.wantAsked(t, "dc1 RESTORE", "dc2 RESTORE")
		})
	}
	t.Run("C-3.2.4-19 the second fails as well", func(t *testing.T) {
		d := fakes(t, good(nil, 0x57), good(nil, 0xD), opened)
		_, err := d.open(t).Unwrap(t.Context(), blob)
		d.wantAsked(t, "dc1 RESTORE", "dc2 RESTORE")
		e := wantDomainError(t, err, "server answered", "dc1.bkrp.example: RESTORE: ", "INVALID_PARAMETER", "dc2.bkrp.example: RESTORE: ", "INVALID_DATA")
		if len(e.Errs) != 2 || !errors.Is(e.Errs[0], bkrp.StatusInvalidData) || !errors.Is(e.Errs[1], bkrp.StatusInvalidParameter) {
			t.Errorf("%v", e.Errs)
		}
	})
	t.Run("C-3.2.4-19 there is no other", func(t *testing.T) {
		d := fakes(t, good(nil, 0x57))
		_, err := d.open(t).Unwrap(t.Context(), blob)
		d.wantAsked(t, "dc1 RESTORE")
		wantDomainError(t, err, "dc1.bkrp.example: RESTORE", "dc1.bkrp.example: failed before, left out")
		if !errors.Is(err, bkrp.StatusInvalidParameter) || errors.Is(err, bkrpclient.ErrNoServer) {
			t.Error(err)
		}
	})
	t.Run("A-45 the same once more, where that is asked for", func(t *testing.T) {
		d := fakes(t, good(nil, 0x57))
		cfg := d.config()
		cfg.RetrySame = true
		_, err := openDomain(t, cfg).Unwrap(t.Context(), blob)
		d.wantAsked(t, "dc1 RESTORE", "dc1 RESTORE")
		wantDomainError(t, err)
	})
	t.Run("the one that worked is used from then on", func(t *testing.T) {
		d := fakes(t, good(nil, 0x57), opened)
		c := d.open(t)
		for range 2 {
			if _, err := c.Unwrap(t.Context(), blob); err != nil {
				t.Fatal(err)
			}
		}
		d.wantAsked(t, "dc1 RESTORE", "dc2 RESTORE", "dc2 RESTORE")
	})
	t.Run("C-3.2.4-20 what is no blob is not sent", func(t *testing.T) {
		d := fakes(t, opened)
		if _, err := d.open(t).Unwrap(t.Context(), []byte("no blob")); !errors.Is(err, bkrp.ErrFormat) {
			t.Error(err)
		}
		if log := d.Log(); len(log) != 0 {
			t.Errorf("asked %q", log)
		}
	})
}

// TestRetryConnecting: the same rule for what failed before there was a call.
func TestRetryConnecting(t *testing.T) {
	s := startServer(t, bkrpserver.Config{})
	noPipe := startServer(t, bkrpserver.Config{Pipes: []string{bkrpserver.PipeNTSvcs}})
	const refusing = "127.0.0.1:1" // tcpmux, which nobody serves
	silent := listen(t)            // its connections wait to be accepted
	defer silent.Close()
	for name, tt := range map[string]struct {
		first string
		pipes []string
		want  []string
	}{
		"C-3.2.4-18 refused":                        {refusing, nil, []string{"dc1.bkrp.example: connect: ", "connection refused", "dc2.bkrp.example: connect: ", "dc2.bkrp.example: RETRIEVE: "}},
		"C-3.2.4-18 silent":                         {silent.Addr().String(), nil, []string{"dc1.bkrp.example: connect: ", "deadline exceeded", "dc2.bkrp.example: RETRIEVE: "}},
		"C-3.2.4-05 ntsvcs at the same":             {noPipe.addr, nil, []string{"dc1.bkrp.example: connect: ", "dc1.bkrp.example: RETRIEVE: "}},
		"C-3.2.4-18 both pipes fail at the first":   {noPipe.addr, []string{bkrpclient.ProtectedStorage}, []string{"dc1.bkrp.example: connect: ", "protected_storage", "dc2.bkrp.example: RETRIEVE: "}},
		"C-3.2.4-02 and neither dead nor read-only": {s.addr, nil, []string{"rodc.bkrp.example: read-only, skipped", "dc1.bkrp.example: RETRIEVE: "}},
	} {
		t.Run(name, func(t *testing.T) {
			d := startDomain(t,
				&dcAt{DC: locatortest.DC{Name: "rodc", Reply: locatortest.ReadOnly}},
				&dcAt{DC: locatortest.DC{Name: "dc1"}, addr: tt.first}, &dcAt{DC: locatortest.DC{Name: "dc2"}, addr: s.addr})
			cfg := d.config()
			cfg.Client.Pipes = tt.pipes
			var trace bkrpclient.Trace
			retrieve := func(patience time.Duration) error {
				if tt.first == silent.Addr().String() {
					cfg.Client.Timeout = patience
				}
				trace = nil
				_, err := openDomain(t, cfg).RetrieveKey(bkrpclient.WithTrace(t.Context(), &trace))
				return err
			}
			if err := patiently(500*time.Millisecond, retrieve); err != nil {
				t.Fatal(err)
			}
			rest := trace.String()
			for _, want := range tt.want {
				_, after, ok := strings.Cut(rest, want)
				if !ok {
					t.Errorf("%q is not in the trace, or not in its place: %s", want, trace)
				}
				rest = after
			}
		})
	}
	t.Run("a caller's deadline leaves time for the second", func(t *testing.T) {
		d := startDomain(t, &dcAt{DC: locatortest.DC{Name: "dc1"}, addr: silent.Addr().String()}, &dcAt{DC: locatortest.DC{Name: "dc2"}, addr: s.addr})
		retrieve := func(patience time.Duration) error {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			_, err := d.open(t).RetrieveKey(ctx)
			return err
		}
		if err := patiently(time.Second, retrieve); err != nil {
			t.Error(err)
		}
	})
	t.Run("a refused logon", func(t *testing.T) {
		d := startDomain(t, &dcAt{DC: locatortest.DC{Name: "dc1"}, addr: s.addr}, &dcAt{DC: locatortest.DC{Name: "dc2"}, addr: s.addr})
		cfg := d.config()
		cfg.Client.Credential.Password = "wrong"
		_, err := openDomain(t, cfg).RetrieveKey(t.Context())
		if !errors.Is(err, bkrpclient.ErrLogon) {
			t.Error(err)
		}
		wantDomainError(t, err, "dc1.bkrp.example: connect: ", "dc2.bkrp.example: connect: ")
	})
	t.Run("none is found", func(t *testing.T) {
		d := startDomain(t, &dcAt{DC: locatortest.DC{Name: "rodc", Reply: locatortest.ReadOnly}})
		_, err := d.open(t).RetrieveKey(t.Context())
		if !errors.Is(err, bkrpclient.ErrNoServer) {
			t.Error(err)
		}
		wantDomainError(t, err, "no writable domain controller", "rodc.bkrp.example: read-only, skipped")
	})
	t.Run("the caller goes", func(t *testing.T) {
		gone := errors.New("the caller has gone home")
		d := startDomain(t, &dcAt{DC: locatortest.DC{Name: "dc1"}, addr: silent.Addr().String()}, &dcAt{DC: locatortest.DC{Name: "dc2"}, addr: s.addr})
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(200*time.Millisecond, func() { cancel(gone) })
		_, err := d.open(t).RetrieveKey(ctx)
		if !errors.Is(err, gone) || strings.Contains(err.Error(), "dc2") {
			t.Error(err)
		}
	})
	t.Run("the caller goes while another one is looked for", func(t *testing.T) {
		gone := errors.New("the caller has gone home")
		ctx, cancel := context.WithCancelCause(t.Context())
		dc2 := &dcAt{DC: locatortest.DC{Name: "dc2", Answer: func(dclocator.Ping, []byte) [][]byte { cancel(gone); return nil }}}
		d := startDomain(t, &dcAt{DC: locatortest.DC{Name: "dc1"}, addr: refusing}, dc2)
		if _, err := d.open(t).RetrieveKey(ctx); !errors.Is(err, gone) || !strings.Contains(err.Error(), "connection refused") {
			t.Error(err)
		}
	})
}

// patiently makes a call with more and more time, as long as that was up before it
// came to its end: a busy machine may need it. The last time is as long as no call
// takes.
func patiently(patience time.Duration, call func(patience time.Duration) error) error {
	for ; ; patience *= 4 {
		err := call(patience)
		if patience >= hangTime/2 || !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
	}
}

func TestManyCallers(t *testing.T) {
	s := startServer(t, bkrpserver.Config{})
	relay := startRelay(t, s.addr)
	d := startDomain(t, &dcAt{DC: locatortest.DC{Name: "dc1"}, addr: relay.addr}, &dcAt{DC: locatortest.DC{Name: "dc2"}, addr: s.addr})
	cfg := d.config()
	cfg.SID = s.sid
	c := openDomain(t, cfg)
	var running sync.WaitGroup
	for i := range 16 {
		running.Go(func() {
			for n := range 8 {
				if i == 0 {
					relay.cut()
				}
				secret := bytes.Repeat([]byte{byte(i)}, 50)
				blob, err := c.Wrap(t.Context(), secret, bkrpclient.WrapOptions{Mode: bkrpclient.Mode(n % 2)})
				if err != nil {
					t.Error(err)
					return
				}
				if got, err := c.Unwrap(t.Context(), blob); err != nil || !bytes.Equal(got, secret) {
					t.Errorf("%x, %v", got, err)
					return
				}
			}
		})
	}
	if err := inHangTime(t, func() error { running.Wait(); return nil }); err != nil {
		t.Error(err)
	}
}

func TestServers(t *testing.T) {
	d := startDomain(t,
		&dcAt{DC: locatortest.DC{Name: "rodc", Reply: locatortest.ReadOnly}, addr: "127.0.0.1:1"},
		&dcAt{DC: locatortest.DC{Name: "gone", Unnamed: true}},
		&dcAt{DC: locatortest.DC{Name: "dc1"}, addr: "127.0.0.1:2"})
	servers, err := d.open(t).Servers(t.Context())
	if err != nil || len(servers) != 3 {
		t.Fatalf("%+v, %v", servers, err)
	}
	byName := make(map[string]bkrpclient.Server)
	for _, s := range servers {
		byName[strings.TrimSuffix(s.Name, "."+dnsDomain)] = s
	}
	if s := byName["rodc"]; !s.Answered || s.Writable || s.Err == nil || s.Address != "127.0.0.1:1" {
		t.Errorf("%+v", s)
	}
	if s := byName["gone"]; s.Answered || s.Err == nil || s.Addr.IsValid() || s.Address != "" {
		t.Errorf("%+v", s)
	}
	if s := byName["dc1"]; !s.Answered || !s.Writable || s.Err != nil || s.ClientSite != locatortest.ClientSite || s.Took <= 0 {
		t.Errorf("%+v", s)
	}
	_, err = startDomain(t).open(t).Servers(t.Context())
	if !errors.Is(err, bkrpclient.ErrNoServer) {
		t.Error(err)
	}
	wantDomainError(t, err, "no SRV records")
}

// TestPingDelay: a domain controller that may take long to answer is waited for.
func TestPingDelay(t *testing.T) {
	t.Parallel() // it waits, most of the time
	d := startDomain(t, &dcAt{DC: locatortest.DC{Name: "dc1", Slow: dclocator.DefaultPingTimeout + 200*time.Millisecond}})
	servers, err := d.open(t).Servers(t.Context())
	if err != nil || len(servers) != 1 || !servers[0].Answered {
		t.Errorf("%+v, %v", servers, err)
	}
}

func TestDomainConfig(t *testing.T) {
	base := func() bkrpclient.DomainConfig {
		return bkrpclient.DomainConfig{Domain: dnsDomain, Client: configFor("")}
	}
	for name, change := range map[string]func(*bkrpclient.DomainConfig){
		"no domain":        func(c *bkrpclient.DomainConfig) { c.Domain = "" },
		"a path":           func(c *bkrpclient.DomainConfig) { c.Domain = "../../etc" },
		"a server as well": func(c *bkrpclient.DomainConfig) { c.Client.Server = "dc1" },
		"no user":          func(c *bkrpclient.DomainConfig) { c.Client.Credential.User = "" },
		"version 4":        func(c *bkrpclient.DomainConfig) { c.Version = 4 },
		"a site of two":    func(c *bkrpclient.DomainConfig) { c.Site = "a.b" },
	} {
		cfg := base()
		change(&cfg)
		if _, err := bkrpclient.OpenDomain(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if text := fmt.Sprintf("%+v %#v", base(), base()); strings.Contains(text, testPassword) {
		t.Error(text)
	}
}
