package ntlm

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"strings"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/gss"
)

// LocalAccount is what a table of accounts holds of one.
type LocalAccount struct {
	Hash Hash
	SID  dtyp.SID
	Name string // as it is stored, which is how it is reported
}

// Lookup finds an account by the name part of what a client wrote; it compares
// names without regard to case. Unknown names give an error that wraps
// gss.ErrLogon. A disabled account is given together with an error that wraps
// gss.ErrRefused, so that only who knows its password learns of that. Any
// other error is a failure of the table. It should take the same time for
// names that are there and names that are not.
type Lookup func(ctx context.Context, user string) (LocalAccount, error)

// LocalSource judges logons by NT hashes. domains are the names that mean this
// domain, compared without regard to case: the NetBIOS name, which comes first
// and is the one reported, and the DNS name. A client may also leave the
// domain empty, and give the user as a principal name "alice@bkrp.example".
//
// Unknown names, foreign domains and wrong passwords cost the same work and
// give the same error.
func LocalSource(lookup Lookup, domains ...string) Source {
	own := append([]string(nil), domains...)
	return func(ctx context.Context, l *Logon) (*Account, error) {
		user, known := localName(l, own)
		acct, lookupErr := lookup(ctx, user)
		if lookupErr != nil && !errors.Is(lookupErr, gss.ErrRefused) {
			known = false
			acct = LocalAccount{}
			if !errors.Is(lookupErr, gss.ErrLogon) {
				return nil, fmt.Errorf("ntlm: looking up an account: %w", lookupErr)
			}
		}
		if len(l.NTResponse) < proofSize+clientHeaderSize {
			return nil, fmt.Errorf("ntlm: NTLMv2 response too short: %w", gss.ErrToken)
		}
		// The zero hash stands in for unknown accounts; known decides, so
		// that even the right proof for it is of no use.
		base, same := checkProof(acct.Hash, l)
		if !same || !known || acct.SID.IsZero() {
			return nil, fmt.Errorf("ntlm: wrong name or password: %w", gss.ErrLogon)
		}
		if lookupErr != nil {
			return nil, lookupErr
		}
		return &Account{SID: acct.SID, Domain: firstOf(own), Name: acct.Name, SessionBaseKey: base}, nil
	}
}

// checkProof tells whether l is proof of h, and gives SessionBaseKey. It does
// the same work whether it is or not.
func checkProof(h Hash, l *Logon) (base [16]byte, same bool) {
	equal := 0
	for _, user := range upperForms(l.User) {
		key := ntowfv2(h, user, l.Domain)
		proof := proofOf(key, l.Challenge, l.NTResponse[proofSize:])
		now, b := subtle.ConstantTimeCompare(proof[:], l.NTResponse[:proofSize]), sessionBaseKey(key, proof)
		subtle.ConstantTimeCopy(now, base[:], b[:])
		equal |= now
	}
	return base, equal == 1
}

// localName gives the name to look up, and whether the domain is ours.
func localName(l *Logon, own []string) (user string, ours bool) {
	domain, user := l.Domain, l.User
	if domain == "" {
		at := strings.LastIndexByte(user, '@')
		if at < 0 {
			return user, true
		}
		user, domain = user[:at], user[at+1:]
	}
	for _, d := range own {
		if strings.EqualFold(d, domain) {
			return user, true
		}
	}
	return user, false
}

func firstOf(s []string) string {
	if len(s) == 0 {
		return ""
	}
	return s[0]
}
