package dcerpc

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/gss"
	"github.com/seed05845750/bkrp/internal/ndr"
)

var echoInterface = SyntaxID{UUID: dtyp.MustParseGUID("3dde7c30-165d-11d1-ab8f-00805f14db40"), Major: 1}

// echoServer serves an interface whose method 0 returns its stub, 1 faults, 2
// complains of the stub, 3 fails for a reason of its own, and 4 says who
// calls. runs counts the calls that were executed.
func echoServer(runs *atomic.Int32, acceptor gss.Acceptor) *Server {
	return &Server{
		Interfaces: []Interface{{
			UUID: echoInterface.UUID, Major: 1, Opnums: 6,
			Handle: func(_ context.Context, c *Call) ([]byte, error) {
				runs.Add(1)
				switch c.Opnum {
				case 0:
					return bytes.Clone(c.Stub), nil
				case 1:
					return nil, FaultContext
				case 2:
					return nil, fmt.Errorf("parsing: %w", ndr.ErrStub)
				case 3:
					return nil, errors.New("no one's business")
				case 4:
					return fmt.Appendf(nil, "%v %v %+v", c.Identity, c.AuthLevel, c.Encoding), nil
				case 5:
					n := c.State.(*int)
					*n++
					return fmt.Appendf(nil, "%d", *n), nil
				}
				return nil, FaultOpRange
			},
			NewState: func() any { return new(int) },
		}, {
			UUID: dtyp.MustParseGUID("12345778-1234-abcd-ef00-0123456789ab"), MinAuthLevel: LevelNone, Opnums: 1,
			Handle: func(_ context.Context, c *Call) ([]byte, error) {
				return []byte(c.Identity.Name + " " + c.AuthLevel.String()), nil
			},
		}},
		Acceptors: map[AuthType]gss.Acceptor{AuthSPNEGO: acceptor, AuthNTLM: acceptor},
	}
}

// connect serves one connection of s and returns the client's end. ended gives
// what ServeConn returned.
func connect(t testing.TB, s *Server) (conn net.Conn, ended chan error) {
	t.Helper()
	return connectAs(t, s, gss.Identity{Name: "session", SID: alice.SID})
}

// connectAs is connect by whom the transport says it is.
func connectAs(t testing.TB, s *Server, caller gss.Identity) (conn net.Conn, ended chan error) {
	t.Helper()
	conn, far := net.Pipe()
	ended = make(chan error, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		ended <- s.ServeConn(context.Background(), far, Transport{
			PipeName: `\PIPE\protected_storage`, Identity: caller,
		})
	}()
	t.Cleanup(func() { conn.Close(); <-done })
	return conn, ended
}

