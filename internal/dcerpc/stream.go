package dcerpc

import (
	"errors"
	"fmt"
	"io"
	"sync"
)

// buffers lends the memory that PDUs are read into and built in, so that a
// connection holds none while it waits.
type buffers struct{ pool sync.Pool }

// pooledSize is the capacity of a buffer in the pool, in octets: a fragment of
// any size that peers agree on in practice.
const pooledSize = 6 << 10

// get is a buffer of at least n octets' capacity and length 0.
func (p *buffers) get(n int) *[]byte {
	if n <= pooledSize {
		if b, ok := p.pool.Get().(*[]byte); ok {
			return b
		}
		n = pooledSize
	}
	b := make([]byte, 0, n)
	return &b
}

// put takes a buffer back. What the first used octets hold is cleared: they
// may be a secret.
func (p *buffers) put(b *[]byte, used int) {
	clear((*b)[:min(used, cap(*b))])
	if cap(*b) == pooledSize {
		*b = (*b)[:0]
		p.pool.Put(b)
	}
}

// grown gives b, with room for size octets, in new memory, and clears what it
// leaves behind: it may be a secret.
func grown(b []byte, size int) []byte {
	moved := append(make([]byte, 0, size), b...)
	clear(b)
	return moved
}

// stream cuts a stream of octets into PDUs. It is used by one goroutine.
type stream struct {
	conn    io.ReadWriteCloser
	buffers *buffers
	head    [headerSize]byte

	loan *[]byte // what the last PDU stands in
	used int
}

// read returns the next PDU, which stays valid until the next read or
// release. limit gives the longest one allowed. The error is io.EOF when the
// peer ends the stream between two PDUs.
func (s *stream) read(limit func(header) int) (header, []byte, error) {
	s.release()
	if n, err := io.ReadFull(s.conn, s.head[:]); err != nil {
		if n == 0 && errors.Is(err, io.EOF) {
			return header{}, nil, io.EOF
		}
		return header{}, nil, fmt.Errorf("dcerpc: reading a PDU: %w", err)
	}
	h, err := parseHeader(s.head[:])
	if err != nil {
		return h, nil, err
	}
	if h.fragLength > limit(h) {
		return h, nil, violation("fragment of %d octets, agreed are %d", h.fragLength, limit(h))
	}
	s.loan = s.buffers.get(h.fragLength)
	s.used = h.fragLength
	pdu := (*s.loan)[:h.fragLength]
	copy(pdu, s.head[:])
	if _, err := io.ReadFull(s.conn, pdu[headerSize:]); err != nil {
		return header{}, nil, fmt.Errorf("dcerpc: reading a PDU: %w", err)
	}
	return h, pdu, nil
}

// release gives the last PDU's memory back, cleared.
func (s *stream) release() {
	if s.loan != nil {
		s.buffers.put(s.loan, s.used)
		s.loan, s.used = nil, 0
	}
}

// write sends one whole PDU by one Write.
func (s *stream) write(pdu []byte) error {
	if _, err := s.conn.Write(pdu); err != nil {
		return fmt.Errorf("dcerpc: writing a PDU: %w", err)
	}
	return nil
}
