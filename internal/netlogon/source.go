package netlogon

import (
	"fmt"
	"strings"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/gss"
	"github.com/seed05845750/bkrp/internal/gss/ntlm"
)

const (
	// minResponse is the shortest NTLMv2 response, in octets: the proof and the
	// fixed part behind it ([MS-NLMP] 2.2.2.7). NTLMv1's has 24.
	minResponse = 16 + 28
	// maxResponse and maxName keep a request in one fragment of a PDU; real
	// responses have some 300 octets.
	maxResponse = 2048
	maxName     = 256
)

// checkLogon refuses what the domain controller need not be asked about. Another
// domain's accounts are not let in, and nobody is to try their passwords here
// by its name. What a principal name stands for, alice@corp.example, the domain
// controller alone knows: a domain may have further suffixes for its own users.
func (c *Client) checkLogon(l *ntlm.Logon) error {
	switch {
	case l.User == "":
		return fmt.Errorf("netlogon: anonymous logon: %w", gss.ErrRefused)
	case len(l.NTResponse) < minResponse:
		return fmt.Errorf("netlogon: response of %d octets, which is not NTLMv2's: %w", len(l.NTResponse), gss.ErrRefused)
	case len(l.NTResponse) > maxResponse, len(l.User) > maxName, len(l.Domain) > maxName, len(l.Workstation) > maxName:
		return fmt.Errorf("netlogon: response of %d octets, or a name, longer than any client's: %w", len(l.NTResponse), gss.ErrToken)
	case l.Domain != "" && !strings.EqualFold(l.Domain, c.cfg.NetBIOSDomain) && !strings.EqualFold(l.Domain, c.cfg.DNSDomain):
		return fmt.Errorf("netlogon: account of another domain: %w", gss.ErrLogon)
	}
	return nil
}

// account is who a logon proved to be, if the domain controller's answer is one
// to let in.
func (c *Client) account(v *validation, now time.Time) (*ntlm.Account, error) {
	refuse := func(format string, args ...any) (*ntlm.Account, error) {
		return nil, fmt.Errorf("netlogon: "+format+": %w", append(args, gss.ErrRefused)...)
	}
	switch {
	case v.flags&flagGuest != 0:
		return refuse("the domain controller made the caller a guest")
	case v.flags&(flagNoEncryption|flagLMKey|flagLMv2|flagNTLMv2LM) != 0:
		return refuse("the domain controller did not go by the NTLMv2 response (UserFlags %#x)", v.flags)
	case v.flags&flagMachine != 0:
		return refuse("it is the account of a computer")
	case v.sessionKey == [16]byte{}:
		return refuse("the domain controller gave no session key")
	case v.name == "" || v.userID == 0 || v.domainID.IsZero():
		return refuse("the domain controller made the caller anonymous")
	case v.domainID != c.cfg.DomainSID:
		return refuse("the account is of the domain %v, and this server is of %v", v.domainID, c.cfg.DomainSID)
	}
	end := now.Add(c.cfg.Lifetime)
	if t := v.end(); !t.IsZero() && t.Before(end) {
		end = t
	}
	if !end.After(now) {
		return refuse("not in the account's logon hours")
	}
	sid, err := v.domainID.Child(v.userID)
	if err != nil {
		return refuse("user %d of the domain %v", v.userID, v.domainID)
	}
	return &ntlm.Account{
		SID: sid, Domain: v.domain, Name: v.name, Groups: v.memberships(),
		SessionBaseKey: v.sessionKey, Expiry: end,
	}, nil
}

// memberships are the further SIDs that the domain vouches for.
func (v *validation) memberships() []dtyp.SID {
	groups := make([]dtyp.SID, 0, 1+len(v.groups)+len(v.extras))
	for _, rid := range append([]uint32{v.groupID}, v.groups...) {
		if sid, err := v.domainID.Child(rid); err == nil {
			groups = append(groups, sid)
		}
	}
	if v.flags&flagExtraSIDs != 0 {
		groups = append(groups, v.extras...)
	}
	return groups
}
