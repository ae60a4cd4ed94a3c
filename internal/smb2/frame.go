package smb2

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// frameHeader is the length of the header of Direct TCP, in octets: a zero
// and a length of 24 bits ([MS-SMB2] 2.1).
const frameHeader = 4

// keepAlive is the NetBIOS keep-alive (RFC 1002 4.3.6), four octets without a
// body that some clients send even over Direct TCP.
const keepAlive = 0x85

// smallFrame is the buffer that each connection keeps, in octets. Nearly all
// frames fit, so that one system call reads one frame; larger ones borrow a
// buffer while they are worked on.
const smallFrame = 2 << 10

var errFrame = errors.New("smb2: frame too large or not of SMB2")

// frameReader cuts the stream of a connection into frames.
type frameReader struct {
	nc    net.Conn
	stall time.Duration
	buf   [smallFrame]byte
	// r and w bound what has been read and not yet given out.
	r, w int
	// borrowed is the pooled buffer of the last frame, if it had one.
	borrowed *[]byte
}

// next gives the next frame without its header, valid until the following
// call. When its beginning has come, the rest has to within the stall time;
// with restrict the deadline that stands is left alone. A length above most is
// an error before anything is read or allocated for it.
func (f *frameReader) next(most int, restrict bool) ([]byte, error) {
	f.release()
	if err := f.fill(frameHeader, restrict); err != nil {
		return nil, err
	}
	head := f.buf[f.r : f.r+frameHeader]
	n := int(binary.BigEndian.Uint32(head) & 0xFFFFFF)
	if n > most {
		return nil, errFrame
	}
	if head[0] == keepAlive && n == 0 {
		f.r += frameHeader
		return nil, nil
	}
	if head[0] != 0 || n == 0 {
		return nil, errFrame
	}
	if frameHeader+n <= smallFrame {
		if err := f.fill(frameHeader+n, restrict); err != nil {
			return nil, err
		}
		frame := f.buf[f.r+frameHeader : f.r+frameHeader+n]
		f.r += frameHeader + n
		return frame, nil
	}
	return f.large(n, restrict)
}

// fill reads until n octets from r on are there.
func (f *frameReader) fill(n int, restrict bool) error {
	if f.r == f.w {
		f.r, f.w = 0, 0
	}
	if f.r+n > smallFrame {
		f.w = copy(f.buf[:], f.buf[f.r:f.w])
		f.r = 0
	}
	hurried := false
	for f.w-f.r < n {
		if f.w > f.r && !hurried && !restrict {
			hurried = true
			f.hurry()
		}
		k, err := f.nc.Read(f.buf[f.w:])
		f.w += k
		if err != nil && f.w-f.r < n {
			return err
		}
	}
	if hurried {
		return f.nc.SetReadDeadline(time.Time{})
	}
	return nil
}

// large reads a frame of n octets into a borrowed buffer.
func (f *frameReader) large(n int, restrict bool) ([]byte, error) {
	f.borrowed = getBuffer(n)
	frame := (*f.borrowed)[:n]
	have := copy(frame, f.buf[f.r+frameHeader:f.w])
	f.r, f.w = 0, 0
	if !restrict {
		f.hurry()
	}
	if _, err := io.ReadFull(f.nc, frame[have:]); err != nil {
		return nil, err
	}
	if !restrict {
		return frame, f.nc.SetReadDeadline(time.Time{})
	}
	return frame, nil
}

// empty reports whether no part of a frame has come.
func (f *frameReader) empty() bool { return f.r == f.w && f.borrowed == nil }

func (f *frameReader) hurry() {
	// An error here is one that the following Read gives as well.
	_ = f.nc.SetReadDeadline(time.Now().Add(f.stall))
}

// release gives back the buffer of the last frame.
func (f *frameReader) release() {
	if f.borrowed != nil {
		putBuffer(f.borrowed)
		f.borrowed = nil
	}
}

// buffers holds the buffers of large requests and of all responses, so that
// an idle connection has none.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

const (
	minBuffer = 4 << 10
	// maxPooled is the largest buffer that is kept; the limits of a server
	// decide what there is.
	maxPooled = 256 << 10
)

// getBuffer gives a buffer of length zero and at least the given capacity.
func getBuffer(capacity int) *[]byte {
	b := buffers.Get().(*[]byte)
	if cap(*b) < capacity {
		*b = make([]byte, 0, max(capacity, minBuffer))
	}
	*b = (*b)[:0]
	return b
}

// putBuffer gives it back.
func putBuffer(b *[]byte) {
	if cap(*b) > maxPooled {
		return
	}
	buffers.Put(b)
}
