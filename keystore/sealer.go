package keystore

import (
	"context"
	"errors"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/aead/subtle"
)

var (
	// ErrWrongKEK says that what was sealed is whole, as far as one can tell,
	// but the key-encryption key at hand is another one than it was sealed
	// with. The operator has the wrong key file, passphrase or store.
	ErrWrongKEK = errors.New("keystore: sealed under another key-encryption key")
	// ErrCorrupt says that something in the store is not what was written
	// there: truncated, altered, or moved from another name or store. Nothing
	// of it is given out; restore it from a backup.
	ErrCorrupt = errors.New("keystore: store is corrupt")
)

// errDamaged says that nobody can open a value any more: it is of a version and
// under a key that are known, and not what was sealed.
var errDamaged = fmt.Errorf("%w", ErrCorrupt)

// Sealer holds a key-encryption key (KEK). It seals the data keys of a store: at
// its creation, and when the KEK is replaced. It opens them each time the store is
// opened, and when another server has added one. Values are sealed under the data
// keys.
//
// What Seal returns carries all that Open needs besides the KEK itself: the
// kind of sealer, the version of the format, and the identity of the KEK or
// the parameters it is derived by.
type Sealer interface {
	// KeyID names the KEK in messages to the operator. It is not secret.
	KeyID() string
	// Seal encrypts plaintext and binds it to associatedData.
	Seal(ctx context.Context, plaintext, associatedData []byte) ([]byte, error)
	// Open returns the plaintext. It returns ErrWrongKEK if sealed was made by
	// another KEK or kind of sealer, and ErrCorrupt if it or associatedData is
	// not what it was.
	Open(ctx context.Context, sealed, associatedData []byte) ([]byte, error)
}

const (
	// keySize is the length of a KEK and of a data key, in octets.
	keySize = 32
	// aeadOverhead is what XChaCha20-Poly1305 adds: a nonce of 24 octets in
	// front and a tag of 16 behind.
	aeadOverhead = 24 + 16
)

// First octets of what a Sealer made: its kind, and the version of the format.
const (
	sealedByKeyFile    = 'F'
	sealedByPassphrase = 'P'
	sealedByToken      = 'K'
	sealedVersion      = 1
)

// checkSealedBy checks the two octets in front of what a sealer made.
func checkSealedBy(sealed []byte, kind byte) error {
	switch {
	case len(sealed) < 2:
		return fmt.Errorf("%w: sealed data key is cut short", ErrCorrupt)
	case sealed[0] == kind && sealed[1] == sealedVersion:
		return nil
	case sealed[0] == kind:
		return fmt.Errorf("%w: sealed data key has version %d, this program knows %d", ErrCorrupt, sealed[1], sealedVersion)
	case sealed[0] == sealedByKeyFile:
		return fmt.Errorf("%w: the store asks for a key file", ErrWrongKEK)
	case sealed[0] == sealedByPassphrase:
		return fmt.Errorf("%w: the store asks for a passphrase", ErrWrongKEK)
	case sealed[0] == sealedByToken:
		return fmt.Errorf("%w: the store asks for a key in a token (kms:)", ErrWrongKEK)
	}
	return fmt.Errorf("%w: the store asks for a kind of key that this program does not know", ErrWrongKEK)
}

// sealUnder appends to header the plaintext sealed under key, which binds
// header and associatedData.
func sealUnder(key, header, plaintext, associatedData []byte) ([]byte, error) {
	aead, err := subtle.NewXChaCha20Poly1305(key)
	if err != nil {
		return nil, fmt.Errorf("keystore: sealing: %w", err)
	}
	sealed, err := aead.Encrypt(plaintext, bind(header, associatedData))
	if err != nil {
		return nil, fmt.Errorf("keystore: sealing: %w", err)
	}
	return append(header[:len(header):len(header)], sealed...), nil
}

// openUnder is the inverse of sealUnder for a header of n octets.
func openUnder(key, sealed []byte, n int, associatedData []byte) ([]byte, error) {
	if len(sealed) < n+aeadOverhead {
		return nil, fmt.Errorf("%w: sealed value is cut short", errDamaged)
	}
	aead, err := subtle.NewXChaCha20Poly1305(key)
	if err != nil {
		return nil, fmt.Errorf("keystore: opening: %w", err)
	}
	plaintext, err := aead.Decrypt(sealed[n:], bind(sealed[:n], associatedData))
	if err != nil {
		return nil, fmt.Errorf("%w: sealed value does not authenticate", errDamaged)
	}
	return plaintext, nil
}

// bind joins a header, whose length its first octets tell, to what follows.
func bind(header, associatedData []byte) []byte {
	b := make([]byte, 0, len(header)+len(associatedData))
	return append(append(b, header...), associatedData...)
}
