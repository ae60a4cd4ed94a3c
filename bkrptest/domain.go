package bkrptest

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/bkrpserver"
	"github.com/seed05845750/bkrp/bkrptest/internal/kdc"
	"github.com/seed05845750/bkrp/internal/dclocator/locatortest"
	"github.com/seed05845750/bkrp/internal/interpose"
	"github.com/seed05845750/bkrp/keystore"
)

// Domain is a running domain. Its methods are safe for concurrent use; those that
// can fail end the test, and are to be called from its goroutine.
type Domain struct {
	// Name and NetBIOSName are the domain's DNS name, lower case, and its short
	// name, upper case.
	Name, NetBIOSName string
	// Realm is the Kerberos realm: Name in upper case.
	Realm string
	// Store has the keys and accounts.
	Store *keystore.Store

	t        testing.TB
	dir      string
	kdc      *kdc.KDC
	krb5Conf string
	servers  []*server // in the order of their names
	locator  *locatortest.Domain
	faults   faults

	mu     sync.Mutex // guards what follows
	users  map[string]*User
	events []bkrpserver.Event
}

// server is one domain controller.
type server struct {
	name string // the host's, in the domain
	addr string
}

// NewDomain starts a domain for the length of the test.
func NewDomain(t testing.TB, opts ...Option) *Domain {
	t.Helper()
	o := options{
		dnsName: "bkrp.test", netbios: "BKRP", users: []string{"alice", "bob"},
		controllers: 1, log: slog.New(slog.DiscardHandler),
	}
	for _, opt := range opts {
		opt(&o)
	}
	d := &Domain{
		Name: strings.ToLower(o.dnsName), NetBIOSName: strings.ToUpper(o.netbios), Realm: strings.ToUpper(o.dnsName),
		t: t, dir: t.TempDir(), users: make(map[string]*User),
	}
	d.openStore(&o)
	for _, name := range o.users {
		d.AddUser(name)
	}
	var controllers []string
	for i := range o.controllers {
		d.servers = append(d.servers, &server{name: fmt.Sprintf("dc%d", i+1)})
		controllers = append(controllers, d.servers[i].name+"."+d.Name)
	}
	keytab := d.startKDC(controllers)
	for _, s := range d.servers {
		d.startServer(s, &o, keytab)
	}
	d.startLocator(o.readOnly)
	return d
}

// must ends the test where a part of the domain could not be had.
func (d *Domain) must(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatalf("bkrptest: %v", err)
	}
}

// openStore makes the store, in memory.
func (d *Domain) openStore(o *options) {
	d.t.Helper()
	ctx, backend, sealer := d.t.Context(), keystore.NewMemory(), keystore.NewThrowAwaySealer()
	err := keystore.Create(ctx, backend, sealer, keystore.Domain{
		DNSName: d.Name, NetBIOSName: d.NetBIOSName, SID: keystore.RandomDomainSID(),
	})
	d.must(err)
	d.Store, err = keystore.Open(ctx, backend, sealer, keystore.Options{Log: o.log})
	d.must(err)
	d.t.Cleanup(func() {
		d.Store.Close()
		backend.Close()
	})
	if o.key != nil {
		_, err = d.Store.ImportKeyPair(ctx, o.key, true)
		d.must(err)
	}
}

// memberName is a machine of the domain that is no domain controller. It is known
// to the KDC, and to nobody else.
const memberName = "member"

// startKDC serves Kerberos, and gives the path of the servers' keytab.
func (d *Domain) startKDC(controllers []string) (keytab string) {
	d.t.Helper()
	d.kdc = kdc.New(kdc.Config{
		Realm: d.Realm, NetBIOSName: d.NetBIOSName, User: d.principal,
		Hosts: append([]string{"127.0.0.1", "localhost", memberName + "." + d.Name}, controllers...), Controllers: controllers,
	})
	l, err := kdc.Listen(d.kdc)
	d.must(err)
	d.t.Cleanup(func() { l.Close() })
	d.krb5Conf = d.file("krb5.conf", fmt.Appendf(nil, `[libdefaults]
	default_realm = %[1]s
	dns_lookup_kdc = false
	dns_lookup_realm = false
	dns_canonicalize_hostname = false
	rdns = false

[realms]
	%[1]s = {
		kdc = %[2]s
	}

[domain_realm]
	%[3]s = %[1]s
	.%[3]s = %[1]s
`, d.Realm, l.Addr(), d.Name))
	return d.file("keytab", d.kdc.Keytab())
}

