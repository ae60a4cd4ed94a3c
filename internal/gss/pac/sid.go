package pac

import (
	"fmt"

	"github.com/seed05845750/bkrp/dtyp"
)

// ridGuest is DOMAIN_USER_RID_GUEST ([MS-DTYP] 2.4.2.4).
const ridGuest = 501

// SID is who the client is: the RID in the domain of the logon, or, where the
// RID is zero, the first of the extra SIDs ([MS-PAC] 2.5, UserId). Where the
// certificate names the SID in another buffer too, it has to be the same. The
// error wraps ErrMissing for a certificate without LOGON_INFO, ErrMalformed for
// one that names nobody in it, and ErrClient for a guest or one that contradicts
// itself.
func (p *PAC) SID() (dtyp.SID, error) {
	if p.NoLogon {
		return dtyp.SID{}, fmt.Errorf("%w: no buffer of type %d", ErrMissing, kindLogonInfo)
	}
	sid, err := p.Logon.sid()
	if err != nil {
		return dtyp.SID{}, err
	}
	if _, rid, ok := sid.Cut(); !ok || rid == ridGuest || p.Logon.UserFlags&flagGuest != 0 {
		return dtyp.SID{}, fmt.Errorf("%w: a guest or nobody", ErrClient)
	}
	for _, other := range p.named {
		if other != sid {
			return dtyp.SID{}, fmt.Errorf("%w: it names %v and %v", ErrClient, sid, other)
		}
	}
	return sid, nil
}

func (l *LogonInfo) sid() (dtyp.SID, error) {
	if l.UserID == 0 {
		if l.UserFlags&flagExtraSIDs == 0 || len(l.ExtraSIDs) == 0 {
			return dtyp.SID{}, fmt.Errorf("%w: it names no user", ErrMalformed)
		}
		return l.ExtraSIDs[0], nil
	}
	sid, err := l.LogonDomainID.Child(l.UserID)
	if err != nil {
		return dtyp.SID{}, fmt.Errorf("%w: domain SID", ErrMalformed)
	}
	return sid, nil
}

// Groups are the further SIDs that the domain vouches for: the groups of the
// logon's domain, of the domain of the resource, and others.
func (p *PAC) Groups() []dtyp.SID {
	l := &p.Logon
	groups := appendChildren(nil, l.LogonDomainID, l.GroupIDs)
	if l.UserFlags&flagExtraSIDs != 0 {
		extras := l.ExtraSIDs
		if l.UserID == 0 && len(extras) > 0 {
			extras = extras[1:]
		}
		groups = append(groups, extras...)
	}
	if l.UserFlags&flagResourceGroups != 0 {
		groups = appendChildren(groups, l.ResourceDomain, l.ResourceIDs)
	}
	return groups
}

func appendChildren(groups []dtyp.SID, domain dtyp.SID, rids []uint32) []dtyp.SID {
	for _, rid := range rids {
		if sid, err := domain.Child(rid); err == nil {
			groups = append(groups, sid)
		}
	}
	return groups
}
