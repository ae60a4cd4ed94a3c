package smb2

import (
	"crypto/rand"
	"fmt"
	"slices"
	"time"

	"github.com/seed05845750/bkrp/internal/smb2/wire"
)

// securityMode is what every NEGOTIATE response says.
const securityMode = wire.SigningEnabled | wire.SigningRequired

// saltSize is the length of the salt of the preauthentication hash, in octets.
const saltSize = 32

// The algorithms that this server has. It takes the first of the client's list
// that is among them.
var (
	ciphers = []wire.Cipher{wire.AES128GCM, wire.AES256GCM, wire.AES128CCM, wire.AES256CCM}
	signers = []wire.SigningAlgorithm{wire.AESGMAC, wire.AESCMAC, wire.HMACSHA256}
)

// negotiateSMB1 answers an SMB1 negotiate that offers SMB2 ([MS-SMB2]
// 3.3.5.3). It is the first message of a connection or none.
func (c *conn) negotiateSMB1(frame []byte) error {
	req, err := wire.ParseSMB1Negotiate(frame)
	if err != nil {
		return fmt.Errorf("%w: %w", errProtocol, err)
	}
	if c.dialect != 0 || c.wildcard {
		return fmt.Errorf("%w: SMB1 after the negotiation", errProtocol)
	}
	cfg := &c.srv.cfg
	dialect := Dialect(0)
	switch {
	case slices.Contains(req.Dialects, wire.SMB1NameWildcard) && cfg.MaxDialect > Dialect202:
		dialect = wire.DialectWildcard
	case slices.Contains(req.Dialects, wire.SMB1Name202) && cfg.MinDialect <= Dialect202:
		dialect = Dialect202
	default:
		return fmt.Errorf("%w: an SMB1 client without a dialect in common", errProtocol)
	}
	c.mu.Lock()
	c.window.take(0, 1)
	c.mu.Unlock()
	if dialect == wire.DialectWildcard {
		c.wildcard = true
	} else {
		c.dialect = dialect
	}
	c.reply.begin(&wire.Header{Command: wire.Negotiate, Credits: 1, Flags: wire.FlagResponse})
	resp := c.negotiated(dialect)
	*c.reply.buf = resp.Append(*c.reply.buf)
	return nil
}

// negotiate answers NEGOTIATE ([MS-SMB2] 3.3.5.4). An error ends the
// connection; a client with whom nothing is shared is told so first.
func (r *call) negotiate() error {
	c := r.c
	if c.dialect != 0 || r.NextCommand != 0 || r.SessionID != 0 {
		return fmt.Errorf("%w: NEGOTIATE where there is none", errProtocol)
	}
	req, err := wire.ParseNegotiateRequest(r.msg)
	if err != nil {
		r.finish(wire.StatusInvalidParameter)
		return nil
	}
	dialect := c.choose(req.Dialects)
	if dialect == 0 {
		r.finish(wire.StatusNotSupported)
		return nil
	}
	var contexts []wire.NegotiateContext
	c.cipher, c.signing = 0, wire.AESCMAC
	switch {
	case dialect == Dialect311:
		var st wire.Status
		if contexts, st = c.negotiateContexts(req.Contexts); st != wire.StatusSuccess {
			r.finish(st)
			return nil
		}
	case dialect >= Dialect300 && req.Capabilities&wire.CapEncryption != 0 && c.srv.cfg.Encryption != EncryptionOff:
		c.cipher = wire.AES128CCM
	}
	c.dialect = dialect
	resp := c.negotiated(dialect)
	resp.Contexts = contexts
	if dialect < Dialect311 && c.cipher != 0 {
		resp.Capabilities |= wire.CapEncryption
	}
	c.offer = offer{
		clientCapabilities: req.Capabilities,
		clientGUID:         req.ClientGUID,
		clientMode:         req.SecurityMode,
		capabilities:       resp.Capabilities,
	}
	r.respond(resp)
	r.finish(wire.StatusSuccess)
	if dialect == Dialect311 {
		c.preauth.add(r.msg)
		c.hashReply(&c.preauth)
	}
	return nil
}

// hashReply takes the response, final but for what send fills in, into a
// preauthentication hash. It therefore fills that in and sends it itself.
func (c *conn) hashReply(p *preauthHash) {
	r := &c.reply
	c.mu.Lock()
	defer c.mu.Unlock()
	msg := r.last()
	putCredits(msg, c.window.grant(r.parts[0].credits, c.credits()))
	p.add(msg)
	c.ship(r.buf, nil)
	r.parts = r.parts[:0]
}

