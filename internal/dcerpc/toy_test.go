package dcerpc

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/gss"
)

// toy is a mechanism for tests: tokens "leg 1", "leg 2" ... go back and forth,
// and messages are protected under a fixed key, with sequence numbers.
type toy struct {
	legs   int // tokens in total, of both ends
	flags  gss.Flags
	expiry time.Time
	refuse bool
	nobody bool // the acceptor knows no SID of the caller
}

var alice = gss.Identity{SID: dtyp.MustParseSID("S-1-5-21-1-2-3-1103"), Domain: "BKRP", Name: "alice", Mechanism: "toy"}

func (m toy) Accept(gss.AcceptOptions) gss.Exchange {
	return &toyExchange{toy: m, leg: 1, acceptor: true}
}
func (m toy) Initiate(gss.InitiateOptions) gss.Exchange { return &toyExchange{toy: m, leg: 0} }

type toyExchange struct {
	toy
	leg      int // of the last token in either direction
	acceptor bool
}

func (e *toyExchange) Step(_ context.Context, in []byte) ([]byte, gss.Context, error) {
	if e.acceptor && e.refuse {
		return nil, nil, gss.ErrLogon
	}
	if in == nil && e.leg > 0 || in != nil && string(in) != fmt.Sprintf("leg %d", e.leg) {
		return nil, nil, gss.ErrToken
	}
	next := e.leg + 1
	e.leg += 2
	var out []byte
	if next <= e.legs {
		out = fmt.Appendf(nil, "leg %d", next)
	}
	if next < e.legs {
		return out, nil, nil
	}
	c := &toyContext{flags: e.flags, expiry: e.expiry}
	if e.acceptor && !e.nobody {
		c.id = alice
	}
	if c.flags == 0 {
		c.flags = gss.Integrity | gss.Confidentiality
	}
	return out, c, nil
}

// toyContext has the same key in both directions, so that a test can make
// messages of either end with it.
type toyContext struct {
	id         gss.Identity
	flags      gss.Flags
	expiry     time.Time
	sent, rcvd uint64
}

func (c *toyContext) Identity() gss.Identity { return c.id }
func (c *toyContext) Flags() gss.Flags       { return c.flags }
func (c *toyContext) SessionKey() []byte     { return bytes.Repeat([]byte{7}, 16) }
func (c *toyContext) Expiry() time.Time      { return c.expiry }
func (c *toyContext) SignatureSize() int     { return 20 }
func (c *toyContext) SignSize() int          { return 16 }

func toyMAC(seq uint64, msg []byte, size int) []byte {
	h := hmac.New(sha256.New, []byte("toy"))
	h.Write(binary.BigEndian.AppendUint64(nil, seq))
	h.Write(msg)
	return h.Sum(nil)[:size]
}

func toyCipher(seq uint64, b []byte) {
	for i := range b {
		b[i] ^= byte(seq) ^ 0x5a
	}
}

func (c *toyContext) Seal(dst, msg []byte, from, to int) ([]byte, error) {
	mac := toyMAC(c.sent, msg, 20)
	toyCipher(c.sent, msg[from:to])
	c.sent++
	return append(dst, mac...), nil
}

func (c *toyContext) Unseal(msg []byte, from, to int, sig []byte) error {
	toyCipher(c.rcvd, msg[from:to])
	mac := toyMAC(c.rcvd, msg, 20)
	c.rcvd++
	if !hmac.Equal(mac, sig) {
		return gss.ErrSignature
	}
	return nil
}

func (c *toyContext) Sign(dst, msg []byte) ([]byte, error) {
	c.sent++
	return append(dst, toyMAC(c.sent-1, msg, 16)...), nil
}

func (c *toyContext) Verify(msg, sig []byte) error {
	c.rcvd++
	if !hmac.Equal(toyMAC(c.rcvd-1, msg, 16), sig) {
		return gss.ErrSignature
	}
	return nil
}

func asFault(err error) (Fault, bool) {
	var f Fault
	ok := errors.As(err, &f)
	return f, ok
}
