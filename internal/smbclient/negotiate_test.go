package smbclient

import (
	"bytes"
	"testing"

	"github.com/seed05845750/bkrp/internal/smb2/wire"
)

// Whatever a server answers to NEGOTIATE, it is read or refused.
func FuzzReadNegotiate(f *testing.F) {
	h := wire.Header{Command: wire.Negotiate, Flags: wire.FlagResponse}
	r := wire.NegotiateResponse{Dialect: wire.Dialect302, Token: []byte("token")}
	msg := r.Append(h.Append(nil))
	f.Add(append([]byte{0, 0, 0, byte(len(msg))}, msg...))
	f.Add(negotiateRequest())
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Add([]byte("HTTP/1.1 400 Bad Request\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ReadNegotiate(bytes.NewReader(b))
		if (r == nil) == (err == nil) {
			t.Errorf("%v, %v", r, err)
		}
	})
}
