package smb2

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/smb2/wire"
)

// errProtocol ends a connection without an answer, where [MS-SMB2] 3.3.5 asks
// for that or an answer would help nobody but an attacker.
var errProtocol = errors.New("smb2: protocol violation")

// authCredits is the most credits of a client before its first logon.
const authCredits = 16

// conn is one connection ([MS-SMB2] 3.3.1.7).
type conn struct {
	srv    *Server
	nc     net.Conn
	host   string
	ctx    context.Context
	cancel context.CancelFunc
	pipes  sync.WaitGroup // the goroutines of PipeFuncs

	// What follows belongs to the goroutine that reads.

	frames frameReader
	// dialect is zero until the negotiation is over.
	dialect  Dialect
	cipher   wire.Cipher
	signing  wire.SigningAlgorithm
	preauth  preauthHash
	offer    offer
	wildcard bool // an SMB1 negotiate was answered with DialectWildcard
	// authed says that there is a session; it is written under mu. Until then
	// received counts octets and authBy is the deadline.
	authed   bool
	received int
	authBy   time.Time
	refused  int // logons
	reply    reply

	// What follows is guarded by mu, as are the sessions, the pipes and the
	// requests that wait.

	mu       sync.Mutex
	closed   bool
	window   window
	sessions []*session
	open     int // pipes whose PipeFunc runs
	lastOpen uint64
	waiting  []*waiter
	asyncID  uint64
	ticker   ticker
	// writeExpiry is the deadline that stands for writes.
	writeExpiry time.Time
}

// offer is what client and server said in NEGOTIATE, for
// FSCTL_VALIDATE_NEGOTIATE_INFO.
type offer struct {
	clientCapabilities uint32
	clientGUID         dtyp.GUID
	clientMode         uint16
	capabilities       uint32
}

func newConn(ctx context.Context, s *Server, nc net.Conn) *conn {
	c := &conn{srv: s, nc: nc, window: newWindow(s.cfg.Limits.Credits)}
	c.ctx, c.cancel = context.WithCancel(ctx)
	c.frames.nc = nc
	c.frames.stall = s.cfg.Limits.StallTimeout
	if host, _, err := net.SplitHostPort(nc.RemoteAddr().String()); err == nil {
		c.host = host
	}
	return c
}

// run reads and works off requests until the connection ends. It returns nil
// when the client has gone, and otherwise why the connection was ended.
func (c *conn) run() error {
	defer c.teardown()
	l := &c.srv.cfg.Limits
	c.authBy = time.Now().Add(l.AuthTimeout)
	if err := c.nc.SetReadDeadline(c.authBy); err != nil {
		return fmt.Errorf("smb2: setting the deadline of the logon: %w", err)
	}
	for {
		if err := c.nextDeadline(); err != nil {
			return fmt.Errorf("smb2: setting the deadline of a frame: %w", err)
		}
		frame, err := c.frames.next(c.mostNow(), !c.authed)
		if err == io.EOF || errors.Is(err, net.ErrClosed) {
			return nil
		}
		if errors.Is(err, os.ErrDeadlineExceeded) && c.authed && c.frames.empty() && c.working() {
			continue // not idle: the client waits for us
		}
		if err != nil {
			return fmt.Errorf("smb2: reading a frame: %w", err)
		}
		if !c.authed {
			c.received += frameHeader + len(frame)
		}
		if len(frame) == 0 {
			continue // a keep-alive
		}
		if err := c.handleFrame(frame); err != nil {
			return err
		}
	}
}

// nextDeadline sets until when the next frame has to begin. A connection whose
// last session has ended is one before its logon again: it gets the time and
// the octets for one more, so that nobody keeps it for nothing.
func (c *conn) nextDeadline() error {
	if !c.authed {
		return nil // authBy stands
	}
	l := &c.srv.cfg.Limits
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !c.loggedOn():
		c.authed, c.received = false, 0
		c.authBy = time.Now().Add(l.AuthTimeout)
		return c.nc.SetReadDeadline(c.authBy)
	case l.IdleTimeout > 0:
		return c.nc.SetReadDeadline(time.Now().Add(l.IdleTimeout))
	}
	return nil
}

// loggedOn reports whether there is a session whose logon has succeeded. The
// caller holds mu.
func (c *conn) loggedOn() bool {
	return slices.ContainsFunc(c.sessions, func(x *session) bool { return x.valid })
}

