package pac

import (
	"encoding/binary"
	"errors"
	"os"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
)

// sample is a certificate of a Samba 4.17 domain controller for alice, as it
// stood in a service ticket.
func sample(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/samba-alice.pac")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What the sample says, as the domain controller's other tools say it too.
const sampleDomain = "S-1-5-21-2278770526-3179308356-4268549237"

var sampleAuthTime = time.Unix(1795330816, 0)

func sampleSID(t testing.TB, rid uint32) dtyp.SID {
	t.Helper()
	sid, err := dtyp.MustParseSID(sampleDomain).Child(rid)
	if err != nil {
		t.Fatal(err)
	}
	return sid
}

func TestSample(t *testing.T) {
	p, err := Parse(sample(t))
	if err != nil {
		t.Fatal(err)
	}
	l := p.Logon
	if l.EffectiveName != "alice" || l.LogonDomainName != "BKRP" || l.UserID != 1103 || l.PrimaryGroupID != 513 ||
		l.LogonDomainID.String() != sampleDomain || !slices.Equal(l.GroupIDs, []uint32{513}) {
		t.Errorf("logon info %+v", l)
	}
	if sid, err := p.SID(); err != nil || sid != sampleSID(t, 1103) {
		t.Errorf("SID %v, %v", sid, err)
	}
	if len(p.named) == 0 {
		t.Error("the SID of UPN_DNS_INFO was not found")
	}
	for _, want := range []dtyp.SID{sampleSID(t, 513), dtyp.MustParseSID("S-1-18-1")} {
		if !slices.Contains(p.Groups(), want) {
			t.Errorf("groups %v without %v", p.Groups(), want)
		}
	}
	if err := p.CheckClient("alice", "BKRP.TEST", sampleAuthTime); err != nil {
		t.Error(err)
	}
	for _, other := range []error{
		p.CheckClient("bob", "BKRP.TEST", sampleAuthTime),
		p.CheckClient("alice", "BKRP.TEST", sampleAuthTime.Add(time.Second)),
	} {
		if !errors.Is(other, ErrClient) {
			t.Error(other)
		}
	}
}

func TestServerSignature(t *testing.T) {
	p, err := Parse(sample(t))
	if err != nil {
		t.Fatal(err)
	}
	good := append([]byte(nil), p.server.sum...)
	sum := func(v []byte, err error) func([]byte) ([]byte, error) {
		return func([]byte) ([]byte, error) { return v, err }
	}
	if err := p.VerifyServer(p.server.kind, sum(good, nil)); err != nil {
		t.Error(err)
	}
	bad := append([]byte(nil), good...)
	bad[0] ^= 1
	for name, err := range map[string]error{
		"another":        p.VerifyServer(p.server.kind, sum(bad, nil)),
		"short":          p.VerifyServer(p.server.kind, sum(good[:8], nil)),
		"none":           p.VerifyServer(p.server.kind, sum(nil, nil)),
		"another type":   p.VerifyServer(15, sum(good, nil)),
		"not to be made": p.VerifyServer(p.server.kind, sum(good, errors.New("no"))),
	} {
		if !errors.Is(err, ErrSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Where a PAC is cut, or a field lies, it is refused; nothing else happens.
func TestMalformed(t *testing.T) {
	b := sample(t)
	for n := range b {
		if _, err := Parse(b[:n]); !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrMissing) {
			t.Fatalf("cut to %d octets: %v", n, err)
		}
	}
	for name, change := range map[string]func(b []byte) []byte{
		"version":           func(b []byte) []byte { b[4] = 1; return b },
		"too many buffers":  func(b []byte) []byte { binary.LittleEndian.PutUint32(b, 65); return b },
		"all of 2^32":       func(b []byte) []byte { binary.LittleEndian.PutUint32(b, 1<<32-1); return b },
		"odd offset":        func(b []byte) []byte { b[16]++; return b },
		"offset of 2^63":    func(b []byte) []byte { b[23] = 0x80; return b },
		"over the header":   func(b []byte) []byte { binary.LittleEndian.PutUint64(b[16:], 8); return b },
		"size of 2^32":      func(b []byte) []byte { binary.LittleEndian.PutUint32(b[12:], 1<<32-1); return b },
		"twice":             func(b []byte) []byte { copy(b[24:28], b[8:12]); return b },
		"larger than a PAC": func(b []byte) []byte { return append(b, make([]byte, MaxSize)...) },
	} {
		if _, err := Parse(change(append([]byte(nil), b...))); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSID(t *testing.T) {
	domain, extra := dtyp.MustParseSID("S-1-5-21-1-2-3"), dtyp.MustParseSID("S-1-5-21-9-9-9-1104")
	group, resource := dtyp.MustParseSID("S-1-5-21-9-9-9-600"), dtyp.MustParseSID("S-1-5-21-4-4-4")
	p := &PAC{Logon: LogonInfo{
		LogonDomainID: domain, UserID: 1103, GroupIDs: []uint32{513, 514}, UserFlags: flagExtraSIDs,
		ExtraSIDs: []dtyp.SID{extra, group}, ResourceDomain: resource, ResourceIDs: []uint32{7},
	}}
	child := func(d dtyp.SID, rid uint32) dtyp.SID { s, _ := d.Child(rid); return s }
	if sid, err := p.SID(); err != nil || sid != child(domain, 1103) {
		t.Errorf("%v, %v", sid, err)
	}
	if want := []dtyp.SID{child(domain, 513), child(domain, 514), extra, group}; !slices.Equal(p.Groups(), want) {
		t.Errorf("groups %v, want %v", p.Groups(), want)
	}
	p.Logon.UserFlags |= flagResourceGroups
	if want := []dtyp.SID{child(domain, 513), child(domain, 514), extra, group, child(resource, 7)}; !slices.Equal(p.Groups(), want) {
		t.Errorf("groups %v, want %v", p.Groups(), want)
	}
	// Where the RID is zero, the first extra SID is the user.
	p.Logon.UserID = 0
	if sid, err := p.SID(); err != nil || sid != extra {
		t.Errorf("%v, %v", sid, err)
	}
	if slices.Contains(p.Groups(), extra) {
		t.Errorf("the user among the groups %v", p.Groups())
	}
	p.named = []dtyp.SID{group}
	if sid, err := p.SID(); !errors.Is(err, ErrClient) || !sid.IsZero() {
		t.Errorf("another SID besides: %v, %v", sid, err)
	}
	for name, l := range map[string]LogonInfo{
		"nobody":           {LogonDomainID: domain},
		"extra not marked": {LogonDomainID: domain, ExtraSIDs: []dtyp.SID{extra}},
		"no domain":        {UserID: 1103},
	} {
		if _, err := (&PAC{Logon: l}).SID(); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, l := range map[string]LogonInfo{
		"guest": {LogonDomainID: domain, UserID: 501}, "logged on as guest": {LogonDomainID: domain, UserID: 1103, UserFlags: flagGuest},
	} {
		if _, err := (&PAC{Logon: l}).SID(); !errors.Is(err, ErrClient) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzParse also says that what is signed is all of the certificate but for
// the signatures.
func FuzzParse(f *testing.F) {
	f.Add(sample(f))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Parse(b)
		if err != nil {
			if p != nil || !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrMissing) {
				t.Fatal(err)
			}
			return
		}
		if len(p.signed) != len(b) {
			t.Fatal("not all of it is signed")
		}
		p.SID()
		p.Groups()
		again, err := Parse(p.signed)
		if err == nil && !reflect.DeepEqual(again.Logon, p.Logon) {
			t.Fatal("what is signed says something else")
		}
	})
}

func FuzzLogonInfo(f *testing.F) {
	b := sample(f)
	buffers, err := cutBuffers(b)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(buffers[kindLogonInfo].in(b))
	f.Fuzz(func(_ *testing.T, b []byte) {
		l, err := parseLogonInfo(b)
		if err == nil {
			(&PAC{Logon: l}).Groups()
		}
	})
}
