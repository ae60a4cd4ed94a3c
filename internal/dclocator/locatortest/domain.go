// Package locatortest is what package dclocator asks, on loopback: a DNS server
// and domain controllers that answer LDAP pings, each as well or as badly as it
// is told.
package locatortest

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/internal/dclocator"
)

// ClientSite is the site that the domain controllers say the client is in,
// unless they are told otherwise.
const ClientSite = "Default-First-Site-Name"

// DC is a domain controller, or something that DNS takes for one. The zero
// value of everything but Name answers at once, writable, in the client's site.
type DC struct {
	// Name is its host name, below the domain's.
	Name string
	// Addr is its address; the zero one is 127.0.0.1.
	Addr netip.Addr
	// Also are addresses of its name at which nothing answers.
	Also []netip.Addr
	// Port is that of its LDAP service. With 0 one is drawn and served; any
	// other is somebody else's.
	Port uint16
	// Sites are those whose records name it, beside the domain's; nil is
	// ClientSite.
	Sites []string
	// Priority and Weight stand in its SRV records.
	Priority, Weight uint16
	// Dead answers nothing, Slow later.
	Dead bool
	Slow time.Duration
	// After keeps its address back in DNS until another one was pinged: then the
	// order in which they are does not hang on the speed of the machine.
	After *DC
	// Unnamed has SRV records, but no address.
	Unnamed bool
	// Alias is another name of its own, in SRV records and with an address.
	Alias string
	// Forward is the LDAP service of a real one, which answers in its place.
	Forward netip.AddrPort
	// Reply changes the answer, Answer the datagrams that carry it.
	Reply  func(r *dclocator.Reply)
	Answer func(ping dclocator.Ping, answer []byte) [][]byte

	once   sync.Once
	pinged chan struct{} // closed at the first ping
}

// ReadOnly makes the answer a read-only domain controller's.
func ReadOnly(r *dclocator.Reply) {
	r.Flags = r.Flags&^(dclocator.FlagWritable|dclocator.FlagFullSecret) | dclocator.FlagSelectSecret
}

// Domain is a running domain.
type Domain struct {
	// Name is the domain's DNS name.
	Name string
	// DNS is the address of its DNS server.
	DNS string

	over chan struct{} // closed when the test ends

	mu   sync.Mutex
	dcs  []*DC
	log  []string
	down bool
}

// Start serves a domain until the test ends.
func Start(t testing.TB, name string, dcs ...*DC) *Domain {
	t.Helper()
	d := &Domain{Name: name, over: make(chan struct{}), dcs: dcs}
	for _, dc := range dcs {
		dc.pinged = make(chan struct{})
		if !dc.Addr.IsValid() {
			dc.Addr = netip.MustParseAddr("127.0.0.1")
		}
		if dc.Sites == nil {
			dc.Sites = []string{ClientSite}
		}
		if dc.Port == 0 {
			dc.Port = d.serve(t, dc.Addr, func(q []byte) [][]byte { return d.pinged(dc, q) }).Port()
		}
	}
	d.DNS = d.serve(t, netip.MustParseAddr("127.0.0.1"), d.asked).String()
	t.Cleanup(func() { close(d.over) }) // before those of serve, which wait
	return d
}

// serve answers datagrams on a port of its own.
func (d *Domain) serve(t testing.TB, addr netip.Addr, answer func(q []byte) [][]byte) netip.AddrPort {
	t.Helper()
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 0)))
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			q := slices.Clone(buf[:n])
			running.Go(func() {
				for _, a := range answer(q) {
					conn.WriteToUDPAddrPort(a, from)
				}
			})
		}
	})
	t.Cleanup(func() {
		conn.Close()
		running.Wait()
	})
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// Resolver asks this domain's DNS server and no other.
func (d *Domain) Resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", d.DNS)
	}}
}

// SetDown has DNS answer that it fails.
func (d *Domain) SetDown(down bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.down = down
}

// Set puts other domain controllers in place of the present ones, which have to
// have been there at the start.
func (d *Domain) Set(dcs ...*DC) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dcs = dcs
}

// Log is what was asked since the last time, in the order in which it came in:
// "SRV NAME" and "ping HOST", and what Note was given. Pings that were sent again are there once in a row.
func (d *Domain) Log() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	log := d.log
	d.log = nil
	return slices.CompactFunc(log, func(a, b string) bool { return a == b && strings.HasPrefix(a, "ping ") })
}

// Note adds something else to the log.
func (d *Domain) Note(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.log = append(d.log, fmt.Sprintf(format, args...))
}

// host is the full name of a domain controller.
func (d *Domain) host(name string) string { return name + "." + d.Name }

// pinged answers an LDAP ping.
func (d *Domain) pinged(dc *DC, q []byte) [][]byte {
	d.Note("ping %s", dc.Name)
	dc.once.Do(func() { close(dc.pinged) })
	ping, err := dclocator.ParsePing(q)
	if err != nil || dc.Dead {
		return nil
	}
	time.Sleep(dc.Slow)
	if dc.Forward.IsValid() {
		return forward(dc.Forward, q)
	}
	r := dclocator.Reply{
		Flags:  dclocator.FlagDS | dclocator.FlagKDC | dclocator.FlagWritable | dclocator.FlagFullSecret,
		Forest: d.Name, Domain: d.Name, Host: d.host(dc.Name),
		NetBIOSDomain: strings.ToUpper(strings.SplitN(d.Name, ".", 2)[0]), NetBIOSHost: strings.ToUpper(dc.Name),
		Site: ClientSite, ClientSite: ClientSite, NtVersion: ping.NtVer,
	}
	if len(dc.Sites) > 0 {
		r.Site = dc.Sites[0]
	}
	if slices.Contains(dc.Sites, ClientSite) {
		r.Flags |= dclocator.FlagClosest
	}
	if dc.Reply != nil {
		dc.Reply(&r)
	}
	answer := dclocator.AppendAnswer(nil, ping.ID, r.Append(nil))
	if dc.Answer != nil {
		return dc.Answer(ping, answer)
	}
	return [][]byte{answer}
}

// forwardTime bounds the wait for a real domain controller.
const forwardTime = 10 * time.Second

// forward has a real domain controller answer.
func forward(to netip.AddrPort, q []byte) [][]byte {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		return nil
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(forwardTime))
	buf := make([]byte, 4096)
	if _, err := conn.Write(q); err != nil {
		return nil
	}
	n, err := conn.Read(buf)
	if err != nil {
		return nil
	}
	return [][]byte{buf[:n]}
}
