package pac

import (
	"encoding/binary"
	"errors"
	"testing"
	"unicode/utf16"
)

// addBuffer seeds a target with a buffer of the sample.
func addBuffer(f *testing.F, kind uint32) {
	f.Helper()
	b := sample(f)
	buffers, err := cutBuffers(b)
	if err != nil {
		f.Fatal(err)
	}
	e, ok := buffers[kind]
	if !ok {
		f.Fatalf("the sample has no buffer of type %d", kind)
	}
	f.Add(e.in(b))
}

func FuzzClientInfo(f *testing.F) {
	addBuffer(f, kindClientInfo)
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseClientInfo(b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) || c != (ClientInfo{}) {
				t.Fatalf("%+v, %v", c, err)
			}
			return
		}
		// No two names become the same text.
		name := utf16.Encode([]rune(c.Name))
		out := binary.LittleEndian.AppendUint64(nil, c.AuthTime)
		out = binary.LittleEndian.AppendUint16(out, uint16(2*len(name)))
		for _, u := range name {
			out = binary.LittleEndian.AppendUint16(out, u)
		}
		if string(out) != string(b[:len(out)]) || !zeros(b[len(out):]) {
			t.Fatalf("%x became %x", b, out)
		}
	})
}

func FuzzSignature(f *testing.F) {
	addBuffer(f, kindServerSum)
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseSignature(b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) || s.sum != nil {
				t.Fatalf("%+v, %v", s, err)
			}
			return
		}
		if len(s.sum) < 12 || string(s.sum) != string(b[4:4+len(s.sum)]) {
			t.Fatalf("%x became %+v", b, s)
		}
	})
}

func FuzzUPNDNSInfo(f *testing.F) {
	addBuffer(f, kindUPNDNSInfo)
	f.Fuzz(func(t *testing.T, b []byte) {
		sid, err := parseUPNDNSInfo(b)
		if err != nil && (!errors.Is(err, ErrMalformed) || !sid.IsZero()) {
			t.Fatalf("%v, %v", sid, err)
		}
	})
}
