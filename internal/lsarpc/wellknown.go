package lsarpc

import (
	"context"
	"errors"
	"strings"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/gss"
)

// sidType is SID_NAME_USE ([MS-LSAT] 2.2.13).
type sidType uint32

const (
	typeUser           sidType = 1
	typeGroup          sidType = 2
	typeDomain         sidType = 3
	typeAlias          sidType = 4
	typeWellKnownGroup sidType = 5
	typeUnknown        sidType = 8
)

// principal is what a name or a SID resolves to.
type principal struct {
	kind   sidType
	name   string
	sid    dtyp.SID
	domain referencedDomain
}

// domainAccounts are the accounts that every domain has, by their RIDs
// ([MS-DTYP] 2.4.2.4).
var domainAccounts = []struct {
	rid  uint32
	kind sidType
	name string
}{
	{500, typeUser, "Administrator"},
	{501, typeUser, "Guest"},
	{502, typeUser, "krbtgt"},
	{512, typeGroup, "Domain Admins"},
	{513, typeGroup, "Domain Users"},
	{514, typeGroup, "Domain Guests"},
	{515, typeGroup, "Domain Computers"},
	{516, typeGroup, "Domain Controllers"},
	{518, typeGroup, "Schema Admins"},
	{519, typeGroup, "Enterprise Admins"},
}

// wellKnown are principals of no domain that clients ask for ([MS-DTYP]
// 2.4.2.4), with the name of the authority they belong to.
var wellKnown = []struct {
	sid             dtyp.SID
	kind            sidType
	authority, name string
}{
	{dtyp.MustParseSID("S-1-1-0"), typeWellKnownGroup, "", "Everyone"},
	{dtyp.MustParseSID("S-1-3-0"), typeWellKnownGroup, "", "CREATOR OWNER"},
	{dtyp.MustParseSID("S-1-3-1"), typeWellKnownGroup, "", "CREATOR GROUP"},
	{dtyp.MustParseSID("S-1-5-2"), typeWellKnownGroup, "NT AUTHORITY", "NETWORK"},
	{dtyp.MustParseSID("S-1-5-4"), typeWellKnownGroup, "NT AUTHORITY", "INTERACTIVE"},
	{dtyp.MustParseSID("S-1-5-7"), typeWellKnownGroup, "NT AUTHORITY", "ANONYMOUS LOGON"},
	{dtyp.MustParseSID("S-1-5-9"), typeWellKnownGroup, "NT AUTHORITY", "ENTERPRISE DOMAIN CONTROLLERS"},
	{dtyp.MustParseSID("S-1-5-10"), typeWellKnownGroup, "NT AUTHORITY", "SELF"},
	{dtyp.MustParseSID("S-1-5-11"), typeWellKnownGroup, "NT AUTHORITY", "Authenticated Users"},
	{dtyp.MustParseSID("S-1-5-18"), typeWellKnownGroup, "NT AUTHORITY", "SYSTEM"},
	{dtyp.MustParseSID("S-1-5-19"), typeWellKnownGroup, "NT AUTHORITY", "LOCAL SERVICE"},
	{dtyp.MustParseSID("S-1-5-20"), typeWellKnownGroup, "NT AUTHORITY", "NETWORK SERVICE"},
	{dtyp.MustParseSID("S-1-5-32-544"), typeAlias, "BUILTIN", "Administrators"},
	{dtyp.MustParseSID("S-1-5-32-545"), typeAlias, "BUILTIN", "Users"},
	{dtyp.MustParseSID("S-1-5-32-546"), typeAlias, "BUILTIN", "Guests"},
}