func bound(t testing.TB, s *Server, cfg ClientConfig) *Client {
	t.Helper()
	conn, _ := connect(t, s)
	if cfg.Interface == (SyntaxID{}) {
		cfg.Interface = echoInterface
	}
	c := NewClient(conn, cfg)
	if err := c.Bind(context.Background()); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCalls(t *testing.T) {
	stubs := map[string][]byte{
		"empty": {}, "short": []byte("abcd"), "one fragment": bytes.Repeat([]byte("secret!!"), 500),
		"1 MiB": bytes.Repeat([]byte("0123456789abcdef"), 1<<16),
	}
	for _, legs := range []int{2, 3, 4, 5} {
		for _, level := range []AuthLevel{LevelPacket, LevelIntegrity, LevelPrivacy} {
			for _, ndr64 := range []bool{false, true} {
				t.Run(fmt.Sprintf("%d legs, %v, NDR64 %v", legs, level, ndr64), func(t *testing.T) {
					var runs atomic.Int32
					s := echoServer(&runs, toy{legs: legs})
					s.Interfaces[0].MinAuthLevel = LevelPacket
					c := bound(t, s, ClientConfig{Initiator: toy{legs: legs}, Level: level, NDR64: ndr64})
					if c.Encoding().NDR64 != ndr64 || !c.security.headerSign {
						t.Errorf("encoding %+v, header signing %v", c.Encoding(), c.security.headerSign)
					}
					for name, stub := range stubs {
						out, err := c.Call(context.Background(), 0, stub)
						if err != nil || !bytes.Equal(out, stub) {
							t.Fatalf("%s: %d octets of %d, %v", name, len(out), len(stub), err)
						}
					}
					who, err := c.Call(context.Background(), 4, nil)
					if want := fmt.Sprintf("%v %v {NDR64:%v BigEndian:false}", alice, level, ndr64); err != nil || string(who) != want {
						t.Errorf("%q, %v, want %q", who, err, want)
					}
				})
			}
		}
	}
}

func TestFaults(t *testing.T) {
	var runs atomic.Int32
	c := bound(t, echoServer(&runs, toy{legs: 3}), ClientConfig{Initiator: toy{legs: 3}})
	for _, tt := range []struct {
		opnum uint16
		want  Fault
	}{{1, FaultContext}, {2, FaultBadStubData}, {3, FaultUnspecified}, {6, FaultOpRange}, {0xffff, FaultOpRange}} {
		if _, err := c.Call(context.Background(), tt.opnum, []byte("x")); !errors.Is(err, tt.want) {
			t.Errorf("opnum %d: %v, want %v", tt.opnum, err, tt.want)
		}
	}
	t.Run("the connection lives on", func(t *testing.T) {
		if out, err := c.Call(context.Background(), 0, []byte("still here..")); err != nil || string(out) != "still here.." {
			t.Errorf("%q, %v", out, err)
		}
	})
	t.Run("state lasts as long as the connection", func(t *testing.T) {
		for want := 1; want <= 2; want++ {
			if out, err := c.Call(context.Background(), 5, nil); err != nil || string(out) != fmt.Sprint(want) {
				t.Errorf("%q, %v, want %d", out, err, want)
			}
		}
	})
}

// less than privacy is refused before the stub is decoded, and the
// connection is kept.
func TestTooLowLevels(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  ClientConfig
	}{
		{"S-3.1.3-05 no authentication", ClientConfig{}},
		{"connect", ClientConfig{Initiator: toy{legs: 2}, Level: LevelConnect}},
		{"A-41 integrity", ClientConfig{Initiator: toy{legs: 2}, Level: LevelIntegrity}},
		{"expired", ClientConfig{Initiator: toy{legs: 2}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var runs atomic.Int32
			mechanism := toy{legs: 2}
			if tt.name == "expired" {
				mechanism.expiry = time.Unix(1, 0)
			}
			c := bound(t, echoServer(&runs, mechanism), tt.cfg)
			for _, stub := range [][]byte{[]byte("x"), make([]byte, 100000)} {
				if _, err := c.Call(context.Background(), 0, stub); !errors.Is(err, FaultAccessDenied) {
					t.Errorf("%d octets: %v, want %v", len(stub), err, FaultAccessDenied)
				}
			}
			if runs.Load() != 0 {
				t.Error("the method was executed")
			}
		})
	}
	t.Run("an interface that says less", func(t *testing.T) {
		lsa := SyntaxID{UUID: dtyp.MustParseGUID("12345778-1234-abcd-ef00-0123456789ab")}
		for want, cfg := range map[string]ClientConfig{
			"session none":  {Interface: lsa},
			"alice connect": {Interface: lsa, Initiator: toy{legs: 2}, Level: LevelConnect},
			"alice privacy": {Interface: lsa, Initiator: toy{legs: 2}},
		} {
			var runs atomic.Int32
			c := bound(t, echoServer(&runs, toy{legs: 2}), cfg)
			if out, err := c.Call(context.Background(), 0, nil); err != nil || string(out) != want {
				t.Errorf("%q, %v, want %q", out, err, want)
			}
		}
	})
}

