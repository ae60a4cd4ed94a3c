package dtyp

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestGUID(t *testing.T) {
	// D-23: Data1 to Data3 little-endian, Data4 as it stands.
	const text = "3dde7c30-165d-11d1-ab8f-00805f14db40"
	want := GUID(unhex(t, "307cde3d5d16d111ab8f00805f14db40"))
	for _, s := range []string{text, strings.ToUpper(text), "{" + text + "}"} {
		g, err := ParseGUID(s)
		if err != nil || g != want {
			t.Errorf("ParseGUID(%q) = % x, %v", s, g[:], err)
		}
	}
	if want.String() != text { // lower case, no braces
		t.Errorf("String = %s", want)
	}
	if want.IsZero() || !(GUID{}).IsZero() {
		t.Error("IsZero is wrong")
	}
	for _, bad := range []string{
		"", "{}", text[1:], text + "0", "{" + text, text + "}", "(" + text + ")",
		strings.Replace(text, "-", "_", 1), strings.Replace(text, "3d", "3g", 1), strings.ReplaceAll(text, "-", "0"),
		strings.Replace(text, "-ab8f-", "ab8f--", 1),
	} {
		if g, err := ParseGUID(bad); err == nil {
			t.Errorf("ParseGUID(%q) = %v", bad, g)
		}
	}
	b, err := json.Marshal(map[GUID]GUID{want: want})
	if err != nil || string(b) != `{"`+text+`":"`+text+`"}` {
		t.Errorf("JSON is %s, %v", b, err)
	}
	var back map[GUID]GUID
	if err := json.Unmarshal(b, &back); err != nil || back[want] != want {
		t.Errorf("JSON comes back as %v, %v", back, err)
	}
	if err := new(GUID).UnmarshalText([]byte("no")); err == nil {
		t.Error("UnmarshalText takes anything")
	}
}

