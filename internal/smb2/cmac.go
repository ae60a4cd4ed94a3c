package smb2

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"fmt"
)

// cmac is AES-CMAC (RFC 4493, NIST SP 800-38B), the signature of SMB 3.0 and
// the one every client of 3.1.1 knows. The standard library does not have it
// and no maintained module exports it; it is short and held to the RFC's
// vectors. One goroutine uses a cmac at a time; it does not allocate.
type cmac struct {
	block  cipher.Block
	k1, k2 [aes.BlockSize]byte
	state  [aes.BlockSize]byte
	mac    [aes.BlockSize]byte
}

func newCMAC(key []byte) (*cmac, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("smb2: CMAC key: %w", err)
	}
	c := &cmac{block: block}
	// RFC 4493 2.3: the subkeys are the encrypted zero block doubled once and
	// twice in the field.
	block.Encrypt(c.k1[:], c.k1[:])
	double(&c.k1)
	c.k2 = c.k1
	double(&c.k2)
	return c, nil
}

// double multiplies b by x in GF(2^128), without a branch on secret bits.
func double(b *[aes.BlockSize]byte) {
	carry := b[0] >> 7
	for i := range aes.BlockSize - 1 {
		b[i] = b[i]<<1 | b[i+1]>>7
	}
	b[aes.BlockSize-1] = b[aes.BlockSize-1]<<1 ^ carry*0x87
}

// sum gives the MAC over the parts, one after the other; all but the last are
// whole blocks. The result is valid until the next call.
func (c *cmac) sum(parts ...[]byte) []byte {
	c.state = [aes.BlockSize]byte{}
	last := parts[len(parts)-1]
	for _, p := range parts[:len(parts)-1] {
		c.absorb(p)
	}
	// RFC 4493 2.4: the last block, whole or padded, is mixed with a subkey.
	n := 0
	if len(last) > 0 {
		n = (len(last) - 1) &^ (aes.BlockSize - 1)
	}
	c.absorb(last[:n])
	tail := last[n:]
	subtle.XORBytes(c.state[:], c.state[:], tail)
	if len(tail) == aes.BlockSize {
		subtle.XORBytes(c.state[:], c.state[:], c.k1[:])
	} else {
		c.state[len(tail)] ^= 0x80
		subtle.XORBytes(c.state[:], c.state[:], c.k2[:])
	}
	c.block.Encrypt(c.mac[:], c.state[:])
	return c.mac[:]
}

// absorb takes whole blocks.
func (c *cmac) absorb(p []byte) {
	for ; len(p) >= aes.BlockSize; p = p[aes.BlockSize:] {
		subtle.XORBytes(c.state[:], c.state[:], p[:aes.BlockSize])
		c.block.Encrypt(c.state[:], c.state[:])
	}
}
