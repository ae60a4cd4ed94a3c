package krb5

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"hash"

	"github.com/seed05845750/bkrp/internal/gss"
)

// aesCipher encrypts and decrypts for one usage of one AES key. It belongs to
// one goroutine.
type aesCipher struct {
	profile
	block cipher.Block
	mac   hash.Hash
	enc   ivMode
	dec   ivMode
	sum   []byte
}

// ivMode is what crypto/cipher gives for CBC: a mode whose chaining value can
// be set anew for each message, without a new key schedule.
type ivMode interface {
	cipher.BlockMode
	SetIV([]byte)
}

var zeroBlock [aes.BlockSize]byte

// newCipher derives the keys of one usage. k has been checked.
func newCipher(k Key, usage uint32) (*aesCipher, error) {
	p, ok := k.Type.profile()
	if !ok {
		return nil, fmt.Errorf("krb5: %v does not encrypt here: %w", k.Type, gss.ErrRefused)
	}
	block, err := aes.NewCipher(derive(k, p, usage, forEncryption))
	if err != nil {
		return nil, fmt.Errorf("krb5: deriving a key: %w", err)
	}
	c := &aesCipher{profile: p, block: block, mac: hmac.New(p.hash, derive(k, p, usage, forIntegrity))}
	var encOK, decOK bool
	c.enc, encOK = cipher.NewCBCEncrypter(block, zeroBlock[:]).(ivMode)
	c.dec, decOK = cipher.NewCBCDecrypter(block, zeroBlock[:]).(ivMode)
	if !encOK || !decOK {
		return nil, fmt.Errorf("krb5: crypto/cipher gives a CBC without SetIV: %w", gss.ErrMechanism)
	}
	return c, nil
}

// newChecksum is the MAC of a checksum (RFC 3961 5.4, RFC 8009 5) and how many
// of its octets count. k has been checked to be AES.
func newChecksum(k Key, usage uint32) (hash.Hash, int) {
	p, _ := k.Type.profile()
	return hmac.New(p.hash, derive(k, p, usage, forChecksum)), p.macSize
}

// encrypt is confounder and plaintext in CTS, and the MAC.
func (c *aesCipher) encrypt(plain []byte) []byte {
	b := make([]byte, aes.BlockSize+len(plain), aes.BlockSize+len(plain)+c.macSize)
	rand.Read(b[:aes.BlockSize])
	copy(b[aes.BlockSize:], plain)
	if !c.etm {
		c.startMAC()
		c.mac.Write(b)
		c.encryptCTS(b)
		return append(b, c.endMAC()...)
	}
	c.encryptCTS(b)
	c.startMAC()
	c.mac.Write(b)
	return append(b, c.endMAC()...)
}

// decrypt returns the plaintext without the confounder, in memory of its own.
func (c *aesCipher) decrypt(ciphertext []byte) ([]byte, error) {
	if len(ciphertext) < aes.BlockSize+c.macSize {
		return nil, errDecrypt
	}
	split := len(ciphertext) - c.macSize
	b := append([]byte(nil), ciphertext[:split]...)
	if c.etm {
		c.startMAC()
		c.mac.Write(b)
	}
	c.decryptCTS(b)
	if !c.etm {
		c.startMAC()
		c.mac.Write(b)
	}
	if subtle.ConstantTimeCompare(c.endMAC(), ciphertext[split:]) != 1 {
		return nil, errDecrypt
	}
	return b[aes.BlockSize:], nil
}

// startMAC begins a MAC: with SHA-2 over the cipher state, zeros, and then the
// ciphertext (RFC 8009 5); with SHA-1 over the plaintext.
func (c *aesCipher) startMAC() {
	c.mac.Reset()
	if c.etm {
		c.mac.Write(zeroBlock[:])
	}
}

// endMAC gives the MAC as it goes over the wire. It is valid until the next.
func (c *aesCipher) endMAC() []byte {
	c.sum = c.mac.Sum(c.sum[:0])
	return c.sum[:c.macSize]
}

// encryptCTS encrypts b in place: CBC with ciphertext stealing and the last two
// blocks swapped whatever their length (RFC 3962 5). b has a block at least.
func (c *aesCipher) encryptCTS(b []byte) {
	c.enc.SetIV(zeroBlock[:])
	if len(b) == aes.BlockSize {
		c.enc.CryptBlocks(b, b)
		return
	}
	end := (len(b) - 1) &^ (aes.BlockSize - 1) // where the last block begins
	var last, before [aes.BlockSize]byte
	copy(last[:], b[end:])
	c.enc.CryptBlocks(b[:end], b[:end])
	c.enc.CryptBlocks(last[:], last[:])
	copy(before[:], b[end-aes.BlockSize:end])
	copy(b[end-aes.BlockSize:], last[:])
	copy(b[end:], before[:])
}

// decryptCTS is the inverse of encryptCTS.
func (c *aesCipher) decryptCTS(b []byte) {
	c.dec.SetIV(zeroBlock[:])
	if len(b) == aes.BlockSize {
		c.dec.CryptBlocks(b, b)
		return
	}
	end := (len(b) - 1) &^ (aes.BlockSize - 1)
	size := len(b) - end
	var last, before [aes.BlockSize]byte
	c.block.Decrypt(last[:], b[end-aes.BlockSize:end])
	// What was stolen from the block before stands behind the short last one.
	copy(before[:], last[:])
	copy(before[:], b[end:])
	subtle.XORBytes(last[:], last[:], before[:])
	copy(b[end-aes.BlockSize:end], before[:])
	c.dec.CryptBlocks(b[:end], b[:end])
	copy(b[end:], last[:size])
}
