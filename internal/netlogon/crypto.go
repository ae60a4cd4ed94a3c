package netlogon

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
)

// sessionKey is the key of a secure channel, as good as a password while the
// channel lasts.
type sessionKey [16]byte

// Format writes that there is a key, whatever the verb, and never the key.
func (sessionKey) Format(s fmt.State, _ rune) { fmt.Fprint(s, "[redacted]") }

// 3.1.4.3.1 AES Session-Key, from the NT hash of the machine account's
// password and both challenges.
func newSessionKey(hash [16]byte, client, server [8]byte) (k sessionKey) {
	mac := hmac.New(sha256.New, hash[:])
	mac.Write(client[:])
	mac.Write(server[:])
	copy(k[:], mac.Sum(nil))
	return k
}

// 3.1.4.4.1 AES Credential: a challenge encrypted under the session key, by
// which each end proves that it has it.
func (k sessionKey) credential(challenge [8]byte) [8]byte {
	newCFB8(k, [16]byte{}).encrypt(challenge[:])
	return challenge
}

// cfb8 is AES-128 in 8-bit cipher feedback mode (NIST SP 800-38A 6.3), which
// the standard library does not have. A value works in one direction.
type cfb8 struct {
	block cipher.Block
	shift [aes.BlockSize]byte
	out   [aes.BlockSize]byte
}

func newCFB8(key [16]byte, iv [16]byte) *cfb8 {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil // 16 octets are a key
	}
	return &cfb8{block: block, shift: iv}
}

// next takes in the ciphertext octet before, and gives the next octet of the
// key stream.
func (c *cfb8) next() byte {
	c.block.Encrypt(c.out[:], c.shift[:])
	copy(c.shift[:], c.shift[1:])
	return c.out[0]
}

func (c *cfb8) encrypt(b []byte) {
	for i := range b {
		b[i] ^= c.next()
		c.shift[len(c.shift)-1] = b[i]
	}
}

func (c *cfb8) decrypt(b []byte) {
	for i, in := range b {
		b[i] ^= c.next()
		c.shift[len(c.shift)-1] = in
	}
}
