// Package le reads the fixed little-endian structures of [MS-BKRP] 2.2 and of
// DPAPI's files: a cursor whose first short read sticks, so that a parser
// reads all fields in order and asks once whether they were there.
//
// Writing needs nothing of the kind: encoding/binary's Append functions do it.
package le

import (
	"encoding/binary"
	"errors"
)

var (
	// ErrShort is a structure that ends before its last field.
	ErrShort = errors.New("le: structure is cut short")
	// ErrTrailing is a structure with octets after its last field.
	ErrTrailing = errors.New("le: octets follow the structure")
)

// Cursor walks over a structure. After the first read beyond its end every
// read gives zero and Err says so. The zero Cursor stands at the end of an
// empty structure.
type Cursor struct {
	rest []byte
	err  error
}

// NewCursor is a cursor at the head of b. It does not copy b.
func NewCursor(b []byte) *Cursor { return &Cursor{rest: b} }

// Bytes is the next n octets, not copied and with no capacity beyond them. A
// length larger than what is left, however large, is a short read.
func (c *Cursor) Bytes(n uint64) []byte {
	if c.err != nil || n > uint64(len(c.rest)) {
		c.err, c.rest = ErrShort, nil
		return nil
	}
	b := c.rest[:n:n]
	c.rest = c.rest[n:]
	return b
}

// Fill copies the next len(dst) octets into dst, or leaves it alone when they
// are not there.
func (c *Cursor) Fill(dst []byte) { copy(dst, c.Bytes(uint64(len(dst)))) }

// Uint32 is the next 32-bit word.
func (c *Cursor) Uint32() uint32 {
	if b := c.Bytes(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

// Uint64 is the next 64-bit word.
func (c *Cursor) Uint64() uint64 {
	if b := c.Bytes(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

// Rest is everything that is left, not copied; nothing is left after it.
func (c *Cursor) Rest() []byte { return c.Bytes(uint64(len(c.rest))) }

// Len is how many octets are left.
func (c *Cursor) Len() int { return len(c.rest) }

// Err is ErrShort when a read went beyond the end.
func (c *Cursor) Err() error { return c.err }

// Done is Err, or ErrTrailing when something is left.
func (c *Cursor) Done() error {
	if c.err == nil && len(c.rest) != 0 {
		return ErrTrailing
	}
	return c.err
}
