package dcerpc

import (
	"bufio"
	"bytes"
	"context"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/ndr"
)

// recorded is one PDU of testdata/samba.txt.
type recorded struct {
	session    string
	fromServer bool
	kind       string
	pdu        []byte
}

func transcript(t testing.TB) []recorded {
	t.Helper()
	f, err := os.Open("testdata/samba.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []recorded
	s := bufio.NewScanner(f)
	for s.Scan() {
		if w := strings.Fields(s.Text()); len(w) == 4 && w[0] != "#" {
			all = append(all, recorded{w[0], w[1] == "S", w[2], unhex(t, w[3])})
		}
	}
	if err := s.Err(); err != nil || len(all) < 30 {
		t.Fatalf("%d recorded PDUs, %v", len(all), err)
	}
	return all
}

func (r recorded) header(t testing.TB) header {
	t.Helper()
	h, err := parseHeader(r.pdu)
	if err != nil || h.fragLength != len(r.pdu) {
		t.Fatalf("%s %s: %+v, %v", r.session, r.kind, h, err)
	}
	return h
}

// Every recorded PDU parses, and those of little-endian peers come back octet
// by octet.
func TestRecordedPDUs(t *testing.T) {
	for _, r := range transcript(t) {
		t.Run(r.session+" "+r.kind, func(t *testing.T) {
			h := r.header(t)
			got := remarshal(t, h, r.pdu)
			if want := remarshal(t, mustHeader(t, got), got); !bytes.Equal(got, want) {
				t.Errorf("twice through:\n got %x\nwant %x", got, want)
			}
			// Samba's alloc_hint of a fault is not ours.
			if !h.bigEndian && r.kind != "fault" && !bytes.Equal(got, r.pdu) {
				t.Errorf("\n got %x\nwant %x", got, r.pdu)
			}
		})
	}
}

func mustHeader(t testing.TB, pdu []byte) header {
	t.Helper()
	h, err := parseHeader(pdu)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// remarshal parses a PDU and builds it again.
func remarshal(t testing.TB, h header, pdu []byte) []byte {
	t.Helper()
	body, trailer, token := pdu[headerSize:], secTrailer{}, []byte(nil)
	if h.authLength > 0 {
		var err error
		if body, trailer, token, err = cutTrailer(h, pdu, headerSize); err != nil {
			t.Fatal(err)
		}
	}
	var b []byte
	switch h.ptype {
	case pduBind, pduAlterContext:
		p, err := parseBind(body, h.bigEndian)
		if err != nil {
			t.Fatal(err)
		}
		b = p.append(nil, h.ptype, h.flags, h.callID)
	case pduBindAck, pduAlterContextResp:
		p, err := parseBindAck(body, h.bigEndian)
		if err != nil {
			t.Fatal(err)
		}
		b = p.append(nil, h.ptype, h.flags, h.callID)
	case pduRequest:
		q, err := parseRequest(h, pdu)
		if err != nil {
			t.Fatal(err)
		}
		b = append(q.append(nil, h.flags, h.callID), body[8:]...)
		b = append(b, make([]byte, trailer.padLength)...)
		copy(b[callHeaderSize:], pdu[callHeaderSize:len(pdu)-h.authLength]) // the padding's content
	case pduResponse:
		p, err := parseResponse(h, pdu)
		if err != nil {
			t.Fatal(err)
		}
		b = append(p.append(nil, h.flags, h.callID), body[8:]...)
		b = append(b, make([]byte, trailer.padLength)...)
		copy(b[callHeaderSize:], pdu[callHeaderSize:len(pdu)-h.authLength])
	case pduFault:
		f, err := parseFault(h, pdu)
		if err != nil {
			t.Fatal(err)
		}
		b = appendFault(nil, f, 0, h.callID)
	default:
		t.Fatalf("PDU of type %d", h.ptype)
	}
	if h.authLength == 0 {
		return mustFinish(t, b)
	}
	b, err := finish(append(trailer.append(b), token...), len(token))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Our server answers the recorded binds as Samba did, but for the group, which
// is random, the pipe's name in Windows' letters, and multiplexing, which it
// does not offer.
func TestAnswersAsSamba(t *testing.T) {
	all := transcript(t)
	var runs atomic.Int32
	conn, _ := connect(t, echoServer(&runs, toy{legs: 2}))
	if all[0].session != "connect" || all[0].kind != "bind" || all[1].kind != "bind_ack" {
		t.Fatal("the recording does not begin with a bind")
	}
	_, got := ask(t, conn, all[0].pdu)
	want := bytes.Clone(all[1].pdu)
	copy(want[20:24], got[20:24])
	copy(want[26:], `\PIPE\`)
	want[len(want)-22] = keepConnectionOnOrphan
	if !bytes.Equal(got, want) {
		t.Errorf("bind_ack:\n got %x\nwant %x", got, want)
	}
	h, got := ask(t, conn, all[2].pdu)
	if f, err := parseFault(h, got); err != nil || f != FaultAccessDenied || len(got) != len(all[3].pdu) {
		t.Errorf("fault: %x", got)
	}
}

func TestRecordedVerificationTrailer(t *testing.T) {
	seen := 0
	for _, r := range transcript(t) {
		if r.kind != "request" || !strings.HasPrefix(r.session, "sign") {
			continue
		}
		seen++
		t.Run("D-08 "+r.session, func(t *testing.T) {
			h := r.header(t)
			if h.bigEndian != (r.session == "sign-bigendian") {
				t.Fatalf("big-endian: %v", h.bigEndian)
			}
			body, trailer, _, err := cutTrailer(h, r.pdu, callHeaderSize)
			if err != nil || trailer.contextID != 1 || trailer.level != LevelIntegrity || trailer.authType != AuthSPNEGO {
				t.Fatalf("%+v, %v", trailer, err)
			}
			stub, v, ok := cutVerification(body)
			if v == nil || !ok || v.bitmask1 == nil || *v.bitmask1 != clientHeaderSigning || v.header != nil {
				t.Fatalf("%+v, %v", v, ok)
			}
			if want := (verifyContext{echoInterface, syntaxNDR}); *v.context != want {
				t.Errorf("%+v, want %+v", *v.context, want)
			}
			if again := v.append(bytes.Clone(stub), 0); !bytes.Equal(again, body) {
				t.Errorf("\n got %x\nwant %x", again, body)
			}
			rd := ndr.NewReader(stub, ndr.Encoding{BigEndian: h.bigEndian})
			if g := rd.GUID(); g != dtyp.MustParseGUID("018ff48a-eaba-40c6-8f6d-72370240e967") && g != dtyp.MustParseGUID("47270c64-2fc7-499b-ac5b-0e37cdce899a") && !strings.HasSuffix(g.String(), "-178e-11d1-ab8f-00805f14db40") {
				t.Errorf("action %v", g)
			}
		})
	}
	if seen != 4 {
		t.Errorf("%d recorded requests with a trailer, want 4", seen)
	}
}

func TestVerification(t *testing.T) {
	bits := uint32(clientHeaderSigning)
	good := func() verification {
		return verification{
			bitmask1: &bits,
			context:  &verifyContext{echoInterface, syntaxNDR},
			header:   &verifyHeader{ptype: pduRequest, drep: [4]byte{0x10}, callID: 2, contextID: 0, opnum: 0},
		}
	}
	for _, tt := range []struct {
		name  string
		spoil func(*verification)
		fine  bool
	}{
		{"as it was sent", func(*verification) {}, true},
		{"nothing in it", func(v *verification) { *v = verification{} }, true},
		{"another interface", func(v *verification) { v.context.abstract.UUID[0] ^= 1 }, false},
		{"another major version", func(v *verification) { v.context.abstract.Major++ }, false},
		{"another transfer syntax", func(v *verification) { v.context.transfer = syntaxNDR64 }, false},
		{"another method", func(v *verification) { v.header.opnum = 1 }, false},
		{"another call", func(v *verification) { v.header.callID = 3 }, false},
		{"another context", func(v *verification) { v.header.contextID = 1 }, false},
		{"another byte order", func(v *verification) { v.header.drep[0] = 0 }, false},
		{"another PDU", func(v *verification) { v.header.ptype = pduResponse }, false},
	} {
		t.Run("D-08 "+tt.name, func(t *testing.T) {
			v := good()
			tt.spoil(&v)
			c := serverConn{}
			c.security.headerSign = true
			b := &boundContext{iface: &Interface{UUID: echoInterface.UUID, Major: 1}, transfer: syntaxNDR}
			stub, read, ok := cutVerification(v.append([]byte("four"), 0))
			if !ok || read == nil || string(stub) != "four" {
				t.Fatalf("%q, %+v, %v", stub, read, ok)
			}
			if got := c.verified(read, &request{callID: 2}, b); got != tt.fine {
				t.Errorf("verified = %v, want %v", got, tt.fine)
			}
		})
	}
	t.Run("header signing cleared on the way", func(t *testing.T) {
		c := serverConn{}
		c.security.level, c.security.context = LevelPrivacy, &toyContext{}
		if c.verified(&verification{bitmask1: &bits}, &request{}, nil) {
			t.Error("accepted")
		}
	})
	magic := string(verificationMagic)
	for name, stub := range map[string]string{
		"no trailer":                "some parameters",
		"magic that is data":        "data" + magic + "data",
		"unaligned":                 "odd" + magic + "\x00\x40\x00\x00",
		"command beyond the end":    magic + "\x01\x40\x04\x00\x01",
		"octets behind the end":     magic + "\x00\x40\x00\x00more",
		"no end":                    magic + "\x01\x00\x04\x00\x01\x00\x00\x00",
		"magic out of reach":        magic + strings.Repeat("\x00", verificationReach),
		"magic at the very end":     "1234" + magic,
		"magic within magic's tail": magic[:4] + magic[:4] + "1234",
	} {
		t.Run("stays in the stub: "+name, func(t *testing.T) {
			got, v, ok := cutVerification([]byte(stub))
			if string(got) != stub || v != nil || !ok {
				t.Errorf("%q, %+v, %v", got, v, ok)
			}
		})
	}
	t.Run("magic before the trailer", func(t *testing.T) {
		stub := magic + "data" + magic
		got, v, ok := cutVerification(good().append([]byte(stub), 0))
		if string(got) != stub || v == nil || !ok {
			t.Errorf("%q, %+v, %v", got, v, ok)
		}
	})
	t.Run("unknown command", func(t *testing.T) {
		if _, v, ok := cutVerification([]byte("1234" + magic + "\x09\x40\x02\x00xx")); v == nil || !ok {
			t.Error("an unknown command that may be skipped is refused")
		}
		if _, _, ok := cutVerification([]byte("1234" + magic + "\x09\xc0\x02\x00xx")); ok {
			t.Error("an unknown command that must be processed is not refused")
		}
	})
}

// The server refuses a call whose verification trailer does not fit, and
// keeps the connection.
func TestVerificationFault(t *testing.T) {
	var runs atomic.Int32
	s := echoServer(&runs, toy{legs: 2})
	conn, _ := connect(t, s)
	c := NewClient(conn, ClientConfig{Interface: echoInterface, Initiator: toy{legs: 2}})
	if err := c.Bind(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.cfg.Interface.UUID[0] ^= 1
	if _, err := c.Call(t.Context(), 0, []byte("stub")); err != FaultAccessDenied || runs.Load() != 0 {
		t.Errorf("Call = %v, %d calls executed", err, runs.Load())
	}
	c.cfg.Interface.UUID[0] ^= 1
	if _, err := c.Call(t.Context(), 0, []byte("stub")); err != nil {
		t.Errorf("Call = %v", err)
	}
}

// W-2.2-02: a caller in big-endian order is understood in its headers and its
// stub, and answered in little-endian order.
func TestBigEndianCaller(t *testing.T) {
	var runs atomic.Int32
	s := echoServer(&runs, toy{legs: 2})
	s.Interfaces[0].MinAuthLevel = LevelNone
	s.Interfaces[0].Handle = func(_ context.Context, c *Call) ([]byte, error) {
		r := ndr.NewReader(c.Stub, c.Encoding)
		v := r.U32()
		w := ndr.NewWriter(nil, c.ResponseEncoding())
		w.U32(v + 1)
		return w.Buffer(), r.Done()
	}
	conn, _ := connect(t, s)
	for _, r := range transcript(t) {
		if r.session == "sign-bigendian" && r.kind == "bind" {
			// The bind without its token.
			pdu := bytes.Clone(r.pdu[:trailerAtBE(r.pdu)])
			pdu[8], pdu[9], pdu[10], pdu[11] = 0, byte(len(pdu)), 0, 0
			if h, _ := ask(t, conn, pdu); h.ptype != pduBindAck {
				t.Fatalf("bind answered by %d", h.ptype)
			}
		}
	}
	h, pdu := ask(t, conn, unhex(t, "05000003 00000000 001c 0000 00000002  00000004 0000 0000 00010203"))
	if h.bigEndian || h.callID != 2 || h.ptype != pduResponse || !bytes.Equal(pdu[callHeaderSize:], []byte{4, 2, 1, 0}) {
		t.Errorf("answered by %+v: %x", h, pdu)
	}
}

func trailerAtBE(p []byte) int { return len(p) - int(p[11]) - trailerSize }
