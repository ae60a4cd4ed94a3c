package locatortest

import (
	"net/netip"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// asked answers a question to the DNS server.
func (d *Domain) asked(q []byte) [][]byte {
	var parser dnsmessage.Parser
	header, err := parser.Start(q)
	if err != nil {
		return nil
	}
	question, err := parser.Question()
	if err != nil {
		return nil
	}
	name := strings.ToLower(strings.TrimSuffix(question.Name.String(), "."))
	reply := dnsmessage.Message{
		Header: dnsmessage.Header{
			ID: header.ID, Response: true, Authoritative: true, RecursionDesired: header.RecursionDesired, RecursionAvailable: true,
		},
		Questions: []dnsmessage.Question{question},
	}
	if question.Type == dnsmessage.TypeSRV {
		d.Note("SRV %s", name)
	} else {
		d.hold(name)
	}
	reply.Answers, reply.RCode = d.records(name, question)
	b, err := reply.Pack()
	if err != nil {
		return nil
	}
	return [][]byte{b}
}

// hold waits until the address of that name may be told; see DC.After.
func (d *Domain) hold(name string) {
	d.mu.Lock()
	var before *DC
	for _, dc := range d.dcs {
		if name == strings.ToLower(d.host(dc.Name)) {
			before = dc.After
		}
	}
	d.mu.Unlock()
	if before != nil {
		select {
		case <-before.pinged:
		case <-d.over:
		}
	}
}

// records are the answers to one question.
func (d *Domain) records(name string, q dnsmessage.Question) (answers []dnsmessage.Resource, code dnsmessage.RCode) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.down {
		return nil, dnsmessage.RCodeServerFailure
	}
	found := false
	add := func(kind dnsmessage.Type, body dnsmessage.ResourceBody) {
		if found = true; q.Type == kind {
			answers = append(answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Type: kind, Class: dnsmessage.ClassINET, TTL: 60},
				Body:   body,
			})
		}
	}
	for _, dc := range d.dcs {
		for _, host := range []string{dc.Name, dc.Alias} {
			if host == "" {
				continue
			}
			for _, records := range d.recordNames(dc) {
				if name != strings.ToLower(records) {
					continue
				}
				if target, err := dnsmessage.NewName(d.host(host) + "."); err == nil {
					add(dnsmessage.TypeSRV, &dnsmessage.SRVResource{Priority: dc.Priority, Weight: dc.Weight, Port: dc.Port, Target: target})
				}
			}
			if dc.Unnamed || name != strings.ToLower(d.host(host)) {
				continue
			}
			for _, addr := range append([]netip.Addr{dc.Addr}, dc.Also...) {
				if addr.Is4() {
					add(dnsmessage.TypeA, &dnsmessage.AResource{A: addr.As4()})
				} else {
					add(dnsmessage.TypeAAAA, &dnsmessage.AAAAResource{AAAA: addr.As16()})
				}
			}
		}
	}
	if !found {
		return nil, dnsmessage.RCodeNameError
	}
	return answers, dnsmessage.RCodeSuccess
}

// recordNames are where the SRV records stand that name a domain controller.
func (d *Domain) recordNames(dc *DC) []string {
	names := []string{"_ldap._tcp.dc._msdcs." + d.Name}
	for _, site := range dc.Sites {
		names = append(names, "_ldap._tcp."+site+"._sites.dc._msdcs."+d.Name)
	}
	return names
}
