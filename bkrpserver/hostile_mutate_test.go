package bkrpserver_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
)

// mutator spoils messages. All it does follows from its seed and the number of
// the exchange.
type mutator struct {
	*rand.Rand
	// round walks the fields of messages one after the other, so that over
	// many exchanges none is left out.
	round int
}

func newMutator(seed uint64, exchange int) *mutator {
	return &mutator{Rand: rand.New(rand.NewPCG(seed, uint64(exchange))), round: exchange}
}

// one says whether something happens that does so once in n times.
func (m *mutator) one(n int) bool { return m.IntN(n) == 0 }

// junk is n random octets.
func (m *mutator) junk(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(m.Uint32())
	}
	return b
}

// extreme is a number that parsers are known to get wrong, near size or near
// the ends of some type.
func (m *mutator) extreme(size int) uint64 {
	n := uint64(size)
	values := []uint64{0, 1, 2, 3, 7, 8, n, n - 1, n + 1, n / 2, 64, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xfffe, 0xffff, 0x10000,
		0x7fffffff, 0x80000000, 0xfffffff8, 0xfffffffe, 0xffffffff, 1 << 63, ^uint64(0), ^uint64(7), m.Uint64()}
	return values[m.IntN(len(values))]
}

// setField overwrites an aligned field of 1, 2, 4 or 8 octets by an extreme.
func (m *mutator) setField(b []byte) {
	size := 1 << m.IntN(4)
	// Three of four times it is one of the fields at the beginning, where
	// lengths and offsets stand.
	reach := len(b)
	if !m.one(4) {
		reach = min(reach, 160)
	}
	at := m.IntN(reach)
	if m.one(2) {
		at = 2 * m.round % reach
	}
	at -= at % size
	if at+size > len(b) {
		return
	}
	var v [8]byte
	binary.LittleEndian.PutUint64(v[:], m.extreme(len(b)))
	if m.one(8) {
		slices.Reverse(v[:size])
	}
	copy(b[at:at+size], v[:])
}

// mutate gives a spoilt copy of b, of at least one octet.
func (m *mutator) mutate(b []byte) []byte {
	b = bytes.Clone(b)
	for range 1 + m.IntN(3) {
		if len(b) == 0 {
			break
		}
		b = m.step(b)
	}
	if len(b) == 0 {
		b = []byte{0xfe}
	}
	return b
}

func (m *mutator) step(b []byte) []byte {
	at := m.IntN(len(b))
	n := min(1+m.IntN(32), len(b)-at)
	switch m.IntN(12) {
	case 0:
		return b[:at]
	case 1:
		return append(b, m.junk(1+m.IntN(300))...)
	case 2:
		if m.one(20) {
			return append(b, make([]byte, 90<<10)...)
		}
		return append(b, make([]byte, m.IntN(5000))...)
	case 3:
		return slices.Insert(b, at, b[at:at+n]...)
	case 4:
		return slices.Delete(b, at, at+n)
	case 5:
		clear(b[at : at+n])
	case 6:
		copy(b[at:], m.junk(n))
	case 7, 8:
		for range 1 + m.IntN(4) {
			b[m.IntN(len(b))] ^= 1 << m.IntN(8)
		}
	default:
		m.setField(b)
	}
	return b
}

// keepLength is mutate for what has to stay in its place: it spoils b itself.
func (m *mutator) keepLength(b []byte) {
	if len(b) == 0 {
		return
	}
	for range 1 + m.IntN(3) {
		if m.one(2) {
			b[m.IntN(len(b))] ^= 1 << m.IntN(8)
		} else {
			m.setField(b)
		}
	}
}

// shuffle gives the frames with one or two of them dropped, doubled or moved.
func (m *mutator) shuffle(frames [][]byte) [][]byte {
	frames = slices.Clone(frames)
	for range 1 + m.IntN(2) {
		if len(frames) < 2 {
			break
		}
		i, j := m.IntN(len(frames)), m.IntN(len(frames))
		switch m.IntN(3) {
		case 0:
			frames = slices.Delete(frames, i, i+1)
		case 1:
			frames = slices.Insert(frames, j, frames[i])
		default:
			frames[i], frames[j] = frames[j], frames[i]
		}
	}
	return frames
}

// lie spoils how a frame is laid into the stream: its length, its kind, or
// where it ends. The server may then wait for more.
func (m *mutator) lie(f []byte) []byte {
	b := withLength(f)
	switch m.IntN(5) {
	case 0:
		b[0] = byte(1 + m.IntN(255)) // another kind of NetBIOS packet
	case 1:
		binary.BigEndian.PutUint32(b, uint32(len(f)+1+m.IntN(64)))
	case 2:
		binary.BigEndian.PutUint32(b, uint32(m.IntN(len(f)+1)))
	case 3:
		binary.BigEndian.PutUint32(b, uint32(m.extreme(len(f)))&0xffffff)
	default:
		b = b[:m.IntN(len(b))]
	}
	return b
}
