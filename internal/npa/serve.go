package npa

import (
	"context"
	"net"
	"runtime/debug"
	"time"
)

// served is one connection of smbd and what ends it. pipe is nil until the
// hello was read; it is guarded by Server.mu.
type served struct {
	conn   *net.UnixConn
	cancel context.CancelFunc
	pipe   *Pipe
	client string // whom byClient counts it for
}

// start serves a connection in a goroutine of its own, if there is room.
func (s *Server) start(ctx context.Context, pipe string, conn *net.UnixConn) {
	ctx, cancel := context.WithCancel(ctx)
	c := &served{conn: conn, cancel: cancel}
	s.mu.Lock()
	admitted := !s.closing && len(s.open) < s.cfg.Limits.Pipes
	if admitted {
		s.open[c] = struct{}{}
		s.running.Add(1)
	}
	s.mu.Unlock()
	if !admitted {
		s.refuse(ctx, "too many pipes are open: refusing clients", "open", s.cfg.Limits.Pipes)
		cancel()
		conn.Close()
		return
	}
	go func() {
		defer s.running.Done()
		defer s.drop(c)
		defer s.contain()
		stop := context.AfterFunc(ctx, func() { conn.Close() })
		defer stop()
		if p := s.greet(ctx, c, pipe); p != nil {
			s.cfg.Handle(ctx, p)
		}
	}()
}

// greet is everything up to the first message: who the peer is, hello, reply.
// It gives nil for a connection that is refused.
func (s *Server) greet(ctx context.Context, c *served, pipe string) *Pipe {
	uid, err := peerUID(c.conn)
	if err == nil && uid != s.cfg.PeerUID {
		s.refuse(ctx, "refused a local program that is not smbd", "pipe", pipe, "uid", uid)
		return nil
	}
	var hello Hello
	if err == nil {
		if err = c.conn.SetDeadline(time.Now().Add(s.cfg.Limits.HelloTimeout)); err == nil {
			hello, err = readHello(c.conn)
		}
	}
	if err != nil {
		s.refuse(ctx, "refused a connection of smbd", "pipe", pipe, "err", err)
		return nil
	}
	p := newPipe(pipe, hello, c.conn, s.cfg.Limits)
	if !s.admit(c, p) {
		s.refuse(ctx, "too many pipes are open from one client: refusing more", "client", p.RemoteAddr(), "open", s.cfg.Limits.PipesPerAddress)
		return nil
	}
	if _, err := c.conn.Write(appendReply(make([]byte, 0, 36), hello.Level)); err != nil {
		return nil // smbd has gone
	}
	if err := c.conn.SetDeadline(time.Time{}); err != nil {
		return nil
	}
	return p
}

// admit counts a pipe for its client, within the limit.
func (s *Server) admit(c *served, p *Pipe) bool {
	client := p.hello.Client.Addr().String()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byClient[client] >= s.cfg.Limits.PipesPerAddress {
		return false
	}
	s.byClient[client]++
	c.client, c.pipe = client, p
	return true
}

func (s *Server) drop(c *served) {
	c.conn.Close()
	c.cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, c)
	if c.pipe != nil {
		if s.byClient[c.client]--; s.byClient[c.client] == 0 {
			delete(s.byClient, c.client)
		}
	}
}

// contain keeps a panic, which is a mistake of this program that one client has
// found, from ending the service for all the others.
func (s *Server) contain() {
	if v := recover(); v != nil {
		s.cfg.Log.Error("panic while serving a pipe of smbd: please report it", "panic", v, "stack", string(debug.Stack()))
	}
}

// refuse logs a refused connection, but not each: whoever can make smbd connect
// could fill the log.
func (s *Server) refuse(ctx context.Context, msg string, args ...any) {
	s.mu.Lock()
	if s.closing || time.Since(s.lastSaid) < time.Minute {
		s.unsaid++
		s.mu.Unlock()
		return
	}
	unsaid := s.unsaid
	s.lastSaid, s.unsaid = time.Now(), 0
	s.mu.Unlock()
	s.cfg.Log.WarnContext(ctx, msg, append(args, "refused since the last line", unsaid)...)
}

// cut closes the pipes on which no call is in flight, or all of them, and
// reports whether some are left.
func (s *Server) cut(all bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	left := false
	for c := range s.open {
		switch {
		case all:
			c.cancel()
			c.conn.Close()
		case c.pipe == nil || c.pipe.waiting.Load():
			c.conn.Close()
		default:
			left = true
		}
	}
	return left
}
