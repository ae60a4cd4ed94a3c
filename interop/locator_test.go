package interop

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/dclocator"
	"github.com/seed05845750/bkrp/internal/dclocator/locatortest"
	"github.com/seed05845750/bkrp/interop/peers"
)

// recordCLDAP has TestLocatorPing write what the domain controller answers, for
// the tests of internal/dclocator.
var recordCLDAP = flag.String("record-cldap", "", "write answers to LDAP pings to this directory")

const locatorDomain = "bkrp.test"

func askDC(dc *peers.Domain) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, net.JoinHostPort(dc.Addr, "53"))
	}}
}

// TestLocatorPing pings the domain controller in each of the ways that ask for
// the structure we know.
func TestLocatorPing(t *testing.T) {
	dc := DC(t)
	for name, ntVer := range map[string]uint32{"samba-5ex": 0x06, "samba-5ex-ip": 0x0E, "samba-5ex-closest": 0x16} {
		t.Run("D-21 "+name, func(t *testing.T) {
			conn, err := net.Dial("udp", net.JoinHostPort(dc.Addr, "389"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(30 * time.Second))
			if _, err := conn.Write(dclocator.Ping{ID: 0x11223344, Domain: locatorDomain, NtVer: ntVer}.Append(nil)); err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 4096)
			n, err := conn.Read(b)
			if err != nil {
				t.Fatal(err)
			}
			if *recordCLDAP != "" {
				if err := os.WriteFile(filepath.Join(*recordCLDAP, name+".hex"), []byte(hex.EncodeToString(b[:n])+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			id, netlogon, err := dclocator.ParseAnswer(b[:n])
			if err != nil || id != 0x11223344 {
				t.Fatalf("%d, %v", id, err)
			}
			r, err := dclocator.ParseReply(netlogon)
			if err != nil || r.Domain != locatorDomain || r.Host != dc.Host || r.Flags&dclocator.FlagWritable == 0 {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
	t.Run("another domain", func(t *testing.T) {
		l, err := dclocator.New(dclocator.Config{Domain: "other.test", Resolver: locatortest.Start(t, "other.test",
			&locatortest.DC{Name: "dc1", Addr: netip.MustParseAddr(dc.Addr), Port: 389}).Resolver()})
		if err != nil {
			t.Fatal(err)
		}
		if dc, _, err := l.Locate(t.Context(), dclocator.Request{}); !errors.Is(err, dclocator.ErrNone) {
			t.Errorf("%+v, %v", dc, err)
		}
	})
}

// TestLocatorDNS has nothing of ours between the client and the domain: its DNS,
// its pings, and Kerberos by the name that was found.
func TestLocatorDNS(t *testing.T) {
	dc := DC(t)
	var trace bkrpclient.Trace
	ctx := bkrpclient.WithTrace(t.Context(), &trace)
	cache, err := dc.Kinit(t.Context(), peers.Alice)
	if err != nil {
		t.Fatal(err)
	}
	for name, credential := range map[string]bkrpclient.Credential{
		"NTLM":                {Domain: "BKRP", User: peers.Alice, Password: bkrpclient.Password(dc.Password(peers.Alice))},
		"C-3.2.4-11 Kerberos": {Kerberos: &bkrpclient.Kerberos{CCache: "FILE:" + cache, Conf: dc.Krb5Conf()}},
	} {
		t.Run(name, func(t *testing.T) {
			trace = nil
			d, err := bkrpclient.OpenDomain(bkrpclient.DomainConfig{
				Domain: locatorDomain, Resolver: askDC(dc), PingDelay: 10 * time.Second, // there is no other
				Client: bkrpclient.Config{Credential: credential, RequireMutual: credential.Kerberos != nil},
				// The domain has an address in DNS that may not be its own here.
				Address: func(string, netip.Addr) string { return net.JoinHostPort(dc.Addr, "445") },
			})
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			for _, mode := range []bkrpclient.Mode{bkrpclient.ModeClient, bkrpclient.ModeServer} {
				blob, err := d.Wrap(ctx, []byte("secret"), bkrpclient.WrapOptions{Mode: mode})
				if err != nil {
					t.Fatal(err)
				}
				if secret, err := d.Unwrap(ctx, blob); err != nil || string(secret) != "secret" {
					t.Errorf("%q, %v", secret, err)
				}
			}
			if sid, err := d.SID(ctx); err != nil || sid.String() != sidOf(t, dc, peers.Alice) {
				t.Errorf("A-55 %v, %v", sid, err)
			}
			t.Log(trace)
			var connected []string
			for _, s := range trace {
				if s.Doing == "connect" {
					connected = append(connected, s.Server)
				}
			}
			if !slices.Equal(connected, []string{dc.Host}) {
				t.Errorf("connected to %q: %v", connected, trace)
			}
		})
	}
}

// wireDomain is the Samba domain with more domain controllers than it has: one
// that is dead, one that is read-only, dc1, which is Samba's, and dc2, whose
// pings are answered here, and whose SMB is Samba's as well.
type wireDomain struct {
	*locatortest.Domain
	dc1, dc2 *wire
	dc       *peers.Domain
}

func startWireDomain(t *testing.T, second string) *wireDomain {
	t.Helper()
	dc := DC(t)
	smb := net.JoinHostPort(dc.Addr, "445")
	if second == "" {
		second = smb
	}
	d := locatortest.Start(t, locatorDomain,
		&locatortest.DC{Name: "dead", Priority: 0, Port: 1},
		&locatortest.DC{Name: "rodc", Priority: 1, Reply: locatortest.ReadOnly},
		&locatortest.DC{Name: "dc1", Priority: 2, Forward: netip.MustParseAddrPort(net.JoinHostPort(dc.Addr, "389"))},
		&locatortest.DC{Name: "dc2", Priority: 3},
	)
	return &wireDomain{Domain: d, dc: dc, dc1: startWire(t, d, "dc1", smb), dc2: startWire(t, d, "dc2", second)}
}

func (d *wireDomain) open(t *testing.T, change ...func(*bkrpclient.DomainConfig)) *bkrpclient.Domain {
	t.Helper()
	cfg := bkrpclient.DomainConfig{
		Domain: locatorDomain, Resolver: d.Resolver(), PingDelay: time.Minute, SID: dtyp.MustParseSID(sidOf(t, d.dc, peers.Alice)),
		Client: bkrpclient.Config{Credential: bkrpclient.Credential{
			Domain: "BKRP", User: peers.Alice, Password: bkrpclient.Password(d.dc.Password(peers.Alice)),
		}},
		Address: func(name string, _ netip.Addr) string {
			return map[string]string{"dc1.bkrp.test": d.dc1.addr, "dc2.bkrp.test": d.dc2.addr}[name]
		},
	}
	for _, f := range change {
		f(&cfg)
	}
	c, err := bkrpclient.OpenDomain(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func (d *wireDomain) want(t *testing.T, want ...string) {
	t.Helper()
	if got := d.Log(); !slices.Equal(got, want) {
		t.Errorf("on the wire:\n\t%s\nwant:\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// find is how a domain controller is found, forced later on by what the first
// search has learned, and use is how one is connected to and asked.
func find(site bool, names ...string) (log []string) {
	log = []string{"SRV _ldap._tcp.dc._msdcs.bkrp.test"}
	if site {
		log[0] = "SRV _ldap._tcp.default-first-site-name._sites.dc._msdcs.bkrp.test"
	}
	for _, n := range names {
		log = append(log, "ping "+n)
	}
	return log
}

func use(name string) []string {
	return []string{name + " connect", name + " open protected_storage at level 2",
		name + " bind with auth type 9, level 6", name + " request"}
}

// TestLocatorWire shows the order in which a client of the domain does things,
// rule by rule of 3.2.4.
func TestLocatorWire(t *testing.T) {
	d := startWireDomain(t, "")
	secret := []byte("a secret of the domain")
	first := slices.Concat(find(false, "rodc", "dc1"), use("dc1"))
	t.Run("C-3.2.4-02 C-3.2.4-03 C-3.2.4-04 C-3.2.4-08 C-3.2.4-09 C-3.2.4-10 C-3.2.4.1-01 find, connect, retrieve", func(t *testing.T) {
		c := d.open(t)
		blob, err := c.Wrap(t.Context(), secret, bkrpclient.WrapOptions{})
		if err != nil || blob[0] != 2 {
			t.Fatalf("C-3.2.4.1-06 %v", err)
		}
		d.want(t, first...)
		t.Run("C-3.2.4-01 wrapping with a cached key asks nobody", func(t *testing.T) {
			if _, err := c.Wrap(t.Context(), secret, bkrpclient.WrapOptions{Version: 3}); err != nil {
				t.Error(err)
			}
			d.want(t)
		})
		t.Run("C-3.2.4-01 C-3.2.4-20 everything else goes to the server, on the connection there is", func(t *testing.T) {
			if got, err := c.Unwrap(t.Context(), blob); err != nil || !bytes.Equal(got, secret) {
				t.Errorf("%q, %v", got, err)
			}
			if _, err := c.Wrap(t.Context(), secret, bkrpclient.WrapOptions{Mode: bkrpclient.ModeServer}); err != nil {
				t.Error(err)
			}
			d.want(t, "dc1 request", "dc1 request")
		})
	})
	t.Run("C-3.2.4-17 C-3.2.4-19 any nonzero answer: once more at another one, and then an error", func(t *testing.T) {
		for _, status := range []bkrp.Status{bkrp.StatusInvalidData, bkrp.StatusInvalidAccess} {
			blob := make([]byte, 12+16+256+88)
			copy(blob, []byte{2, 0, 0, 0, 0, 1, 0, 0, 88, 0, 0, 0}) // of a key that there is not
			if status == bkrp.StatusInvalidAccess {
				key, err := d.open(t).RetrieveKey(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				d.Log()
				if blob, err = bkrp.WrapClient(key, dtyp.MustParseSID("S-1-5-21-1-2-3-1000"), secret, 2); err != nil {
					t.Fatal(err)
				}
			}
			_, err := d.open(t).Unwrap(t.Context(), blob)
			var e *bkrpclient.DomainError
			if !errors.As(err, &e) || len(e.Errs) != 2 || !errors.As(err, new(*bkrpclient.ServerError)) {
				t.Errorf("%v: %v", status, err)
			}
			d.want(t, slices.Concat(first, find(true, "rodc", "dc2"), use("dc2"))...)
		}
	})
	t.Run("C-3.2.4-18 a connection that ends", func(t *testing.T) {
		d.dc1.cut(true)
		defer d.dc1.cut(false)
		c := d.open(t)
		if _, err := c.RetrieveKey(t.Context()); err != nil {
			t.Error(err)
		}
		d.want(t, slices.Concat(first, find(true, "rodc", "dc2"), use("dc2"))...)
		t.Run("the next call stays with the one that worked", func(t *testing.T) {
			if _, err := c.RetrieveKey(t.Context()); err != nil {
				t.Error(err)
			}
			d.want(t, "dc2 request")
		})
	})
	t.Run("C-3.2.4.1-20 P-7-18 the schedule of note 18", func(t *testing.T) {
		d.dc1.cut(true)
		d.dc2.cut(true)
		defer d.dc1.cut(false)
		defer d.dc2.cut(false)
		var trace bkrpclient.Trace
		ctx := bkrpclient.WithTrace(t.Context(), &trace)
		c := d.open(t, func(cfg *bkrpclient.DomainConfig) { cfg.FallBack = true })
		if _, err := c.Wrap(ctx, secret, bkrpclient.WrapOptions{}); err == nil {
			t.Error("no error")
		}
		d.want(t, slices.Concat(first, find(true, "rodc", "dc2"), use("dc2"), use("dc2"), find(true, "rodc", "dc1"), use("dc1"))...)
		var calls []string
		for _, s := range trace {
			if s.Doing != "find" && s.Doing != "connect" {
				calls = append(calls, fmt.Sprintf("%s %s", s.Server, s.Doing))
			}
		}
		if want := []string{"dc1.bkrp.test RETRIEVE", "dc2.bkrp.test RETRIEVE", "dc2.bkrp.test BACKUP", "dc1.bkrp.test BACKUP"}; !slices.Equal(calls, want) {
			t.Errorf("%q", calls)
		}
	})
	t.Run("C-3.2.4.1-03 no fall-back unless asked for", func(t *testing.T) {
		d.dc1.cut(true)
		d.dc2.cut(true)
		defer d.dc1.cut(false)
		defer d.dc2.cut(false)
		if _, err := d.open(t).Wrap(t.Context(), secret, bkrpclient.WrapOptions{}); err == nil {
			t.Error("no error")
		}
		d.want(t, slices.Concat(first, find(true, "rodc", "dc2"), use("dc2"))...)
	})
}

// TestLocatorPipes: C-3.2.4-05, with a server of ours for dc2, which serves the
// second pipe alone.
func TestLocatorPipes(t *testing.T) {
	dc := DC(t)
	ours := startBkrpd(t, options{
		settings: map[string]string{"pipes": `["ntsvcs"]`},
		passwords: map[string]string{
			peers.Administrator: dc.Password(peers.Administrator), peers.Alice: dc.Password(peers.Alice), peers.Bob: dc.Password(peers.Bob),
		},
	})
	d := startWireDomain(t, ours.addr)
	d.dc1.cut(true)
	c := d.open(t)
	if _, err := c.RetrieveKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.want(t, slices.Concat(find(false, "rodc", "dc1"), use("dc1"), find(true, "rodc", "dc2"), []string{
		"dc2 connect", "dc2 open protected_storage at level 2", "dc2 open ntsvcs at level 2",
		"dc2 bind with auth type 9, level 6", "dc2 request",
	})...)
}
