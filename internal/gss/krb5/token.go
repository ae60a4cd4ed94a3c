package krb5

import (
	"crypto/aes"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"hash"

	"github.com/seed05845750/bkrp/internal/gss"
)

// tokenSize is the length of the header of a token (RFC 4121 4.2.6), in
// octets.
const tokenSize = 16

// Identifiers and flags of the tokens (RFC 4121 4.2.2, 4.2.6).
const (
	tokenMIC  = 0x0404
	tokenWrap = 0x0504

	fromAcceptor = 0x1
	sealed       = 0x2
	acceptorKey  = 0x4
)

// cfxKeys are the derived keys of one direction.
type cfxKeys struct {
	cipher *aesCipher
	mic    hash.Hash
	sum    []byte
}

// usages are the key usages of a direction (RFC 4121 2).
func (s *session) usages(sending bool) (seal, sign uint32) {
	if sending == s.acceptor {
		return usageAcceptorSeal, usageAcceptorSign
	}
	return usageInitiatorSeal, usageInitiatorSign
}

func (s *session) cipherOf(d *direction) (*aesCipher, error) {
	if d.cfx.cipher == nil {
		usage, _ := s.usages(d == &s.send)
		c, err := newCipher(s.key, usage)
		if err != nil {
			return nil, err
		}
		d.cfx.cipher = c
	}
	return d.cfx.cipher, nil
}

// header writes the header of the next token of a direction.
func (s *session) header(id uint16, flags byte, d *direction, ec, rrc uint16) (h [tokenSize]byte) {
	if s.acceptor == (d == &s.send) {
		flags |= fromAcceptor
	}
	if s.ownKey {
		flags |= acceptorKey
	}
	binary.BigEndian.PutUint16(h[:], id)
	h[2], h[3] = flags, 0xFF
	binary.BigEndian.PutUint16(h[4:], ec)
	binary.BigEndian.PutUint16(h[6:], rrc)
	binary.BigEndian.PutUint64(h[8:], d.next)
	return h
}

// broken is the end of a direction.
func (d *direction) broken(what string) error {
	d.dead = true
	return fmt.Errorf("krb5: message %d: %s: %w", d.next, what, gss.ErrSignature)
}

// macSize is the length of a checksum of the context's key.
func (s *session) macSize() int {
	p, _ := s.key.Type.profile()
	return p.macSize
}

// filler is what stands between the message and the repeated header of a
// sealed token, its EC: a block in DCE style, where Windows wants one, and
// nothing otherwise.
func (s *session) filler() int {
	if s.flags&gss.DCEStyle != 0 {
		return aes.BlockSize
	}
	return 0
}

// SignatureSize implements gss.Context: header, filler, repeated header,
// checksum and confounder; 76 octets in DCE style with AES and SHA-1.
func (s *session) SignatureSize() int {
	return tokenSize + s.filler() + tokenSize + s.macSize() + aes.BlockSize
}

// SignSize implements gss.Context: header and checksum.
func (s *session) SignSize() int { return tokenSize + s.macSize() }

// Seal implements gss.Context by GSS_WrapEx ([MS-KILE] 3.4.5.4): a Wrap token
// of RFC 4121 4.2.4 around msg[from:to], rotated so that all else stands in
// front of it. The checksum covers the rest of msg too, in its place.
func (s *session) Seal(dst, msg []byte, from, to int) ([]byte, error) {
	d := &s.send
	if s.flags&gss.Confidentiality == 0 {
		return dst, fmt.Errorf("krb5: sealing was not negotiated: %w", gss.ErrRefused)
	}
	c, err := s.cipherOf(d)
	if err != nil {
		return dst, err
	}
	filler := s.filler()
	head := s.header(tokenWrap, sealed, d, uint16(filler), 0)
	buf := s.scratch.get(aes.BlockSize + to - from + filler + tokenSize)
	defer s.scratch.put(buf)
	b := *buf
	clear(b[aes.BlockSize+to-from:])
	rand.Read(b[:aes.BlockSize])
	copy(b[aes.BlockSize:], msg[from:to])
	copy(b[len(b)-tokenSize:], head[:])
	tail := b[aes.BlockSize+to-from:]

	c.startMAC()
	if !c.etm {
		c.digest(b[:aes.BlockSize], msg, tail)
	}
	c.encryptCTS(b)
	copy(msg[from:to], b[aes.BlockSize:])
	if c.etm {
		c.digest(b[:aes.BlockSize], msg, tail)
	}
	d.next++
	// Windows rotates by RRC and EC together, hence RRC leaves out the filler.
	binary.BigEndian.PutUint16(head[6:], uint16(tokenSize+c.macSize))
	dst = append(dst, head[:]...)
	dst = append(dst, tail...)
	dst = append(dst, c.endMAC()...)
	return append(dst, b[:aes.BlockSize]...), nil
}

