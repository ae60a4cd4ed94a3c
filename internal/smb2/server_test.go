package smb2

import (
	"context"
	"encoding/asn1"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/gss"
	"github.com/seed05845750/bkrp/internal/gss/ntlm"
	"github.com/seed05845750/bkrp/internal/gss/spnego"
)

const (
	testUser     = "alice"
	testPassword = "Passw0rd.2"
	testDomain   = "BKRP"
)

var (
	aliceSID = dtyp.MustParseSID("S-1-5-21-1-2-3-1101")
	bobSID   = dtyp.MustParseSID("S-1-5-21-1-2-3-1102")
)

// testAcceptor knows alice and bob, who have the same password.
func testAcceptor(t testing.TB) *spnego.Acceptor {
	lookup := func(_ context.Context, user string) (ntlm.LocalAccount, error) {
		sids := map[string]dtyp.SID{"alice": aliceSID, "bob": bobSID}
		sid, ok := sids[strings.ToLower(user)]
		if !ok {
			return ntlm.LocalAccount{}, gss.ErrLogon
		}
		return ntlm.LocalAccount{Hash: ntlm.HashPassword(testPassword), SID: sid, Name: user}, nil
	}
	mech := ntlm.NewAcceptor(ntlm.Config{
		Source:          ntlm.LocalSource(lookup, testDomain, "bkrp.example"),
		NetBIOSDomain:   testDomain,
		DNSDomain:       "bkrp.example",
		NetBIOSComputer: "DC1",
		DNSComputer:     "dc1.bkrp.example",
	})
	a, err := spnego.NewAcceptor(spnego.Mechanism{OIDs: []asn1.ObjectIdentifier{spnego.NTLM()}, Acceptor: mech})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// echoPipe answers each message, which begins with its length in four octets,
// with itself.
func echoPipe(_ context.Context, p *Pipe) {
	for {
		m, err := readMessage(p)
		if err != nil {
			return
		}
		if _, err := p.Write(m); err != nil {
			return
		}
	}
}

func readMessage(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint32(head[:])
	if n < 4 || n > 1<<20 {
		return nil, io.ErrUnexpectedEOF
	}
	m := make([]byte, n)
	copy(m, head[:])
	_, err := io.ReadFull(r, m[4:])
	return m, err
}

// message makes a message for echoPipe, of the given size.
func message(size int) []byte {
	m := make([]byte, size)
	binary.LittleEndian.PutUint32(m, uint32(size))
	for i := 4; i < size; i++ {
		m[i] = byte(i * 7)
	}
	return m
}

// startServer runs a server on a loopback port until the test ends, with
// echoPipe as "echo" besides the pipes of cfg. Nothing of it is left then.
func startServer(t testing.TB, cfg Config) (*Server, string) {
	t.Helper()
	s := newTestServer(t, cfg)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Error("Serve:", err)
			}
		case <-time.After(hangTime):
			t.Error("Serve did not end")
		}
		nothingLeft(t, s)
	})
	return s, ln.Addr().String()
}

// newTestServer makes the server of startServer and of inBubble.
func newTestServer(t testing.TB, cfg Config) *Server {
	t.Helper()
	a := testAcceptor(t)
	if cfg.Acceptor == nil {
		cfg.Acceptor = a
		cfg.NegotiateToken = a.Hint()
	}
	if cfg.Pipes == nil {
		cfg.Pipes = map[string]PipeFunc{}
	}
	cfg.Pipes["Echo"] = echoPipe
	s, err := NewServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func nothingLeft(t testing.TB, s *Server) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.conns)+len(s.sessions)+len(s.byHost)+len(s.opens) != 0 {
		t.Errorf("left behind: %d connections, %d sessions, %d hosts, opens of %d users",
			len(s.conns), len(s.sessions), len(s.byHost), len(s.opens))
	}
}

// inBubble is a test in which time goes on only while the server and its clients
// wait for each other (testing/synctest): a limit of the server ends when it is
// due, and never because the machine is busy. Each client that connect makes is at
// the end of a pipe without a buffer: it has to read what it is sent before it
// writes on.
func inBubble(t *testing.T, cfg Config, f func(t *testing.T, s *Server, connect func() *client)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t, cfg)
		t.Cleanup(func() { nothingLeft(t, s) })
		f(t, s, func() *client {
			near, far := net.Pipe()
			served := make(chan struct{})
			go func() {
				defer close(served)
				s.ServeConn(context.Background(), far)
			}()
			t.Cleanup(func() {
				near.Close()
				<-served
			})
			return &client{t: t, nc: near}
		})
	})
}
