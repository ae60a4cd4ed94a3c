package smb2

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"hash"

	"github.com/seed05845750/bkrp/internal/smb2/wire"
)

// signer makes the signatures of one direction of a session ([MS-SMB2]
// 3.1.4.1). One goroutine uses it at a time; it does not allocate.
type signer interface {
	// sum gives the signature of msg, a whole message with its padding, as if
	// the signature field in its header were zero: 16 octets, valid until the
	// next call.
	sum(msg []byte) []byte
}

// newSigner makes the signer of a dialect; before 3.1.1 the algorithm follows
// from it.
func newSigner(d wire.Dialect, a wire.SigningAlgorithm, key []byte) (signer, error) {
	switch {
	case d < wire.Dialect300 || d == wire.Dialect311 && a == wire.HMACSHA256:
		return &hmacSigner{h: hmac.New(sha256.New, key)}, nil
	case d == wire.Dialect311 && a == wire.AESGMAC:
		return newGMACSigner(key)
	}
	c, err := newCMAC(key)
	if err != nil {
		return nil, err
	}
	return &cmacSigner{c: c}, nil
}

// verify checks the signature in the header of msg.
func verify(s signer, msg []byte) bool {
	return subtle.ConstantTimeCompare(s.sum(msg), msg[wire.OffsetSignature:wire.HeaderSize]) == 1
}

// sign sets the signature in the header of msg, whose flags are final.
func sign(s signer, msg []byte) {
	copy(msg[wire.OffsetSignature:wire.HeaderSize], s.sum(msg))
}

var zeroSignature [16]byte

// hmacSigner is HMAC-SHA256 cut to 16 octets, of 2.0.2 and 2.1 ([MS-SMB2]
// 3.1.4.1).
type hmacSigner struct {
	h   hash.Hash
	mac [sha256.Size]byte
}

func (s *hmacSigner) sum(msg []byte) []byte {
	s.h.Reset()
	s.h.Write(msg[:wire.OffsetSignature])
	s.h.Write(zeroSignature[:])
	s.h.Write(msg[wire.HeaderSize:])
	return s.h.Sum(s.mac[:0])[:16]
}

// cmacSigner is AES-128-CMAC, of 3.0 and 3.0.2, and of 3.1.1 by negotiation.
type cmacSigner struct {
	c *cmac
}

func (s *cmacSigner) sum(msg []byte) []byte {
	return s.c.sum(msg[:wire.OffsetSignature], zeroSignature[:], msg[wire.HeaderSize:])
}

// gmacSigner is AES-128-GMAC, of 3.1.1 by negotiation. The nonce is made of
// the message id, so no two messages of one direction may have the same one:
// interim responses are not signed ([MS-SMB2] 3.1.4.1, 3.3.4.1.1).
type gmacSigner struct {
	aead  cipher.AEAD
	nonce [12]byte
	tag   [16]byte
}

func newGMACSigner(key []byte) (*gmacSigner, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("smb2: GMAC key: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("smb2: GMAC: %w", err)
	}
	return &gmacSigner{aead: aead}, nil
}

// sum borrows the signature field of msg while it computes: GCM takes its
// associated data in one piece.
func (s *gmacSigner) sum(msg []byte) []byte {
	field := msg[wire.OffsetSignature:wire.HeaderSize]
	saved := [16]byte(field)
	clear(field)
	copy(s.nonce[:8], msg[wire.OffsetMessageID:])
	s.nonce[8] = 0
	if msg[wire.OffsetFlags]&byte(wire.FlagResponse) != 0 {
		s.nonce[8] |= 1
	}
	if wire.Command(msg[12])|wire.Command(msg[13])<<8 == wire.Cancel {
		s.nonce[8] |= 2
	}
	s.aead.Seal(s.tag[:0], s.nonce[:], nil, msg)
	copy(field, saved[:])
	return s.tag[:]
}
