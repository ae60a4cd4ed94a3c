package dcerpc

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"
)

// scripted is a peer that says what it has to say and takes anything.
type scripted struct {
	io.Reader
	out bytes.Buffer
}

func (s *scripted) Write(b []byte) (int, error) { return s.out.Write(b) }
func (s *scripted) Close() error                { return nil }

// FuzzPDU parses a PDU of any type; what parses comes back the same when it is
// built and parsed again.
func FuzzPDU(f *testing.F) {
	for _, r := range transcript(f) {
		f.Add(r.pdu)
	}
	f.Add(mustFinish(f, appendBindNak(nil, nakAuthType, 1)))
	f.Fuzz(func(t *testing.T, pdu []byte) {
		if len(pdu) < headerSize {
			return
		}
		h, err := parseHeader(pdu)
		if err != nil || h.fragLength > len(pdu) {
			return
		}
		pdu = pdu[:h.fragLength]
		body := pdu[headerSize:]
		if h.authLength > 0 {
			if body, _, _, err = cutTrailer(h, pdu, headerSize); err != nil {
				return
			}
		}
		switch h.ptype {
		case pduBind, pduAlterContext:
			if p, err := parseBind(body, h.bigEndian); err == nil {
				once := p.append(nil, h.ptype, h.flags, h.callID)
				again, err := parseBind(once[headerSize:], false)
				if err != nil || !bytes.Equal(once, again.append(nil, h.ptype, h.flags, h.callID)) {
					t.Fatalf("%+v came back as %+v, %v", p, again, err)
				}
			}
		case pduBindAck, pduAlterContextResp:
			if p, err := parseBindAck(body, h.bigEndian); err == nil && len(p.secondary) < 0xffff {
				once := p.append(nil, h.ptype, h.flags, h.callID)
				again, err := parseBindAck(once[headerSize:], false)
				if err != nil || !bytes.Equal(once, again.append(nil, h.ptype, h.flags, h.callID)) {
					t.Fatalf("%+v came back as %+v, %v", p, again, err)
				}
			}
		case pduRequest:
			if q, err := parseRequest(h, pdu); err == nil && q.stubOffset > len(pdu) {
				t.Fatalf("stub at %d of %d octets", q.stubOffset, len(pdu))
			}
		case pduResponse:
			if _, err := parseResponse(h, pdu); err == nil && len(pdu) < callHeaderSize {
				t.Fatal("response shorter than its header")
			}
		}
	})
}

func FuzzVerification(f *testing.F) {
	for _, r := range transcript(f) {
		if r.kind == "request" {
			f.Add(r.pdu[callHeaderSize:])
		}
	}
	bits := uint32(1)
	f.Add(verification{bitmask1: &bits, header: &verifyHeader{}, context: &verifyContext{}}.append([]byte("1234"), 0))
	f.Fuzz(func(t *testing.T, stub []byte) {
		parameters, v, ok := cutVerification(stub)
		switch {
		case v == nil && (!ok || !bytes.Equal(parameters, stub)):
			t.Fatal("octets lost without a trailer")
		case v == nil || !ok:
			return
		case !bytes.HasPrefix(stub, parameters) || len(parameters)%4 != 0:
			t.Fatalf("parameters of %d octets of %d", len(parameters), len(stub))
		}
		once := v.append(bytes.Clone(parameters), 0)
		parameters2, v2, ok := cutVerification(once)
		if !ok || v2 == nil || !bytes.Equal(parameters, parameters2) || !bytes.Equal(once, v2.append(bytes.Clone(parameters2), 0)) {
			t.Fatalf("%+v came back as %+v", v, v2)
		}
	})
}

// session records what a client of ours says in a bind and two calls.
func session(t testing.TB, cfg ClientConfig) []byte {
	var runs atomic.Int32
	conn, _ := connect(t, echoServer(&runs, toy{legs: 3}))
	rec := &recorder{Conn: conn}
	cfg.Interface = echoInterface
	c := NewClient(rec, cfg)
	if err := c.Bind(context.Background()); err != nil {
		t.Fatal(err)
	}
	for _, stub := range [][]byte{[]byte("stub"), make([]byte, 10000)} {
		var fault Fault
		if _, err := c.Call(context.Background(), 0, stub); err != nil && !errors.As(err, &fault) {
			t.Fatal(err)
		}
	}
	return rec.said.Bytes()
}

// recorder keeps what is written to a connection.
type recorder struct {
	Conn io.ReadWriteCloser
	said bytes.Buffer
}

func (r *recorder) Read(b []byte) (int, error) { return r.Conn.Read(b) }
func (r *recorder) Close() error               { return r.Conn.Close() }
func (r *recorder) Write(b []byte) (int, error) {
	r.said.Write(b)
	return r.Conn.Write(b)
}

// FuzzServer gives a whole connection's octets to a server, before and after
// the logon. It has to come to an end, and what it says has to be PDUs.
func FuzzServer(f *testing.F) {
	for _, cfg := range []ClientConfig{
		{}, {Initiator: toy{legs: 3}}, {Initiator: toy{legs: 3}, Level: LevelIntegrity, NDR64: true},
	} {
		f.Add(session(f, cfg))
	}
	var all []byte
	for _, r := range transcript(f) {
		if !r.fromServer {
			all = append(all, r.pdu...)
			f.Add(r.pdu)
		}
	}
	f.Add(all)
	f.Fuzz(func(t *testing.T, said []byte) {
		var runs atomic.Int32
		s := echoServer(&runs, toy{legs: 3})
		s.Interfaces[0].MinAuthLevel = LevelNone
		peer := &scripted{Reader: bytes.NewReader(said)}
		_ = s.ServeConn(context.Background(), peer, Transport{PipeName: "p"})
		for out := peer.out.Bytes(); len(out) > 0; {
			if len(out) < headerSize {
				t.Fatalf("half a header: %x", out)
			}
			h, err := parseHeader(out)
			if err != nil || h.fragLength > len(out) {
				t.Fatalf("not a PDU: %x", out)
			}
			out = out[h.fragLength:]
		}
	})
}

// FuzzClient gives a whole connection's octets to a client.
func FuzzClient(f *testing.F) {
	var runs atomic.Int32
	for _, legs := range []int{2, 4} {
		peer := &scripted{Reader: bytes.NewReader(session(f, ClientConfig{Initiator: toy{legs: 3}}))}
		_ = echoServer(&runs, toy{legs: legs}).ServeConn(context.Background(), peer, Transport{PipeName: "p"})
		f.Add(peer.out.Bytes())
	}
	for _, r := range transcript(f) {
		if r.fromServer {
			f.Add(r.pdu)
		}
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		c := NewClient(&scripted{Reader: bytes.NewReader(said)}, ClientConfig{
			Interface: echoInterface, Initiator: toy{legs: 3}, NDR64: true, MaxResponse: 1 << 16,
		})
		if c.Bind(context.Background()) != nil {
			return
		}
		for range 3 {
			if out, err := c.Call(context.Background(), 0, nil); err == nil && len(out) > 1<<16 {
				t.Fatalf("response of %d octets", len(out))
			}
		}
	})
}

func BenchmarkSealedCall(b *testing.B) {
	var runs atomic.Int32
	c := bound(b, echoServer(&runs, toy{legs: 3}), ClientConfig{Initiator: toy{legs: 3}})
	stub := make([]byte, 200)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Call(context.Background(), 0, stub); err != nil {
			b.Fatal(err)
		}
	}
}
