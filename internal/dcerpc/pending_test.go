package dcerpc

import (
	"bytes"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/gss"
)

// openServer serves the echo interface to callers without authentication.
func openServer(limits Limits) *Server {
	s := echoServer(new(atomic.Int32), toy{legs: 2})
	s.Interfaces[0].MinAuthLevel = LevelNone
	s.Limits = limits
	return s
}

func fragment(t testing.TB, flags uint8, n int, hint uint32) []byte {
	t.Helper()
	q := requestPDU{allocHint: hint}
	return mustFinish(t, append(q.append(nil, flags, 2), make([]byte, n)...))
}

// send writes PDUs and waits until the server has worked on them: it reads the
// last one, which says nothing, after that.
func send(t testing.TB, conn net.Conn, pdus ...[]byte) {
	t.Helper()
	for _, p := range append(pdus, mustFinish(t, appendHeader(nil, pduCancel, flagWhole, 99))) {
		if _, err := conn.Write(p); err != nil {
			t.Fatal(err)
		}
	}
}

// holds is for tests: what is held, which has to be what all callers hold.
func (p *pending) holds() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	sum := int64(0)
	for _, n := range p.by {
		sum += n
	}
	if sum != p.held {
		return -1
	}
	return sum
}

// What all connections together hold of half sent requests is bounded.
func TestMaxPending(t *testing.T) {
	s := openServer(Limits{MaxRequest: 20000, MaxPending: 20000})
	a, endedA := connect(t, s)
	b, _ := connect(t, s)
	for _, conn := range []net.Conn{a, b} {
		if h, _ := ask(t, conn, plainBind(t, []SyntaxID{syntaxNDR})); h.ptype != pduBindAck {
			t.Fatalf("bind answered by type %d", h.ptype)
		}
	}
	send(t, a, fragment(t, flagFirst, 4000, 20000), fragment(t, 0, 4000, 20000))
	if got := s.pending.holds(); got != 16000 {
		t.Fatalf("%d octets held for 8000 that were sent", got)
	}
	send(t, a, fragment(t, 0, 4000, 20000), fragment(t, 0, 4000, 20000), fragment(t, 0, 3999, 20000))
	if got := s.pending.holds(); got != 20000 {
		t.Fatalf("%d octets held where a request may have 20000", got)
	}
	t.Run("no room", func(t *testing.T) {
		h, pdu := ask(t, b, fragment(t, flagFirst, 4000, 0), fragment(t, flagLast, 4000, 0))
		if f, err := parseFault(h, pdu); h.ptype != pduFault || err != nil || f != FaultServerTooBusy || h.flags&flagDidNotExecute == 0 {
			t.Errorf("answered by type %d, flags %#x: %v, %v", h.ptype, h.flags, f, err)
		}
		if got := s.pending.holds(); got != 20000 {
			t.Errorf("%d octets held after the refusal", got)
		}
	})
	t.Run("a single fragment needs none", func(t *testing.T) {
		if h, _ := ask(t, b, fragment(t, flagWhole, 4000, 0)); h.ptype != pduResponse {
			t.Errorf("answered by type %d", h.ptype)
		}
	})
	t.Run("a request that goes beyond its own limit gives its room back", func(t *testing.T) {
		send(t, a, fragment(t, 0, 2, 0))
		if got := s.pending.holds(); got != 0 {
			t.Errorf("%d octets held", got)
		}
		if h, _ := ask(t, b, fragment(t, flagFirst, 4000, 0), fragment(t, flagLast, 0, 0)); h.ptype != pduResponse {
			t.Errorf("answered by type %d", h.ptype)
		}
	})
	t.Run("so does a connection that ends", func(t *testing.T) {
		h, _ := ask(t, a, fragment(t, flagLast, 1, 0))
		if h.ptype != pduFault {
			t.Fatalf("answered by type %d", h.ptype)
		}
		send(t, a, fragment(t, flagFirst, 4000, 0))
		if s.pending.holds() == 0 {
			t.Fatal("nothing is held")
		}
		a.Close()
		<-endedA
		// The one of b may still be sent the end of its answer.
		send(t, b)
		if got := s.pending.holds(); got != 0 {
			t.Errorf("%d octets held", got)
		}
	})
}

// One caller holds his share, by however many connections, and leaves the others
// theirs.
func TestMaxPendingIsShared(t *testing.T) {
	const share = 20000
	s := openServer(Limits{MaxRequest: share, MaxPending: pendingShare * share})
	mallory := gss.Identity{Name: "mallory", SID: dtyp.MustParseSID("S-1-5-21-1-2-3-1666")}
	begin := func(caller gss.Identity) (conn net.Conn) {
		t.Helper()
		conn, _ = connectAs(t, s, caller)
		if h, _ := ask(t, conn, plainBind(t, []SyntaxID{syntaxNDR})); h.ptype != pduBindAck {
			t.Fatalf("bind answered by type %d", h.ptype)
		}
		send(t, conn, fragment(t, flagFirst, 4000, share))
		return conn
	}
	end := func(conn net.Conn) Fault {
		t.Helper()
		h, pdu := ask(t, conn, fragment(t, flagLast, 1, 0))
		if h.ptype == pduResponse {
			return 0
		}
		f, err := parseFault(h, pdu)
		if h.ptype != pduFault || err != nil {
			t.Fatalf("answered by type %d, %v", h.ptype, err)
		}
		return f
	}
	first := begin(mallory)
	for range 2 * pendingShare {
		begin(mallory)
	}
	if got := s.pending.holds(); got != 16000 {
		t.Errorf("%d octets held for one caller", got)
	}
	if f := end(begin(mallory)); f != FaultServerTooBusy {
		t.Errorf("one more of the same caller: %v", f)
	}
	if f := end(begin(alice)); f != 0 {
		t.Errorf("another caller: %v", f)
	}
	if f := end(first); f != 0 {
		t.Errorf("the request that has its room: %v", f)
	}
	if f := end(begin(mallory)); f != 0 {
		t.Errorf("the same caller afterwards: %v", f)
	}
}

// Who begins a request and does not end it, or does not take its answer, is
// cut off.
func TestCallTime(t *testing.T) {
	for name, last := range map[string]func(t *testing.T, conn net.Conn){
		"request without end": func(*testing.T, net.Conn) {},
		"response not read": func(t *testing.T, conn net.Conn) {
			if _, err := conn.Write(fragment(t, flagLast, 1, 0)); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			// The time is that of a bubble: no haste of this machine is asked for.
			synctest.Test(t, func(t *testing.T) {
				s := openServer(Limits{CallTime: time.Second})
				conn, ended := connect(t, s)
				ask(t, conn, plainBind(t, []SyntaxID{syntaxNDR}))
				start := time.Now()
				if _, err := conn.Write(fragment(t, flagFirst, 4000, 0)); err != nil {
					t.Fatal(err)
				}
				last(t, conn)
				if err := <-ended; !errors.Is(err, ErrProtocol) {
					t.Errorf("ServeConn = %v", err)
				}
				if took := time.Since(start); took != time.Second {
					t.Errorf("cut off after %v, want a second", took)
				}
				if got := s.pending.holds(); got != 0 {
					t.Errorf("%d octets held", got)
				}
			})
		})
	}
}

func TestGrownClears(t *testing.T) {
	old := []byte("secret")
	b := grown(old, 100)
	if string(b) != "secret" || cap(b) != 100 || !bytes.Equal(old, make([]byte, len(old))) {
		t.Errorf("%q of %d, %q left behind", b, cap(b), old)
	}
}
