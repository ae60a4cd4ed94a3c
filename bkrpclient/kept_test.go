package bkrpclient_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/bkrpserver"
	"github.com/seed05845750/bkrp/internal/backuprkey"
	"github.com/seed05845750/bkrp/internal/dcerpc"
	"github.com/seed05845750/bkrp/internal/dclocator/locatortest"
	"github.com/seed05845750/bkrp/internal/ndr"
)

// TestKeptConnections: one logon serves many calls, and a connection that the
// server has ended is replaced without a word.
func TestKeptConnections(t *testing.T) {
	s := startServer(t, bkrpserver.Config{})
	relay := startRelay(t, s.addr)
	d := startDomain(t, &dcAt{DC: locatortest.DC{Name: "dc1"}, addr: relay.addr})
	c := d.open(t)
	for range 3 {
		if _, err := c.RetrieveKey(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := relay.cut(); n != 1 {
		t.Errorf("%d connections for three calls", n)
	}
	var trace bkrpclient.Trace
	if _, err := c.RetrieveKey(bkrpclient.WithTrace(t.Context(), &trace)); err != nil {
		t.Errorf("after the connection was ended: %v", err)
	}
	if len(trace) != 3 || trace[0].Err == nil || trace[1].Doing != "connect" || trace[2].Err != nil {
		t.Errorf("%v", trace)
	}
	t.Run("idle", func(t *testing.T) {
		relay.cut()
		cfg := d.config()
		cfg.IdleTime = time.Millisecond
		c := openDomain(t, cfg)
		if _, err := c.RetrieveKey(t.Context()); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(hangTime); relay.open() != 0; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("an idle connection is kept")
			}
		}
	})
	t.Run("closed", func(t *testing.T) {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if _, err := c.RetrieveKey(t.Context()); !errors.Is(err, bkrpclient.ErrClosed) {
			t.Error(err)
		}
		if _, err := c.Wrap(t.Context(), []byte("secret"), bkrpclient.WrapOptions{}); !errors.Is(err, bkrpclient.ErrClosed) {
			t.Error(err)
		}
	})
}

// TestKeptLogonExpires: on a connection whose logon has expired servers answer calls
// by a fault. That is no failure of the server, nor is it for ever.
func TestKeptLogonExpires(t *testing.T) {
	cert := certificate(t)
	var mu sync.Mutex
	used := make(map[*dcerpc.Transport]int)
	addr := startFakeCalls(t, func(c *dcerpc.Call) ([]byte, error) {
		mu.Lock()
		defer mu.Unlock()
		if used[c.Transport]++; used[c.Transport] > 1 {
			return nil, dcerpc.FaultAccessDenied
		}
		return backuprkey.Response{Data: cert}.Append(nil, c.ResponseEncoding()), nil
	})
	d := startDomain(t, &dcAt{DC: locatortest.DC{Name: "dc1"}, addr: addr})
	c := d.open(t)
	for range 3 {
		if _, err := c.RetrieveKey(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(used) != 3 {
		t.Errorf("%d connections, want one for each call", len(used))
	}
}

// TestAllGone: where one of the connections that were kept is gone, the others are
// not tried: the server is asked once more, and not once for each of them.
func TestAllGone(t *testing.T) {
	asked, answer := make(chan struct{}), make(chan struct{})
	d := fakes(t, func(q backuprkey.Request, enc ndr.Encoding) ([]byte, error) {
		asked <- struct{}{}
		<-answer
		return good([]byte("octets"), 0)(q, enc)
	})
	relay := startRelay(t, d.addresses["dc1."+dnsDomain])
	d.addresses["dc1."+dnsDomain] = relay.addr
	c := d.open(t)
	var running sync.WaitGroup
	for range bkrpclient.DefaultConnections {
		running.Go(func() {
			if _, err := c.BackuprKey(t.Context(), bkrp.ActionBackup, []byte{1}); err != nil {
				t.Error(err)
			}
		})
	}
	for range bkrpclient.DefaultConnections {
		<-asked
	}
	close(answer)
	running.Wait()
	if n := relay.cut(); n != bkrpclient.DefaultConnections {
		t.Fatalf("%d connections", n)
	}
	go func() { <-asked }()
	var trace bkrpclient.Trace
	if _, err := c.BackuprKey(bkrpclient.WithTrace(t.Context(), &trace), bkrp.ActionBackup, []byte{1}); err != nil {
		t.Error(err)
	}
	if len(trace) != 3 || trace[0].Err == nil || trace[1].Doing != "connect" || trace[2].Err != nil {
		t.Errorf("%v", trace)
	}
}
