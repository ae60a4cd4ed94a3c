package dclocator_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/internal/dclocator"
	"github.com/seed05845750/bkrp/internal/dclocator/locatortest"
)

const (
	domain   = "bkrp.test"
	srv      = "SRV _ldap._tcp.dc._msdcs." + domain
	siteSRV  = "SRV _ldap._tcp.default-first-site-name._sites.dc._msdcs." + domain
	hangTime = 30 * time.Second
)

// apart is the time between pings in tests where one does not answer.
const apart = 300 * time.Millisecond

// patiently is for domains with one that does not answer, which the others have to
// do in time: find gets to know by change how long that is, and is asked again with
// more of it as long as one of the others was late, which may be the machine's fault.
// In other domains nothing is to hang on how fast that is.
func patiently(find func(change func(*dclocator.Config)) dclocator.Trace, others ...string) dclocator.Trace {
	for wait := 4 * apart; ; wait *= 4 {
		trace := find(func(c *dclocator.Config) { c.Apart, c.PingTimeout = apart, wait })
		late := slices.ContainsFunc(trace, func(s dclocator.Step) bool {
			name, _, _ := strings.Cut(s.Server, ".")
			return slices.Contains(others, name) && s.Err != nil && (s.Err.Error() == "no answer" || strings.HasPrefix(s.Err.Error(), "DNS: "))
		})
		if !late || wait > hangTime {
			return trace
		}
	}
}

