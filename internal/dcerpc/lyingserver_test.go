package dcerpc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/seed05845750/bkrp/internal/gss"
)

// between connects a client to s with someone in the middle, who may change
// each PDU of the server.
func between(t *testing.T, s *Server, change func(ptype pduType, pdu []byte) []byte) net.Conn {
	t.Helper()
	server, _ := connect(t, s)
	near, far := net.Pipe()
	done := make(chan struct{}, 2)
	go func() {
		defer func() { done <- struct{}{} }()
		defer server.Close()
		if _, err := io.Copy(server, far); err != nil {
			return // one of the ends is closed
		}
	}()
	go func() {
		defer func() { done <- struct{}{} }()
		defer far.Close()
		in := stream{conn: server, buffers: new(buffers)}
		for {
			h, pdu, err := in.read(func(header) int { return maxPDU })
			if err != nil {
				return
			}
			if _, err := far.Write(change(h.ptype, bytes.Clone(pdu))); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { near.Close(); <-done; <-done })
	return near
}

// What a server, or someone before it, may not do to a client that asks for
// privacy.
func TestLyingServer(t *testing.T) {
	set := func(at int, v ...byte) func([]byte) []byte {
		return func(p []byte) []byte { copy(p[at:], v); return p }
	}
	flip := func(at int) func([]byte) []byte {
		return func(p []byte) []byte { p[at] ^= 1; return p }
	}
	for _, tt := range []struct {
		name   string
		of     pduType
		change func(pdu []byte) []byte
		want   error
	}{
		{"bind_ack without header signing", pduBindAck, set(3, flagWhole), ErrBind},
		{"bind_ack of another type of authentication", pduBindAck, func(p []byte) []byte { p[trailerAt(p)]++; return p }, ErrProtocol},
		{"bind_ack of a lower level", pduBindAck, func(p []byte) []byte { p[trailerAt(p)+1]--; return p }, ErrProtocol},
		{"bind_ack of another security context", pduBindAck, func(p []byte) []byte { p[trailerAt(p)+4]++; return p }, ErrProtocol},
		{"bind_ack without a token", pduBindAck, func(p []byte) []byte {
			p = p[:trailerAt(p)]
			binary.LittleEndian.PutUint16(p[8:], uint16(len(p)))
			binary.LittleEndian.PutUint16(p[10:], 0)
			return p
		}, gss.ErrToken},
		{"bind_ack to another call", pduBindAck, flip(12), ErrProtocol},
		{"bind_ack that is none", pduBindAck, set(2, byte(pduAlterContextResp)), ErrProtocol},
		{"bind_ack cut short", pduBindAck, func(p []byte) []byte {
			return mustFinish(t, p[:30])
		}, ErrProtocol},
		{"transfer syntax that was not offered", pduBindAck, func(p []byte) []byte {
			return bytes.Replace(p, syntaxNDR.UUID[:], syntaxNDR64.UUID[:], 1)
		}, ErrProtocol},
		{"response without a signature", pduResponse, func(p []byte) []byte {
			p = p[:trailerAt(p)]
			binary.LittleEndian.PutUint16(p[8:], uint16(len(p)))
			binary.LittleEndian.PutUint16(p[10:], 0)
			return p
		}, ErrProtocol},
		{"response of a lower level", pduResponse, func(p []byte) []byte { p[trailerAt(p)+1]--; return p }, ErrProtocol},
		{"response with another stub", pduResponse, flip(callHeaderSize), gss.ErrSignature},
		{"response with another alloc_hint", pduResponse, flip(16), gss.ErrSignature},
		{"response to another call", pduResponse, flip(12), ErrProtocol},
		{"response of another presentation context", pduResponse, flip(20), ErrProtocol},
		{"response without its first fragment", pduResponse, set(3, flagLast), ErrProtocol},
		{"response without its last fragment", pduResponse, set(3, flagFirst), gss.ErrSignature},
		{"response that is none", pduResponse, set(2, byte(pduBindAck)), ErrProtocol},
		{"response cut short", pduResponse, func(p []byte) []byte { return mustFinish(t, p[:20]) }, ErrProtocol},
		{"response twice", pduResponse, func(p []byte) []byte { return slices.Concat(p, p) }, ErrProtocol},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var runs atomic.Int32
			conn := between(t, echoServer(&runs, toy{legs: 3}), func(ptype pduType, pdu []byte) []byte {
				if ptype == tt.of {
					return tt.change(pdu)
				}
				return pdu
			})
			c := NewClient(conn, ClientConfig{Interface: echoInterface, Initiator: toy{legs: 3}})
			err := c.Bind(t.Context())
			if bound := err == nil; bound != (tt.of == pduResponse) {
				t.Fatalf("Bind = %v", err)
			}
			for i := 0; i < 2 && err == nil; i++ {
				_, err = c.Call(t.Context(), 0, []byte("stub"))
			}
			if !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
			if _, again := c.Call(t.Context(), 0, []byte("stub")); !errors.Is(again, err) {
				t.Errorf("a call after that: %v, want %v", again, err)
			}
		})
	}
}
