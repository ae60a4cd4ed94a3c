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
	"time"
)

// Bounds of what DNS can make a search do.
const (
	maxTargets   = 256
	maxAddresses = 8
)

// search is one search for a domain controller ([MS-ADTS] 6.3.6.1).
type search struct {
	l        *Locator
	request  Request
	all      bool // no answer ends the search: all are wanted
	recorder recorder

	mu     sync.Mutex
	failed map[string]bool // targets that will not do, in lower case
}

// target is what an SRV record names.
type target struct {
	host string // without the root's dot
	port uint16
}

// run asks in the client's site first, when that is known, and then in the whole
// domain. When the answer from the domain says that we belong to another site,
// one from there is better.
func (s *search) run(ctx context.Context, site string) *DC {
	if site != "" {
		if dc := s.race(ctx, site); dc != nil {
			return dc
		}
	}
	dc := s.race(ctx, "")
	if dc == nil || dc.Flags&FlagClosest != 0 || s.l.cfg.Site != "" || !validSite(dc.ClientSite) ||
		strings.EqualFold(dc.ClientSite, dc.Site) || strings.EqualFold(dc.ClientSite, site) {
		return dc
	}
	if closer := s.race(ctx, dc.ClientSite); closer != nil {
		return closer
	}
	return dc
}

// race has the targets of a site, or of the domain, race against each other.
func (s *search) race(ctx context.Context, site string) *DC {
	targets := s.lookup(ctx, site)
	dc, _ := race(ctx, targets, s.l.cfg.Apart, s.attempt)
	return dc
}

// hasFailed says whether the target was tried in this search and will not do.
func (s *search) hasFailed(t target) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed[strings.ToLower(t.host)]
}

// attempt tries a target, and remembers it if it will not do.
func (s *search) attempt(ctx context.Context, t target) (*DC, bool) {
	dc, ok := s.try(ctx, t)
	if !ok && ctx.Err() == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.failed[strings.ToLower(t.host)] = true
	}
	return dc, ok
}

// lookup gives the targets in their order, by priority, and at random by weight
// among those of one priority (RFC 2782), without those that failed.
func (s *search) lookup(ctx context.Context, site string) (targets []target) {
	name := "_ldap._tcp.dc._msdcs." + s.l.cfg.Domain
	if site != "" {
		name = "_ldap._tcp." + site + "._sites.dc._msdcs." + s.l.cfg.Domain
	}
	end := s.recorder.begin(name, netip.AddrPort{})
	// The dot keeps the resolver from trying the search list. Records that make
	// no sense it drops, and says so beside those that do.
	_, records, err := s.l.cfg.Resolver.LookupSRV(ctx, "", "", name+".")
	if len(records) == 0 {
		var dns *net.DNSError
		if err == nil || errors.As(err, &dns) && dns.IsNotFound {
			err = errNoRecords
		}
		end(Step{Err: plain(ctx, err)})
		return nil
	}
	end(Step{Found: fmt.Sprintf("%d in DNS", len(records))})
	return s.targets(records)
}

// targets are those of the first records that are names, each once.
func (s *search) targets(records []*net.SRV) (targets []target) {
	for _, r := range records[:min(len(records), maxTargets)] {
		t := target{strings.TrimSuffix(r.Target, "."), r.Port}
		again := func(other target) bool { return other.port == t.port && strings.EqualFold(other.host, t.host) }
		if ValidName(t.host) && !s.hasFailed(t) && !slices.ContainsFunc(targets, again) {
			targets = append(targets, t)
		}
	}
	return targets
}

// try looks up the addresses of a target and pings them.
func (s *search) try(ctx context.Context, t target) (*DC, bool) {
	if s.request.excludes(t.host) {
		s.recorder.begin(t.host, netip.AddrPort{})(Step{Err: errExcluded})
		return nil, false
	}
	began := time.Now()
	lookup, cancel := context.WithTimeout(ctx, s.l.cfg.PingTimeout)
	addrs, err := s.l.cfg.Resolver.LookupNetIP(lookup, "ip", t.host+".")
	cancel()
	if err != nil {
		s.recorder.beginAt(began, t.host, netip.AddrPort{})(Step{Err: plain(ctx, err)})
		return nil, false
	}
	addrs = addrs[:min(len(addrs), maxAddresses)]
	pinged := make([]netip.AddrPort, len(addrs))
	for i, a := range addrs {
		pinged[i] = netip.AddrPortFrom(a.Unmap(), t.port)
	}
	return race(ctx, pinged, s.l.cfg.Apart, func(ctx context.Context, addr netip.AddrPort) (*DC, bool) {
		end := s.recorder.begin(t.host, addr)
		r, err := ping(ctx, addr, s.l.cfg.Domain, s.l.cfg.PingTimeout)
		if err != nil {
			end(Step{Err: plain(ctx, err)})
			return nil, false
		}
		dc := &DC{
			Name: r.Host, Addr: addr, Domain: r.Domain, Forest: r.Forest,
			Site: r.Site, ClientSite: r.ClientSite, Flags: r.Flags,
		}
		err = judge(r, s.l.cfg.Domain, t.host)
		end(Step{DC: dc, Err: err})
		return dc, err == nil && !s.all
	})
}