func locator(t *testing.T, d *locatortest.Domain, change ...func(*dclocator.Config)) *dclocator.Locator {
	t.Helper()
	cfg := dclocator.Config{Domain: d.Name, Resolver: d.Resolver(), Apart: hangTime, PingTimeout: hangTime, Timeout: 2 * hangTime}
	for _, f := range change {
		f(&cfg)
	}
	l, err := dclocator.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// locate finds the domain controller called want, "" if there is to be none.
func locate(t *testing.T, l *dclocator.Locator, r dclocator.Request, want string) (*dclocator.DC, dclocator.Trace) {
	t.Helper()
	dc, trace, err := l.Locate(t.Context(), r)
	if want == "" {
		var e *dclocator.Error
		if !errors.Is(err, dclocator.ErrNone) || !errors.As(err, &e) || dc != nil || len(e.Trace) != len(trace) {
			t.Fatalf("%v, %v", dc, err)
		}
		return nil, trace
	}
	if err != nil {
		t.Fatal(err)
	}
	if dc.Name != want+"."+domain {
		t.Fatalf("found %s: %v", dc.Name, trace)
	}
	return dc, trace
}

func wantLog(t *testing.T, d *locatortest.Domain, want ...string) {
	t.Helper()
	if got := d.Log(); !slices.Equal(got, want) {
		t.Errorf("asked %q, want %q", got, want)
	}
}

// wantSteps looks for each of want, in this order, in the trace.
func wantSteps(t *testing.T, trace dclocator.Trace, want ...string) {
	t.Helper()
	text := trace.String()
	for _, w := range want {
		_, rest, ok := strings.Cut(text, w)
		if !ok {
			t.Errorf("%q is not in the trace, or not in its place: %s", w, trace)
		}
		text = rest
	}
}

// Records are tried by their priority; what each answers decides.
func TestOrder(t *testing.T) {
	d := locatortest.Start(t, domain,
		&locatortest.DC{Name: "dc5", Priority: 5},
		&locatortest.DC{Name: "gone", Priority: 0, Unnamed: true},
		&locatortest.DC{Name: "rodc", Priority: 1, Reply: locatortest.ReadOnly},
		&locatortest.DC{Name: "foreign", Priority: 2, Reply: func(r *dclocator.Reply) { r.Domain = "other.test" }},
		&locatortest.DC{Name: "liar", Priority: 3, Reply: func(r *dclocator.Reply) { r.Host = "dc5." + domain }},
		&locatortest.DC{Name: "paused", Priority: 4, Reply: func(r *dclocator.Reply) { r.Paused = true }},
	)
	_, trace := locate(t, locator(t, d), dclocator.Request{}, "dc5")
	t.Run("C-3.2.4-02 read-only skipped, D-21 order", func(t *testing.T) {
		wantLog(t, d, srv, "ping rodc", "ping foreign", "ping liar", "ping paused", "ping dc5")
		wantSteps(t, trace, "_ldap._tcp.dc._msdcs.bkrp.test: 6 in DNS", "gone.bkrp.test: no such name in DNS", "rodc.bkrp.test: read-only, skipped",
			"foreign.bkrp.test: answers for another domain", "liar.bkrp.test: answers by another name", "paused.bkrp.test: takes no logons", "dc5.bkrp.test: ")
	})
	t.Run("D-21 what was found", func(t *testing.T) {
		last := trace[len(trace)-1]
		if last.DC == nil || last.DC.Domain != domain || last.DC.Site != locatortest.ClientSite || !last.Addr.IsValid() || last.Took <= 0 {
			t.Errorf("%+v", last)
		}
		if s := last.String(); !strings.HasSuffix(s, "s") || strings.Contains(s, "skipped") {
			t.Errorf("%q", s)
		}
	})
}

// TestWeight: among records of one priority the weight decides how often one is
// the first (RFC 2782).
func TestWeight(t *testing.T) {
	d := locatortest.Start(t, domain, &locatortest.DC{Name: "light", Weight: 1}, &locatortest.DC{Name: "heavy", Weight: 1000})
	heavy := 0
	for range 30 {
		dc, _, err := locator(t, d).Locate(t.Context(), dclocator.Request{})
		if err != nil {
			t.Fatal(err)
		}
		if dc.Name == "heavy."+domain {
			heavy++
		}
	}
	if heavy < 20 {
		t.Errorf("the heavy one was the first %d times of 30", heavy)
	}
}

// TestSilent: one that is dead delays by the time between pings, and is told of.
func TestSilent(t *testing.T) {
	dead := &locatortest.DC{Name: "dead", Priority: 1, Dead: true}
	d := locatortest.Start(t, domain,
		&locatortest.DC{Name: "refusing", Priority: 0, Port: 1}, // tcpmux, which nobody serves
		dead,
		&locatortest.DC{Name: "dc1", Priority: 2, After: dead},
	)
	began := time.Now()
	_, trace := locate(t, locator(t, d, func(c *dclocator.Config) { c.Apart = apart }), dclocator.Request{}, "dc1")
	if took := time.Since(began); took >= hangTime {
		t.Errorf("it took %v", took)
	}
	wantLog(t, d, srv, "ping dead", "ping dc1")
	// In the trace dead may be the first, where the address of refusing took longer
	// than the time between pings.
	wantSteps(t, trace, "refusing.bkrp.test: ", "connection refused")
	wantSteps(t, trace, "dead.bkrp.test: no answer yet", "dc1.bkrp.test: ")
	t.Run("the slow one wins where no other one answers", func(t *testing.T) {
		// It is slow by as much as the other one's answer takes on a busy machine.
		var trace dclocator.Trace
		for late := 2 * apart; late < hangTime; late *= 4 {
			slow := &locatortest.DC{Name: "slow", Priority: 0, Slow: late}
			d := locatortest.Start(t, domain, slow, &locatortest.DC{Name: "rodc", Priority: 1, Reply: locatortest.ReadOnly, After: slow})
			_, trace = locate(t, locator(t, d, func(c *dclocator.Config) { c.Apart = apart }), dclocator.Request{}, "slow")
			if strings.Contains(trace.String(), "read-only") {
				break
			}
		}
		wantSteps(t, trace, "slow.bkrp.test: ", "rodc.bkrp.test: read-only")
	})
}

func TestNone(t *testing.T) {
	t.Run("all are unusable", func(t *testing.T) {
		trace := patiently(func(change func(*dclocator.Config)) dclocator.Trace {
			dead := &locatortest.DC{Name: "dead", Priority: 0, Dead: true}
			rodc := &locatortest.DC{Name: "rodc", Priority: 1, Reply: locatortest.ReadOnly, After: dead}
			other := &locatortest.DC{Name: "other", Priority: 2, After: rodc, Answer: func(p dclocator.Ping, _ []byte) [][]byte {
				return [][]byte{dclocator.AppendAnswer(nil, p.ID, nil)}
			}}
			d := locatortest.Start(t, domain, dead, rodc, other)
			_, trace := locate(t, locator(t, d, change), dclocator.Request{}, "")
			return trace
		}, "rodc", "other")
		wantSteps(t, trace, "dead.bkrp.test: no answer", "rodc.bkrp.test: read-only", "other.bkrp.test: does not hold")
	})
	t.Run("no records", func(t *testing.T) {
		d := locatortest.Start(t, domain)
		_, trace := locate(t, locator(t, d), dclocator.Request{}, "")
		wantSteps(t, trace, "no SRV records")
	})
	t.Run("DNS fails", func(t *testing.T) {
		d := locatortest.Start(t, domain, &locatortest.DC{Name: "dc1"})
		d.SetDown(true)
		_, trace := locate(t, locator(t, d), dclocator.Request{}, "")
		wantSteps(t, trace, "DNS: server misbehaving")
	})
	t.Run("the context ends", func(t *testing.T) {
		gone := errors.New("the caller has gone home")
		ctx, cancel := context.WithCancelCause(t.Context())
		d := locatortest.Start(t, domain, &locatortest.DC{Name: "dead", Answer: func(dclocator.Ping, []byte) [][]byte {
			cancel(gone)
			return nil
		}})
		_, trace, err := locator(t, d, func(c *dclocator.Config) { c.PingTimeout = time.Hour; c.Timeout = time.Hour }).Locate(ctx, dclocator.Request{})
		if !errors.Is(err, gone) || !errors.Is(err, dclocator.ErrNone) {
			t.Error(err)
		}
		wantSteps(t, trace, "dead.bkrp.test: the caller has gone home")
	})
	t.Run("the time for a search is bounded", func(t *testing.T) {
		d := locatortest.Start(t, domain, &locatortest.DC{Name: "dead", Dead: true})
		_, _, err := locator(t, d, func(c *dclocator.Config) { c.PingTimeout = time.Hour; c.Timeout = apart }).Locate(t.Context(), dclocator.Request{})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}

// TestMemory: the domain controller is remembered, until its time is over, it
// failed, or another one is asked for.
func TestMemory(t *testing.T) {
	dc1, dc2 := &locatortest.DC{Name: "dc1", Priority: 1}, &locatortest.DC{Name: "dc2", Priority: 2}
	d := locatortest.Start(t, domain, dc1, dc2)
	l := locator(t, d)
	locate(t, l, dclocator.Request{}, "dc1")
	wantLog(t, d, srv, "ping dc1")
	if _, trace := locate(t, l, dclocator.Request{}, "dc1"); len(trace) != 0 {
		t.Errorf("the one of before was looked for: %v", trace)
	}
	wantLog(t, d)
	t.Run("forced rediscovery, in the site of before", func(t *testing.T) {
		locate(t, l, dclocator.Request{Fresh: true}, "dc1")
		wantLog(t, d, siteSRV, "ping dc1")
	})
	t.Run("C-3.2.4-18 without the one that failed", func(t *testing.T) {
		_, trace := locate(t, l, dclocator.Request{Exclude: []string{"DC1.bkrp.test."}}, "dc2")
		wantLog(t, d, siteSRV, "ping dc2")
		wantSteps(t, trace, "dc1.bkrp.test: failed before, left out", "dc2.bkrp.test: ")
		locate(t, l, dclocator.Request{}, "dc2")
		wantLog(t, d)
	})
	t.Run("C-3.2.4-19 no other", func(t *testing.T) {
		_, trace := locate(t, l, dclocator.Request{Exclude: []string{"dc1.bkrp.test", "dc2.bkrp.test"}}, "")
		wantSteps(t, trace, "dc1.bkrp.test: failed before", "dc2.bkrp.test: failed before", "_ldap._tcp.dc._msdcs.bkrp.test")
		wantLog(t, d, siteSRV, srv)
	})
	t.Run("a life", func(t *testing.T) {
		l := locator(t, d, func(c *dclocator.Config) { c.Life = time.Nanosecond })
		locate(t, l, dclocator.Request{}, "dc1")
		locate(t, l, dclocator.Request{}, "dc1")
		wantLog(t, d, srv, "ping dc1", siteSRV, "ping dc1")
	})
	t.Run("records change", func(t *testing.T) {
		d.Set(dc2)
		locate(t, l, dclocator.Request{Fresh: true}, "dc2")
	})
}

func TestSites(t *testing.T) {
	far := func(name string) *locatortest.DC { return &locatortest.DC{Name: name, Sites: []string{"Far"}} }
	t.Run("one of our site is better than the first", func(t *testing.T) {
		away, near := far("away"), &locatortest.DC{Name: "near", Priority: 9}
		d := locatortest.Start(t, domain, away, near)
		locate(t, locator(t, d), dclocator.Request{}, "near")
		wantLog(t, d, srv, "ping away", siteSRV, "ping near")
	})
	t.Run("our site has none", func(t *testing.T) {
		d := locatortest.Start(t, domain, far("away"))
		l := locator(t, d)
		_, trace := locate(t, l, dclocator.Request{}, "away")
		wantLog(t, d, srv, "ping away", siteSRV)
		wantSteps(t, trace, "away.bkrp.test", "_sites.dc._msdcs.bkrp.test: no SRV records")
	})
	t.Run("our site has a read-only one", func(t *testing.T) {
		d := locatortest.Start(t, domain, far("away"), &locatortest.DC{Name: "branch", Priority: 9, Reply: locatortest.ReadOnly})
		locate(t, locator(t, d), dclocator.Request{}, "away")
		wantLog(t, d, srv, "ping away", siteSRV, "ping branch")
	})
	t.Run("a site that is given", func(t *testing.T) {
		d := locatortest.Start(t, domain, far("away"), &locatortest.DC{Name: "near"})
		locate(t, locator(t, d, func(c *dclocator.Config) { c.Site = "Far" }), dclocator.Request{}, "away")
		wantLog(t, d, "SRV _ldap._tcp.far._sites.dc._msdcs."+domain, "ping away")
	})
	t.Run("a site that is no label is not asked for", func(t *testing.T) {
		d := locatortest.Start(t, domain, &locatortest.DC{Name: "dc1", Sites: []string{"Far"}, Reply: func(r *dclocator.Reply) { r.ClientSite = "a.b" }})
		locate(t, locator(t, d), dclocator.Request{}, "dc1")
		wantLog(t, d, srv, "ping dc1")
	})
}

// TestStrays: what is not the answer to the ping is read over, wherever it comes
// from.
func TestStrays(t *testing.T) {
	other, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	forged := func(id uint32) []byte {
		r := dclocator.Reply{Flags: dclocator.FlagWritable, Domain: domain, Host: "dc1." + domain, Site: "Forged", NtVersion: 6}
		return dclocator.AppendAnswer(nil, id, r.Append(nil))
	}
	d := locatortest.Start(t, domain, &locatortest.DC{Name: "dc1", Answer: func(p dclocator.Ping, answer []byte) [][]byte {
		return [][]byte{nil, {0x30}, make([]byte, 4096), forged(p.ID + 1), forged(0), answer}
	}})
	dc, _ := locate(t, locator(t, d), dclocator.Request{}, "dc1")
	if dc.Site == "Forged" {
		t.Error("an answer with another number was taken")
	}
	t.Run("nothing but strays", func(t *testing.T) {
		d := locatortest.Start(t, domain, &locatortest.DC{Name: "dc1", Answer: func(p dclocator.Ping, _ []byte) [][]byte {
			return slices.Repeat([][]byte{forged(p.ID + 1)}, 100)
		}})
		_, trace := locate(t, locator(t, d), dclocator.Request{}, "")
		wantSteps(t, trace, "dc1.bkrp.test: dclocator: malformed answer")
	})
	t.Run("an answer that makes no sense", func(t *testing.T) {
		d := locatortest.Start(t, domain, &locatortest.DC{Name: "dc1", Answer: func(p dclocator.Ping, _ []byte) [][]byte {
			return [][]byte{dclocator.AppendAnswer(nil, p.ID, []byte("no structure"))}
		}})
		_, trace := locate(t, locator(t, d), dclocator.Request{}, "")
		wantSteps(t, trace, "dc1.bkrp.test: dclocator: malformed answer")
	})
	t.Run("the first datagram gets lost", func(t *testing.T) {
		trace := patiently(func(change func(*dclocator.Config)) dclocator.Trace {
			var first atomic.Bool
			d := locatortest.Start(t, domain, &locatortest.DC{Name: "dc1", Answer: func(_ dclocator.Ping, answer []byte) [][]byte {
				if first.CompareAndSwap(false, true) {
					return nil
				}
				return [][]byte{answer}
			}})
			_, trace, _ := locator(t, d, change).Locate(t.Context(), dclocator.Request{})
			return trace
		}, "dc1")
		if last := trace[len(trace)-1]; last.DC == nil {
			t.Error(trace)
		}
	})
}

// TestOtherAddress has an answer come from another address than the ping went to.
func TestOtherAddress(t *testing.T) {
	var elsewhere *net.UDPConn
	victim, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	elsewhere, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	defer elsewhere.Close()
	forged := make(chan struct{}, 100)
	go func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := victim.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			p, err := dclocator.ParsePing(buf[:n])
			if err != nil {
				return
			}
			r := dclocator.Reply{Flags: dclocator.FlagWritable, Domain: domain, Host: "dc1." + domain, NtVersion: 6}
			elsewhere.WriteToUDPAddrPort(dclocator.AppendAnswer(nil, p.ID, r.Append(nil)), from)
			forged <- struct{}{}
		}
	}()
	d := locatortest.Start(t, domain, &locatortest.DC{Name: "dc1", Port: victim.LocalAddr().(*net.UDPAddr).AddrPort().Port()})
	var trace dclocator.Trace
	for wait := 4 * apart; len(forged) == 0; wait *= 4 { // or it would be no test
		if wait > hangTime {
			t.Fatal("nothing was forged")
		}
		_, trace = locate(t, locator(t, d, func(c *dclocator.Config) { c.PingTimeout = wait }), dclocator.Request{}, "")
	}
	wantSteps(t, trace, "dc1.bkrp.test: no answer")
	victim.Close()
}

func TestIPv6(t *testing.T) {
	probe, err := net.ListenPacket("udp", "[::1]:0")
	if err != nil {
		t.Skip("no IPv6 on this machine's loopback: ", err)
	}
	probe.Close()
	d := locatortest.Start(t, domain, &locatortest.DC{Name: "dc6", Addr: netip.IPv6Loopback()})
	dc, _ := locate(t, locator(t, d), dclocator.Request{}, "dc6")
	if !dc.Addr.Addr().Is6() {
		t.Error(dc.Addr)
	}
}

// TestTwoAddresses: a name with addresses of both kinds, at one of which nothing
// answers.
func TestTwoAddresses(t *testing.T) {
	d := locatortest.Start(t, domain, &locatortest.DC{Name: "dc1", Also: []netip.Addr{netip.IPv6Loopback()}})
	for range 4 {
		dc, _ := locate(t, locator(t, d, func(c *dclocator.Config) { c.Apart = apart }), dclocator.Request{}, "dc1")
		if !dc.Addr.Addr().Is4() {
			t.Error(dc.Addr)
		}
	}
}

func TestSurvey(t *testing.T) {
	trace := patiently(func(change func(*dclocator.Config)) dclocator.Trace {
		dead := &locatortest.DC{Name: "dead", Priority: 0, Dead: true}
		rodc := &locatortest.DC{Name: "rodc", Priority: 1, Reply: locatortest.ReadOnly, After: dead}
		dc1 := &locatortest.DC{Name: "dc1", Priority: 2, After: rodc}
		d := locatortest.Start(t, domain, dead, rodc, dc1, &locatortest.DC{Name: "dc2", Priority: 3, After: dc1})
		trace, err := locator(t, d, change).Survey(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return trace
	}, "rodc", "dc1", "dc2")
	wantSteps(t, trace, "4 in DNS", "dead.bkrp.test: no answer", "rodc.bkrp.test: read-only", "dc1.bkrp.test: ", "dc2.bkrp.test: ")
	if rodc := trace[2].DC; rodc == nil || rodc.Flags&dclocator.FlagWritable != 0 {
		t.Errorf("%+v", trace[2])
	}
	if trace, err := locator(t, locatortest.Start(t, domain)).Survey(t.Context()); !errors.Is(err, dclocator.ErrNone) || len(trace) != 1 {
		t.Errorf("%v, %v", trace, err)
	}
}

// TestSurveyAddresses: each address of a server has its own answer; that of one
// does not end the wait for another's.
func TestSurveyAddresses(t *testing.T) {
	silent := netip.MustParseAddr("127.0.0.2")
	dc := &locatortest.DC{Name: "dc1", Slow: 2 * apart, Also: []netip.Addr{silent}}
	d := locatortest.Start(t, domain, dc)
	conn, err := net.ListenPacket("udp", netip.AddrPortFrom(silent, dc.Port).String())
	if err != nil {
		t.Skip("no second address on this machine's loopback: ", err)
	}
	defer conn.Close()
	var trace dclocator.Trace
	patiently(func(change func(*dclocator.Config)) dclocator.Trace {
		if trace, err = locator(t, d, change).Survey(t.Context()); err != nil || len(trace) != 3 {
			t.Fatalf("%v, %v", trace, err)
		}
		return slices.DeleteFunc(slices.Clone(trace), func(s dclocator.Step) bool { return s.Addr.Addr() == silent })
	}, "dc1")
	for _, s := range trace[1:] {
		if s.Addr.Addr() != silent && s.Err != nil || s.Addr.Addr() == silent && (s.Err == nil || s.Err.Error() != "no answer") {
			t.Errorf("%v at %v", s, s.Addr)
		}
	}
}

// TestSurveyTime: a server whose turn never came is told of.
func TestSurveyTime(t *testing.T) {
	d := locatortest.Start(t, domain, &locatortest.DC{Name: "dead", Priority: 0, Dead: true}, &locatortest.DC{Name: "late", Priority: 1})
	// Time is to be up after the first was pinged, which a busy machine may need more
	// of it for.
	for timeout := apart; ; timeout *= 4 {
		trace, err := locator(t, d, func(c *dclocator.Config) { c.Timeout = timeout }).Survey(t.Context())
		if timeout < hangTime && !slices.Contains(d.Log(), "ping dead") {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		wantSteps(t, trace, "dead.bkrp.test: no answer", "late.bkrp.test: not asked")
		return
	}
}

func TestNames(t *testing.T) {
	for name, want := range map[string]bool{
		"bkrp.test": true, "bkrp.test.": true, "a": true, "x_y-1.Z": true,
		"": false, ".": false, "a..b": false, ".a": false, "a b": false, "../etc": false, "a/b": false, "\x1b[m": false,
		strings.Repeat("a", 64): false, strings.Repeat("a.", 127) + "a": false,
	} {
		if _, err := dclocator.New(dclocator.Config{Domain: name}); (err == nil) != want {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := dclocator.New(dclocator.Config{Domain: domain, Site: "a.b"}); err == nil {
		t.Error("a site with a dot")
	}
}
