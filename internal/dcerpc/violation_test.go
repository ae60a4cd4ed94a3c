package dcerpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/seed05845750/bkrp/internal/gss"
)

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
		nak   nakReason
		type_ pduType
	}{
		{name: "request before the bind", pdus: [][]byte{request(flagWhole, 1, requestPDU{}, "")}, want: FaultProtocol, type_: pduFault},
		{name: "two binds", pdus: [][]byte{bind, bind}, type_: pduBindNak},
		{name: "bind of RPC 4", pdus: [][]byte{edit(bind, 0, 4)}, type_: pduBindNak, nak: nakProtocolVersion},
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
