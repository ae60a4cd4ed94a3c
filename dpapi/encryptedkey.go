package dpapi

import (
	"encoding/binary"
	"fmt"

	"github.com/seed05845750/bkrp/internal/le"
)

// EncryptedKey is the master key part or the backup key part of a file: a key
// encrypted under one that is derived from a password, or from a secret of the
// machine, by so many iterations. Its layout is
//
//	 0   4  version, 1 or 2
//	 4  16  salt
//	20   4  iterations
//	24   4  hash, an ALG_ID
//	28   4  cipher, an ALG_ID
//	32   *  ciphertext
type EncryptedKey struct {
	Version    uint32
	Salt       [16]byte
	Iterations uint32
	Hash       AlgID
	Cipher     AlgID
	Ciphertext []byte
}

// parseEncryptedKey reads a part that fills b; no octets are no part.
func parseEncryptedKey(b []byte, what string) (*EncryptedKey, error) {
	if len(b) == 0 {
		return nil, nil
	}
	c := le.NewCursor(b)
	k := &EncryptedKey{Version: c.Uint32()}
	c.Fill(k.Salt[:])
	k.Iterations, k.Hash, k.Cipher = c.Uint32(), AlgID(c.Uint32()), AlgID(c.Uint32())
	k.Ciphertext = c.Rest()
	if err := c.Done(); err != nil {
		return nil, fmt.Errorf("%w: %s part: %w", ErrFormat, what, err)
	}
	return k, nil
}

func (k *EncryptedKey) append(b []byte) []byte {
	if k == nil {
		return b
	}
	b = binary.LittleEndian.AppendUint32(b, k.Version)
	b = append(b, k.Salt[:]...)
	b = binary.LittleEndian.AppendUint32(b, k.Iterations)
	b = binary.LittleEndian.AppendUint32(b, uint32(k.Hash))
	b = binary.LittleEndian.AppendUint32(b, uint32(k.Cipher))
	return append(b, k.Ciphertext...)
}

// AlgID is an ALG_ID of the Windows CryptoAPI.
type AlgID uint32

// String is the algorithm's name, or its number in hexadecimal.
func (a AlgID) String() string {
	switch a {
	case 0x6603:
		return "3DES"
	case 0x6610:
		return "AES-256"
	case 0x8004:
		return "SHA-1"
	case 0x8009:
		return "HMAC"
	case 0x800e:
		return "SHA-512"
	}
	return fmt.Sprintf("0x%04x", uint32(a))
}
