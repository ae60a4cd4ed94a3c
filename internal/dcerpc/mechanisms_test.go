package dcerpc

import (
	"bytes"
	"context"
	"encoding/asn1"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/seed05845750/bkrp/internal/gss"
	"github.com/seed05845750/bkrp/internal/gss/ntlm"
	"github.com/seed05845750/bkrp/internal/gss/spnego"
)

// ntlmEnds are both ends of NTLM for alice, bare and negotiated.
func ntlmEnds(t testing.TB, password string) (map[AuthType]gss.Acceptor, map[AuthType]gss.Initiator) {
	t.Helper()
	account := ntlm.LocalAccount{Hash: ntlm.HashPassword("Passw0rd.2"), SID: alice.SID, Name: "alice"}
	acceptor := ntlm.NewAcceptor(ntlm.Config{
		Source: ntlm.LocalSource(func(_ context.Context, user string) (ntlm.LocalAccount, error) {
			if strings.EqualFold(user, "alice") {
				return account, nil
			}
			return ntlm.LocalAccount{}, gss.ErrLogon
		}, "BKRP"),
		NetBIOSDomain: "BKRP", DNSDomain: "bkrp.test", NetBIOSComputer: "DC1", DNSComputer: "dc1.bkrp.test",
	})
	negotiator, err := spnego.NewAcceptor(spnego.Mechanism{OIDs: []asn1.ObjectIdentifier{spnego.NTLM()}, Acceptor: acceptor})
	if err != nil {
		t.Fatal(err)
	}
	initiator := ntlm.NewInitiator(ntlm.Credential{Domain: "BKRP", User: "alice", Hash: ntlm.HashPassword(password)})
	return map[AuthType]gss.Acceptor{AuthNTLM: acceptor, AuthSPNEGO: negotiator},
		map[AuthType]gss.Initiator{AuthNTLM: initiator, AuthSPNEGO: spnego.NewInitiator(
			spnego.InitiatorMechanism{OIDs: []asn1.ObjectIdentifier{spnego.NTLM()}, Initiator: initiator})}
}

func ntlmServer(t testing.TB, password string) (*Server, map[AuthType]gss.Initiator) {
	t.Helper()
	var runs atomic.Int32
	s := echoServer(&runs, nil)
	var initiators map[AuthType]gss.Initiator
	s.Acceptors, initiators = ntlmEnds(t, password)
	return s, initiators
}

func TestNTLM(t *testing.T) {
	for authType, name := range map[AuthType]string{AuthNTLM: "A-42 NTLM, by auth3", AuthSPNEGO: "W-2.1-09 SPNEGO, by alter_context"} {
		t.Run(name, func(t *testing.T) {
			s, initiators := ntlmServer(t, "Passw0rd.2")
			c := bound(t, s, ClientConfig{Initiator: initiators[authType], AuthType: authType, NDR64: true})
			for _, n := range []int{0, 200, 100000} {
				stub := bytes.Repeat([]byte("s"), n)
				if out, err := c.Call(context.Background(), 0, stub); err != nil || !bytes.Equal(out, stub) {
					t.Fatalf("%d octets: %d, %v", n, len(out), err)
				}
			}
			if _, err := c.Call(context.Background(), 9, nil); err != FaultOpRange {
				t.Errorf("opnum 9: %v", err)
			}
			who, err := c.Call(context.Background(), 4, nil)
			if err != nil || !strings.Contains(string(who), `BKRP\alice (`+alice.SID.String()+`) privacy`) {
				t.Errorf("%q, %v", who, err)
			}
		})
		t.Run(name+", wrong password", func(t *testing.T) {
			s, initiators := ntlmServer(t, "wrong")
			conn, ended := connect(t, s)
			c := NewClient(conn, ClientConfig{Interface: echoInterface, Initiator: initiators[authType], AuthType: authType})
			err := c.Bind(context.Background())
			if err == nil {
				_, err = c.Call(context.Background(), 0, nil)
			}
			if f, ok := asFault(err); !ok || f != FaultAccessDenied {
				t.Errorf("%v, want %v", err, FaultAccessDenied)
			}
			if err := <-ended; err == nil {
				t.Error("the connection is kept")
			}
		})
	}
}

