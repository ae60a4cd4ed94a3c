package krb5

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"fmt"
	"hash"

	"github.com/seed05845750/bkrp/internal/gss"
)

// EncType is an encryption type by its number (RFC 3961 8).
type EncType int32

// The encryption types of this package. All others are refused.
const (
	AES128SHA1 EncType = 17 // RFC 3962
	AES256SHA1 EncType = 18 // RFC 3962
	AES128SHA2 EncType = 19 // RFC 8009
	AES256SHA2 EncType = 20 // RFC 8009
	RC4HMAC    EncType = 23 // RFC 4757
)

func (e EncType) String() string {
	switch e {
	case AES128SHA1:
		return "aes128-cts-hmac-sha1-96"
	case AES256SHA1:
		return "aes256-cts-hmac-sha1-96"
	case AES128SHA2:
		return "aes128-cts-hmac-sha256-128"
	case AES256SHA2:
		return "aes256-cts-hmac-sha384-192"
	case RC4HMAC:
		return "rc4-hmac"
	}
	return fmt.Sprintf("encryption type %d", int32(e))
}

// profile is what tells the AES encryption types apart.
type profile struct {
	keySize int // octets of a key
	macSize int // octets of a checksum on the wire
	hash    func() hash.Hash
	// etm says that the MAC goes over the ciphertext (RFC 8009) and not over
	// the plaintext (RFC 3961).
	etm      bool
	checksum int32 // the checksum type that goes with it (RFC 3961 8)
}

// profile gives the parameters of an AES type; ok is false for all others.
func (e EncType) profile() (p profile, ok bool) {
	switch e {
	case AES128SHA1:
		return profile{keySize: 16, macSize: 12, hash: sha1.New, checksum: 15}, true
	case AES256SHA1:
		return profile{keySize: 32, macSize: 12, hash: sha1.New, checksum: 16}, true
	case AES128SHA2:
		return profile{keySize: 16, macSize: 16, hash: sha256.New, etm: true, checksum: 19}, true
	case AES256SHA2:
		return profile{keySize: 32, macSize: 24, hash: sha512.New384, etm: true, checksum: 20}, true
	}
	return profile{}, false
}

// checksumRC4 is the checksum type KERB_CHECKSUM_HMAC_MD5 (RFC 4757 4).
const checksumRC4 = -138

// Key usage numbers (RFC 4120 7.5.1, RFC 4121 2, [MS-PAC] 2.8).
const (
	usageTicket        = 2
	usageAuthenticator = 11
	usageAPRep         = 12
	usagePAC           = 17
	usageAcceptorSeal  = 22
	usageAcceptorSign  = 23
	usageInitiatorSeal = 24
	usageInitiatorSign = 25
)

// Key is a key of one encryption type. It prints without its value.
type Key struct {
	Type  EncType
	Value []byte `json:"-"`
}

// Format writes the key's type, whatever the verb.
func (k Key) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "[key of %v]", k.Type) }

// equal tells whether the keys are the same.
func (k Key) equal(other Key) bool {
	return k.Type == other.Type && subtle.ConstantTimeCompare(k.Value, other.Value) == 1
}

// check says whether the value is as long as the type wants it.
func (k Key) check() error {
	size := 16 // RC4HMAC
	if p, ok := k.Type.profile(); ok {
		size = p.keySize
	} else if k.Type != RC4HMAC {
		return fmt.Errorf("krb5: %v is not supported: %w", k.Type, gss.ErrRefused)
	}
	if len(k.Value) != size {
		return fmt.Errorf("krb5: key of %d octets for %v: %w", len(k.Value), k.Type, gss.ErrToken)
	}
	return nil
}

// errDecrypt is a ciphertext that the key did not make.
var errDecrypt = fmt.Errorf("krb5: ciphertext does not fit the key: %w", gss.ErrLogon)

// encrypt is the encryption function of RFC 3961 3, with a random confounder.
func (k Key) encrypt(usage uint32, plain []byte) ([]byte, error) {
	if err := k.check(); err != nil {
		return nil, err
	}
	if k.Type == RC4HMAC {
		return rc4Encrypt(k.Value, usage, plain), nil
	}
	c, err := newCipher(k, usage)
	if err != nil {
		return nil, err
	}
	return c.encrypt(plain), nil
}

// decrypt is the inverse of encrypt. It returns the plaintext without the
// confounder, or an error that wraps errDecrypt.
func (k Key) decrypt(usage uint32, ciphertext []byte) ([]byte, error) {
	if err := k.check(); err != nil {
		return nil, err
	}
	if k.Type == RC4HMAC {
		return rc4Decrypt(k.Value, usage, ciphertext)
	}
	c, err := newCipher(k, usage)
	if err != nil {
		return nil, err
	}
	return c.decrypt(ciphertext)
}

// checksumType is the number of the checksum that goes with the key.
func (k Key) checksumType() int32 {
	if p, ok := k.Type.profile(); ok {
		return p.checksum
	}
	return checksumRC4
}

// checksum is the keyed checksum of RFC 3961 4.
func (k Key) checksum(usage uint32, data []byte) ([]byte, error) {
	if err := k.check(); err != nil {
		return nil, err
	}
	if k.Type == RC4HMAC {
		return rc4Checksum(k.Value, usage, data), nil
	}
	mac, size := newChecksum(k, usage)
	mac.Write(data)
	return mac.Sum(nil)[:size], nil
}
