package netlogon

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/ndr"
)

// FuzzSamLogon reads what a domain controller, or who says he is one, answers
// about a logon. What is read comes back from what is written of it.
func FuzzSamLogon(f *testing.F) {
	for _, v := range []*validation{
		{name: "alice", domain: "BKRP", userID: 1103, groups: []uint32{513}, domainID: domainSID, extras: []dtyp.SID{domainSID}},
		{name: "bob"},
	} {
		w := ndr.NewWriter(nil, ndr.Encoding{})
		appendSamLogonResponse(&w, v, 0)
		f.Add(w.Buffer())
		again := roundTrip(f, w.Buffer())
		if again == nil {
			f.Fatal("a good one is refused")
		}
	}
	f.Fuzz(func(t *testing.T, stub []byte) { roundTrip(t, stub) })
}

func roundTrip(t testing.TB, stub []byte) *validation {
	v, err := parseSamLogon(stub)
	if err != nil || v == nil {
		return nil
	}
	w := ndr.NewWriter(nil, ndr.Encoding{})
	appendSamLogonResponse(&w, v, 0)
	again, err := parseSamLogon(w.Buffer())
	if err != nil || again == nil {
		t.Fatalf("%+v is refused when written: %v", v, err)
	}
	w2 := ndr.NewWriter(nil, ndr.Encoding{})
	if appendSamLogonResponse(&w2, again, 0); !bytes.Equal(w.Buffer(), w2.Buffer()) {
		t.Fatalf("%x, and then %x", w.Buffer(), w2.Buffer())
	}
	return v
}

func parseSamLogon(stub []byte) (*validation, error) {
	r := ndr.NewReader(stub, ndr.Encoding{})
	v := readSamLogon(&r)
	r.U32()
	return v, r.Done()
}

// eptMapped is an answer of the endpoint mapper, with one tower.
const eptMapped = "0000000000000000000000000000000000000000" + "01000000" + "08000000" + "00000000" + "01000000" + "01000000" +
	"4b000000" + "4b000000" +
	"0500" + "1300" + "0d" + "785634123412cdabef0001234567cffb0100" + "0200" + "0000" +
	"1300" + "0d" + "045d888aeb1cc9119fe808002b1048600200" + "0200" + "0000" +
	"0100" + "0b" + "0200" + "0000" + "0100" + "07" + "0200" + "c000" + "0100" + "09" + "0400" + "7f000001" + "00" + "00000000"

func TestEptMap(t *testing.T) {
	stub, err := hex.DecodeString(eptMapped)
	if err != nil {
		t.Fatal(err)
	}
	if port, err := parseEptMap(stub, ndr.Encoding{}); port != 49152 || err != nil {
		t.Errorf("port %d, %v", port, err)
	}
	for n := range stub {
		if _, err := parseEptMap(stub[:n], ndr.Encoding{}); !errors.Is(err, ErrResponse) {
			t.Errorf("%d octets of it: %v", n, err)
		}
	}
	stub[len(stub)-4] = 1
	if _, err := parseEptMap(stub, ndr.Encoding{}); !errors.Is(err, errNoEndpoint) {
		t.Errorf("a status: %v", err)
	}
}

// FuzzEptMap reads what anybody may answer on port 135.
func FuzzEptMap(f *testing.F) {
	stub, err := hex.DecodeString(eptMapped)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(stub)
	f.Fuzz(func(t *testing.T, stub []byte) {
		if port, err := parseEptMap(stub, ndr.Encoding{}); (port == 0) != (err != nil) {
			t.Errorf("port %d, %v", port, err)
		}
	})
}

// FuzzUnseal takes what anybody may send in the place of a sealed answer: it is
// refused, unless it is the one that the domain controller sealed, of whose
// signature only the first octets count.
func FuzzUnseal(f *testing.F) {
	key := sessionKey{1, 2, 3}
	// "an answer, and 16 octets", sealed once: each time gives something else.
	msg, err := hex.DecodeString("b3b2647568d804c1981ae0b3f715f9ef7372c76714c49f15")
	if err != nil {
		f.Fatal(err)
	}
	sig, err := hex.DecodeString("13001a00ffff0000f7efd720d91c015fe0b4d45aa1fcb63804513521119b7eab")
	if err != nil {
		f.Fatal(err)
	}
	sig = append(sig, make([]byte, signatureSize-signatureUsed)...)
	f.Add(bytes.Clone(msg), bytes.Clone(sig))
	f.Add([]byte{}, sig[:signatureUsed])
	f.Add(msg[:8], sig[:signatureUsed-1])
	f.Fuzz(func(t *testing.T, m, s []byte) {
		same := bytes.Equal(m, msg) && len(s) >= signatureUsed && bytes.Equal(s[:signatureUsed], sig[:signatureUsed])
		c := &session{key: key}
		if err := c.Unseal(bytes.Clone(m), 0, len(m), s); (err == nil) != same {
			t.Errorf("%x, %x: %v", m, s, err)
		}
		if _, sc, err := (&exchange{initiator: &initiator{key: key}, sent: true}).Step(t.Context(), s); (sc == nil) == (err == nil) {
			t.Errorf("answer %x to NL_AUTH_MESSAGE: %v, %v", s, sc, err)
		}
	})
}
