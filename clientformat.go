package bkrp

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/sha1"
	"crypto/sha512"
)

// clientFormat has what differs between the versions of ClientWrap.
type clientFormat struct {
	version uint32
	// fixed are the words of EncryptedSecret between cbSecret and Secret.
	fixed []uint32
	// keySize and blockSize are those of the cipher; PayloadKey is a key and
	// an initialisation vector of one block.
	keySize, blockSize int
	// hashSize is the length of the AccessCheck's hash.
	hashSize  int
	newCipher func(key []byte) (cipher.Block, error)
	sum       func(b []byte) []byte
}

// 2.2.2.1 EncryptedSecret, version 2, and 2.2.2.3 AccessCheck, version 2
var clientFormat2 = clientFormat{
	version:   ClientWrappedVersion2,
	fixed:     []uint32{0x20}, // the length of PayloadKey
	keySize:   24,
	blockSize: des.BlockSize,
	hashSize:  sha1.Size,
	newCipher: des.NewTripleDESCipher,
	sum:       func(b []byte) []byte { s := sha1.Sum(b); return s[:] },
}

// 2.2.2.2 EncryptedSecret, version 3, and 2.2.2.4 AccessCheck, version 3
var clientFormat3 = clientFormat{
	version:   ClientWrappedVersion3,
	fixed:     []uint32{0x30, 0x6610, 0x800e}, // the same, CALG_AES_256, CALG_SHA_512
	keySize:   32,
	blockSize: aes.BlockSize,
	hashSize:  sha512.Size,
	newCipher: aes.NewCipher,
	sum:       func(b []byte) []byte { s := sha512.Sum512(b); return s[:] },
}

// formatOf is the format of a version of ClientWrap, or nil.
func formatOf(version uint32) *clientFormat {
	switch version {
	case ClientWrappedVersion2:
		return &clientFormat2
	case ClientWrappedVersion3:
		return &clientFormat3
	}
	return nil
}

// secretHeader is the length of what stands before Secret.
func (f *clientFormat) secretHeader() int { return 4 + 4*len(f.fixed) }

// payloadKey is the length of PayloadKey.
func (f *clientFormat) payloadKey() int { return f.keySize + f.blockSize }

// overhead is by how much the modulus is longer than the longest secret: 51 or
// 75 octets.
func (f *clientFormat) overhead() int { return f.secretHeader() + f.payloadKey() + pkcs1Overhead }
