package ndr

import "github.com/seed05845750/bkrp/dtyp"

// Writer appends one stub to a buffer. Gaps are filled with zeros, so that no
// octet of another message leaves with them. The zero Writer writes
// little-endian NDR to a new buffer.
type Writer struct {
	buf       []byte
	start     int
	enc       Encoding
	referents uint32
}

// NewWriter appends to buf; the stub begins, and alignment counts, at its
// present length.
func NewWriter(buf []byte, enc Encoding) Writer {
	return Writer{buf: buf, start: len(buf), enc: enc}
}

// Encoding is the form that the stub is written in.
func (w *Writer) Encoding() Encoding { return w.enc }

// Buffer is the buffer with the stub behind what it held at first.
func (w *Writer) Buffer() []byte { return w.buf }

var zeros [8]byte

// Align appends zeros up to a multiple of n octets, n a power of two and at
// most 8.
func (w *Writer) Align(n int) {
	w.buf = append(w.buf, zeros[:padding(len(w.buf)-w.start, n)]...)
}

// AlignPointer aligns as a structure with a pointer in it is aligned: to 4
// octets in NDR, to 8 in NDR64.
func (w *Writer) AlignPointer() { w.Align(w.enc.pointerSize()) }

// U8 appends one octet.
func (w *Writer) U8(v uint8) { w.buf = append(w.buf, v) }

// U16 appends an unsigned short.
func (w *Writer) U16(v uint16) {
	w.Align(2)
	w.integer(uint64(v), 2)
}

// U32 appends an unsigned long.
func (w *Writer) U32(v uint32) {
	w.Align(4)
	w.integer(uint64(v), 4)
}

// U64 appends an unsigned hyper.
func (w *Writer) U64(v uint64) {
	w.Align(8)
	w.integer(v, 8)
}

func (w *Writer) integer(v uint64, size int) {
	for i := range size {
		shift := 8 * i
		if w.enc.BigEndian {
			shift = 8 * (size - 1 - i)
		}
		w.buf = append(w.buf, byte(v>>shift))
	}
}

// Enum appends an enumeration without v1_enum: 2 octets in NDR, 4 in NDR64.
func (w *Writer) Enum(v uint32) {
	if w.enc.NDR64 {
		w.U32(v)
		return
	}
	w.U16(uint16(v))
}

// Octets appends b, unaligned.
func (w *Writer) Octets(b []byte) { w.buf = append(w.buf, b...) }

// GUID appends a GUID of packet form, its first three fields in the stub's
// byte order.
func (w *Writer) GUID(g dtyp.GUID) {
	w.Align(4)
	if w.enc.BigEndian {
		swapGUID(&g)
	}
	w.buf = append(w.buf, g[:]...)
}

func (w *Writer) word(v uint64) {
	if w.enc.NDR64 {
		w.U64(v)
		return
	}
	w.U32(uint32(v))
}

// Referent appends the referent identifier of a unique pointer, a new one if
// it is present and 0 if it is NULL.
func (w *Writer) Referent(present bool) {
	if !present {
		w.word(0)
		return
	}
	// Any number but zero would do; these are the ones that peers write.
	w.word(0x20000 + 4*uint64(w.referents))
	w.referents++
}

// Count appends the count of an array.
func (w *Writer) Count(n int) { w.word(uint64(n)) }

// ConformantOctets appends a conformant array of octets ([C706] 14.3.3.2).
func (w *Writer) ConformantOctets(b []byte) {
	w.Count(len(b))
	w.Octets(b)
}

// ConformantVarying appends the three counts before a conformant and varying
// array ([C706] 14.3.3.4).
func (w *Writer) ConformantVarying(maximum, actual int) {
	w.Count(maximum)
	w.Count(0)
	w.Count(actual)
}
