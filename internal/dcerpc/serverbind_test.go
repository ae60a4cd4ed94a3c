package dcerpc

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/gss"
)

func TestRefusedBinds(t *testing.T) {
	for _, tt := range []struct {
		name     string
		acceptor toy
		cfg      ClientConfig
		want     string
	}{
		{"W-2.1-07 unknown interface", toy{legs: 2}, ClientConfig{Interface: SyntaxID{UUID: dtyp.GUID{1}, Major: 1}}, "abstract syntax"},
		{"G-1.7-01 version 2.0", toy{legs: 2}, ClientConfig{Interface: SyntaxID{UUID: echoInterface.UUID, Major: 2}}, "abstract syntax"},
		{"authentication type", toy{legs: 2}, ClientConfig{AuthType: AuthKerberos, Initiator: toy{legs: 2}}, nakAuthType.String()},
		{"wrong password at once", toy{legs: 2, refuse: true}, ClientConfig{Initiator: toy{legs: 2}}, nakInvalidChecksum.String()},
		{"logon without end", toy{legs: 99}, ClientConfig{Initiator: toy{legs: 99}}, "access denied"},
		{"A-40 caller without a SID", toy{legs: 2, nobody: true}, ClientConfig{Initiator: toy{legs: 2}}, nakInvalidChecksum.String()},
		{"context that cannot seal", toy{legs: 2, flags: gss.Integrity}, ClientConfig{Initiator: toy{legs: 2}}, nakInvalidChecksum.String()},
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
			if err := c.Bind(context.Background()); err == nil || !strings.Contains(err.Error(), "second bind") {
				t.Errorf("once more: Bind = %v", err)
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

// A logon that is half done lets nothing through, and keeps to how it began.
func TestHalfDoneLogon(t *testing.T) {
	token := func(ptype pduType, body []byte, level AuthLevel, contextID uint32, text string) []byte {
		trailer := secTrailer{authType: AuthSPNEGO, level: level, contextID: contextID}
		pdu, err := trailer.appendToken(append(appendHeader(nil, ptype, flagWhole, 1), body...), []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return pdu
	}
	bindBody := plainBind(t, []SyntaxID{syntaxNDR})[headerSize:]
	request := mustFinish(t, append(requestPDU{}.append(nil, flagWhole, 2), "stub"...))
	first := mustFinish(t, append(requestPDU{}.append(nil, flagFirst, 2), "half"...))
	auth3 := func(level AuthLevel, contextID uint32, text string) []byte {
		return token(pduAuth3, make([]byte, 4), level, contextID, text)
	}
	logon := token(pduBind, bindBody, LevelPrivacy, 1, "leg 1")
	for _, tt := range []struct {
		name string
		legs int
		pdus [][]byte
		want Fault // 0: no word
	}{
		{"request", 3, [][]byte{logon, request}, FaultProtocol},
		{"request after an alter_context without a token", 3,
			[][]byte{logon, token(pduAlterContext, bindBody, 0, 0, ""), request}, FaultProtocol},
		{"auth3 of a lower level", 3, [][]byte{logon, auth3(LevelConnect, 1, "leg 3"), request}, FaultAccessDenied},
		{"auth3 of another security context", 3, [][]byte{logon, auth3(LevelPrivacy, 2, "leg 3"), request}, FaultAccessDenied},
		{"auth3 with a wrong token", 3, [][]byte{logon, auth3(LevelPrivacy, 1, "leg 9"), request}, FaultAccessDenied},
		{"auth3 with a wrong token, then the right one", 3,
			[][]byte{logon, auth3(LevelPrivacy, 1, "leg 9"), auth3(LevelPrivacy, 1, "leg 3"), request}, 0},
		{"auth3 twice", 3, [][]byte{logon, auth3(LevelPrivacy, 1, "leg 3"), auth3(LevelPrivacy, 1, "leg 3")}, 0},
		{"request without a signature after the logon", 3, [][]byte{logon, auth3(LevelPrivacy, 1, "leg 3"), request}, FaultProtocol},
		{"alter_context of a lower level", 5, [][]byte{logon, token(pduAlterContext, bindBody, LevelConnect, 1, "leg 3")}, FaultAccessDenied},
		{"alter_context between fragments", 3,
			[][]byte{plainBind(t, []SyntaxID{syntaxNDR}), first, token(pduAlterContext, bindBody, LevelPrivacy, 1, "leg 1")}, FaultProtocol},
		{"auth3 between fragments", 3,
			[][]byte{plainBind(t, []SyntaxID{syntaxNDR}), first, auth3(LevelPrivacy, 1, "leg 1")}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var runs atomic.Int32
			s := echoServer(&runs, toy{legs: tt.legs})
			s.Interfaces[0].MinAuthLevel = LevelNone
			conn, ended := connect(t, s)
			if h, _ := ask(t, conn, tt.pdus[0]); h.ptype != pduBindAck {
				t.Fatalf("bind answered by type %d", h.ptype)
			}
			h, pdu := ask(t, conn, tt.pdus[1:]...)
			for h.ptype == pduAlterContextResp {
				h, pdu = ask(t, conn)
			}
			if tt.want == 0 {
				if pdu != nil {
					t.Errorf("answered: %x", pdu)
				}
			} else if f, err := parseFault(h, pdu); h.ptype != pduFault || err != nil || f != tt.want {
				t.Errorf("answered by type %d: %v, %v, want %v", h.ptype, f, err, tt.want)
			}
			conn.Close() // a server that should have done so does not hang the test
			if err := <-ended; err == nil {
				t.Error("the connection is kept")
			}
			if runs.Load() != 0 {
				t.Error("the method was executed")
			}
		})
	}
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
