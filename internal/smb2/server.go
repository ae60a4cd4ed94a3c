package smb2

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/gss"
)

// Server serves the pipes of its configuration on any number of listeners.
type Server struct {
	cfg Config

	// The connections, listeners and sessions are touched when one of them
	// comes or goes, not by requests.
	mu        sync.Mutex
	closing   bool
	lastFull  time.Time // when a refused connection or open was last logged
	listeners []net.Listener
	conns     map[*conn]struct{}
	byHost    map[string]int
	sessions  map[uint64]*session
	opens     map[dtyp.SID]int // by user
	running   sync.WaitGroup
}

// Serve accepts connections on ln until ctx ends or Shutdown is called, and
// returns nil then; ln is closed. When ctx ends its connections are cut off,
// and Serve waits for their goroutines; after Shutdown that waits.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	if !s.addListener(ln) {
		ln.Close()
		return nil
	}
	var conns sync.WaitGroup
	defer conns.Wait()
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	defer s.dropListener(ln)
	var delay time.Duration
	for {
		nc, err := ln.Accept()
		if err == nil {
			delay = 0
			conns.Go(func() { s.ServeConn(ctx, nc) })
			continue
		}
		if ctx.Err() != nil || s.isClosing() {
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("smb2: accepting connections: %w", err)
		}
		// Out of file descriptors, or a client that was gone again: wait a
		// little, longer each time, and go on serving the others.
		delay = min(max(2*delay, 5*time.Millisecond), time.Second)
		s.cfg.Log.Warn("accepting an SMB connection", "err", err, "retry", delay)
		select {
		case <-ctx.Done():
		case <-time.After(delay):
		}
	}
}

// ServeConn serves one connection, which it closes before it returns, when the
// client has gone or did something that ends a connection, or ctx ends.
func (s *Server) ServeConn(ctx context.Context, nc net.Conn) {
	c := newConn(ctx, s, nc)
	if !s.addConn(c) {
		nc.Close()
		c.cancel()
		return
	}
	defer s.dropConn(c)
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	defer stop()
	defer c.contain("connection")
	if err := c.run(); err != nil {
		s.cfg.Log.LogAttrs(ctx, slog.LevelDebug, "SMB connection ended",
			slog.Any("peer", nc.RemoteAddr()), slog.Any("err", err))
	}
}

// Shutdown closes the listeners, waits until no connection has a call in
// flight, closes each as soon as that is so, and returns when all are gone.
// When ctx ends first it cuts off those that are left and returns its error.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closing = true
	for _, ln := range s.listeners {
		ln.Close()
	}
	s.mu.Unlock()
	wait := time.Millisecond
	for s.closeIdle(false) {
		select {
		case <-ctx.Done():
			s.closeIdle(true)
			s.running.Wait()
			return fmt.Errorf("smb2: waiting for calls in flight: %w", ctx.Err())
		case <-time.After(wait):
			wait = min(2*wait, 50*time.Millisecond)
		}
	}
	s.running.Wait()
	return nil
}

// closeIdle closes the connections without a call in flight, or all of them,
// and reports whether some are left. It takes no lock of a connection while it
// holds that of the server.
func (s *Server) closeIdle(all bool) bool {
	s.mu.Lock()
	conns := slices.Collect(maps.Keys(s.conns))
	s.mu.Unlock()
	left := false
	for _, c := range conns {
		if all {
			c.cancel()
		}
		if all || !c.inFlight() {
			c.nc.Close()
		} else {
			left = true
		}
	}
	return left
}

func (s *Server) isClosing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

func (s *Server) addListener(ln net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	s.listeners = append(s.listeners, ln)
	return true
}

func (s *Server) dropListener(ln net.Listener) {
	ln.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, l := range s.listeners {
		if l == ln {
			s.listeners = append(s.listeners[:i], s.listeners[i+1:]...)
			return
		}
	}
}

// addConn admits a connection within the limits.
func (s *Server) addConn(c *conn) bool {
	l := &s.cfg.Limits
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	if len(s.conns) >= l.Connections || s.byHost[c.host] >= l.ConnectionsPerAddress {
		if s.logFull() {
			s.cfg.Log.Warn("SMB connection limit reached: refusing clients",
				"peer", c.nc.RemoteAddr(), "connections", len(s.conns), "from peer", s.byHost[c.host])
		}
		return false
	}
	s.conns[c] = struct{}{}
	s.byHost[c.host]++
	s.running.Add(1)
	return true
}

// logFull reports whether to log that a limit is reached. Not for each client:
// whoever fills the server up could fill the log up, too. The caller holds mu.
func (s *Server) logFull() bool {
	now := time.Now()
	if now.Sub(s.lastFull) <= time.Minute {
		return false
	}
	s.lastFull = now
	return true
}

// addOpen admits an open of a user within the limits.
func (s *Server) addOpen(user gss.Identity) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opens[user.SID] >= s.cfg.Limits.OpensPerUser {
		if s.logFull() {
			s.cfg.Log.Warn("SMB pipe limit reached: refusing a user", "user", user.String(), "pipes", s.opens[user.SID])
		}
		return false
	}
	s.opens[user.SID]++
	return true
}

func (s *Server) dropOpen(user dtyp.SID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opens[user]--; s.opens[user] == 0 {
		delete(s.opens, user)
	}
}

func (s *Server) dropConn(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	if s.byHost[c.host]--; s.byHost[c.host] == 0 {
		delete(s.byHost, c.host)
	}
	s.running.Done()
}

// newSessionID draws the id of a session: never zero, and not one that is in
// use by a session that is logged on.
func (s *Server) newSessionID() (uint64, error) {
	for {
		var b [8]byte
		if _, err := rand.Read(b[:]); err != nil {
			return 0, fmt.Errorf("smb2: drawing a session id: %w", err)
		}
		id := binary.LittleEndian.Uint64(b[:])
		s.mu.Lock()
		_, taken := s.sessions[id]
		s.mu.Unlock()
		if id != 0 && id != ^uint64(0) && !taken {
			return id, nil
		}
	}
}

func (s *Server) addSession(x *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions[x.id] = x
}

func (s *Server) dropSession(x *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sessions[x.id] == x {
		delete(s.sessions, x.id)
	}
}

func (s *Server) findSession(id uint64) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions[id]
}
