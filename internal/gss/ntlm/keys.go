package ntlm

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/rc4"
	"fmt"
	"io"
	"log/slog"

	"github.com/seed05845750/bkrp/internal/nthash"
)

// Hash is the NT hash of a password, NTOWFv1 of [MS-NLMP] 3.3.1. It is as good
// as the password, and so never shows itself in logs and messages.
type Hash [16]byte

// HashPassword gives the NT hash of password.
func HashPassword(password string) Hash { return nthash.Sum(password) }

// Format writes "[redacted]" whatever the verb.
func (Hash) Format(s fmt.State, _ rune) { io.WriteString(s, "[redacted]") }

// LogValue is "[redacted]".
func (Hash) LogValue() slog.Value { return slog.StringValue("[redacted]") }

// MarshalText is an error: a hash is stored by those who mean to.
func (Hash) MarshalText() ([]byte, error) {
	return nil, fmt.Errorf("ntlm: an NT hash has no text form")
}

// ntowfv2 is the key of one account in one domain ([MS-NLMP] 3.3.2). The
// domain counts as the client writes it, the user in upper case, which is
// given in UTF-16LE.
func ntowfv2(h Hash, upperUser []byte, domain string) [16]byte {
	return hmacMD5(h[:], upperUser, appendUTF16(nil, domain))
}

// proofOf is NTProofStr ([MS-NLMP] 3.3.2) over the NTLMv2_CLIENT_CHALLENGE of
// a response.
func proofOf(key [16]byte, serverChallenge [8]byte, clientChallenge []byte) [proofSize]byte {
	return hmacMD5(key[:], serverChallenge[:], clientChallenge)
}

// sessionBaseKey is SessionBaseKey ([MS-NLMP] 3.3.2), which is KeyExchangeKey
// as well with NTLMv2 (3.4.5.1).
func sessionBaseKey(key [16]byte, proof [proofSize]byte) [16]byte {
	return hmacMD5(key[:], proof[:])
}

// exchangeKey encrypts and decrypts ExportedSessionKey under KeyExchangeKey
// ([MS-NLMP] 3.1.5.1.2, 3.2.5.1.2).
func exchangeKey(key [16]byte, in []byte) (out [16]byte) {
	newRC4(key).XORKeyStream(out[:], in[:16])
	return out
}

// micOf is the MIC of AUTHENTICATE_MESSAGE ([MS-NLMP] 3.1.5.1.2) over the
// three messages, the MIC itself taken as zero.
func micOf(key [16]byte, negotiate, challenge, authenticate []byte) [micSize]byte {
	var zero [micSize]byte
	return hmacMD5(key[:], negotiate, challenge,
		authenticate[:micOffset], zero[:], authenticate[micOffset+micSize:])
}

// subkey is SIGNKEY and, with 128-bit keys, SEALKEY ([MS-NLMP] 3.4.5.2,
// 3.4.5.3) for one of the four constants below.
func subkey(key [16]byte, magic string) [16]byte {
	b := make([]byte, 0, 16+64)
	b = append(append(append(b, key[:]...), magic...), 0)
	return md5.Sum(b)
}

const (
	clientSigning = "session key to client-to-server signing key magic constant"
	serverSigning = "session key to server-to-client signing key magic constant"
	clientSealing = "session key to client-to-server sealing key magic constant"
	serverSealing = "session key to server-to-client sealing key magic constant"
)

func hmacMD5(key []byte, parts ...[]byte) (sum [16]byte) {
	h := hmac.New(md5.New, key)
	for _, p := range parts {
		h.Write(p)
	}
	h.Sum(sum[:0])
	return sum
}

// newRC4 cannot fail: the key is of a size that RC4 takes.
func newRC4(key [16]byte) *rc4.Cipher {
	c, _ := rc4.NewCipher(key[:])
	return c
}