// endSession ends a session of this connection from the goroutine of another
// one. When mu is held for long, by a write to a client that is gone, the
// connection is closed first.
func (c *conn) endSession(x *session) {
	got := false
	for wait := time.Millisecond; !got && wait < time.Second; wait *= 2 {
		if got = c.mu.TryLock(); !got {
			time.Sleep(wait)
		}
	}
	if !got {
		c.nc.Close()
		c.mu.Lock()
	}
	defer c.mu.Unlock()
	// What waits is answered, in case that the client is there after all; but
	// the one who has come back does not wait for that for the stall time.
	now := time.Now()
	c.writeExpiry = now.Add(c.srv.cfg.Limits.StallTimeout)
	_ = c.nc.SetWriteDeadline(now.Add(time.Second))
	x.end()
	c.writeExpiry = time.Time{}
	if !c.loggedOn() {
		// For a reader that waits already; nextDeadline is for all others.
		_ = c.nc.SetReadDeadline(now.Add(c.srv.cfg.Limits.AuthTimeout))
	}
}

// contain keeps a panic, which is a mistake of this program that one client
// has found, from ending the service for all the others. It is deferred at the
// bottom of the goroutines of a connection, below what releases its locks, and
// its log line is the only use made of the panic.
func (c *conn) contain(where string) {
	if v := recover(); v != nil {
		c.srv.cfg.Log.Error("panic while serving SMB: please report it", "where", where,
			"peer", c.nc.RemoteAddr(), "panic", v, "stack", string(debug.Stack()))
	}
}

// mostNow is the largest frame that is read next, in octets. Without a session
// it is what is left of the data that a client may send until then.
func (c *conn) mostNow() int {
	l := &c.srv.cfg.Limits
	if c.authed {
		return l.frame()
	}
	return min(l.frame(), minFrame, l.AuthBytes-c.received)
}

// authenticated lifts the bounds on a connection without a logon.
func (c *conn) authenticated() error {
	if c.authed {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.authed = true
	return c.nc.SetReadDeadline(time.Time{})
}

// teardown ends everything that the connection owns and waits for it.
func (c *conn) teardown() {
	c.frames.release()
	c.nc.Close() // ends a write that has the lock
	c.mu.Lock()
	c.closed = true
	ended := append([]*session(nil), c.sessions...)
	for _, x := range ended {
		x.end()
	}
	c.waiting = nil
	c.ticker.stop()
	c.mu.Unlock()
	c.cancel()
	for _, x := range ended {
		c.srv.dropSession(x)
	}
	c.ticker.running.Wait()
	c.pipes.Wait()
}

// inFlight reports whether a pipe has something to do or to say, or the
// connection is just being written to.
func (c *conn) inFlight() bool {
	if !c.mu.TryLock() {
		return true
	}
	defer c.mu.Unlock()
	for _, x := range c.sessions {
		for _, p := range x.pipes {
			if p.busy() {
				return true
			}
		}
	}
	return false
}

// working reports whether a PipeFunc works on something.
func (c *conn) working() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, x := range c.sessions {
		for _, p := range x.pipes {
			if p.working() {
				return true
			}
		}
	}
	return false
}

// findSession gives the session with the id; nil if there is none. The caller
// holds mu.
func (c *conn) findSession(id uint64) *session {
	for _, x := range c.sessions {
		if x.id == id {
			return x
		}
	}
	return nil
}

// credits gives the most credits the client may hold. The caller holds mu.
func (c *conn) credits() int {
	if !c.authed {
		return min(authCredits, c.srv.cfg.Limits.Credits)
	}
	return c.srv.cfg.Limits.Credits
}

// write sends a frame, whose first four octets are room for its header. The
// caller holds mu. After an error the connection is of no more use; its reader
// finds that out.
func (c *conn) write(frame []byte) {
	if c.closed {
		return
	}
	n := len(frame) - frameHeader
	frame[0], frame[1], frame[2], frame[3] = 0, byte(n>>16), byte(n>>8), byte(n)
	// Setting a deadline costs as much as a signature, so one serves for half
	// of the stall time.
	stall := c.srv.cfg.Limits.StallTimeout
	if now := time.Now(); c.writeExpiry.Sub(now) < stall/2 {
		c.writeExpiry = now.Add(stall)
		_ = c.nc.SetWriteDeadline(c.writeExpiry)
	}
	if _, err := c.nc.Write(frame); err != nil {
		c.closed = true
		c.nc.Close()
	}
}