func (c *aesCipher) digest(parts ...[]byte) {
	for _, p := range parts {
		c.mac.Write(p)
	}
}

// Unseal implements gss.Context by GSS_UnwrapEx ([MS-KILE] 3.4.5.5). It takes
// any filler, and both rotations that there are: by RRC alone, as the RFC has
// it, and by RRC and EC.
func (s *session) Unseal(msg []byte, from, to int, sig []byte) error {
	d := &s.receive
	if s.flags&gss.Confidentiality == 0 {
		return fmt.Errorf("krb5: sealing was not negotiated: %w", gss.ErrRefused)
	}
	c, err := s.cipherOf(d)
	if err != nil {
		return err
	}
	if d.dead {
		return d.broken("context broken before")
	}
	filler, err := s.cutWrap(d, sig)
	if err != nil {
		return err
	}
	tail := filler + tokenSize
	buf := s.scratch.get(aes.BlockSize + to - from + tail)
	defer s.scratch.put(buf)
	b := *buf
	split := tokenSize + tail + c.macSize
	copy(b, sig[split:])
	copy(b[aes.BlockSize:], msg[from:to])
	copy(b[aes.BlockSize+to-from:], sig[tokenSize:tokenSize+tail])

	c.startMAC()
	if c.etm {
		c.digest(b[:aes.BlockSize], msg, b[aes.BlockSize+to-from:])
	}
	c.decryptCTS(b)
	copy(msg[from:to], b[aes.BlockSize:])
	if !c.etm {
		c.digest(b[:aes.BlockSize], msg, b[aes.BlockSize+to-from:])
	}
	// The header once more, as it was before the rotation.
	want := s.header(tokenWrap, sealed, d, uint16(filler), 0)
	good := subtle.ConstantTimeCompare(c.endMAC(), sig[split-c.macSize:split])
	good &= subtle.ConstantTimeCompare(want[:], b[len(b)-tokenSize:])
	if good != 1 {
		return d.broken("checksum")
	}
	d.next++
	return nil
}

// cutWrap checks the header of a sealed token and gives the length of its
// filler.
func (s *session) cutWrap(d *direction, sig []byte) (filler int, err error) {
	fixed := tokenSize + tokenSize + s.macSize() + aes.BlockSize
	if len(sig) < fixed {
		return 0, d.broken("token cut short")
	}
	filler = len(sig) - fixed
	rrc := int(binary.BigEndian.Uint16(sig[6:]))
	if turned := tokenSize + s.macSize(); rrc != turned && rrc != turned+filler {
		return 0, d.broken("rotation")
	}
	want := s.header(tokenWrap, sealed, d, uint16(filler), uint16(rrc))
	if filler > 0xFFFF || subtle.ConstantTimeCompare(want[:], sig[:tokenSize]) != 1 {
		return 0, d.broken("header or sequence number")
	}
	return filler, nil
}

// Sign implements gss.Context by a MIC token (RFC 4121 4.2.6.1).
func (s *session) Sign(dst, msg []byte) ([]byte, error) {
	d := &s.send
	head, sum := s.mic(d, msg)
	d.next++
	return append(append(dst, head[:]...), sum...), nil
}

// Verify implements gss.Context for what Sign makes.
func (s *session) Verify(msg, sig []byte) error {
	d := &s.receive
	if d.dead {
		return d.broken("context broken before")
	}
	head, sum := s.mic(d, msg)
	if len(sig) != tokenSize+len(sum) {
		return d.broken("token of another length")
	}
	good := subtle.ConstantTimeCompare(head[:], sig[:tokenSize])
	good &= subtle.ConstantTimeCompare(sum, sig[tokenSize:])
	if good != 1 {
		return d.broken("checksum or sequence number")
	}
	d.next++
	return nil
}

// mic is the header and the checksum over msg and it of the next MIC token.
func (s *session) mic(d *direction, msg []byte) (head [tokenSize]byte, sum []byte) {
	if d.cfx.mic == nil {
		_, usage := s.usages(d == &s.send)
		d.cfx.mic, _ = newChecksum(s.key, usage)
	}
	head = s.header(tokenMIC, 0, d, 0xFFFF, 0xFFFF)
	d.cfx.mic.Reset()
	d.cfx.mic.Write(msg)
	d.cfx.mic.Write(head[:])
	d.cfx.sum = d.cfx.mic.Sum(d.cfx.sum[:0])
	return head, d.cfx.sum[:s.macSize()]
}
