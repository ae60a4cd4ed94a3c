package krb5

import (
	"crypto/md5"
	"crypto/rand"
	"crypto/rc4"
	"crypto/subtle"
	"encoding/binary"
	"fmt"

	"github.com/seed05845750/bkrp/internal/gss"
)

// rc4Session is a context whose key is of rc4-hmac. Its tokens are those of RFC
// 4757 7, in the frame of RFC 1964 1.2, and not of RFC 4121.
type rc4Session struct {
	*session
	// What is derived from the key once (RFC 4757 7.2, 7.3).
	signing, sequence, sealing []byte
}

// Identifiers and algorithms of the tokens (RFC 4757 7.2, 7.3).
const (
	tokenRC4MIC  = 0x0101
	tokenRC4Wrap = 0x0201
	rc4HMACAlg   = 0x1100
	rc4SealAlg   = 0x1000
)

// Lengths of the parts of a token, in octets.
const (
	rc4FrameSize  = 13 // the frame of RFC 1964 around less than 128 octets
	rc4HeaderSize = 8
	rc4SeqSize    = 8
	rc4SumSize    = 8
	rc4MICSize    = rc4FrameSize + rc4HeaderSize + rc4SeqSize + rc4SumSize
	rc4WrapSize   = rc4MICSize + rc4Confounder
)

// The salts of the checksums (RFC 4757 7.2, 7.3).
const (
	rc4SaltWrap = 13
	rc4SaltMIC  = 15
)

func newRC4Session(s *session) *rc4Session {
	var zero [4]byte
	local := make([]byte, len(s.key.Value))
	for i, b := range s.key.Value {
		local[i] = b ^ 0xF0
	}
	return &rc4Session{
		session:  s,
		signing:  hmacMD5(s.key.Value, []byte("signaturekey\x00")),
		sequence: hmacMD5(s.key.Value, zero[:]),
		sealing:  hmacMD5(local, zero[:]),
	}
}

// SignatureSize implements gss.Context: 45 octets.
func (s *rc4Session) SignatureSize() int { return rc4WrapSize }

// SignSize implements gss.Context: 37 octets.
func (s *rc4Session) SignSize() int { return rc4MICSize }

// rc4Header is the beginning of a token, which the checksum covers.
func rc4Header(id uint16) (h [rc4HeaderSize]byte) {
	binary.BigEndian.PutUint16(h[:], id)
	binary.BigEndian.PutUint16(h[2:], rc4HMACAlg)
	binary.BigEndian.PutUint32(h[4:], 0xFFFFFFFF)
	if id == tokenRC4Wrap {
		binary.BigEndian.PutUint16(h[4:], rc4SealAlg)
	}
	return h
}

// checksum is SGN_CKSUM over the parts of a message.
func (s *rc4Session) checksum(salt uint32, parts ...[]byte) []byte {
	h := md5.New()
	h.Write(binary.LittleEndian.AppendUint32(nil, salt))
	for _, p := range parts {
		h.Write(p)
	}
	return hmacMD5(s.signing, h.Sum(nil))[:rc4SumSize]
}

// number is SND_SEQ of the next token of a direction: the sequence number and
// who sends it, encrypted under the checksum.
func (s *rc4Session) number(d *direction, sum []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(d.next))
	var sender uint32
	if s.acceptor == (d == &s.send) {
		sender = 0xFFFFFFFF
	}
	b = binary.BigEndian.AppendUint32(b, sender)
	rc4Apply(hmacMD5(s.sequence, sum), b)
	return b
}

// stream is the cipher of the next sealed message of a direction.
func (s *rc4Session) stream(d *direction) (*rc4.Cipher, error) {
	c, err := rc4.NewCipher(hmacMD5(s.sealing, binary.BigEndian.AppendUint32(nil, uint32(d.next))))
	if err != nil {
		return nil, fmt.Errorf("krb5: making a cipher: %w", err)
	}
	return c, nil
}

// rc4Sequence draws the acceptor's first sequence number, at least 2^28 from the
// initiator's: stream does not tell the directions apart, so that a number which
// both came to would encrypt two messages by one key stream.
func rc4Sequence(theirs uint32) uint32 {
	const bits = 30 // as newSequence
	return (theirs + 1<<(bits-2) + newSequence()>>2) & (1<<bits - 1)
}

