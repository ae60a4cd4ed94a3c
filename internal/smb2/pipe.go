package smb2

import (
	"context"
	"io"
	"net"
	"slices"
	"sync"

	"github.com/seed05845750/bkrp/internal/gss"
	"github.com/seed05845750/bkrp/internal/smb2/wire"
)

// keptInput is the buffer that a pipe with nothing in it keeps, in octets.
const keptInput = 4 << 10

// Pipe is one open of a named pipe, as its PipeFunc sees it. Each Write is one
// message for the client. What the client writes comes as a stream, without
// the borders of its messages: those of RPC carry their lengths. A Pipe may be
// read by one goroutine and written by one at a time.
type Pipe struct {
	name      string
	id        wire.FileID
	tree      uint32
	session   *session
	identity  gss.Identity
	encrypted bool
	cancel    context.CancelFunc

	// What follows is guarded by session.conn.mu.

	changed sync.Cond
	// in is what the client has written, from inFrom on.
	in     []byte
	inFrom int
	// out are the messages for the client, the first one maybe cut short by
	// a read that did not take all of it.
	out      [][]byte
	outBytes int
	waiters  []*waiter
	byteMode bool
	// closed says that the client has closed the open or is gone; ended, that
	// the server has: what is in out can still be read.
	closed, ended bool
	// starving and stuck say that the PipeFunc waits in Read and Write.
	starving, stuck bool
}

// Name is the name of the pipe, in lower case and without \pipe\.
func (p *Pipe) Name() string { return p.name }

// Identity is who opened the pipe, as of then: where a later logon in the same
// session shows that he has lost a group, the pipe is closed.
func (p *Pipe) Identity() gss.Identity { return p.identity }

// SessionKey is a copy of the key that services above SMB derive theirs from,
// 16 octets: the application key with SMB 3, the session key before ([MS-SMB2]
// 3.3.4.6).
func (p *Pipe) SessionKey() []byte { return slices.Clone(p.session.appKey) }

// Encrypted reports whether SMB encrypts what the pipe carries. It does when it
// encrypted the request that opened the pipe; others are refused then.
func (p *Pipe) Encrypted() bool { return p.encrypted }

// LocalAddr is the server's address.
func (p *Pipe) LocalAddr() net.Addr { return p.session.conn.nc.LocalAddr() }

// RemoteAddr is the client's address.
func (p *Pipe) RemoteAddr() net.Addr { return p.session.conn.nc.RemoteAddr() }

// Read reads from the stream of what the client writes. It waits for at least
// one octet and returns io.EOF when the pipe is closed and empty.
func (p *Pipe) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	c := p.session.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(p.in) == p.inFrom && !p.closed && !p.ended {
		p.starving = true
		p.changed.Wait()
	}
	p.starving = false
	if p.ended || len(p.in) == p.inFrom {
		return 0, io.EOF
	}
	n := copy(b, p.in[p.inFrom:])
	if p.inFrom += n; p.inFrom == len(p.in) {
		p.in, p.inFrom = p.in[:0], 0
		if cap(p.in) > keptInput {
			p.in = nil
		}
	}
	p.changed.Broadcast()
	return n, nil
}

// Write sends b to the client as one message. It waits while the client has
// not read enough of what was written before. After the pipe was closed it
// returns io.ErrClosedPipe. An empty message is none.
func (p *Pipe) Write(b []byte) (int, error) {
	c := p.session.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	for p.outBytes > 0 && p.outBytes+len(b) > c.srv.cfg.Limits.PipeBuffer && !p.closed && !p.ended {
		p.stuck = true
		p.changed.Broadcast()
		p.changed.Wait()
	}
	p.stuck = false
	if p.closed || p.ended {
		return 0, io.ErrClosedPipe
	}
	rest := b
	for len(rest) > 0 && len(p.waiters) > 0 {
		rest = rest[p.answerNext(rest):]
	}
	if len(rest) > 0 {
		p.out = append(p.out, slices.Clone(rest))
		p.outBytes += len(rest)
	}
	return len(b), nil
}

// Close ends the pipe from the server's side: what was written can still be
// read by the client, after that its requests fail.
func (p *Pipe) Close() error {
	c := p.session.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if !p.ended {
		p.ended = true
		p.in, p.inFrom = nil, 0
		p.failWaiters(wire.StatusPipeBroken)
		p.changed.Broadcast()
	}
	return nil
}

// closeLocked is the client's side of Close. The caller holds conn.mu.
func (p *Pipe) closeLocked() {
	p.session.pipes = slices.DeleteFunc(p.session.pipes, func(o *Pipe) bool { return o == p })
	p.closed = true
	p.in, p.inFrom = nil, 0
	p.out, p.outBytes = nil, 0
	p.failWaiters(wire.StatusFileClosed)
	p.changed.Broadcast()
	p.cancel()
}

// failWaiters answers all that wait with an error.
func (p *Pipe) failWaiters(st wire.Status) {
	for len(p.waiters) > 0 {
		w := p.waiters[0]
		p.waiters = p.waiters[1:]
		w.answer(st, nil)
	}
	p.waiters = nil
}

// answerNext answers the first that waits with what it takes of a message, and
// gives how much that was.
func (p *Pipe) answerNext(message []byte) int {
	w := p.waiters[0]
	p.waiters = append(p.waiters[:0], p.waiters[1:]...)
	n, st := p.take(w, message)
	w.answer(st, message[:n])
	return n
}

// take gives how much of a message a request takes and the status it gets
// ([MS-SMB2] 3.3.5.12, 3.3.5.15.10).
func (p *Pipe) take(w *waiter, message []byte) (int, wire.Status) {
	if len(message) <= int(w.most) {
		return len(message), wire.StatusSuccess
	}
	if p.byteMode && w.command == wire.Read {
		return int(w.most), wire.StatusSuccess
	}
	return int(w.most), wire.StatusBufferOverflow
}

// drained takes n octets off the first message for the client.
func (p *Pipe) drained(n int) {
	// The PipeFunc has not woken up yet, but now it may go on.
	p.stuck = false
	p.outBytes -= n
	if p.out[0] = p.out[0][n:]; len(p.out[0]) == 0 {
		p.out[0] = nil
		if p.out = p.out[1:]; len(p.out) == 0 {
			p.out = nil
		}
	}
	p.changed.Broadcast()
}

// deliver hands what the client wrote to the PipeFunc. While the pipe is full
// it keeps the goroutine that reads, which holds the client back; but if the
// PipeFunc in its turn waits for the client to read, the client is at fault.
func (p *Pipe) deliver(data []byte) wire.Status {
	limit := p.session.conn.srv.cfg.Limits.PipeBuffer
	for len(p.in)-p.inFrom >= limit && !p.closed && !p.ended {
		if p.stuck {
			return wire.StatusInsufficientResources
		}
		p.changed.Wait()
	}
	switch {
	case p.closed:
		return wire.StatusFileClosed
	case p.ended:
		return wire.StatusPipeBroken
	}
	if p.inFrom > 0 && len(p.in)+len(data) > cap(p.in) {
		p.in = p.in[:copy(p.in, p.in[p.inFrom:])]
		p.inFrom = 0
	}
	p.in = append(p.in, data...)
	p.changed.Broadcast()
	return wire.StatusSuccess
}

// working reports whether the PipeFunc works on something, and busy whether it
// does that or the client has not read all of the answer.
func (p *Pipe) working() bool {
	return !p.ended && !p.stuck && (!p.starving || len(p.in) > p.inFrom)
}

func (p *Pipe) busy() bool { return p.working() || len(p.out) > 0 }
