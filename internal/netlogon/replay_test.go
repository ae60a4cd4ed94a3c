package netlogon

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/seed05845750/bkrp/internal/dcerpc"
)

// wiretap stands between a Client and a domain controller, passes on what they
// say, and keeps the sealed answers. From replay on it answers the first sealed
// request of a connection by the first of them, and holds others back.
type wiretap struct {
	listener net.Listener
	serving  sync.WaitGroup

	mu      sync.Mutex
	conns   []net.Conn
	answers [][]byte
	replay  bool
	fooled  int           // requests that were answered so
	holds   chan struct{} // gets one for each request that is held back
	end     chan struct{}
}

func newWiretap(t *testing.T, address string) *wiretap {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wiretap{listener: l, holds: make(chan struct{}, maxChannels), end: make(chan struct{})}
	w.serving.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", address)
			if err != nil {
				client.Close()
				return
			}
			w.mu.Lock()
			w.conns = append(w.conns, client, server)
			w.mu.Unlock()
			w.serving.Go(func() { w.pass(client, server) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		close(w.end)
		w.mu.Lock()
		for _, c := range w.conns {
			c.Close()
		}
		w.mu.Unlock()
		w.serving.Wait()
	})
	return w
}

// pass passes on request and answer by turns.
func (w *wiretap) pass(client, server net.Conn) {
	defer client.Close()
	defer server.Close()
	for seen := 0; ; {
		request, err := readPDU(client)
		if err != nil {
			return
		}
		if isSealed(request) {
			seen++
		}
		w.mu.Lock()
		var answer []byte
		hold := w.replay && seen > 1
		if w.replay && seen == 1 {
			answer = w.answers[0]
			w.fooled++
		}
		w.mu.Unlock()
		if hold {
			w.holds <- struct{}{}
			<-w.end
			return
		}
		if answer == nil {
			if _, err = server.Write(request); err != nil {
				return
			}
			if answer, err = readPDU(server); err != nil {
				return
			}
			if isSealed(answer) {
				w.mu.Lock()
				w.answers = append(w.answers, answer)
				w.mu.Unlock()
			}
		}
		if _, err := client.Write(answer); err != nil {
			return
		}
	}
}

func readPDU(r io.Reader) ([]byte, error) {
	head := make([]byte, 16)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	pdu := append(head, make([]byte, int(binary.LittleEndian.Uint16(head[8:]))-len(head))...)
	_, err := io.ReadFull(r, pdu[len(head):])
	return pdu, err
}

// isSealed tells whether a PDU is a request or response with a signature of
// Netlogon's.
func isSealed(pdu []byte) bool {
	signature := int(binary.LittleEndian.Uint16(pdu[10:]))
	return (pdu[2] == 0 || pdu[2] == 2) && signature > 0 && pdu[len(pdu)-signature-8] == byte(dcerpc.AuthNetlogon)
}

// A sealed answer says nothing of the request that it was for, and numbers begin
// anew with each connection: who replays the domain controller's yes to one logon
// must not have it taken for that to another, of a user who is gone since.
func TestReplayedVerdict(t *testing.T) {
	dc := newFakeDC(t)
	tap := newWiretap(t, dc.address)
	c, log := newTestClient(t, dc, func(cfg *Config) { cfg.Server = tap.listener.Addr().String() })
	if _, err := c.LogOn(t.Context(), aliceLogon()); err != nil {
		t.Fatal(err)
	}
	dc.set(func() { dc.verdict = statusLogonFailure })
	tap.mu.Lock()
	tap.replay = true
	tap.mu.Unlock()
	// While one logon hangs in the channel that there is, the next one takes
	// another.
	hung := make(chan error, 1)
	go func() {
		_, err := c.LogOn(context.Background(), aliceLogon())
		hung <- err
	}()
	<-tap.holds
	if a, err := c.LogOn(t.Context(), aliceLogon()); a != nil || err == nil {
		t.Errorf("a replayed verdict lets in %v\n%s", a, log)
	}
	if tap.fooled == 0 {
		t.Error("nothing was replayed")
	}
	c.Close()
	if err := <-hung; err == nil {
		t.Error("the logon that hung is let in")
	}
}
