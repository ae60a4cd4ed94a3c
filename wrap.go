package bkrp

import (
	"bytes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"

	"github.com/seed05845750/bkrp/dtyp"
)

// nonceSize is the length of the nonces made here, in octets: the least that
// 3.2.4.1 step 3 allows.
const nonceSize = 32

// MaxClientSecret is the length of the longest secret, in octets, that ClientWrap
// of this version takes under a modulus of that many octets: 205 for version 2
// and 181 for version 3 of 256. It is 0 for other versions, and when
// nothing fits.
func MaxClientSecret(modulusSize int, version uint32) int {
	f := formatOf(version)
	if f == nil {
		return 0
	}
	return max(0, modulusSize-f.overhead())
}

// WrapClient wraps secret under the domain's public key, for sid alone
// ([MS-BKRP] 3.2.4.1). version is 2 or 3; 2 is what every server opens. It
// takes up to MaxClientSecret octets. The errors are ErrVersion, ErrEmptySecret,
// ErrSecretTooLong, and dtyp.ErrSID for the zero SID.
func WrapClient(cert *Certificate, sid dtyp.SID, secret []byte, version uint32) ([]byte, error) {
	f := formatOf(version)
	if f == nil {
		return nil, fmt.Errorf("%w: %d", ErrVersion, version)
	}
	if len(secret) == 0 {
		return nil, ErrEmptySecret
	}
	if limit := MaxClientSecret(cert.PublicKey.Size(), version); len(secret) > limit {
		return nil, fmt.Errorf("%w: %d octets, and version %d takes %d under this key", ErrSecretTooLong, len(secret), version, limit)
	}
	payloadKey := f.newPayloadKey()
	defer clear(payloadKey)
	access, err := f.sealAccessCheck(sid, payloadKey)
	if err != nil {
		return nil, err
	}
	encrypted, err := f.sealSecret(cert.PublicKey, secret, payloadKey)
	if err != nil {
		return nil, err
	}
	w := ClientWrapped{Version: version, KeyGUID: cert.GUID, EncryptedSecret: encrypted, AccessCheck: access}
	return w.AppendBinary(make([]byte, 0, clientWrappedHeader+len(encrypted)+len(access)))
}

// newPayloadKey draws a key and an initialisation vector for one blob. DES keys
// have odd parity and differ from each other, as some modules insist.
func (f *clientFormat) newPayloadKey() []byte {
	b := make([]byte, f.payloadKey())
	rand.Read(b)
	if f.version != ClientWrappedVersion2 {
		return b
	}
	for {
		for i := range f.keySize {
			b[i] ^= byte(^bits.OnesCount8(b[i])) & 1
		}
		k1, k2, k3 := b[:8], b[8:16], b[16:24]
		if !bytes.Equal(k1, k2) && !bytes.Equal(k2, k3) && !bytes.Equal(k1, k3) {
			return b
		}
		rand.Read(b)
	}
}

// sealAccessCheck is the AccessCheck for sid with a nonce of its own, encrypted.
func (f *clientFormat) sealAccessCheck(sid dtyp.SID, payloadKey []byte) ([]byte, error) {
	nonce := make([]byte, nonceSize)
	rand.Read(nonce)
	check, err := f.appendAccessCheck(nil, nonce, sid)
	if err != nil {
		return nil, err
	}
	block, err := f.newCipher(payloadKey[:f.keySize])
	if err != nil {
		return nil, fmt.Errorf("bkrp: encrypting AccessCheck: %w", err)
	}
	cipher.NewCBCEncrypter(block, payloadKey[f.keySize:]).CryptBlocks(check, check)
	return check, nil
}

// sealSecret is the EncryptedSecret: 2.2.2.1 or 2.2.2.2 under RSA, the octets
// reversed.
func (f *clientFormat) sealSecret(pub *rsa.PublicKey, secret, payloadKey []byte) ([]byte, error) {
	message := f.appendSecret(make([]byte, 0, pub.Size()), secret, payloadKey)
	defer clear(message)
	//lint:ignore SA1019 3.2.4.1 step 8 prescribes this padding
	c, err := rsa.EncryptPKCS1v15(rand.Reader, pub, message)
	if err != nil {
		return nil, fmt.Errorf("bkrp: encrypting under the domain's public key: %w", err)
	}
	slices.Reverse(c)
	return c, nil
}

// appendSecret appends EncryptedSecret in the clear.
func (f *clientFormat) appendSecret(b, secret, payloadKey []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(secret)))
	for _, word := range f.fixed {
		b = binary.LittleEndian.AppendUint32(b, word)
	}
	b = append(b, secret...)
	return append(b, payloadKey...)
}
