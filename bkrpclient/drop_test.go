package bkrpclient_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/bkrpserver"
)

// cut is a proxy that passes a number of the server's frames on, and then
// closes the connection, or is silent until the client closes it.
type cut struct {
	l       net.Listener
	target  string
	after   int
	silent  bool
	passed  int // of the last connection
	running sync.WaitGroup
}

func startCut(t *testing.T, target string, after int, silent bool) *cut {
	t.Helper()
	p := &cut{l: listen(t), target: target, after: after, silent: silent}
	p.running.Go(func() {
		client, err := p.l.Accept()
		if err != nil {
			return
		}
		defer client.Close()
		server, err := net.Dial("tcp", target)
		if err != nil {
			return
		}
		defer server.Close()
		var up sync.WaitGroup
		up.Go(func() {
			io.Copy(server, client)
			server.Close()
			client.Close()
		})
		p.down(client, server)
		if !p.silent {
			client.Close()
		}
		up.Wait()
	})
	return p
}

func (p *cut) down(client, server net.Conn) {
	for p.passed < p.after {
		var head [4]byte
		if _, err := io.ReadFull(server, head[:]); err != nil {
			return
		}
		frame := make([]byte, 4+binary.BigEndian.Uint32(head[:]))
		copy(frame, head[:])
		if _, err := io.ReadFull(server, frame[4:]); err != nil {
			return
		}
		if _, err := client.Write(frame); err != nil {
			return
		}
		p.passed++
	}
}

// stop ends the proxy and waits for it.
func (p *cut) stop() { p.l.Close(); p.running.Wait() }

// useAll does all that a client can do, and closes it.
func useAll(ctx context.Context, cfg bkrpclient.Config) error {
	c, err := bkrpclient.Dial(ctx, cfg)
	if err != nil {
		return err
	}
	defer c.Close()
	secret := []byte("a secret that has to come back")
	for _, mode := range []bkrpclient.Mode{bkrpclient.ModeServer, bkrpclient.ModeClient} {
		blob, err := c.Wrap(ctx, secret, bkrpclient.WrapOptions{Mode: mode})
		if err != nil {
			// The connection may be broken; that must not make this hang.
			_, again := c.RetrieveKey(ctx)
			return errors.Join(err, again)
		}
		got, err := c.Unwrap(ctx, blob)
		if err != nil {
			return err
		}
		if !bytes.Equal(got, secret) {
			return errors.New("another secret")
		}
	}
	return nil
}

// inHangTime runs f, and fails the test at once if it does not return.
func inHangTime(t *testing.T, f func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-time.After(hangTime):
		buf := make([]byte, 1<<20)
		t.Fatalf("hangs:\n%s", buf[:runtime.Stack(buf, true)])
		return nil
	}
}

// TestConnectionDropped cuts the connection after each of the server's frames.
func TestConnectionDropped(t *testing.T) {
	s := startServer(t, bkrpserver.Config{})
	before := runtime.NumGoroutine()
	whole := startCut(t, s.addr, 1<<30, false)
	if err := useAll(t.Context(), configFor(whole.l.Addr().String())); err != nil {
		t.Fatal(err)
	}
	whole.stop()
	if whole.passed < 20 {
		t.Fatalf("%d frames of the server make no test", whole.passed)
	}
	// The last frames answer what Close sends, whose failure is no error.
	for after := range whole.passed - 2 {
		p := startCut(t, s.addr, after, false)
		err := inHangTime(t, func() error { return useAll(context.Background(), configFor(p.l.Addr().String())) })
		p.stop()
		if err == nil {
			t.Errorf("cut after %d of %d frames: no error", after, whole.passed)
		}
		if errors.Is(err, bkrpclient.ErrLogon) {
			t.Errorf("cut after %d frames: %v", after, err)
		}
	}
	noGoroutineLeft(t, before)
}

// TestServerSilent has the server fall silent after each of its frames: the
// context ends the call.
func TestServerSilent(t *testing.T) {
	s := startServer(t, bkrpserver.Config{})
	before := runtime.NumGoroutine()
	var running sync.WaitGroup
	for after := range 20 {
		running.Go(func() {
			p := startCut(t, s.addr, after, true)
			defer p.stop()
			// Long enough to get to where the silence begins, most of the time;
			// wherever it ends, the error is the context's.
			ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
			defer cancel()
			if err := useAll(ctx, configFor(p.l.Addr().String())); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("silent after %d frames: %v", after, err)
			}
		})
	}
	if err := inHangTime(t, func() error { running.Wait(); return nil }); err != nil {
		t.Error(err)
	}
	noGoroutineLeft(t, before)
}

// TestTimeout: a call whose context has no deadline ends by Config.Timeout.
func TestTimeout(t *testing.T) {
	s := startServer(t, bkrpserver.Config{})
	p := startCut(t, s.addr, 0, true)
	defer p.stop()
	cfg := configFor(p.l.Addr().String())
	cfg.Timeout = 100 * time.Millisecond
	err := inHangTime(t, func() error { return useAll(context.Background(), cfg) })
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func noGoroutineLeft(t *testing.T, before int) {
	t.Helper()
	for end := time.Now().Add(hangTime); runtime.NumGoroutine() > before; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		}
	}
}