// choose gives the highest dialect in common; 0 if there is none.
func (c *conn) choose(offered []Dialect) Dialect {
	cfg := &c.srv.cfg
	best := Dialect(0)
	for _, d := range offered {
		switch d {
		case Dialect202, Dialect210, Dialect300, Dialect302, Dialect311:
			if d >= cfg.MinDialect && d <= cfg.MaxDialect && d > best {
				best = d
			}
		}
	}
	return best
}

// negotiated is the response that all dialects have in common.
func (c *conn) negotiated(d Dialect) *wire.NegotiateResponse {
	cfg := &c.srv.cfg
	size := uint32(cfg.Limits.Transfer)
	resp := &wire.NegotiateResponse{
		SecurityMode: securityMode,
		Dialect:      d,
		ServerGUID:   cfg.ServerGUID,
		SystemTime:   filetime(cfg.Now()),
		Token:        cfg.NegotiateToken,
	}
	if d > Dialect202 && d != wire.DialectWildcard {
		resp.Capabilities = wire.CapLargeMTU
	} else {
		size = min(size, 64<<10) // [MS-SMB2] 3.3.5.4: without large transfers
	}
	resp.MaxTransact, resp.MaxRead, resp.MaxWrite = size, size, size
	return resp
}

// negotiateContexts answers the contexts of 3.1.1 ([MS-SMB2] 3.3.5.4): the
// hash has to be there, cipher and signing algorithm are as the client
// prefers, other types are skipped.
func (c *conn) negotiateContexts(offered []wire.NegotiateContext) ([]wire.NegotiateContext, wire.Status) {
	var answer []wire.NegotiateContext
	seen := make(map[wire.ContextType]bool)
	for _, ctx := range offered {
		switch ctx.Type {
		case wire.ContextPreauth, wire.ContextEncryption, wire.ContextSigning:
			if seen[ctx.Type] {
				return nil, wire.StatusInvalidParameter
			}
			seen[ctx.Type] = true
		default:
			continue
		}
		data, st := c.negotiateContext(ctx)
		if st != wire.StatusSuccess {
			return nil, st
		}
		if data != nil {
			answer = append(answer, wire.NegotiateContext{Type: ctx.Type, Data: data})
		}
	}
	if !seen[wire.ContextPreauth] {
		return nil, wire.StatusInvalidParameter
	}
	return answer, wire.StatusSuccess
}

func (c *conn) negotiateContext(ctx wire.NegotiateContext) ([]byte, wire.Status) {
	if ctx.Type == wire.ContextPreauth {
		p, err := wire.ParsePreauth(ctx.Data)
		if err != nil {
			return nil, wire.StatusInvalidParameter
		}
		if !slices.Contains(p.Hashes, wire.HashSHA512) {
			return nil, wire.StatusNoPreauthHashOverlap
		}
		salt := make([]byte, saltSize)
		if _, err := rand.Read(salt); err != nil {
			return nil, wire.StatusInsufficientResources
		}
		return wire.PreauthCapabilities{Hashes: []uint16{wire.HashSHA512}, Salt: salt}.Append(nil), wire.StatusSuccess
	}
	ids, err := wire.ParseAlgorithms(ctx.Data)
	if err != nil {
		return nil, wire.StatusInvalidParameter
	}
	if ctx.Type == wire.ContextSigning {
		for _, id := range ids {
			if a := wire.SigningAlgorithm(id); slices.Contains(signers, a) {
				c.signing = a
				return wire.AppendAlgorithms(nil, id), wire.StatusSuccess
			}
		}
		// [MS-SMB2] 3.3.5.4: without one in common the context is left out,
		// and AES-CMAC signs.
		return nil, wire.StatusSuccess
	}
	if c.srv.cfg.Encryption == EncryptionOff {
		return nil, wire.StatusSuccess // as by a server that knows of none
	}
	for _, id := range ids {
		if a := wire.Cipher(id); slices.Contains(ciphers, a) {
			c.cipher = a
			break
		}
	}
	return wire.AppendAlgorithms(nil, uint16(c.cipher)), wire.StatusSuccess
}

// filetime is the FILETIME of t ([MS-DTYP] 2.3.3).
func filetime(t time.Time) uint64 {
	const between1601And1970 = 11644473600
	return uint64(t.Unix()+between1601And1970)*1e7 + uint64(t.Nanosecond()/100)
}
