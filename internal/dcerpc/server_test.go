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
	conn, far := net.Pipe()
	ended = make(chan error, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		ended <- s.ServeConn(context.Background(), far, Transport{
			PipeName: `\PIPE\protected_storage`, Identity: gss.Identity{Name: "session", SID: alice.SID},
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

func TestRefusedBinds(t *testing.T) {
	for _, tt := range []struct {
		name     string
		acceptor toy
		cfg      ClientConfig
		want     string
	}{
		{"W-2.1-07 unknown interface", toy{legs: 2}, ClientConfig{Interface: SyntaxID{UUID: dtyp.GUID{1}, Major: 1}}, "abstract syntax"},
		{"G-1.7-01 version 2.0", toy{legs: 2}, ClientConfig{Interface: SyntaxID{UUID: echoInterface.UUID, Major: 2}}, "abstract syntax"},
		{"authentication type", toy{legs: 2}, ClientConfig{AuthType: AuthKerberos, Initiator: toy{legs: 2}}, NakAuthType.String()},
		{"wrong password at once", toy{legs: 2, refuse: true}, ClientConfig{Initiator: toy{legs: 2}}, NakInvalidChecksum.String()},
		{"logon without end", toy{legs: 99}, ClientConfig{Initiator: toy{legs: 99}}, "access denied"},
		{"A-40 caller without a SID", toy{legs: 2, nobody: true}, ClientConfig{Initiator: toy{legs: 2}}, NakInvalidChecksum.String()},
		{"context that cannot seal", toy{legs: 2, flags: gss.Integrity}, ClientConfig{Initiator: toy{legs: 2}}, NakInvalidChecksum.String()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var runs atomic.Int32
			conn, _ := connect(t, echoServer(&runs, tt.acceptor))
			if tt.cfg.Interface == (SyntaxID{}) {
				tt.cfg.Interface = echoInterface
			}
			c := NewClient(conn, tt.cfg)
			if err := c.Bind(context.Background()); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("Bind = %v, want one about %q", err, tt.want)
			}
			if _, err := c.Call(context.Background(), 0, nil); err == nil {
				t.Error("a call after a refused bind")
			}
		})
	}
	t.Run("auth3 that does not end the logon", func(t *testing.T) {
		var runs atomic.Int32
		conn, ended := connect(t, echoServer(&runs, toy{legs: 5}))
		c := NewClient(conn, ClientConfig{Interface: echoInterface, Initiator: toy{legs: 3}})
		if err := c.Bind(context.Background()); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; !errors.Is(err, ErrProtocol) {
			t.Errorf("ServeConn = %v", err)
		}
		if _, err := c.Call(context.Background(), 0, nil); err == nil {
			t.Error("a call after the end")
		}
	})
}

// A second interface is added to a connection that is bound and logged on.
func TestAlterContext(t *testing.T) {
	var runs atomic.Int32
	s := echoServer(&runs, toy{legs: 2})
	conn, _ := connect(t, s)
	c := NewClient(conn, ClientConfig{Interface: echoInterface, Initiator: toy{legs: 2}})
	if err := c.Bind(t.Context()); err != nil {
		t.Fatal(err)
	}
	alter := func(elements ...contextElement) bindAckPDU {
		t.Helper()
		p := bindPDU{maxXmit: 4280, maxRecv: 4280, group: c.group, contexts: elements}
		h, pdu := ask(t, conn, mustFinish(t, p.append(nil, pduAlterContext, flagWhole, 7)))
		if h.ptype != pduAlterContextResp || h.callID != 7 {
			t.Fatalf("answered by type %d", h.ptype)
		}
		a, err := parseBindAck(pdu[headerSize:], false)
		if err != nil || a.secondary != "" || a.group != c.group {
			t.Fatalf("%+v, %v", a, err)
		}
		return a
	}
	lsa := SyntaxID{UUID: s.Interfaces[1].UUID}
	a := alter(
		contextElement{id: 5, abstract: lsa, transfer: []SyntaxID{syntaxNDR64}},
		contextElement{id: 0, abstract: echoInterface, transfer: []SyntaxID{syntaxNDR}},
		contextElement{id: 0, abstract: lsa, transfer: []SyntaxID{syntaxNDR}},
	)
	if a.results[0].result != contextAccepted || a.results[1].result != contextAccepted {
		t.Errorf("%+v", a.results)
	}
	if a.results[2].result != providerRejected {
		t.Errorf("context 0 stands for another interface: %+v", a.results[2])
	}
	if out, err := c.Call(t.Context(), 0, []byte("1234")); err != nil || string(out) != "1234" {
		t.Errorf("context 0: %q, %v", out, err)
	}
	c.contextID, c.cfg.Interface, c.transfer = 5, lsa, syntaxNDR64
	if out, err := c.Call(t.Context(), 0, nil); err != nil || string(out) != "alice privacy" {
		t.Errorf("context 5: %q, %v", out, err)
	}
	t.Run("with a token of a second logon", func(t *testing.T) {
		p := bindPDU{maxXmit: 4280, maxRecv: 4280}.append(nil, pduAlterContext, flagWhole, 8)
		trailer := secTrailer{authType: AuthSPNEGO, level: LevelPrivacy, contextID: 2}
		pdu, err := trailer.appendToken(p, []byte("leg 1"))
		if err != nil {
			t.Fatal(err)
		}
		h, answer := ask(t, conn, pdu)
		if f, err := parseFault(h, answer); h.ptype != pduFault || err != nil || f != FaultAccessDenied {
			t.Errorf("answered by type %d: %v, %v", h.ptype, f, err)
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

func plainBind(t testing.TB, transfers ...[]SyntaxID) []byte {
	p := bindPDU{maxXmit: 4280, maxRecv: 4280}
	for i, s := range transfers {
		p.contexts = append(p.contexts, contextElement{id: uint16(i), abstract: echoInterface, transfer: s})
	}
	return mustFinish(t, p.append(nil, pduBind, flagWhole, 1))
}

func TestNegotiation(t *testing.T) {
	type answer struct {
		result contextVerdict
		reason contextReason
		syntax SyntaxID
	}
	accepted := func(s SyntaxID) answer { return answer{contextAccepted, 0, s} }
	rejected := answer{providerRejected, reasonTransferSyntaxes, SyntaxID{}}
	for _, tt := range []struct {
		name   string
		offers [][]SyntaxID
		want   []answer
	}{
		{"NDR", [][]SyntaxID{{syntaxNDR}}, []answer{accepted(syntaxNDR)}},
		{"NDR64", [][]SyntaxID{{syntaxNDR64}}, []answer{accepted(syntaxNDR64)}},
		{"D-11 both in two contexts, as Windows", [][]SyntaxID{{syntaxNDR}, {syntaxNDR64}, {featureSyntax(3)}},
			[]answer{rejected, accepted(syntaxNDR64), {negotiateAck, keepConnectionOnOrphan, SyntaxID{}}}},
		{"both in one context", [][]SyntaxID{{syntaxNDR, syntaxNDR64}}, []answer{accepted(syntaxNDR64)}},
		{"NDR twice", [][]SyntaxID{{syntaxNDR}, {syntaxNDR}}, []answer{accepted(syntaxNDR), accepted(syntaxNDR)}},
		{"NDR of another version", [][]SyntaxID{{{UUID: syntaxNDR.UUID, Major: 1}}}, []answer{rejected}},
		{"no features in common", [][]SyntaxID{{featureSyntax(1)}}, []answer{{negotiateAck, 0, SyntaxID{}}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var runs atomic.Int32
			conn, _ := connect(t, echoServer(&runs, toy{legs: 2}))
			h, pdu := ask(t, conn, plainBind(t, tt.offers...))
			if h.ptype != pduBindAck {
				t.Fatalf("PDU of type %d", h.ptype)
			}
			a, err := parseBindAck(pdu[headerSize:], false)
			if err != nil || len(a.results) != len(tt.want) || a.group == 0 {
				t.Fatalf("%+v, %v", a, err)
			}
			for i, r := range a.results {
				if got := (answer{r.result, r.reason, r.transfer}); got != tt.want[i] {
					t.Errorf("context %d: %+v, want %+v", i, got, tt.want[i])
				}
			}
		})
	}
	t.Run("more contexts than the limit", func(t *testing.T) {
		var runs atomic.Int32
		s := echoServer(&runs, toy{legs: 2})
		s.Limits.MaxContexts = 2
		conn, _ := connect(t, s)
		_, pdu := ask(t, conn, plainBind(t, []SyntaxID{syntaxNDR}, []SyntaxID{syntaxNDR}, []SyntaxID{syntaxNDR}))
		a, err := parseBindAck(pdu[headerSize:], false)
		if err != nil || a.results[1].result != contextAccepted || a.results[2].reason != reasonLocalLimitExceeded {
			t.Errorf("%+v, %v", a, err)
		}
	})
}

// What a client may not do, and what it is told.
func TestViolations(t *testing.T) {
	bind := plainBind(t, []SyntaxID{syntaxNDR})
	request := func(flags uint8, callID uint32, q requestPDU, stub string) []byte {
		return mustFinish(t, append(q.append(nil, flags, callID), stub...))
	}
	edit := func(b []byte, at int, v ...byte) []byte {
		b = bytes.Clone(b)
		copy(b[at:], v)
		return b
	}
	for _, tt := range []struct {
		name  string
		pdus  [][]byte
		want  Fault // 0: the connection ends without a word
		nak   NakReason
		type_ pduType
	}{
		{name: "request before the bind", pdus: [][]byte{request(flagWhole, 1, requestPDU{}, "")}, want: FaultProtocol, type_: pduFault},
		{name: "two binds", pdus: [][]byte{bind, bind}, type_: pduBindNak},
		{name: "bind of RPC 4", pdus: [][]byte{edit(bind, 0, 4)}, type_: pduBindNak, nak: NakProtocolVersion},
		{name: "request of RPC 4", pdus: [][]byte{bind, edit(request(flagWhole, 1, requestPDU{}, ""), 0, 4)}},
		{name: "EBCDIC", pdus: [][]byte{edit(bind, 4, 0x11)}},
		{name: "bind in fragments", pdus: [][]byte{edit(bind, 3, flagFirst)}, type_: pduBindNak},
		{name: "contexts that are not there", pdus: [][]byte{edit(bind, 24, 0xff)}, type_: pduBindNak},
		{name: "transfer syntaxes that are not there", pdus: [][]byte{edit(bind, 30, 0xff)}, type_: pduBindNak},
		{name: "context without transfer syntax", pdus: [][]byte{edit(bind, 30, 0)}, type_: pduBindNak},
		{name: "token longer than the PDU", pdus: [][]byte{edit(bind, 10, 0xff)}},
		{name: "PDU shorter than its header", pdus: [][]byte{edit(bind, 8, 15, 0)}},
		{name: "PDU of a server", pdus: [][]byte{bind, mustFinish(t, appendFault(nil, 5, 0, 1))}, want: FaultProtocol, type_: pduFault},
		{name: "auth3 without a logon", pdus: [][]byte{bind, edit(mustFinish(t, append(appendHeader(nil, pduAuth3, flagWhole, 1), make([]byte, 16)...)), 10, 4)}},
		{name: "fragment beyond what was agreed", pdus: [][]byte{bind, request(flagWhole, 1, requestPDU{}, strings.Repeat("x", 4280))}, want: FaultProtocol, type_: pduFault},
		{name: "no first fragment", pdus: [][]byte{bind, request(flagLast, 1, requestPDU{}, "x")}, want: FaultProtocol, type_: pduFault},
		{name: "call in the midst of a call", pdus: [][]byte{bind, request(flagFirst, 1, requestPDU{}, "x"), request(flagWhole, 2, requestPDU{}, "x")}, want: FaultProtocol, type_: pduFault},
		{name: "fragment of another call", pdus: [][]byte{bind, request(flagFirst, 1, requestPDU{}, "x"), request(flagLast, 2, requestPDU{}, "x")}, want: FaultProtocol, type_: pduFault},
		{name: "fragment of another method", pdus: [][]byte{bind, request(flagFirst, 1, requestPDU{}, "x"), request(flagLast, 1, requestPDU{opnum: 1}, "x")}, want: FaultProtocol, type_: pduFault},
		{name: "empty fragments without end", pdus: [][]byte{bind, request(flagFirst, 1, requestPDU{}, "x"), request(0, 1, requestPDU{}, "")}, want: FaultProtocol, type_: pduFault},
		{name: "unknown context", pdus: [][]byte{bind, request(flagWhole, 1, requestPDU{contextID: 9}, "x")}, want: FaultUnknownIf, type_: pduFault},
		{name: "signature without a context", pdus: [][]byte{bind, edit(request(flagWhole, 1, requestPDU{}, "\x09\x06\x00\x00\x01\x00\x00\x00tokentok"), 10, 8)}, want: FaultProtocol, type_: pduFault},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var runs atomic.Int32
			conn, _ := connect(t, echoServer(&runs, toy{legs: 2}))
			if len(tt.pdus) > 1 {
				if h, _ := ask(t, conn, tt.pdus[0]); h.ptype != pduBindAck {
					t.Fatalf("bind answered by type %d", h.ptype)
				}
				tt.pdus = tt.pdus[1:]
			}
			h, pdu := ask(t, conn, tt.pdus...)
			switch {
			case tt.type_ == 0:
				if pdu != nil {
					t.Fatalf("answered: %x", pdu)
				}
			case h.ptype != tt.type_:
				t.Fatalf("answered by type %d: %x", h.ptype, pdu)
			case h.ptype == pduFault:
				if f, err := parseFault(h, pdu); err != nil || f != tt.want {
					t.Errorf("%v, %v, want %v", f, err, tt.want)
				}
			default:
				if r, err := parseBindNak(pdu[headerSize:], false); err != nil || r != tt.nak {
					t.Errorf("%v, %v, want %v", r, err, tt.nak)
				}
			}
			if runs.Load() != 0 {
				t.Error("a method was executed")
			}
		})
	}
}

// A signature that is wrong, missing or repeated ends the connection.
func TestBrokenSignatures(t *testing.T) {
	for _, level := range []AuthLevel{LevelIntegrity, LevelPrivacy} {
		for name, spoil := range map[string]func(pdu []byte) []byte{
			"signature":  func(p []byte) []byte { p[len(p)-1] ^= 1; return p },
			"stub":       func(p []byte) []byte { p[callHeaderSize] ^= 1; return p },
			"header":     func(p []byte) []byte { p[22] ^= 1; return p }, // the opnum, covered by header signing
			"auth type":  func(p []byte) []byte { p[trailerAt(p)] ^= 1; return p },
			"auth level": func(p []byte) []byte { p[trailerAt(p)+1] ^= 3; return p },
			"context":    func(p []byte) []byte { p[trailerAt(p)+4] ^= 1; return p },
			"pad length": func(p []byte) []byte { p[trailerAt(p)+2] = 0xff; return p },
			"no verifier": func(p []byte) []byte {
				p = p[:trailerAt(p)]
				p[8], p[9], p[10], p[11] = byte(len(p)), 0, 0, 0
				return p
			},
		} {
			t.Run(fmt.Sprintf("%v %s", level, name), func(t *testing.T) {
				var runs atomic.Int32
				s := echoServer(&runs, toy{legs: 2})
				s.Interfaces[0].MinAuthLevel = LevelIntegrity
				conn, ended := connect(t, s)
				c := NewClient(conn, ClientConfig{Interface: echoInterface, Initiator: toy{legs: 2}, Level: level})
				if err := c.Bind(context.Background()); err != nil {
					t.Fatal(err)
				}
				pdu, err := c.security.protect(append(requestPDU{}.append(nil, flagWhole, 2), "stub"...))
				if err != nil {
					t.Fatal(err)
				}
				h, answer := ask(t, conn, spoil(pdu))
				if f, err := parseFault(h, answer); h.ptype != pduFault || err != nil || f != FaultSecPkgError && f != FaultProtocol {
					t.Errorf("answered by %d, %v, %v", h.ptype, f, err)
				}
				if err := <-ended; !errors.Is(err, ErrProtocol) {
					t.Errorf("ServeConn = %v", err)
				}
				if runs.Load() != 0 {
					t.Error("the method was executed")
				}
			})
		}
	}
	t.Run("replay", func(t *testing.T) {
		var runs atomic.Int32
		conn, ended := connect(t, echoServer(&runs, toy{legs: 2}))
		c := NewClient(conn, ClientConfig{Interface: echoInterface, Initiator: toy{legs: 2}})
		if err := c.Bind(context.Background()); err != nil {
			t.Fatal(err)
		}
		pdu, err := c.security.protect(append(requestPDU{}.append(nil, flagWhole, 2), "stub"...))
		if err != nil {
			t.Fatal(err)
		}
		if h, _ := ask(t, conn, bytes.Clone(pdu)); h.ptype != pduResponse {
			t.Fatalf("answered by %d", h.ptype)
		}
		ask(t, conn, pdu)
		if err := <-ended; !errors.Is(err, gss.ErrSignature) || runs.Load() != 1 {
			t.Errorf("ServeConn = %v after %d calls", err, runs.Load())
		}
	})
}

func trailerAt(p []byte) int { return len(p) - int(p[10]) - trailerSize }

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