// maySeal refuses what was not negotiated. Outside of DCE style a Wrap token
// has its padding behind the message, which it encloses: SMB seals nothing by
// GSS-API, and RPC comes in DCE style.
func (s *rc4Session) maySeal() error {
	if s.flags&gss.Confidentiality == 0 || s.flags&gss.DCEStyle == 0 {
		return fmt.Errorf("krb5: sealing was not negotiated, or with rc4-hmac and not for RPC: %w", gss.ErrRefused)
	}
	return nil
}

// Seal implements gss.Context by GSS_WrapEx (RFC 4757 7.3, [MS-KILE]
// 3.4.5.4.1): a Wrap token whose frame ends before msg[from:to].
func (s *rc4Session) Seal(dst, msg []byte, from, to int) ([]byte, error) {
	d := &s.send
	if err := s.maySeal(); err != nil {
		return dst, err
	}
	c, err := s.stream(d)
	if err != nil {
		return dst, err
	}
	head := rc4Header(tokenRC4Wrap)
	var confounder [rc4Confounder]byte
	rand.Read(confounder[:])
	sum := s.checksum(rc4SaltWrap, head[:], confounder[:], msg)
	c.XORKeyStream(confounder[:], confounder[:])
	c.XORKeyStream(msg[from:to], msg[from:to])
	token, err := rc4Token(head, s.number(d, sum), sum, confounder[:])
	if err != nil {
		return dst, err
	}
	d.next++
	return append(dst, token...), nil
}

// rc4Token puts a token together.
func rc4Token(head [rc4HeaderSize]byte, parts ...[]byte) ([]byte, error) {
	body := append([]byte(nil), head[2:]...)
	for _, p := range parts {
		body = append(body, p...)
	}
	return frame(binary.BigEndian.Uint16(head[:]), body)
}

// cut takes a token of the direction apart, whose header and sequence number
// have to be the expected ones.
func (s *rc4Session) cut(d *direction, head [rc4HeaderSize]byte, size int, token []byte) (sum, rest []byte, err error) {
	if len(token) != size {
		return nil, nil, d.broken("token of another length")
	}
	id, body, framed, err := unframe(token)
	if err != nil || !framed || id != binary.BigEndian.Uint16(head[:]) || len(body) != size-rc4FrameSize-2 {
		return nil, nil, d.broken("not the token that it should be")
	}
	algorithms, number, body := body[:rc4HeaderSize-2], body[rc4HeaderSize-2:][:rc4SeqSize], body[rc4HeaderSize-2+rc4SeqSize:]
	sum, rest = body[:rc4SumSize], body[rc4SumSize:]
	good := subtle.ConstantTimeCompare(algorithms, head[2:])
	good &= subtle.ConstantTimeCompare(number, s.number(d, sum))
	if good != 1 {
		return nil, nil, d.broken("header or sequence number")
	}
	return sum, rest, nil
}

// Unseal implements gss.Context by GSS_UnwrapEx ([MS-KILE] 3.4.5.5).
func (s *rc4Session) Unseal(msg []byte, from, to int, sig []byte) error {
	d := &s.receive
	if err := s.maySeal(); err != nil {
		return err
	}
	if d.dead {
		return d.broken("context broken before")
	}
	head := rc4Header(tokenRC4Wrap)
	sum, sealed, err := s.cut(d, head, rc4WrapSize, sig)
	if err != nil {
		return err
	}
	c, err := s.stream(d)
	if err != nil {
		return err
	}
	var confounder [rc4Confounder]byte
	c.XORKeyStream(confounder[:], sealed)
	c.XORKeyStream(msg[from:to], msg[from:to])
	if subtle.ConstantTimeCompare(sum, s.checksum(rc4SaltWrap, head[:], confounder[:], msg)) != 1 {
		return d.broken("checksum")
	}
	d.next++
	return nil
}

// Sign implements gss.Context by a MIC token (RFC 4757 7.2).
func (s *rc4Session) Sign(dst, msg []byte) ([]byte, error) {
	d := &s.send
	head := rc4Header(tokenRC4MIC)
	sum := s.checksum(rc4SaltMIC, head[:], msg)
	token, err := rc4Token(head, s.number(d, sum), sum)
	if err != nil {
		return dst, err
	}
	d.next++
	return append(dst, token...), nil
}

// Verify implements gss.Context for what Sign makes.
func (s *rc4Session) Verify(msg, sig []byte) error {
	d := &s.receive
	if d.dead {
		return d.broken("context broken before")
	}
	head := rc4Header(tokenRC4MIC)
	sum, _, err := s.cut(d, head, rc4MICSize, sig)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(sum, s.checksum(rc4SaltMIC, head[:], msg)) != 1 {
		return d.broken("checksum")
	}
	d.next++
	return nil
}
