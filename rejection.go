package bkrp

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// RejectionKey makes up the message that stands in for the one a ciphertext
// with bad padding does not have. It is 32 octets, known to nobody but
// the holders of the private key, and the same for all of them.
type RejectionKey struct {
	opaque
	key [sha256.Size]byte
}

// NewRejectionKey derives the RejectionKey of an RSA key from its private
// exponent, big-endian; leading zeros do not count. A hardware module that
// keeps the exponent derives it from another secret which belongs to the key.
func NewRejectionKey(privateExponent []byte) *RejectionKey {
	h := hmac.New(sha256.New, bytes.TrimLeft(privateExponent, "\x00"))
	h.Write([]byte("bkrp ClientWrap implicit rejection 1"))
	r := new(RejectionKey)
	h.Sum(r.key[:0])
	return r
}

// Clear overwrites the key.
func (r *RejectionKey) Clear() { clear(r.key[:]) }

// synthesize is the encoded message for a ciphertext, as long as that, and the
// length of the message at its end: any from 0 to what a valid padding leaves
// room for. Both depend on nothing but the key and the ciphertext, so that the
// same ciphertext has the same one each time, as a valid ciphertext does.
func (r *RejectionKey) synthesize(ciphertext []byte) (em []byte, n uint64, err error) {
	h := hmac.New(sha256.New, r.key[:])
	h.Write(ciphertext)
	b, err := hkdf.Expand(sha256.New, h.Sum(nil), "message", 4+len(ciphertext))
	if err != nil {
		return nil, 0, fmt.Errorf("bkrp: deriving a synthetic message: %w", err)
	}
	choices := uint64(len(ciphertext) - pkcs1Overhead + 1)
	n = uint64(binary.BigEndian.Uint32(b)) * choices >> 32
	return b[4:], n, nil
}