// NTLM signs the whole PDU without header signing too, at either end and
// inside of SPNEGO; other mechanisms do not, whatever the type is called.
func TestWholePDU(t *testing.T) {
	for _, authType := range []AuthType{AuthNTLM, AuthSPNEGO} {
		for _, level := range []AuthLevel{LevelIntegrity, LevelPrivacy} {
			s, initiators := ntlmServer(t, "Passw0rd.2")
			s.Interfaces[0].MinAuthLevel = LevelIntegrity
			c := bound(t, s, ClientConfig{Initiator: initiators[authType], AuthType: authType, Level: level})
			c.security.headerSign = false
			if !c.security.wholePDU() {
				t.Errorf("type %d: signatures of the stub alone", authType)
			}
			if out, err := c.Call(t.Context(), 0, []byte("stub")); err != nil || string(out) != "stub" {
				t.Errorf("type %d, %v: %q, %v", authType, level, out, err)
			}
		}
	}
	for _, headerSign := range []bool{false, true} {
		s := security{secTrailer: secTrailer{authType: AuthNTLM}, headerSign: headerSign, context: &toyContext{}}
		if s.wholePDU() != headerSign {
			t.Errorf("another mechanism, header signing %v: whole PDU %v", headerSign, s.wholePDU())
		}
	}
}

// An authenticated connection that waits holds few KiB.
func TestIdleMemory(t *testing.T) {
	s, initiators := ntlmServer(t, "Passw0rd.2")
	const n = 200
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc + m.StackInuse
	}
	clients := make([]*Client, n)
	conns := make([]net.Conn, n)
	for i := range conns {
		conns[i], _ = connect(t, s)
	}
	before := heap()
	for i := range clients {
		clients[i] = NewClient(conns[i], ClientConfig{Interface: echoInterface, Initiator: initiators[AuthSPNEGO]})
		if err := clients[i].Bind(context.Background()); err != nil {
			t.Fatal(err)
		}
		if _, err := clients[i].Call(context.Background(), 0, make([]byte, 3000)); err != nil {
			t.Fatal(err)
		}
		clients[i].buffers.pool.Get() // the client's own memory is not looked at
	}
	each := int64(heap()-before) / n
	t.Logf("%d octets for both ends of a connection", each)
	if each > 24<<10 {
		t.Errorf("%d octets for both ends of a connection", each)
	}
	runtime.KeepAlive(clients)
}

// BenchmarkNTLMCall is one warm sealed call, both ends of it.
func BenchmarkNTLMCall(b *testing.B) {
	s, initiators := ntlmServer(b, "Passw0rd.2")
	c := bound(b, s, ClientConfig{Initiator: initiators[AuthSPNEGO]})
	stub := make([]byte, 200)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Call(context.Background(), 0, stub); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkNTLMConnection is a whole connection: bind, logon, one call, both
// ends of it.
func BenchmarkNTLMConnection(b *testing.B) {
	s, initiators := ntlmServer(b, "Passw0rd.2")
	b.ReportAllocs()
	for b.Loop() {
		near, far := net.Pipe()
		ended := make(chan error, 1)
		go func() { ended <- s.ServeConn(context.Background(), far, Transport{PipeName: "p"}) }()
		c := NewClient(near, ClientConfig{Interface: echoInterface, Initiator: initiators[AuthSPNEGO]})
		if err := c.Bind(context.Background()); err != nil {
			b.Fatal(err)
		}
		if _, err := c.Call(context.Background(), 0, make([]byte, 200)); err != nil {
			b.Fatal(err)
		}
		c.Close()
		<-ended
	}
}
