package bkrp

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/le"
)

const (
	pvkMagic       = 0xb0b5f11e
	pvkKeyExchange = 1 // AT_KEYEXCHANGE
)

// ParsePVK reads the PVK file, in the clear, that fills b: the form in which
// tools export a domain's key. It gives the key's 1172 octets, BLOBHEADER to
// Private_Exponent, which refer to b and are not looked at. Errors wrap
// ErrKeyFormat.
func ParsePVK(b []byte) (key []byte, err error) {
	c := le.NewCursor(b)
	magic, reserved, keyType := c.Uint32(), c.Uint32(), c.Uint32()
	encrypted, saltSize, keySize := c.Uint32(), c.Uint32(), c.Uint32()
	key = c.Bytes(uint64(keySize))
	if err := c.Done(); err != nil {
		return nil, fmt.Errorf("%w: PVK file: %w", ErrKeyFormat, err)
	}
	if magic != pvkMagic || reserved != 0 {
		return nil, fmt.Errorf("%w: no header of a PVK file", ErrKeyFormat)
	}
	if encrypted != 0 || saltSize != 0 {
		return nil, fmt.Errorf("%w: PVK file is encrypted under a password: export it without one", ErrKeyFormat)
	}
	if keyType != pvkKeyExchange || keySize != rsaBlobSize {
		return nil, fmt.Errorf("%w: PVK file does not hold a 2048-bit RSA key for key exchange", ErrKeyFormat)
	}
	return key, nil
}

// KeyPairFromPVK makes a key pair of an exported domain key. A PVK file has no
// certificate, so that its name in the domain has to be given, and a new
// certificate is issued. Errors wrap ErrKeyFormat.
func KeyPairFromPVK(pvk []byte, guid dtyp.GUID, domain string, now time.Time) (*KeyPair, error) {
	blob, err := ParsePVK(pvk)
	if err != nil {
		return nil, err
	}
	return issueKeyPair(append([]byte(nil), blob...), guid, domain, now)
}

// AppendPVK appends the key, without its certificate, as a PVK file in the
// clear.
func (k *KeyPair) AppendPVK(b []byte) []byte {
	for _, word := range []uint32{pvkMagic, 0, pvkKeyExchange, 0, 0, rsaBlobSize} {
		b = binary.LittleEndian.AppendUint32(b, word)
	}
	return append(b, k.blob...)
}
