package ndr

import (
	"encoding/binary"

	"github.com/seed05845750/bkrp/dtyp"
)

// Reader decodes one stub. What it returns as a slice is a part of the stub,
// not a copy. The zero Reader reads an empty stub in little-endian NDR.
type Reader struct {
	stub []byte
	off  int
	enc  Encoding
	err  error
}

// NewReader reads stub from its first octet, which is where alignment counts
// from.
func NewReader(stub []byte, enc Encoding) Reader { return Reader{stub: stub, enc: enc} }

// Encoding is the form that the stub is read in.
func (r *Reader) Encoding() Encoding { return r.enc }

// Err is the first error, nil if there was none so far.
func (r *Reader) Err() error { return r.err }

// Remaining is the number of octets not read yet; 0 after an error.
func (r *Reader) Remaining() int { return len(r.stub) - r.off }

// Fail makes the reader fail for a reason of the caller's, unless it has
// failed before.
func (r *Reader) Fail(format string, args ...any) {
	if r.err == nil {
		r.err = stubError(r.off, format, args...)
		r.off = len(r.stub)
	}
}

// Done is the verdict at the end: the first error, or an error if octets
// follow the last parameter.
func (r *Reader) Done() error {
	if r.err == nil && r.off != len(r.stub) {
		r.Fail("%d octets follow the last parameter", len(r.stub)-r.off)
	}
	return r.err
}

// Align skips to a multiple of n octets, n a power of two. The content of the
// gap is not looked at ([C706] 14.2.2).
func (r *Reader) Align(n int) {
	if pad := padding(r.off, n); pad > 0 {
		r.take(pad)
	}
}

// AlignPointer aligns as a structure with a pointer in it is aligned: to 4
// octets in NDR, to 8 in NDR64.
func (r *Reader) AlignPointer() { r.Align(r.enc.pointerSize()) }

// take is nil, with the error set, if n octets are not there.
func (r *Reader) take(n int) []byte {
	if r.err != nil {
		return nil
	}
	if n < 0 || n > len(r.stub)-r.off {
		r.Fail("%d octets wanted, %d left", n, len(r.stub)-r.off)
		return nil
	}
	b := r.stub[r.off : r.off+n : r.off+n]
	r.off += n
	return b
}

func (r *Reader) aligned(n int) []byte {
	r.Align(n)
	return r.take(n)
}

// U8 reads one octet.
func (r *Reader) U8() uint8 {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

// U16 reads an unsigned short.
func (r *Reader) U16() uint16 {
	b := r.aligned(2)
	switch {
	case b == nil:
		return 0
	case r.enc.BigEndian:
		return binary.BigEndian.Uint16(b)
	}
	return binary.LittleEndian.Uint16(b)
}

// U32 reads an unsigned long.
func (r *Reader) U32() uint32 {
	b := r.aligned(4)
	switch {
	case b == nil:
		return 0
	case r.enc.BigEndian:
		return binary.BigEndian.Uint32(b)
	}
	return binary.LittleEndian.Uint32(b)
}

// U64 reads an unsigned hyper.
func (r *Reader) U64() uint64 {
	b := r.aligned(8)
	switch {
	case b == nil:
		return 0
	case r.enc.BigEndian:
		return binary.BigEndian.Uint64(b)
	}
	return binary.LittleEndian.Uint64(b)
}

// Enum reads an enumeration without v1_enum: 2 octets in NDR ([C706]
// 14.2.5), 4 in NDR64 ([MS-RPCE] 2.2.5).
func (r *Reader) Enum() uint32 {
	if r.enc.NDR64 {
		return r.U32()
	}
	return uint32(r.U16())
}

// Octets reads n octets, unaligned, as a part of the stub.
func (r *Reader) Octets(n int) []byte { return r.take(n) }

// GUID reads a GUID, whose first three fields are integers in the stub's byte
// order, into its packet form.
func (r *Reader) GUID() dtyp.GUID {
	var g dtyp.GUID
	if b := r.alignedTo(4, len(g)); b != nil {
		copy(g[:], b)
		if r.enc.BigEndian {
			swapGUID(&g)
		}
	}
	return g
}

func (r *Reader) alignedTo(align, n int) []byte {
	r.Align(align)
	return r.take(n)
}

// word reads what is as wide as a pointer.
func (r *Reader) word() uint64 {
	if r.enc.NDR64 {
		return r.U64()
	}
	return uint64(r.U32())
}

// Referent reads the referent identifier of a unique pointer and reports
// whether it points to anything ([C706] 14.3.11.3). The identifiers
// themselves say nothing more: unique pointers have no aliases.
func (r *Reader) Referent() bool { return r.word() != 0 }

// Count reads the count of an array whose elements take at least size octets
// each, size > 0. A count that the octets left cannot hold is an error, so
// that what it returns may be allocated.
func (r *Reader) Count(size int) int {
	n := r.word()
	if r.err == nil && n > uint64(r.Remaining()/size) {
		r.Fail("%d elements announced, octets for %d left", n, r.Remaining()/size)
	}
	if r.err != nil {
		return 0
	}
	return int(n)
}

// ConformantOctets reads a conformant array of octets ([C706] 14.3.3.2): its
// maximum count and that many octets, as a part of the stub.
func (r *Reader) ConformantOctets() []byte {
	return r.take(r.Count(1))
}

// ConformantVarying reads the three counts before a conformant and varying
// array of elements of size octets ([C706] 14.3.3.4) and returns the maximum
// and the actual count. The offset has to be zero, as [MS-RPCE] 3.1.1.5.3.2
// wants of what length_is and string describe, and the actual count not above
// the maximum.
func (r *Reader) ConformantVarying(size int) (maximum uint64, actual int) {
	maximum = r.word()
	offset := r.word()
	actual = r.Count(size)
	switch {
	case r.err != nil:
	case offset != 0:
		r.Fail("varying array begins at element %d", offset)
	case uint64(actual) > maximum:
		r.Fail("%d elements in an array of %d", actual, maximum)
	}
	if r.err != nil {
		return 0, 0
	}
	return maximum, actual
}

// CheckCount fails unless the two counts are the same number; what names the
// parameter that repeats the array's count.
func (r *Reader) CheckCount(what string, count uint64, elements int) {
	if r.err == nil && count != uint64(elements) {
		r.Fail("%s is %d for an array of %d", what, count, elements)
	}
}

// swapGUID exchanges the byte order of the first three fields.
func swapGUID(g *dtyp.GUID) {
	g[0], g[1], g[2], g[3] = g[3], g[2], g[1], g[0]
	g[4], g[5] = g[5], g[4]
	g[6], g[7] = g[7], g[6]
}
