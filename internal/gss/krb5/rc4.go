package krb5

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"crypto/rc4"
	"crypto/subtle"
	"encoding/binary"
)

// rc4Confounder is the length of the random octets in front of a plaintext
// (RFC 4757 3).
const rc4Confounder = 8

func hmacMD5(key []byte, parts ...[]byte) []byte {
	mac := hmac.New(md5.New, key)
	for _, p := range parts {
		mac.Write(p)
	}
	return mac.Sum(nil)
}

func rc4Apply(key, b []byte) {
	c, err := rc4.NewCipher(key)
	if err != nil {
		clear(b) // not with a key of 16 octets
		return
	}
	c.XORKeyStream(b, b)
}

// rc4Encrypt is ENCRYPT of RFC 4757 3: checksum, then confounder and plaintext
// under a key that the checksum makes. None of the usages of this package is
// among those that the RFC translates.
func rc4Encrypt(key []byte, usage uint32, plain []byte) []byte {
	b := make([]byte, md5.Size+rc4Confounder+len(plain))
	text := b[md5.Size:]
	rand.Read(text[:rc4Confounder])
	copy(text[rc4Confounder:], plain)
	k1 := hmacMD5(key, binary.LittleEndian.AppendUint32(nil, usage))
	copy(b, hmacMD5(k1, text))
	rc4Apply(hmacMD5(k1, b[:md5.Size]), text)
	return b
}

// rc4Decrypt is DECRYPT of RFC 4757 3.
func rc4Decrypt(key []byte, usage uint32, ciphertext []byte) ([]byte, error) {
	if len(ciphertext) < md5.Size+rc4Confounder {
		return nil, errDecrypt
	}
	sum, text := ciphertext[:md5.Size], append([]byte(nil), ciphertext[md5.Size:]...)
	k1 := hmacMD5(key, binary.LittleEndian.AppendUint32(nil, usage))
	rc4Apply(hmacMD5(k1, sum), text)
	if subtle.ConstantTimeCompare(hmacMD5(k1, text), sum) != 1 {
		return nil, errDecrypt
	}
	return text[rc4Confounder:], nil
}

// rc4Checksum is KERB_CHECKSUM_HMAC_MD5 (RFC 4757 4).
func rc4Checksum(key []byte, usage uint32, data []byte) []byte {
	signing := hmacMD5(key, []byte("signaturekey\x00"))
	h := md5.New()
	h.Write(binary.LittleEndian.AppendUint32(nil, usage))
	h.Write(data)
	return hmacMD5(signing, h.Sum(nil))
}
