package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/internal/smbclient"
)

// benchServer is a server under load, and what was counted of it.
type benchServer struct {
	cfg                bkrpclient.Config
	dialect, mechanism string

	// secret is what every call is about; the blobs are what the server and the
	// client made of it.
	secret, serverBlob, clientBlob []byte
	// conns belong each to one worker, and to run.close. One that broke is nil.
	conns []*bkrpclient.Client

	pid     int
	cpu     time.Duration
	memory  treeUsage
	elapsed time.Duration
	issued  uint64 // calls of the turns before

	latency    [benchActions]histogram
	calls      atomic.Uint64 // answered rightly
	failed     atomic.Uint64
	reconnects atomic.Uint64

	mu     sync.Mutex
	errors map[string]uint64
}

func newBenchServer(cfg bkrpclient.Config, pid int) *benchServer {
	return &benchServer{cfg: cfg, pid: pid, errors: make(map[string]uint64)}
}

// prepare finds out what the server speaks, makes the connections, and makes each
// call of the mix once, so that a mistake shows before the load.
func (s *benchServer) prepare(ctx context.Context, o *benchOptions) error {
	limited, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	r, err := smbclient.Negotiate(limited, hostPort(s.cfg.Server))
	if err != nil {
		return err
	}
	s.dialect = r.Dialect.String()
	first, err := s.logOn(ctx)
	if err != nil {
		return err
	}
	s.conns = append(make([]*bkrpclient.Client, 0, o.connections), first)
	if err := s.wrapSecret(ctx, o); err != nil {
		return err
	}
	for !o.cold && len(s.conns) < o.connections {
		c, err := bkrpclient.Dial(ctx, s.cfg)
		if err != nil {
			return fmt.Errorf("making connection %d: %w", len(s.conns)+1, err)
		}
		s.conns = append(s.conns, c)
	}
	for a, weight := range o.mix {
		if weight > 0 {
			if err := s.act(ctx, first, benchAction(a)); err != nil {
				return fmt.Errorf("trying %v: %w", benchAction(a), err)
			}
		}
	}
	if o.cold {
		s.close()
	}
	return nil
}

// logOn makes the first connection, and settles by which mechanism all are made:
// a figure is of one of them.
func (s *benchServer) logOn(ctx context.Context) (*bkrpclient.Client, error) {
	both := s.cfg.Credential
	if both.Kerberos == nil {
		s.mechanism = "NTLM"
		return bkrpclient.Dial(ctx, s.cfg)
	}
	s.mechanism = "Kerberos"
	s.cfg.Credential.Password = ""
	c, err := bkrpclient.Dial(ctx, s.cfg)
	if errors.Is(err, bkrpclient.ErrTicket) && both.Password != "" {
		s.mechanism = "NTLM"
		s.cfg.Credential = both
		s.cfg.Credential.Kerberos = nil
		c, err = bkrpclient.Dial(ctx, s.cfg)
	}
	return c, err
}

func (s *benchServer) wrapSecret(ctx context.Context, o *benchOptions) (err error) {
	s.secret = make([]byte, o.size)
	rand.Read(s.secret)
	s.secret[0] |= 1 // some servers refuse a secret of zeros
	if o.mix[benchUnwrap] > 0 {
		if s.serverBlob, err = s.conns[0].Wrap(ctx, s.secret, bkrpclient.WrapOptions{Mode: bkrpclient.ModeServer}); err != nil {
			return fmt.Errorf("wrapping a secret for unwrap: %w", err)
		}
	}
	if o.mix[benchRestore] > 0 {
		if s.clientBlob, err = s.conns[0].Wrap(ctx, s.secret, bkrpclient.WrapOptions{}); err != nil {
			return fmt.Errorf("wrapping a secret for restore: %w", err)
		}
	}
	return nil
}

// errWrongAnswer is an answer that is not the secret.
var errWrongAnswer = errors.New("the answer is not the secret that was wrapped")

// act makes one call.
func (s *benchServer) act(ctx context.Context, c *bkrpclient.Client, a benchAction) error {
	blob := s.serverBlob
	switch a {
	case benchWrap:
		_, err := c.Wrap(ctx, s.secret, bkrpclient.WrapOptions{Mode: bkrpclient.ModeServer})
		return err
	case benchRetrieve:
		_, err := c.RetrieveKey(ctx)
		return err
	case benchRestore:
		blob = s.clientBlob
	}
	got, err := c.Unwrap(ctx, blob)
	if err == nil && !bytes.Equal(got, s.secret) {
		return errWrongAnswer
	}
	return err
}

// warm makes one call on a worker's connection, which is made again if it broke.
func (s *benchServer) warm(ctx context.Context, worker int, a benchAction) error {
	c := s.conns[worker]
	if c == nil {
		var err error
		if c, err = bkrpclient.Dial(ctx, s.cfg); err != nil {
			return connectError{err}
		}
		s.reconnects.Add(1)
		s.conns[worker] = c
	}
	err := s.act(ctx, c, a)
	if err != nil && !errors.As(err, new(*bkrpclient.ServerError)) {
		c.Close()
		s.conns[worker] = nil
	}
	return err
}

// cold makes one call on a connection of its own.
func (s *benchServer) cold(ctx context.Context, a benchAction) error {
	c, err := bkrpclient.Dial(ctx, s.cfg)
	if err != nil {
		return connectError{err}
	}
	err = s.act(ctx, c, a)
	// An error of the log-off says nothing of a call that was answered.
	c.Close()
	return err
}

// connectError is a connection that did not come about.
type connectError struct{ error }

func (e connectError) Unwrap() error { return e.error }

// record counts one call that ended.
func (s *benchServer) record(a benchAction, took time.Duration, err error) {
	if err == nil {
		s.latency[a].add(took)
		s.calls.Add(1)
		return
	}
	s.failed.Add(1)
	kind := errorKind(err)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.errors[kind]; !known && len(s.errors) >= maxErrorKinds {
		kind = "others"
	}
	s.errors[kind]++
}

// maxErrorKinds bounds how many kinds of errors are told apart: the numbers of
// statuses are the server's choice.
const maxErrorKinds = 32

// errorKind is the line under which an error is counted: the server's status, or
// what else went wrong.
func errorKind(err error) string {
	var status bkrp.Status
	switch {
	case errors.As(err, &status):
		return status.String()
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case errors.Is(err, bkrpclient.ErrLogon):
		return "log-on refused"
	case errors.Is(err, bkrpclient.ErrTicket):
		return "no Kerberos ticket"
	case errors.Is(err, bkrpclient.ErrResponse):
		return "answer breaks the protocol"
	case errors.Is(err, errWrongAnswer):
		return "wrong secret"
	case errors.As(err, new(connectError)):
		return "no connection"
	}
	return "connection broke"
}

// close closes what connections there are.
func (s *benchServer) close() {
	var group sync.WaitGroup
	for _, c := range s.conns {
		if c != nil {
			group.Go(func() { c.Close() })
		}
	}
	group.Wait()
	s.conns = nil
}