// unhex reads octets in groups.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// ask writes PDUs and reads the one that comes back, if any does.
func ask(t *testing.T, conn net.Conn, pdus ...[]byte) (header, []byte) {
	t.Helper()
	go func() {
		for _, p := range pdus {
			if _, err := conn.Write(p); err != nil {
				return // the server has ended the connection
			}
		}
	}()
	s := stream{conn: conn, buffers: new(buffers)}
	h, pdu, err := s.read(func(header) int { return maxPDU })
	if err != nil {
		if errors.Is(err, io.EOF) {
			return header{}, nil
		}
		t.Fatal(err)
	}
	return h, bytes.Clone(pdu)
}

func mustFinish(t testing.TB, pdu []byte) []byte {
	t.Helper()
	b, err := finish(pdu, 0)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestLimits(t *testing.T) {
	t.Run("A-54 request above the limit", func(t *testing.T) {
		var runs atomic.Int32
		s := echoServer(&runs, toy{legs: 2})
		s.Limits.MaxRequest = 10000
		c := bound(t, s, ClientConfig{Initiator: toy{legs: 2}})
		for _, n := range []int{10000, 20000, 1 << 20} {
			if _, err := c.Call(context.Background(), 0, make([]byte, n)); !errors.Is(err, FaultNoMemory) {
				t.Errorf("%d octets: %v", n, err)
			}
		}
		if runs.Load() != 0 {
			t.Error("the method was executed")
		}
		if out, err := c.Call(context.Background(), 0, make([]byte, 9000)); err != nil || len(out) != 9000 {
			t.Errorf("%d octets, %v", len(out), err)
		}
	})
	t.Run("response above the client's limit", func(t *testing.T) {
		var runs atomic.Int32
		c := bound(t, echoServer(&runs, toy{legs: 2}), ClientConfig{Initiator: toy{legs: 2}, MaxResponse: 5000})
		if _, err := c.Call(context.Background(), 0, make([]byte, 5001)); !errors.Is(err, ErrProtocol) {
			t.Errorf("Call = %v", err)
		}
	})
	t.Run("small fragments", func(t *testing.T) {
		var runs atomic.Int32
		s := echoServer(&runs, toy{legs: 2})
		c := bound(t, s, ClientConfig{Initiator: toy{legs: 2}, MaxFragment: 1432})
		if c.maxRecv != 1432 || c.maxXmit != 1432 {
			t.Errorf("agreed on %d and %d", c.maxXmit, c.maxRecv)
		}
		if out, err := c.Call(context.Background(), 0, make([]byte, 9004)); err != nil || len(out) != 9004 {
			t.Errorf("%d octets, %v", len(out), err)
		}
	})
}

func TestOrphanedAndCancel(t *testing.T) {
	var runs atomic.Int32
	s := echoServer(&runs, toy{legs: 2})
	s.Interfaces[0].MinAuthLevel = LevelNone
	conn, _ := connect(t, s)
	ask(t, conn, plainBind(t, []SyntaxID{syntaxNDR}))
	plain := func(ptype pduType, id uint32) []byte { return mustFinish(t, appendHeader(nil, ptype, flagWhole, id)) }
	h, pdu := ask(t, conn,
		mustFinish(t, append(requestPDU{}.append(nil, flagFirst, 2), "half of"...)),
		plain(pduOrphaned, 1), // of no call
		plain(pduOrphaned, 2),
		plain(pduCancel, 3),
		mustFinish(t, append(requestPDU{}.append(nil, flagWhole, 3), "whole"...)),
	)
	if h.ptype != pduResponse || h.callID != 3 || string(pdu[callHeaderSize:]) != "whole" {
		t.Errorf("answered by %d: %q", h.ptype, pdu)
	}
}

func TestContextEndsConnection(t *testing.T) {
	var runs atomic.Int32
	near, far := net.Pipe()
	defer near.Close()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- echoServer(&runs, toy{legs: 2}).ServeConn(ctx, far, Transport{}) }()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("ServeConn = %v", err)
	}
	t.Run("of a client", func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		ctx, cancel := context.WithCancel(context.Background())
		go func() {
			if _, err := far.Read(make([]byte, 16)); err == nil {
				cancel()
			}
		}()
		if err := NewClient(near, ClientConfig{Interface: echoInterface}).Bind(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Bind = %v", err)
		}
	})
}