func TestSIDVectors(t *testing.T) {
	for text, wire := range map[string]string{
		"S-1-0-0":              "010100000000000000000000",
		"S-1-1-0":              "010100000000000100000000",
		"S-1-5-7":              "010100000000000507000000",
		"S-1-5-18":             "010100000000000512000000",
		"S-1-5-32-544":         "01020000000000052000000020020000",
		"S-1-16-12288":         "010100000000001000300000",
		"S-1-5":                "0100000000000005",
		"S-1-4294967295-1":     "01010000ffffffff01000000",
		"S-1-0x000100000000-1": "010100010000000001000000",
		"S-1-0xFFFFFFFFFFFF":   "0100ffffffffffff",
		"S-1-5-21-4534338-1127018997-2609994386-500": "01050000000000051500000042304500f5f12c43925a919bf4010000",
	} {
		s, err := ParseSID(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		b, err := s.AppendBinary(nil)
		if err != nil || !bytes.Equal(b, unhex(t, wire)) || s.Size() != len(b) {
			t.Errorf("A-51: %s is % x, %v", text, b, err)
		}
		back, err := SIDFromBytes(b)
		if err != nil || back != s || back.String() != text {
			t.Errorf("%s comes back as %v, %v", text, back, err)
		}
	}
}

func TestSIDOfEveryLength(t *testing.T) {
	for n := 0; n <= MaxSubAuthorities; n++ {
		s, err := NewSID(5, slices.Repeat([]uint32{0xffffffff}, n)...)
		if err != nil {
			t.Fatal(err)
		}
		b, err := s.AppendBinary([]byte("x"))
		if err != nil || len(b) != 1+8+4*n {
			t.Fatalf("%d sub-authorities: %d octets, %v", n, len(b), err)
		}
		back, rest, err := CutSID(append(b[1:], "rest"...))
		if err != nil || back != s || string(rest) != "rest" {
			t.Errorf("%d sub-authorities: %v, %q, %v", n, back, rest, err)
		}
		if _, err := SIDFromBytes(append(b[1:], 0)); !errors.Is(err, ErrSID) {
			t.Errorf("an octet follows: %v", err)
		}
		for cut := range b[1:] {
			if _, err := SIDFromBytes(b[1 : 1+cut]); !errors.Is(err, ErrSID) {
				t.Errorf("cut to %d octets: %v", cut, err)
			}
		}
	}
	if _, err := NewSID(5, make([]uint32, 16)...); !errors.Is(err, ErrSID) {
		t.Errorf("16 sub-authorities: %v", err)
	}
	if _, err := NewSID(1 << 48); !errors.Is(err, ErrSID) {
		t.Errorf("authority of 49 bits: %v", err)
	}
}

func TestSIDRefuses(t *testing.T) {
	for _, bad := range []string{
		"", "S", "S-1", "S-1-", "S-2-5-1", "T-1-5-1", "S-1-5--1", "S-1-5-4294967296", "S-1-5-+1", "S-1-5-1-",
		"S-1-281474976710656", "S-1-0x1000000000000", "S-1-0x", "S-1--5", "S-1-5-0x10", " S-1-5-1",
		"S-1-5" + strings.Repeat("-1", 16),
	} {
		if s, err := ParseSID(bad); !errors.Is(err, ErrSID) {
			t.Errorf("ParseSID(%q) = %v, %v", bad, s, err)
		}
	}
	for _, bad := range []string{
		"", "01", "0201000000000005", "0001000000000005", "0110000000000005" + strings.Repeat("00", 64), "01010000000000050000",
	} {
		if s, err := SIDFromBytes(unhex(t, bad)); !errors.Is(err, ErrSID) {
			t.Errorf("SIDFromBytes(%s) = %v, %v", bad, s, err)
		}
	}
	if _, err := (SID{}).AppendBinary(nil); !errors.Is(err, ErrSID) {
		t.Errorf("the zero SID: %v", err)
	}
}

func TestSIDParts(t *testing.T) {
	s := MustParseSID("S-1-5-21-1-2-3-1103")
	domain, rid, ok := s.Cut()
	if !ok || domain.String() != "S-1-5-21-1-2-3" || rid != 1103 {
		t.Errorf("Cut = %v, %d, %v", domain, rid, ok)
	}
	if back, err := domain.Child(rid); err != nil || back != s {
		t.Errorf("Child = %v, %v", back, err)
	}
	if domain != MustParseSID("S-1-5-21-1-2-3") {
		t.Error("what Cut leaves is not == to the same SID from its text")
	}
	if s.Authority() != 5 || !slices.Equal(s.SubAuthorities(), []uint32{21, 1, 2, 3, 1103}) {
		t.Errorf("authority %d, sub-authorities %v", s.Authority(), s.SubAuthorities())
	}
	s.SubAuthorities()[0] = 99
	if s.String() != "S-1-5-21-1-2-3-1103" {
		t.Error("SubAuthorities is no copy")
	}
	if _, _, ok := MustParseSID("S-1-5").Cut(); ok {
		t.Error("a SID without sub-authorities was cut")
	}
	if _, _, ok := (SID{}).Cut(); ok {
		t.Error("the zero SID was cut")
	}
	full, _ := NewSID(5, make([]uint32, MaxSubAuthorities)...)
	for _, s := range []SID{full, {}} {
		if _, err := s.Child(1); !errors.Is(err, ErrSID) {
			t.Errorf("Child of %v: %v", s, err)
		}
	}
}

func TestZeroSID(t *testing.T) {
	var zero SID
	if !zero.IsZero() || zero.Size() != 0 || zero.String() != "" || zero == MustParseSID("S-1-0") {
		t.Error("the zero SID is some principal")
	}
	s := MustParseSID("S-1-5-7")
	if err := s.UnmarshalText(nil); err != nil || !s.IsZero() {
		t.Errorf("no text: %v, %v", s, err)
	}
	if err := s.UnmarshalText([]byte("S-1-5-18")); err != nil || s.String() != "S-1-5-18" {
		t.Errorf("%v, %v", s, err)
	}
	if err := s.UnmarshalText([]byte("x")); !errors.Is(err, ErrSID) || s.String() != "S-1-5-18" {
		t.Errorf("%v, %v", s, err)
	}
	if b, err := s.MarshalText(); err != nil || string(b) != "S-1-5-18" {
		t.Errorf("%s, %v", b, err)
	}
}

func TestMust(t *testing.T) {
	for name, f := range map[string]func(){
		"GUID": func() { MustParseGUID("no") },
		"SID":  func() { MustParseSID("no") },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("MustParse%s takes anything", name)
				}
			}()
			f()
		}()
	}
}

func FuzzSIDBinary(f *testing.F) {
	f.Add(unhex(f, "01050000000000051500000042304500f5f12c43925a919bf4010000"))
	f.Add(unhex(f, "0100ffffffffffff00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, rest, err := CutSID(b)
		if err != nil {
			return
		}
		out, err := s.AppendBinary(nil)
		if err != nil || !bytes.Equal(append(out, rest...), b) {
			t.Errorf("% x comes back as % x (%v)", b, out, err)
		}
		if back, err := ParseSID(s.String()); err != nil || back != s {
			t.Errorf("%v comes back as %v (%v)", s, back, err)
		}
	})
}

func FuzzSIDText(f *testing.F) {
	for _, s := range []string{"S-1-5-21-1-2-3-500", "s-1-0xffffffffffff-1", "S-1-5"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseSID(text)
		if err != nil {
			return
		}
		if back, err := ParseSID(s.String()); err != nil || back != s {
			t.Errorf("%q is %v and comes back as %v (%v)", text, s, back, err)
		}
	})
}

func FuzzGUIDText(f *testing.F) {
	f.Add("{3dde7c30-165d-11d1-ab8f-00805f14db40}")
	f.Add("3DDE7C30-165D-11D1-AB8F-00805F14DB40")
	f.Fuzz(func(t *testing.T, text string) {
		g, err := ParseGUID(text)
		if err != nil {
			return
		}
		if s := strings.Trim(strings.ToLower(text), "{}"); s != g.String() {
			t.Errorf("%q is %v", text, g)
		}
	})
}
