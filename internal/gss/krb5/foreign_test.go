package krb5

import (
	"errors"
	"testing"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/gss"
	"github.com/seed05845750/bkrp/internal/gss/pac"
)

// A realm that is trusted makes nobody of its users a user or a member of a
// group of ours.
func TestSIDsFromAnotherRealm(t *testing.T) {
	own := ownDomain(t)
	other := dtyp.MustParseSID("S-1-5-21-1-2-3")
	for name, tt := range map[string]struct {
		realm  string
		domain dtyp.SID
		err    error
		groups bool
	}{
		"own realm":                     {"BKRP.TEST", own, nil, true},
		"another realm, our user":       {"OTHER.TEST", own, errForeignSID, false},
		"another realm, its own user":   {"OTHER.TEST", other, nil, true},
		"another realm, unknown domain": {"OTHER.TEST", dtyp.SID{}, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			f := forge(t)
			f.part.realm, f.auth.realm = tt.realm, tt.realm
			_, sc, _, err := f.try(t, Config{DomainSID: tt.domain}, 0)
			if !errors.Is(err, tt.err) || (err == nil) != (tt.err == nil) {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			if err == nil && (len(sc.Identity().Groups) > 0) != tt.groups {
				t.Errorf("groups %v", sc.Identity().Groups)
			}
		})
	}
}

// Of the groups of another realm's client only those of other domains count: not
// ours, and none that mean something in every domain, such as BUILTIN's and
// Enterprise Domain Controllers.
func TestGroupsFromAnotherRealm(t *testing.T) {
	sid := dtyp.MustParseSID
	l := &logon{
		acceptor: &acceptor{Config: Config{DomainSID: sid("S-1-5-21-1-2-3")}},
		opener:   &keytabEntry{realm: "BKRP.TEST"}, part: &ticketPart{realm: "OTHER.TEST"},
	}
	id, err := l.filterForeign(gss.Identity{SID: sid("S-1-5-21-4-5-6-1000"), Groups: []dtyp.SID{
		sid("S-1-5-21-1-2-3-512"), sid("S-1-5-21-4-5-6-513"), sid("S-1-5-32-544"), sid("S-1-5-21-7-8-9-519"),
		sid("S-1-5-9"), sid("S-1-5-18"), sid("S-1-1-0"), sid("S-1-22-2-0"),
	}})
	if err != nil || len(id.Groups) != 2 || id.Groups[0] != sid("S-1-5-21-4-5-6-513") || id.Groups[1] != sid("S-1-5-21-7-8-9-519") {
		t.Errorf("groups %v, error %v", id.Groups, err)
	}
	for _, user := range []string{"S-1-5-32-544", "S-1-5-18", "S-1-5-9", "S-1-22-1-0"} {
		if _, err := l.filterForeign(gss.Identity{SID: sid(user)}); !errors.Is(err, errForeignSID) {
			t.Errorf("the user %s: %v", user, err)
		}
	}
}

// ownDomain is the domain of the transcripts' client.
func ownDomain(t *testing.T) dtyp.SID {
	t.Helper()
	f := forge(t)
	p, err := pac.Parse(f.pac)
	if err != nil {
		t.Fatal(err)
	}
	return p.Logon.LogonDomainID
}
