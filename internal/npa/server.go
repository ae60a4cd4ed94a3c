package npa

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Config is what a Server is made of. Dir, Pipes and Handle are required.
type Config struct {
	// Dir is Samba's "ncalrpc dir". The sockets stand in Dir/np, which has to
	// belong to PeerUID and to be closed to everybody else.
	Dir string
	// Pipes are the names of the pipes to take, in lower case.
	Pipes []string
	// Handle serves one open of a pipe; when it returns, the pipe is closed.
	// Its context ends when the server's does, or when Shutdown is tired of
	// waiting.
	Handle func(ctx context.Context, p *Pipe)
	// PeerUID is the user that smbd connects as; 0, which is root.
	PeerUID uint32
	// Limits bound what clients can make the server hold and do.
	Limits Limits
	// Log gets what is worth an operator's attention; nil drops it.
	Log *slog.Logger
}

// Limits bound what clients can make the server hold and do. A zero field takes
// its default.
type Limits struct {
	// Pipes is the most open pipes at a time; 4096. A further one is closed as
	// soon as it is accepted.
	Pipes int
	// PipesPerAddress is the same for one client address; 1024.
	PipesPerAddress int
	// HelloTimeout is how long smbd may take for its hello; 15 s.
	HelloTimeout time.Duration
	// IdleTimeout closes a pipe through which nothing came for so long; 0 is
	// never.
	IdleTimeout time.Duration
	// StallTimeout is how long smbd may take to send the rest of a message, and
	// the client to read an answer; 30 s.
	StallTimeout time.Duration
	// Watch is how often it is looked whether the paths are still ours; 500 ms.
	// When Samba restarts, its own socket answers for so long.
	Watch time.Duration
}

func (l Limits) withDefaults() Limits {
	if l.Pipes <= 0 {
		l.Pipes = 4096
	}
	if l.PipesPerAddress <= 0 {
		l.PipesPerAddress = 1024
	}
	for _, d := range []struct {
		v   *time.Duration
		def time.Duration
	}{{&l.HelloTimeout, 15 * time.Second}, {&l.StallTimeout, 30 * time.Second}, {&l.Watch, 500 * time.Millisecond}} {
		if *d.v <= 0 {
			*d.v = d.def
		}
	}
	return l
}

// Server serves the pipes whose paths it has taken.
type Server struct {
	cfg     Config
	sockets []*socket
	dir     *os.File // holds the lock

	mu       sync.Mutex
	closing  bool
	lastSaid time.Time // when a refused connection was last logged
	unsaid   int       // and how many were since
	open     map[*served]struct{}
	byClient map[string]int
	running  sync.WaitGroup
}

// Listen takes the paths of the pipes from whoever has them. Connections wait
// until Serve is called; without it, Close gives the paths up.
func Listen(cfg Config) (*Server, error) {
	if cfg.Handle == nil || len(cfg.Pipes) == 0 {
		return nil, errors.New("npa: Config.Handle and Config.Pipes are required")
	}
	cfg.Limits = cfg.Limits.withDefaults()
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	np := filepath.Join(cfg.Dir, "np")
	dir, err := claimDirectory(np, cfg.PeerUID)
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, dir: dir, open: make(map[*served]struct{}), byClient: make(map[string]int)}
	for _, pipe := range cfg.Pipes {
		if pipe == "" || pipe != strings.ToLower(pipe) || strings.ContainsAny(pipe, "/.\\\x00") {
			return nil, errors.Join(fmt.Errorf("npa: %q is no name of a pipe", pipe), s.Close())
		}
		sock := newSocket(np, pipe)
		s.sockets = append(s.sockets, sock)
		if _, err := sock.take(); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, nil
}

// Serve accepts connections until ctx ends, or Shutdown or Close is called, and
// returns nil then. It gives the paths up. When ctx ends the pipes are cut off,
// and Serve waits for their functions; after Shutdown that waits.
func (s *Server) Serve(ctx context.Context) error {
	var loops sync.WaitGroup
	for _, sock := range s.sockets {
		loops.Go(func() { s.serveSocket(ctx, sock) })
	}
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	loops.Wait()
	err := s.Close()
	if ctx.Err() != nil {
		s.cut(true)
		s.running.Wait()
	}
	return err
}

// serveSocket accepts on one path, and takes it back when Samba took it.
func (s *Server) serveSocket(ctx context.Context, sock *socket) {
	var loops sync.WaitGroup
	defer loops.Wait()
	if ln := sock.current(); ln != nil {
		loops.Go(func() { s.accept(ctx, sock.pipe, ln) })
	}
	tick := time.NewTicker(s.cfg.Limits.Watch)
	defer tick.Stop()
	failed := false
	for {
		select {
		case <-sock.done:
			return
		case <-tick.C:
		}
		if !sock.lost() {
			continue
		}
		ln, err := sock.take()
		switch {
		case err != nil && !failed:
			s.cfg.Log.ErrorContext(ctx, "the socket of a pipe is not ours any more and cannot be taken back: clients do not reach this server; trying on",
				"path", sock.path, "err", err)
		case ln != nil:
			s.cfg.Log.WarnContext(ctx, "the socket of a pipe was replaced or removed, as Samba does when it starts: took it back", "path", sock.path)
			loops.Go(func() { s.accept(ctx, sock.pipe, ln) })
		}
		failed = err != nil
	}
}

// accept serves the connections of one listener until that is closed.
func (s *Server) accept(ctx context.Context, pipe string, ln *net.UnixListener) {
	var delay time.Duration
	for {
		conn, err := ln.AcceptUnix()
		if err == nil {
			delay = 0
			s.start(ctx, pipe, conn)
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return
		}
		// Out of file descriptors: wait a little, longer each time.
		delay = min(max(2*delay, 5*time.Millisecond), time.Second)
		s.cfg.Log.WarnContext(ctx, "accepting a connection of smbd", "err", err, "retry", delay)
		select {
		case <-ctx.Done():
		case <-time.After(delay):
		}
	}
}

// Close gives the paths up; pipes that are open stay so.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closing = true
	s.mu.Unlock()
	var errs []error
	for _, sock := range s.sockets {
		errs = append(errs, sock.release())
	}
	if err := s.dir.Close(); !errors.Is(err, os.ErrClosed) {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Shutdown gives the paths up, closes each pipe as soon as no call is in flight
// on it, and returns when all are closed. When ctx ends first it cuts off those
// that are left and returns its error.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.Close()
	wait := time.Millisecond
	for s.cut(false) {
		select {
		case <-ctx.Done():
			s.cut(true)
			s.running.Wait()
			return errors.Join(err, fmt.Errorf("npa: waiting for calls in flight: %w", ctx.Err()))
		case <-time.After(wait):
			wait = min(2*wait, 50*time.Millisecond)
		}
	}
	s.running.Wait()
	return err
}
