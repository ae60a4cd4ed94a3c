package lsaclient

import (
	"bytes"
	"testing"

	"github.com/seed05845750/bkrp/internal/ndr"
)

// [MS-LSAD] 2.2.6.1: a pointer to the value, its two lengths, a pointer to the
// octets, and their three counts.
var cipherValue = []byte("\x00\x00\x02\x00" + "\x08\x00\x00\x00" + "\x08\x00\x00\x00" + "\x04\x00\x02\x00" +
	"\x08\x00\x00\x00" + "\x00\x00\x00\x00" + "\x08\x00\x00\x00" + "octets!!")

func TestCipherValue(t *testing.T) {
	var w ndr.Writer
	writeCipherValue(&w, []byte("octets!!"))
	if !bytes.Equal(w.Buffer(), cipherValue) {
		t.Errorf("\n got %x\nwant %x", w.Buffer(), cipherValue)
	}
	r := ndr.NewReader(cipherValue, ndr.Encoding{})
	if got := readCipherValue(&r); string(got) != "octets!!" || r.Done() != nil {
		t.Errorf("%q, %v", got, r.Done())
	}
	null := make([]byte, 4)
	r = ndr.NewReader(null, ndr.Encoding{})
	if got := readCipherValue(&r); got != nil || r.Done() != nil {
		t.Errorf("NULL: %q, %v", got, r.Done())
	}
	for name, at := range map[string]int{"Length": 4, "MaximumLength": 8, "maximum count": 16, "offset": 20, "actual count": 24} {
		bad := bytes.Clone(cipherValue)
		bad[at]--
		r := ndr.NewReader(bad, ndr.Encoding{})
		if got := readCipherValue(&r); got != nil || r.Err() == nil {
			t.Errorf("%s is wrong: %q, %v", name, got, r.Err())
		}
	}
}

func FuzzCipherValue(f *testing.F) {
	f.Add(cipherValue)
	f.Add(make([]byte, 4))
	f.Fuzz(func(t *testing.T, stub []byte) {
		r := ndr.NewReader(stub, ndr.Encoding{})
		value := readCipherValue(&r)
		if r.Done() != nil || value == nil {
			return
		}
		var w ndr.Writer
		writeCipherValue(&w, value)
		again := ndr.NewReader(w.Buffer(), ndr.Encoding{})
		if got := readCipherValue(&again); !bytes.Equal(got, value) || again.Done() != nil {
			t.Fatalf("%x comes back as %x, %v", value, got, again.Done())
		}
	})
}
