package le

import (
	"bytes"
	"errors"
	"math"
	"testing"
)

func TestCursorReadsInOrder(t *testing.T) {
	c := NewCursor([]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17})
	if v := c.Uint32(); v != 0x04030201 {
		t.Errorf("Uint32 = %#x", v)
	}
	if v := c.Uint64(); v != 0x0c0b0a0908070605 {
		t.Errorf("Uint64 = %#x", v)
	}
	var two [2]byte
	c.Fill(two[:])
	if two != [2]byte{13, 14} {
		t.Errorf("Fill = %v", two)
	}
	if err := c.Done(); !errors.Is(err, ErrTrailing) {
		t.Errorf("Done with three octets left = %v", err)
	}
	b := c.Bytes(1)
	if !bytes.Equal(b, []byte{15}) || cap(b) != 1 {
		t.Errorf("Bytes(1) = %v with capacity %d", b, cap(b))
	}
	if r := c.Rest(); !bytes.Equal(r, []byte{16, 17}) {
		t.Errorf("Rest = %v", r)
	}
	if err := c.Done(); err != nil {
		t.Errorf("Done = %v", err)
	}
}

func TestCursorShortReadSticks(t *testing.T) {
	for _, n := range []uint64{4, math.MaxUint32, math.MaxUint64} {
		c := NewCursor([]byte{1, 2, 3})
		if b := c.Bytes(n); b != nil {
			t.Errorf("Bytes(%d) of three = %v", n, b)
		}
		if v := c.Uint32(); v != 0 {
			t.Errorf("Uint32 after a short read = %d", v)
		}
		if v := c.Uint64(); v != 0 {
			t.Errorf("Uint64 after a short read = %d", v)
		}
		if c.Rest() != nil || c.Len() != 0 {
			t.Error("something is left after a short read")
		}
		if !errors.Is(c.Err(), ErrShort) || !errors.Is(c.Done(), ErrShort) {
			t.Errorf("Err = %v, Done = %v", c.Err(), c.Done())
		}
	}
}

func TestZeroCursorIsEmpty(t *testing.T) {
	var c Cursor
	if err := c.Done(); err != nil {
		t.Errorf("Done = %v", err)
	}
	if len(c.Rest()) != 0 || c.Err() != nil {
		t.Error("the zero cursor has octets")
	}
}
