package dclocator

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// What the zero Config comes to.
const (
	// DefaultTimeout bounds one search.
	DefaultTimeout = 15 * time.Second
	// DefaultPingTimeout bounds the wait for one domain controller.
	DefaultPingTimeout = 2 * time.Second
	// DefaultApart is how long after one ping the next goes out.
	DefaultApart = 100 * time.Millisecond
	// DefaultLife is how long a domain controller that was found is used
	// without asking again.
	DefaultLife = 15 * time.Minute
)

// Config says where to look; Domain is required.
type Config struct {
	// Domain is the DNS name of the domain.
	Domain string
	// Site is the client's site, if it is known; "" learns it from the first
	// answer.
	Site string
	// Resolver looks names up; nil is the system's.
	Resolver *net.Resolver
	// Timeout, PingTimeout, Apart and Life take the place of the defaults above.
	Timeout, PingTimeout, Apart, Life time.Duration
}

// DC is a domain controller that answered.
type DC struct {
	// Name is its DNS name, without the root's dot.
	Name string
	// Addr is where it answered. The port is that of LDAP.
	Addr netip.AddrPort
	// Domain and Forest are the DNS names it has for what it serves.
	Domain, Forest string
	// Site is its own; ClientSite is where it says that we are.
	Site, ClientSite string
	// Flags say what it is.
	Flags Flags
}

// Writable says whether it is no read-only domain controller.
func (dc *DC) Writable() bool { return dc.Flags.writable() }

// Locator finds domain controllers of one domain. It remembers the last one and
// the site. It is safe for concurrent use.
type Locator struct {
	cfg Config
	now func() time.Time

	mu    sync.Mutex
	found *DC // nil if none, or if it is to be looked for again
	since time.Time
	site  string // "" until it is known
}

// New makes a Locator. It looks at the names and asks nobody.
func New(cfg Config) (*Locator, error) {
	cfg.Domain = strings.TrimSuffix(cfg.Domain, ".")
	if !ValidName(cfg.Domain) {
		return nil, fmt.Errorf("dclocator: %q is not the DNS name of a domain", cfg.Domain)
	}
	if cfg.Site != "" && !validSite(cfg.Site) {
		return nil, fmt.Errorf("dclocator: %q is not the name of a site", cfg.Site)
	}
	if cfg.Resolver == nil {
		cfg.Resolver = net.DefaultResolver
	}
	for value, otherwise := range map[*time.Duration]time.Duration{
		&cfg.Timeout: DefaultTimeout, &cfg.PingTimeout: DefaultPingTimeout, &cfg.Apart: DefaultApart, &cfg.Life: DefaultLife,
	} {
		if *value <= 0 {
			*value = otherwise
		}
	}
	return &Locator{cfg: cfg, now: time.Now, site: cfg.Site}, nil
}

// ValidName says whether s can be the DNS name of a domain or a host: labels of
// letters, digits, hyphens and underscores between dots. Such a name can also
// stand in a file's.
func ValidName(s string) bool {
	if len(s) == 0 || len(s) > maxName-2 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if !validSite(label) || strings.ContainsAny(label, " ") {
			return false
		}
	}
	return true
}

// validSite says whether s is one label that can be asked DNS for.
func validSite(s string) bool {
	return len(s) > 0 && len(s) <= maxLabel && !strings.ContainsFunc(s, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_'
	})
}

// Request says which domain controller will do.
type Request struct {
	// Fresh does not use one that was found before: a forced rediscovery.
	Fresh bool
	// Exclude are names of those that will not do, since they failed.
	Exclude []string
}

func (r *Request) excludes(name string) bool {
	return slices.ContainsFunc(r.Exclude, func(e string) bool {
		return strings.EqualFold(strings.TrimSuffix(e, "."), name)
	})
}

// Locate gives a writable domain controller, the one of before or another. The
// trace says what was tried for it, and is empty when nothing had to be. An
// error is an *Error, which has the trace as well.
func (l *Locator) Locate(ctx context.Context, r Request) (*DC, Trace, error) {
	site := l.forget(r)
	if dc := l.remembered(r); dc != nil {
		return dc, nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, l.cfg.Timeout)
	defer cancel()
	s := &search{l: l, request: r, failed: make(map[string]bool)}
	dc := s.run(ctx, site)
	trace := s.recorder.trace()
	if dc == nil {
		return nil, trace, &Error{Domain: l.cfg.Domain, Trace: trace, Cause: context.Cause(ctx)}
	}
	l.remember(dc)
	return dc, trace, nil
}

// remembered is the domain controller of before, if it will do.
func (l *Locator) remembered(r Request) *DC {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.Fresh || l.found == nil || l.now().Sub(l.since) >= l.cfg.Life || r.excludes(l.found.Name) {
		return nil
	}
	return l.found
}

// forget drops what r says is of no use, and gives the site.
func (l *Locator) forget(r Request) (site string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.found != nil && r.excludes(l.found.Name) {
		l.found = nil
	}
	return l.site
}

func (l *Locator) remember(dc *DC) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.found, l.since = dc, l.now()
	if l.cfg.Site == "" && validSite(dc.ClientSite) {
		l.site = dc.ClientSite
	}
}

// Survey pings every domain controller that DNS names for the whole domain, at
// each of its addresses, and says of each what came of it; those that cannot be
// used have an Err. It fails only when DNS names none.
func (l *Locator) Survey(ctx context.Context) (Trace, error) {
	ctx, cancel := context.WithTimeout(ctx, l.cfg.Timeout)
	defer cancel()
	s := &search{l: l, all: true, failed: make(map[string]bool)}
	targets := s.lookup(ctx, "")
	race(ctx, targets, l.cfg.Apart, s.try)
	trace := reachable(s.recorder.trace())
	for _, t := range targets {
		if !slices.ContainsFunc(trace, func(s Step) bool { return s.Server == t.host }) {
			trace = append(trace, Step{Server: t.host, Err: errNoTime})
		}
	}
	if len(targets) == 0 {
		return trace, &Error{Domain: l.cfg.Domain, Trace: trace, Cause: context.Cause(ctx)}
	}
	return trace, nil
}

// reachable leaves out the addresses that this machine has no way to, of servers
// that answered at another one: where there is no IPv6 here, nothing is wrong with
// a server that has it.
func reachable(t Trace) Trace {
	answered := make(map[string]bool)
	for _, s := range t {
		answered[s.Server] = answered[s.Server] || s.DC != nil
	}
	return slices.DeleteFunc(t, func(s Step) bool { return answered[s.Server] && errors.Is(s.Err, syscall.ENETUNREACH) })
}

// errNoRecords is a DNS that names no domain controller under a name.
var errNoRecords = errors.New("no SRV records in DNS")
