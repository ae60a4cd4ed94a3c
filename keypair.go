package bkrp

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/binary"
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/le"
)

const (
	keyPairVersion = 2
)

// 2.2.5 ClientWrap RSA Key Pair

// KeyPair is the domain's RSA key of the ClientWrap subprotocol with its
// certificate ([MS-BKRP] 2.2.5). It is safe for concurrent use until Clear.
type KeyPair struct {
	opaque
	blob        []byte // BLOBHEADER to Private_Exponent, as it is stored
	key         *rsaKey
	certificate *Certificate
	rejection   *RejectionKey
}

// ParseKeyPair reads a stored key pair that fills b, and copies it. The private
// exponent has to fit the modulus, and the certificate has to hold the same
// public key, since clients will wrap under that one. The numbers for the
// Chinese remainder theorem may be wrong and are then not used; CRT says
// so. Errors wrap ErrKeyFormat, and ErrCertificate if it is that.
func ParseKeyPair(b []byte) (*KeyPair, error) {
	c := le.NewCursor(b)
	version, blobSize, certificateSize := c.Uint32(), c.Uint32(), c.Uint32()
	blob := c.Bytes(rsaBlobSize)
	certificate := c.Bytes(uint64(certificateSize))
	if err := c.Done(); err != nil {
		return nil, fmt.Errorf("%w: key pair: %w", ErrKeyFormat, err)
	}
	if version != keyPairVersion || blobSize != rsaBlobSize {
		return nil, fmt.Errorf("%w: no header of a key pair", ErrKeyFormat)
	}
	return newKeyPair(blob, certificate)
}

// newKeyPair makes the pair of a key and its certificate, and copies both.
func newKeyPair(blob, der []byte) (*KeyPair, error) {
	key, err := loadRSABlob(blob)
	if err != nil {
		return nil, err
	}
	certificate, err := ParseCertificate(append([]byte(nil), der...))
	if err != nil {
		return nil, fmt.Errorf("%w: key pair: %w", ErrKeyFormat, err)
	}
	if !certificate.PublicKey.Equal(key.public) {
		return nil, fmt.Errorf("%w: key pair: the certificate holds another public key", ErrKeyFormat)
	}
	return &KeyPair{
		blob:        append([]byte(nil), blob...),
		key:         key,
		certificate: certificate,
		rejection:   NewRejectionKey(key.d),
	}, nil
}

func loadRSABlob(blob []byte) (*rsaKey, error) {
	numbers, err := parseRSABlob(blob)
	if err != nil {
		return nil, err
	}
	defer numbers.clear()
	return newRSAKey(numbers)
}

// GenerateKeyPair draws a 2048-bit key and a GUID and issues the certificate
// for the domain of that DNS name, valid from now (3.1.4.1.3 step 2).
func GenerateKeyPair(domain string, now time.Time) (*KeyPair, error) {
	if _, err := certificateName(domain); err != nil {
		return nil, err
	}
	k, err := rsa.GenerateKey(rand.Reader, modulusBits)
	if err != nil {
		return nil, fmt.Errorf("bkrp: generating an RSA key: %w", err)
	}
	k.Precompute()
	numbers := &rsaNumbers{
		e: uint32(k.E), n: k.N, p: k.Primes[0], q: k.Primes[1],
		dP: k.Precomputed.Dp, dQ: k.Precomputed.Dq, qInv: k.Precomputed.Qinv, d: k.D,
	}
	defer numbers.clear() // crypto/rsa keeps copies, out of reach
	return issueKeyPair(numbers.appendRSABlob(make([]byte, 0, rsaBlobSize)), NewKeyGUID(), domain, now)
}

// NewKeyGUID draws the name of a new key pair: a GUID of version 4 whose
// last octet makes the reversed GUID a positive INTEGER of exactly 16 octets
// as which it becomes the certificate's serial number.
func NewKeyGUID() (g dtyp.GUID) {
	for {
		rand.Read(g[:])
		g[7] = g[7]&0x0f | 0x40
		g[8] = g[8]&0x3f | 0x80
		if last := g[dtyp.GUIDSize-1]; last >= 0x01 && last <= 0x7f {
			return g
		}
	}
}

// issueKeyPair gives a key a certificate.
func issueKeyPair(blob []byte, guid dtyp.GUID, domain string, now time.Time) (*KeyPair, error) {
	defer clear(blob)
	key, err := loadRSABlob(blob)
	if err != nil {
		return nil, err
	}
	defer key.clear()
	der, err := issueCertificate(key.public, key.decrypt, guid, domain, now)
	if err != nil {
		return nil, err
	}
	return newKeyPair(blob, der)
}

// AppendBinary appends the stored form to b. The error is always nil.
func (k *KeyPair) AppendBinary(b []byte) ([]byte, error) {
	// At once, so that no part of the key stays behind in an outgrown array.
	b = slices.Grow(b, 12+len(k.blob)+len(k.certificate.Raw))
	b = binary.LittleEndian.AppendUint32(b, keyPairVersion)
	b = binary.LittleEndian.AppendUint32(b, rsaBlobSize)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(k.certificate.Raw)))
	b = append(b, k.blob...)
	return append(b, k.certificate.Raw...), nil
}

// GUID names the key pair; it is the certificate's subjectUniqueID.
func (k *KeyPair) GUID() dtyp.GUID { return k.certificate.GUID }

// Certificate is the certificate, which the caller leaves as it is.
func (k *KeyPair) Certificate() *Certificate { return k.certificate }

// PublicKey is the public half.
func (k *KeyPair) PublicKey() *rsa.PublicKey {
	return &rsa.PublicKey{N: new(big.Int).Set(k.key.public.N), E: k.key.public.E}
}

// CRT says whether the numbers for the Chinese remainder theorem fit the key.
// Without them DecryptRaw takes four times as long.
func (k *KeyPair) CRT() bool { return k.key.crt != nil }

// DecryptRaw is the RSA private operation, without taking any padding off:
// 256 octets in, 256 octets out, big-endian. It is constant-time, and proves
// its result by the public operation. The error wraps ErrCiphertext when c is
// not a number below the modulus; any other means that the machine is at fault.
func (k *KeyPair) DecryptRaw(c []byte) ([]byte, error) { return k.key.decrypt(c) }

// RejectionKey is the one derived from the private exponent.
func (k *KeyPair) RejectionKey() *RejectionKey { return k.rejection }

// Clear overwrites the key.
func (k *KeyPair) Clear() {
	clear(k.blob)
	k.key.clear()
	k.rejection.Clear()
}
