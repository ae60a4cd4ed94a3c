package lsaclient

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/ndr"
)

// What a domain controller of Samba 4.17.12 answers to LsarGetUserName, and to
// LsarLookupNames for Administrator (of whose answer the two other names that
// were asked for with it are cut).
const (
	sambaUserName = "080002001a001a000c0002000d000000000000000d000000410064006d0069006e006900730074007200610074006f00720000001000020014000200080008001800020004000000000000000400000042004b005200500000000000"
	sambaLookup   = "0c0002000100000010000200200000000100000008000a00140002001800020005000000000000000400000042004b005200500004000000010400000000000515000000c5ed900addd8106b9d21126c" +
		"010000001c0002000100000001000000f4010000000000000100000000000000"
	// sidTypeAt is where sambaLookup says that the name is a user's, in octets.
	sidTypeAt = 92
)

func lsaStub(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// lookedUp reads an answer of LsarLookupNames as lookupName does.
func lookedUp(stub []byte) (dtyp.SID, error) {
	r := ndr.NewReader(stub, ndr.Encoding{})
	sid := readTranslatedSID(&r, readReferencedDomains(&r))
	r.U32() // MappedCount
	r.U32() // the status
	return sid, r.Done()
}

func TestLSAAnswers(t *testing.T) {
	r := ndr.NewReader(lsaStub(t, sambaUserName), ndr.Encoding{})
	user, domain := readUserName(&r)
	r.U32()
	if err := r.Done(); err != nil || user != "Administrator" || domain != "BKRP" {
		t.Errorf("LsarGetUserName: %q, %q, %v", domain, user, err)
	}
	sid, err := lookedUp(lsaStub(t, sambaLookup))
	if err != nil || sid.String() != "S-1-5-21-177270213-1796266205-1813127581-500" {
		t.Errorf("LsarLookupNames: %v, %v", sid, err)
	}
	for name, tt := range map[string]struct {
		at    int
		value byte
		bad   bool
	}{
		"a group's name":             {sidTypeAt, 2, false},
		"a domain that is not there": {sidTypeAt + 8, 1, false},
		"no domain at all":           {sidTypeAt + 11, 0xff, false},
		"two answers":                {80, 2, true},
		"SID of sixteen parts":       {52, 16, true},
	} {
		stub := lsaStub(t, sambaLookup)
		stub[tt.at] = tt.value
		if sid, err := lookedUp(stub); !sid.IsZero() || (err != nil) != tt.bad {
			t.Errorf("%s: %v, %v", name, sid, err)
		}
	}
}

// FuzzLSAAnswers reads what a server says of names: all of it or an error, and
// no SID but one below a domain that it named.
func FuzzLSAAnswers(f *testing.F) {
	f.Add(lsaStub(f, sambaUserName))
	f.Add(lsaStub(f, sambaLookup))
	f.Fuzz(func(t *testing.T, stub []byte) {
		r := ndr.NewReader(stub, ndr.Encoding{})
		if user, domain := readUserName(&r); len(user)+len(domain) > 3*len(stub) {
			t.Errorf("%d octets of names from %d", len(user)+len(domain), len(stub))
		}
		sid, err := lookedUp(stub)
		if err != nil || sid.IsZero() {
			return
		}
		domain, _, ok := sid.Cut()
		b, err := domain.AppendBinary(nil)
		if !ok || err != nil || !bytes.Contains(stub, b) {
			t.Errorf("%v is made up", sid)
		}
	})
}
