package smb2

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	ccmNonceSize = 11 // [MS-SMB2] 2.2.41
	ccmTagSize   = 16
)

var errCCM = errors.New("smb2: message authentication failed")

// ccm is AES-CCM (RFC 3610, NIST SP 800-38C) with the nonce and tag sizes of
// [MS-SMB2] 2.2.41: the only cipher of SMB 3.0 and 3.0.2. The standard library
// does not have it and no maintained module exports it. It is a cipher.AEAD,
// except that one goroutine uses it at a time: its blocks of scratch stand in
// the struct, so that it does not allocate.
type ccm struct {
	block   cipher.Block
	mac     [aes.BlockSize]byte
	counter [aes.BlockSize]byte
	stream  [aes.BlockSize]byte
}

var _ cipher.AEAD = (*ccm)(nil)

func newCCM(key []byte) (*ccm, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("smb2: CCM key: %w", err)
	}
	return &ccm{block: block}, nil
}

// NonceSize is 11 octets.
func (c *ccm) NonceSize() int { return ccmNonceSize }

// Overhead is the length of the tag, 16 octets.
func (c *ccm) Overhead() int { return ccmTagSize }

// Seal is cipher.AEAD's. dst may be plaintext[:0].
func (c *ccm) Seal(dst, nonce, plaintext, data []byte) []byte {
	c.start(nonce, len(plaintext), data)
	c.absorb(plaintext)
	tag := c.tag()
	n := len(dst)
	dst = append(dst, plaintext...)
	c.xorStream(dst[n:])
	return append(dst, tag[:]...)
}

// Open is cipher.AEAD's. dst may be sealed[:0]. On error the text it has
// decrypted is cleared.
func (c *ccm) Open(dst, nonce, sealed, data []byte) ([]byte, error) {
	if len(sealed) < ccmTagSize {
		return nil, errCCM
	}
	var want [ccmTagSize]byte
	text := sealed[:len(sealed)-ccmTagSize]
	copy(want[:], sealed[len(text):])
	c.start(nonce, len(text), data)
	n := len(dst)
	dst = append(dst, text...)
	c.xorStream(dst[n:])
	c.absorb(dst[n:])
	tag := c.tag()
	if subtle.ConstantTimeCompare(tag[:], want[:]) != 1 {
		clear(dst[n:])
		return nil, errCCM
	}
	return dst, nil
}

// start begins the MAC with the block B_0 and the associated data (RFC 3610
// 2.2) and the counter with A_1 (RFC 3610 2.3). The length field has 32 bits,
// more than a frame can have; the associated data of SMB, 32 octets, fits the
// short form of its length.
func (c *ccm) start(nonce []byte, length int, data []byte) {
	const lengthField = 15 - ccmNonceSize
	c.mac[0] = (ccmTagSize-2)/2<<3 | (lengthField - 1)
	if len(data) > 0 {
		c.mac[0] |= 0x40
	}
	copy(c.mac[1:1+ccmNonceSize], nonce)
	binary.BigEndian.PutUint32(c.mac[12:], uint32(length))
	c.block.Encrypt(c.mac[:], c.mac[:])
	if len(data) > 0 {
		var head [aes.BlockSize]byte
		binary.BigEndian.PutUint16(head[:], uint16(len(data)))
		n := copy(head[2:], data)
		c.absorb(head[:2+n])
		c.absorb(data[n:])
	}
	c.counter[0] = lengthField - 1
	copy(c.counter[1:1+ccmNonceSize], nonce)
	binary.BigEndian.PutUint32(c.counter[12:], 1)
}

// absorb takes p into the MAC, its last block padded with zeros.
func (c *ccm) absorb(p []byte) {
	for len(p) > 0 {
		n := subtle.XORBytes(c.mac[:], c.mac[:], p)
		c.block.Encrypt(c.mac[:], c.mac[:])
		p = p[n:]
	}
}

// xorStream encrypts or decrypts p in place.
func (c *ccm) xorStream(p []byte) {
	for len(p) > 0 {
		c.block.Encrypt(c.stream[:], c.counter[:])
		n := subtle.XORBytes(p, p, c.stream[:])
		p = p[n:]
		binary.BigEndian.PutUint32(c.counter[12:], binary.BigEndian.Uint32(c.counter[12:])+1)
	}
}

// tag gives the MAC encrypted with the block of counter zero.
func (c *ccm) tag() (t [ccmTagSize]byte) {
	binary.BigEndian.PutUint32(c.counter[12:], 0)
	c.block.Encrypt(c.stream[:], c.counter[:])
	subtle.XORBytes(t[:], c.mac[:], c.stream[:])
	binary.BigEndian.PutUint32(c.counter[12:], 1)
	return t
}