// byName resolves a name with or without its domain: `DOMAIN\name`,
// `name@domain`, `name`, or a domain's own. ok is false if there is no such
// principal.
func (s *server) byName(ctx context.Context, caller gss.Identity, text string) (p principal, ok bool, err error) {
	domain, name, qualified := strings.Cut(text, `\`)
	if !qualified {
		if s.isDomain(text) {
			return s.domainItself(), true, nil
		}
		name, domain, qualified = cutLast(text, "@")
	}
	if name == "" {
		return s.domainItself(), qualified && s.isDomain(domain), nil
	}
	if p, ok := s.self(caller); ok && qualified && strings.EqualFold(domain, caller.Domain) && strings.EqualFold(name, caller.Name) {
		return p, true, nil
	}
	if !qualified || s.isDomain(domain) {
		if p, ok, err := s.accountByName(ctx, caller, name); ok || err != nil {
			return p, ok, err
		}
	}
	for _, w := range wellKnown {
		if strings.EqualFold(w.name, name) && (!qualified || strings.EqualFold(w.authority, domain)) {
			return wellKnownPrincipal(w.sid, w.kind, w.authority, w.name), true, nil
		}
	}
	return principal{}, false, nil
}

// self is the caller. The logon proved the name and the SID, also where the
// account is kept elsewhere: in a directory, or in another domain, as which a
// realm without SIDs of its own counts.
func (s *server) self(caller gss.Identity) (p principal, ok bool) {
	domain, _, ok := caller.SID.Cut()
	if !ok || caller.Name == "" {
		return principal{}, false
	}
	p = s.user(Account{caller.Name, caller.SID})
	if domain != s.Domain.SID {
		p.domain = referencedDomain{caller.Domain, domain}
	}
	return p, p.domain.name != ""
}

// cutLast splits text around the last sep.
func cutLast(text, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(text, sep); i >= 0 {
		return text[:i], text[i+len(sep):], true
	}
	return text, "", false
}

func (s *server) accountByName(ctx context.Context, caller gss.Identity, name string) (principal, bool, error) {
	if p, ok := s.self(caller); ok && p.domain == s.referenced() && strings.EqualFold(p.name, name) {
		return p, true, nil
	}
	if s.AccountByName != nil {
		a, err := s.AccountByName(ctx, name)
		if err == nil {
			return s.user(a), true, nil
		}
		if !errors.Is(err, ErrNoAccount) {
			return principal{}, false, err
		}
	}
	for _, a := range domainAccounts {
		if strings.EqualFold(a.name, name) {
			sid, err := s.Domain.SID.Child(a.rid)
			return principal{a.kind, a.name, sid, s.referenced()}, err == nil, err
		}
	}
	return principal{}, false, nil
}

// bySID resolves a SID.
func (s *server) bySID(ctx context.Context, caller gss.Identity, sid dtyp.SID) (p principal, ok bool, err error) {
	if sid == s.Domain.SID {
		return s.domainItself(), true, nil
	}
	if p, ok := s.self(caller); ok && p.sid == sid {
		return p, true, nil
	}
	if domain, rid, cut := sid.Cut(); cut && domain == s.Domain.SID {
		return s.accountBySID(ctx, sid, rid)
	}
	for _, w := range wellKnown {
		if w.sid == sid {
			return wellKnownPrincipal(w.sid, w.kind, w.authority, w.name), true, nil
		}
	}
	return principal{}, false, nil
}

func (s *server) accountBySID(ctx context.Context, sid dtyp.SID, rid uint32) (principal, bool, error) {
	if s.AccountBySID != nil {
		a, err := s.AccountBySID(ctx, sid)
		if err == nil {
			return s.user(a), true, nil
		}
		if !errors.Is(err, ErrNoAccount) {
			return principal{}, false, err
		}
	}
	for _, a := range domainAccounts {
		if a.rid == rid {
			return principal{a.kind, a.name, sid, s.referenced()}, true, nil
		}
	}
	return principal{}, false, nil
}

func (s *server) isDomain(name string) bool {
	return name != "" && (strings.EqualFold(name, s.Domain.NetBIOS) || strings.EqualFold(name, s.Domain.DNSName))
}

func (s *server) referenced() referencedDomain {
	return referencedDomain{s.Domain.NetBIOS, s.Domain.SID}
}

func (s *server) domainItself() principal {
	return principal{kind: typeDomain, sid: s.Domain.SID, domain: s.referenced()}
}

func (s *server) user(a Account) principal {
	return principal{typeUser, a.Name, a.SID, s.referenced()}
}

// wellKnownPrincipal makes the principal; its domain is its authority, whose
// SID lacks the last sub-authority.
func wellKnownPrincipal(sid dtyp.SID, kind sidType, authority, name string) principal {
	domain, _, _ := sid.Cut()
	return principal{kind, name, sid, referencedDomain{authority, domain}}
}
