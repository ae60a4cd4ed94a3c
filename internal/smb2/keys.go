package smb2

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"

	"github.com/seed05845750/bkrp/internal/smb2/wire"
)

// sessionKeySize is the length of Session.SessionKey, in octets: the key of
// the security context is cut to it, or filled up with zeros ([MS-SMB2]
// 3.3.5.5.3).
const sessionKeySize = 16

// preauthHash is the chained SHA-512 over the messages up to the end of the
// authentication, which the keys of 3.1.1 are bound to ([MS-SMB2] 3.3.5.4,
// 3.3.5.5).
type preauthHash [sha512.Size]byte

func (p *preauthHash) add(message []byte) {
	h := sha512.New()
	h.Write(p[:])
	h.Write(message)
	h.Sum(p[:0])
}

// sessionKeys are the keys of one session ([MS-SMB2] 3.3.5.5.3). With 2.0.2
// and 2.1 signing and application are the session key itself, and there is no
// encryption.
type sessionKeys struct {
	signing     []byte
	application []byte
	// decryption opens what the client sends, encryption seals what it gets.
	decryption, encryption []byte
}

// deriveKeys makes the keys of a session from the key of its security
// context. The labels and contexts include their terminating zeros.
func deriveKeys(d wire.Dialect, c wire.Cipher, contextKey []byte, preauth *preauthHash) sessionKeys {
	key := make([]byte, sessionKeySize)
	copy(key, contextKey)
	if d < wire.Dialect300 {
		return sessionKeys{signing: key, application: key}
	}
	// [MS-SMB2] 3.1.4.2 and 3.3.5.5.3: with AES-256 the keys of the cipher
	// come from the whole key of the context; all others from 16 octets.
	cipherBase, cipherSize := key, sessionKeySize
	if c == wire.AES256CCM || c == wire.AES256GCM {
		cipherBase, cipherSize = contextKey, 32
	}
	if d < wire.Dialect311 {
		return sessionKeys{
			signing:     kdf(key, "SMB2AESCMAC\x00", []byte("SmbSign\x00"), sessionKeySize),
			application: kdf(key, "SMB2APP\x00", []byte("SmbRpc\x00"), sessionKeySize),
			decryption:  kdf(key, "SMB2AESCCM\x00", []byte("ServerIn \x00"), sessionKeySize),
			encryption:  kdf(key, "SMB2AESCCM\x00", []byte("ServerOut\x00"), sessionKeySize),
		}
	}
	return sessionKeys{
		signing:     kdf(key, "SMBSigningKey\x00", preauth[:], sessionKeySize),
		application: kdf(key, "SMBAppKey\x00", preauth[:], sessionKeySize),
		decryption:  kdf(cipherBase, "SMBC2SCipherKey\x00", preauth[:], cipherSize),
		encryption:  kdf(cipherBase, "SMBS2CCipherKey\x00", preauth[:], cipherSize),
	}
}

// kdf is the counter mode of NIST SP 800-108 with HMAC-SHA256 and a counter
// of 32 bits ([MS-SMB2] 3.1.4.2), for up to 32 octets: one round.
func kdf(key []byte, label string, context []byte, size int) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte{0, 0, 0, 1})
	h.Write([]byte(label))
	h.Write([]byte{0})
	h.Write(context)
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(size)*8))
	return h.Sum(nil)[:size]
}