// principal finds a user for the KDC, as the store has the account now.
func (d *Domain) principal(name string) (kdc.User, bool) {
	d.mu.Lock()
	u := d.users[strings.ToLower(name)]
	d.mu.Unlock()
	if u == nil {
		return kdc.User{}, false
	}
	account, err := d.Store.Account(context.Background(), u.Name)
	if err != nil {
		return kdc.User{}, false
	}
	return kdc.User{Name: u.Name, SID: u.SID, Password: string(u.Password), Disabled: account.Disabled}, true
}

// file writes a file of the domain's and gives its path.
func (d *Domain) file(name string, content []byte) string {
	d.t.Helper()
	path := filepath.Join(d.dir, name)
	d.must(os.WriteFile(path, content, 0o600))
	return path
}

// startServer serves BackupKey on a port of its own.
func (d *Domain) startServer(s *server, o *options, keytab string) {
	d.t.Helper()
	cfg := bkrpserver.Config{
		Service:      &bkrpserver.Service{Store: d.Store, Audit: d.audit, Logger: o.log},
		ComputerName: s.name, Logger: o.log,
		Kerberos: bkrpserver.Kerberos{Keytab: keytab},
	}
	for _, change := range o.server {
		change(&cfg)
	}
	srv, err := bkrpserver.New(cfg)
	d.must(err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	d.must(err)
	s.addr = l.Addr().String()
	ctx, cancel := context.WithCancel(interpose.With(context.Background(), d.answer(s.name)))
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ctx, &listener{Listener: l, server: s.name, faults: &d.faults}) }()
	d.t.Cleanup(func() {
		cancel() // cuts off who is still there, and ends what is held up
		if err := <-served; err != nil {
			d.t.Errorf("bkrptest: serving: %v", err)
		}
		if err := srv.Shutdown(context.Background()); err != nil {
			d.t.Errorf("bkrptest: shutting down: %v", err)
		}
	})
}

// audit keeps the audit trail.
func (d *Domain) audit(_ context.Context, e *bkrpserver.Event) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.events = append(d.events, *e)
	return nil
}

// Events is the audit trail so far, of all servers: one event for each call of
// BackuprKey and each try to read a key through the LSA. The event of a call is
// there before its answer is given.
func (d *Domain) Events() []bkrpserver.Event {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.events)
}

// Addr is host:port of the first server, on loopback.
func (d *Domain) Addr() string { return d.servers[0].addr }

// Krb5Conf is the path of a krb5.conf with the domain's KDC, for KRB5_CONFIG.
func (d *Domain) Krb5Conf() string { return d.krb5Conf }

// Rotate makes new keys, of both subprotocols, the current ones. The old ones go
// on opening what was wrapped under them.
func (d *Domain) Rotate() {
	d.t.Helper()
	_, err := d.Store.RotateClientWrapKey(d.t.Context())
	d.must(err)
	_, err = d.Store.RotateServerWrapKey(d.t.Context())
	d.must(err)
}

// Certificate is the domain's present public key.
func (d *Domain) Certificate() *bkrp.Certificate {
	d.t.Helper()
	key, err := d.Store.CurrentClientWrapKey(d.t.Context())
	d.must(err)
	cert, err := bkrp.ParseCertificate(key.Certificate())
	d.must(err)
	return cert
}

// AddUser adds a user with a password that is drawn for them. The user called
// Administrator has RID 500, as in every domain.
func (d *Domain) AddUser(name string) *User {
	d.t.Helper()
	password := rand.Text()
	account, err := d.Store.AddAccount(d.t.Context(), name, password)
	d.must(err)
	u := &User{Name: account.Name, SID: account.SID, Password: bkrpclient.Password(password), d: d}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.users[strings.ToLower(name)] = u
	return u
}

// User is one of the domain's users.
func (d *Domain) User(name string) *User {
	d.t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	u := d.users[strings.ToLower(name)]
	if u == nil {
		d.t.Fatalf("bkrptest: there is no user %q in %s", name, d.Name)
	}
	return u
}
