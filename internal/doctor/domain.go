package doctor

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/seed05845750/bkrp/bkrpclient"
)

// ExamineDomain examines every domain controller that DNS names, a few at a
// time, and then compares them. The error is one of the configuration; what is
// wrong with the domain is in the report.
func ExamineDomain(ctx context.Context, cfg bkrpclient.DomainConfig, o Options) (*Report, error) {
	o = o.withDefaults()
	d, err := bkrpclient.OpenDomain(cfg)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	r := &Report{Domain: cfg.Domain, Servers: []*Server{}}
	found, err := d.Servers(ctx)
	if err != nil {
		r.add(CheckDNS, Broken, "see that DNS has _ldap._tcp.dc._msdcs records for the domain, and that this machine asks the domain's DNS (or give --dns)", "%v", err)
		return r, nil
	}
	turns := make(chan struct{}, o.Parallel)
	var running sync.WaitGroup
	logons := new(tries)
	examined := o.counter(len(found))
	for _, f := range found {
		p := newPatient(configFor(cfg, f), o, cfg.Domain)
		p.tries = logons
		r.Servers = append(r.Servers, p.report)
		if !p.judgePing(f) {
			examined()
			continue
		}
		running.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			p.examine(ctx)
			examined()
		})
	}
	running.Wait()
	r.judgeDNS(found)
	r.judgeSameKey()
	r.exchange(ctx, cfg, found, o)
	return r, nil
}

// counter gives what counts an examination that has ended, and tells Examined.
func (o *Options) counter(servers int) (examined func()) {
	var mu sync.Mutex
	ended := 0
	return func() {
		mu.Lock()
		defer mu.Unlock()
		ended++
		o.Examined(ended, servers)
	}
}

func (r *Report) add(check string, level Level, next, format string, args ...any) {
	s := Server{Findings: r.Findings}
	s.add(check, level, next, format, args...)
	r.Findings = s.Findings
}

// configFor is how to call one server of a domain.
func configFor(cfg bkrpclient.DomainConfig, f bkrpclient.Server) bkrpclient.Config {
	c := cfg.Client
	c.Server, c.Address = f.Name, f.Address
	return c
}

// judgePing says what the ping came to, and whether to go on.
func (p *patient) judgePing(f bkrpclient.Server) bool {
	p.report.Address = f.Address
	switch {
	case !f.Addr.IsValid():
		p.report.add(CheckDNS, Broken, "add an address for this name to DNS, or take the SRV records of a server that is gone away; if there was no time for it, try again", "an SRV record names it, and there was no ping: %v", f.Err)
		return false
	case !f.Answered:
		p.report.add(CheckPing, Broken, "see whether the server runs and UDP port 389 is open; take its SRV records away if it is gone: clients lose time by it", "%v", f.Err)
		return true // its SMB may be well
	case !f.Writable:
		p.report.add(CheckPing, OK, "", "answers in %v", rounded(f.Took))
		p.report.add(CheckWritable, Note, "", "read-only: clients pass it over, and so does this examination")
		return false
	}
	p.report.add(CheckPing, OK, "", "answers in %v", rounded(f.Took))
	if f.Err != nil {
		p.report.add(CheckWritable, Broken, "look at what this server thinks it is: clients do not use it", "%v", f.Err)
		return true
	}
	p.report.add(CheckWritable, OK, "", "yes")
	return true
}

// judgeDNS says whether there is anyone to use.
func (r *Report) judgeDNS(found []bkrpclient.Server) {
	usable := make(map[string]bool)
	names := make(map[string]bool)
	for _, f := range found {
		names[f.Name] = true
		if f.Err == nil {
			usable[f.Name] = true
		}
	}
	if len(usable) == 0 {
		r.add(CheckDNS, Broken, "bring a writable domain controller up: without one no secret is wrapped or opened", "of %d domain controllers none can be used", len(names))
		return
	}
	r.add(CheckDNS, OK, "", "%d domain controllers, of which %d can be used", len(names), len(usable))
}

// judgeSameKey compares the keys that the servers have, by their names and, of the
// public ones, by what they are.
func (r *Report) judgeSameKey() {
	public, server := make(map[string][]string), make(map[string][]string)
	for _, s := range r.Servers {
		if s.Key != nil {
			id := s.Key.GUID + " (" + s.Key.SHA256[:16] + ")"
			public[id] = addName(public[id], s.Name)
		}
		if s.ServerKey != "" {
			server[s.ServerKey] = addName(server[s.ServerKey], s.Name)
		}
	}
	r.judgeSame("public key", public)
	r.judgeSame("ServerWrap key", server)
}

func addName(names []string, name string) []string {
	if slices.Contains(names, name) {
		return names
	}
	return append(names, name)
}

func (r *Report) judgeSame(what string, byKey map[string][]string) {
	switch len(byKey) {
	case 0: // each server has said why
	case 1:
		for key, names := range byKey {
			r.add(CheckSameKey, OK, "", "the %s is %s at %s", what, key, strings.Join(names, ", "))
		}
	default:
		var each []string
		for _, key := range slices.Sorted(maps.Keys(byKey)) {
			each = append(each, key+" at "+strings.Join(byKey[key], ", "))
		}
		r.add(CheckSameKey, Broken, "see whether the directory replicates between them: what is wrapped at one may not open at another. A server that has not heard of a key's replacement yet catches up by itself",
			"the servers have different %ss: %s", what, strings.Join(each, "; "))
	}
}

// exchange has each server open what the one before it wrapped, the first what
// the last did.
func (r *Report) exchange(ctx context.Context, cfg bkrpclient.DomainConfig, found []bkrpclient.Server, o Options) {
	var able []int
	for i, s := range r.Servers {
		if s.wrapped != nil {
			able = append(able, i)
		}
	}
	defer func() {
		for _, s := range r.Servers {
			clear(s.canary)
		}
	}()
	if len(able) < 2 {
		return
	}
	turns := make(chan struct{}, o.Parallel)
	var running sync.WaitGroup
	for n, i := range able {
		from, to := r.Servers[able[(n+len(able)-1)%len(able)]], r.Servers[i]
		running.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			to.openFrom(ctx, from, configFor(cfg, found[i]), o.Timeout)
		})
	}
	running.Wait()
}

func (s *Server) openFrom(ctx context.Context, from *Server, cfg bkrpclient.Config, timeout time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	c, err := bkrpclient.Dial(ctx, cfg)
	if err == nil {
		defer c.Close()
		err = opens(ctx, c, from.wrapped, from.canary)
	}
	var refused *bkrpclient.ServerError
	switch {
	case err == nil:
		s.add(CheckExchange, OK, "", "opens what %s wrapped", from.Name)
	case errors.As(err, &refused), errors.Is(err, errCanary):
		s.add(CheckExchange, Broken, "see whether the directory replicates between the two: they do not have the same keys", "does not open what %s wrapped: %v", from.Name, err)
	default:
		s.add(CheckExchange, Warning, "try again", "not known whether it opens what %s wrapped: %v", from.Name, err)
	}
}
