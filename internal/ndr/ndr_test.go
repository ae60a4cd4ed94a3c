package ndr

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"

	"github.com/seed05845750/bkrp/dtyp"
)

var encodings = []struct {
	name string
	enc  Encoding
}{
	{"NDR", Encoding{}},
	{"NDR big-endian", Encoding{BigEndian: true}},
	{"NDR64", Encoding{NDR64: true}},
	{"NDR64 big-endian", Encoding{NDR64: true, BigEndian: true}},
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRoundTrip(t *testing.T) {
	guid := dtyp.MustParseGUID("018ff48a-eaba-40c6-8f6d-72370240e967")
	for _, e := range encodings {
		t.Run(e.name, func(t *testing.T) {
			w := NewWriter([]byte("before"), e.enc)
			w.U8(1)
			w.U16(0x0203)
			w.U8(4)
			w.U32(0x05060708)
			w.U8(9)
			w.U64(0x0a0b0c0d0e0f1011)
			w.U8(0x12)
			w.GUID(guid)
			w.Enum(5)
			w.Referent(true)
			w.Referent(false)
			w.ConformantOctets([]byte("abc"))
			w.UTF16("häß𝄞")
			w.String("")
			w.AlignPointer()

			r := NewReader(w.Buffer()[len("before"):], e.enc)
			if v := r.U8(); v != 1 {
				t.Errorf("U8 = %#x", v)
			}
			if v := r.U16(); v != 0x0203 {
				t.Errorf("U16 = %#x", v)
			}
			if v := r.U8(); v != 4 {
				t.Errorf("U8 = %#x", v)
			}
			if v := r.U32(); v != 0x05060708 {
				t.Errorf("U32 = %#x", v)
			}
			if v := r.U8(); v != 9 {
				t.Errorf("U8 = %#x", v)
			}
			if v := r.U64(); v != 0x0a0b0c0d0e0f1011 {
				t.Errorf("U64 = %#x", v)
			}
			if v := r.U8(); v != 0x12 {
				t.Errorf("U8 = %#x", v)
			}
			if v := r.GUID(); v != guid {
				t.Errorf("GUID = %v", v)
			}
			if v := r.Enum(); v != 5 {
				t.Errorf("Enum = %d", v)
			}
			if !r.Referent() || r.Referent() {
				t.Error("referents do not read as written")
			}
			if v := r.ConformantOctets(); string(v) != "abc" {
				t.Errorf("ConformantOctets = %q", v)
			}
			if v, maximum, units := r.UTF16(); v != "häß𝄞" || maximum != 5 || units != 5 || UTF16Len(v) != 5 {
				t.Errorf("UTF16 = %q, %d, %d", v, maximum, units)
			}
			if v := r.String(); v != "" {
				t.Errorf("String = %q", v)
			}
			r.AlignPointer()
			if err := r.Done(); err != nil {
				t.Error(err)
			}
		})
	}
}

// The layouts, written out by hand from [C706] 14 and [MS-RPCE] 2.2.5.
func TestLayout(t *testing.T) {
	write := func(w *Writer) {
		w.U8(0xff)
		w.Enum(0x0102)
		w.Referent(true)
		w.UTF16("é")
		w.GUID(dtyp.MustParseGUID("00010203-0405-0607-0809-0a0b0c0d0e0f"))
	}
	for _, tt := range []struct {
		enc  Encoding
		want string
	}{
		{Encoding{}, "ff000201" + "00000200" + "010000000000000001000000" + "e9000000" + "0302010005040706" + "08090a0b0c0d0e0f"},
		{Encoding{BigEndian: true}, "ff000102" + "00020000" + "000000010000000000000001" + "00e90000" + "0001020304050607" + "08090a0b0c0d0e0f"},
		{Encoding{NDR64: true}, "ff00000002010000" + "0000020000000000" + "010000000000000000000000000000000100000000000000" + "e9000000" + "0302010005040706" + "08090a0b0c0d0e0f"},
	} {
		w := NewWriter(nil, tt.enc)
		write(&w)
		if want := unhex(t, tt.want); !bytes.Equal(w.Buffer(), want) {
			t.Errorf("%+v:\n got %x\nwant %x", tt.enc, w.Buffer(), want)
		}
	}
}

func TestRefusals(t *testing.T) {
	for _, tt := range []struct {
		name, stub string
		read       func(*Reader)
	}{
		{"trailing octet", "0100000000", func(r *Reader) { r.U32() }},
		{"short integer", "010000", func(r *Reader) { r.U32() }},
		{"short padding", "01", func(r *Reader) { r.U8(); r.Align(4) }},
		{"count beyond the stub", "0500000001020304", func(r *Reader) { r.ConformantOctets() }},
		{"count of 4 GiB", "ffffffff01020304", func(r *Reader) { r.ConformantOctets() }},
		{"count that overflows by its size", "000000800102030405060708", func(r *Reader) { r.Count(2) }},
		{"negative length", "01020304", func(r *Reader) { r.Octets(-1) }},
		{"varying offset", "02000000010000000100000041000000", func(r *Reader) { r.UTF16(); r.Align(4) }},
		{"actual above maximum", "00000000000000000100000041000000", func(r *Reader) { r.UTF16(); r.Align(4) }},
		{"unpaired surrogate", "01000000000000000100000000d80000", func(r *Reader) { r.UTF16(); r.Align(4) }},
		{"surrogates reversed", "02000000000000000200000000dc00d8", func(r *Reader) { r.UTF16() }},
		{"string without terminator", "01000000000000000100000041000000", func(r *Reader) { _ = r.String(); r.Align(4) }},
		{"string of no units", "000000000000000000000000", func(r *Reader) { _ = r.String() }},
		{"terminator in the middle", "02000000000000000200000000000000", func(r *Reader) { _ = r.String() }},
		{"counts that differ", "", func(r *Reader) { r.CheckCount("cbDataIn", 1<<32, 0) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := NewReader(unhex(t, tt.stub), Encoding{})
			tt.read(&r)
			if err := r.Done(); !errors.Is(err, ErrStub) {
				t.Errorf("Done() = %v, want an ErrStub", err)
			}
			if r.U64() != 0 || r.Octets(1) != nil || r.GUID() != (dtyp.GUID{}) || r.Count(1) != 0 {
				t.Error("a failed reader reads something")
			}
		})
	}
	t.Run("NDR64 count of 2^63", func(t *testing.T) {
		r := NewReader(unhex(t, "0000000000000080"+"01"), Encoding{NDR64: true})
		if r.ConformantOctets() != nil || !errors.Is(r.Done(), ErrStub) {
			t.Error("accepted")
		}
	})
}

func TestReaderAllocatesNothing(t *testing.T) {
	stub := make([]byte, 64)
	stub[16] = 40
	if n := testing.AllocsPerRun(100, func() {
		r := NewReader(stub, Encoding{})
		r.GUID()
		r.ConformantOctets()
		r.U32()
		if r.Done() != nil {
			t.Error("stub refused")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzReader drives a Reader by a script of operations, then writes what it
// read and reads that again.
func FuzzReader(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8}, bytes.Repeat([]byte{1, 0, 0, 0}, 20), uint8(0))
	f.Add([]byte{7, 6, 9}, unhex(f, "0000020000000000"+"010000000000000000000000000000000100000000000000e9000000"), uint8(2))
	f.Add([]byte{8}, unhex(f, "0000000100000000000000010000"), uint8(1))
	f.Fuzz(func(t *testing.T, script, stub []byte, form uint8) {
		enc := encodings[int(form)%len(encodings)].enc
		r := NewReader(stub, enc)
		w := NewWriter(nil, enc)
		for _, op := range script {
			step(op, &r, &w)
		}
		if r.Err() != nil {
			if !errors.Is(r.Err(), ErrStub) {
				t.Fatalf("error of another kind: %v", r.Err())
			}
			return
		}
		again, w2 := NewReader(w.Buffer(), enc), NewWriter(nil, enc)
		for _, op := range script {
			step(op, &again, &w2)
		}
		if err := again.Done(); err != nil {
			t.Fatalf("reading what was written: %v", err)
		}
		if !bytes.Equal(w.Buffer(), w2.Buffer()) {
			t.Fatalf("%x\n%x", w.Buffer(), w2.Buffer())
		}
	})
}

// step reads one item and, as long as all is well, writes it.
func step(op byte, r *Reader, w *Writer) {
	var write func()
	switch op % 10 {
	case 0:
		v := r.U8()
		write = func() { w.U8(v) }
	case 1:
		v := r.U16()
		write = func() { w.U16(v) }
	case 2:
		v := r.U32()
		write = func() { w.U32(v) }
	case 3:
		v := r.U64()
		write = func() { w.U64(v) }
	case 4:
		v := r.Enum()
		write = func() { w.Enum(v) }
	case 5:
		v := r.GUID()
		write = func() { w.GUID(v) }
	case 6:
		v := r.Referent()
		write = func() { w.Referent(v) }
	case 7:
		v := r.ConformantOctets()
		write = func() { w.ConformantOctets(v) }
	case 8:
		v := r.String()
		write = func() { w.String(v) }
	case 9:
		v, _, _ := r.UTF16()
		write = func() { w.UTF16(v) }
	}
	if r.Err() == nil {
		write()
	}
}

// An RPC_SID is read as it was written, and its two counts have to agree.
func TestSID(t *testing.T) {
	sid := dtyp.MustParseSID("S-1-5-21-1-2-3-500")
	for _, e := range encodings {
		t.Run(e.name, func(t *testing.T) {
			w := NewWriter(nil, e.enc)
			w.SID(sid)
			b := w.Buffer()
			want := unhex(t, "05000000"+"0105000000000005"+"15000000"+"01000000"+"02000000"+"03000000"+"f4010000")
			if e.enc == (Encoding{}) && !bytes.Equal(b, want) {
				t.Errorf("written as %x, want %x", b, want)
			}
			r := NewReader(b, e.enc)
			if got := r.SID(); got != sid || r.Err() != nil {
				t.Errorf("read as %v: %v", got, r.Err())
			}
			front := len(b) - len(want) + 4 // the octets of the count in front
			for name, i := range map[string]int{"revision": front, "count": front + 1} {
				bad := bytes.Clone(b)
				bad[i]++
				r := NewReader(bad, e.enc)
				if got := r.SID(); !got.IsZero() || r.Err() == nil {
					t.Errorf("%s spoilt: %v", name, got)
				}
			}
		})
	}
}
