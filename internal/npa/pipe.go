package npa

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"time"
)

// maxMessage is the longest message that its 16-bit length can tell, in octets.
const maxMessage = 1<<16 - 1

// pipeBuffer is what a Pipe reads at once, in octets. Small calls come in one
// piece, larger ones are read past the buffer, and a Pipe at rest costs little.
const pipeBuffer = 512

// errEmptyMessage is a message that smbd would not send.
var errEmptyMessage = errors.New("npa: message of no octets")

// Pipe is one open of a named pipe. Each Write is one message for the client.
// What the client writes comes as a stream, without the borders of its
// messages: those of RPC carry their lengths. A Pipe may be read by one
// goroutine and written by one at a time; Close may be called by any.
type Pipe struct {
	name  string
	hello Hello
	conn  net.Conn
	in    *bufio.Reader
	rest  int // octets of the message that is being read

	idle, stall time.Duration
	// waiting says that the Pipe waits for the client: no call is in flight. It
	// does so in the middle of a message too, which may never end.
	waiting atomic.Bool
}

func newPipe(name string, hello Hello, conn net.Conn, l Limits) *Pipe {
	return &Pipe{
		name: name, hello: hello, conn: conn, in: bufio.NewReaderSize(conn, pipeBuffer),
		idle: l.IdleTimeout, stall: l.StallTimeout,
	}
}

// Name is the name of the pipe, in lower case and without \pipe\.
func (p *Pipe) Name() string { return p.name }

// LocalAddr is the address that the SMB client connected to, nil if unknown.
func (p *Pipe) LocalAddr() net.Addr { return netAddr(p.hello.Server) }

// RemoteAddr is the SMB client's address, nil if unknown.
func (p *Pipe) RemoteAddr() net.Addr { return netAddr(p.hello.Client) }

// netAddr has no pointer that is nil in an interface that is not.
func netAddr(a netip.AddrPort) net.Addr {
	if !a.IsValid() {
		return nil
	}
	return net.TCPAddrFromAddrPort(a)
}

// Read reads from the stream of what the client writes. It returns io.EOF when
// the pipe was closed between two messages.
func (p *Pipe) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	p.waiting.Store(true)
	defer p.waiting.Store(false)
	if p.rest == 0 {
		if err := p.nextMessage(); err != nil {
			return 0, err
		}
	}
	n, err := p.in.Read(b[:min(len(b), p.rest)])
	if p.rest -= n; errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// nextMessage waits for a message and reads its length.
func (p *Pipe) nextMessage() error {
	if err := p.waitMessage(); err != nil {
		return err
	}
	head, err := p.in.Peek(2)
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("npa: reading the length of a message: %w", err)
	}
	p.rest = int(binary.LittleEndian.Uint16(head))
	if p.rest == 0 {
		return errEmptyMessage
	}
	_, err = p.in.Discard(len(head))
	return err
}

// waitMessage waits for the first octet of a message as long as a Pipe may
// rest, and gives the others less time.
func (p *Pipe) waitMessage() error {
	if p.in.Buffered() > 0 {
		return nil
	}
	var end time.Time
	if p.idle > 0 {
		end = time.Now().Add(p.idle)
	}
	if err := p.conn.SetReadDeadline(end); err != nil {
		return err
	}
	if _, err := p.in.Peek(1); err != nil {
		return err
	}
	return p.conn.SetReadDeadline(time.Now().Add(p.stall))
}

// Write sends b to the client as one message, of at most 65535 octets. An empty
// message is none.
func (p *Pipe) Write(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	if len(b) > maxMessage {
		return 0, fmt.Errorf("npa: message of %d octets, of which %d are allowed", len(b), maxMessage)
	}
	if err := p.conn.SetWriteDeadline(time.Now().Add(p.stall)); err != nil {
		return 0, err
	}
	var head [2]byte
	binary.LittleEndian.PutUint16(head[:], uint16(len(b)))
	parts := net.Buffers{head[:], b}
	n, err := parts.WriteTo(p.conn) // one writev
	return max(0, int(n)-len(head)), err
}

// Close closes the pipe; what was written can still be read by the client.
func (p *Pipe) Close() error { return p.conn.Close() }
