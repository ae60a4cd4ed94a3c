package keystore

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"

	"golang.org/x/crypto/argon2"
)

// ErrPassphrase says that a passphrase is empty.
var ErrPassphrase = errors.New("keystore: passphrase is empty")

// argon2Params are the costs of Argon2id (RFC 9106 3.1).
type argon2Params struct {
	passes    uint32
	memoryKiB uint32
	lanes     uint8
}

var (
	// defaultArgon2 is the second recommended option of RFC 9106 4.
	defaultArgon2 = argon2Params{passes: 3, memoryKiB: 64 << 10, lanes: 4}
	// maxArgon2 bounds what a store may ask for before anything in it has
	// been authenticated.
	maxArgon2 = argon2Params{passes: 16, memoryKiB: 1 << 20, lanes: 16}
)

const (
	passphraseSaltSize     = 16
	passphraseVerifierSize = 16
	// passphraseHeaderSize is kind, version, the three costs, salt, verifier.
	passphraseHeaderSize = 2 + 4 + 4 + 1 + passphraseSaltSize + passphraseVerifierSize
)

// Passphrase is a Sealer whose KEK is derived from a passphrase by Argon2id
// (RFC 9106), with a salt and costs that stand in front of what it seals, and
// a verifier beside them that tells a wrong passphrase from a damaged store.
type Passphrase struct {
	passphrase []byte
	cost       argon2Params
}

// NewPassphrase returns the Sealer of a passphrase, which is taken octet by
// octet as it is: strip the line end before. It keeps a copy.
func NewPassphrase(passphrase []byte) (*Passphrase, error) {
	if len(passphrase) == 0 {
		return nil, ErrPassphrase
	}
	return &Passphrase{passphrase: append([]byte(nil), passphrase...), cost: defaultArgon2}, nil
}

// KeyID is "passphrase"; which one it is shows only when a store is opened.
func (p *Passphrase) KeyID() string { return "passphrase" }

// String is KeyID; the passphrase is not printed.
func (p *Passphrase) String() string { return p.KeyID() }

// GoString is KeyID; the passphrase is not printed.
func (p *Passphrase) GoString() string { return p.KeyID() }

// LogValue is KeyID; the passphrase is not logged.
func (p *Passphrase) LogValue() slog.Value { return slog.StringValue(p.KeyID()) }

// Seal implements Sealer. It takes the time and 64 MiB of memory that Argon2id
// is meant to take.
func (p *Passphrase) Seal(ctx context.Context, plaintext, associatedData []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var salt [passphraseSaltSize]byte
	rand.Read(salt[:])
	key, verifier, err := p.derive(p.cost, salt[:])
	if err != nil {
		return nil, err
	}
	defer clear(key)
	header := []byte{sealedByPassphrase, sealedVersion}
	header = binary.LittleEndian.AppendUint32(header, p.cost.passes)
	header = binary.LittleEndian.AppendUint32(header, p.cost.memoryKiB)
	header = append(header, p.cost.lanes)
	header = append(header, salt[:]...)
	header = append(header, verifier...)
	return sealUnder(key, header, plaintext, associatedData)
}

// Open implements Sealer.
func (p *Passphrase) Open(ctx context.Context, sealed, associatedData []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	cost, salt, verifier, err := parsePassphraseHeader(sealed)
	if err != nil {
		return nil, err
	}
	key, want, err := p.derive(cost, salt)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	if subtle.ConstantTimeCompare(verifier, want) != 1 {
		return nil, fmt.Errorf("%w: the passphrase is wrong", ErrWrongKEK)
	}
	return openUnder(key, sealed, passphraseHeaderSize, associatedData)
}

// parsePassphraseHeader reads the costs, salt and verifier in front of what a
// Passphrase sealed.
func parsePassphraseHeader(sealed []byte) (cost argon2Params, salt, verifier []byte, err error) {
	if err := checkSealedBy(sealed, sealedByPassphrase); err != nil {
		return argon2Params{}, nil, nil, err
	}
	if len(sealed) < passphraseHeaderSize+aeadOverhead {
		return argon2Params{}, nil, nil, fmt.Errorf("%w: sealed data key is cut short", ErrCorrupt)
	}
	cost = argon2Params{
		passes:    binary.LittleEndian.Uint32(sealed[2:]),
		memoryKiB: binary.LittleEndian.Uint32(sealed[6:]),
		lanes:     sealed[10],
	}
	if cost.passes < 1 || cost.passes > maxArgon2.passes ||
		cost.lanes < 1 || cost.lanes > maxArgon2.lanes ||
		cost.memoryKiB < 8*uint32(cost.lanes) || cost.memoryKiB > maxArgon2.memoryKiB {
		return argon2Params{}, nil, nil, fmt.Errorf("%w: costs of the passphrase derivation are out of range", ErrCorrupt)
	}
	salt = sealed[11 : 11+passphraseSaltSize]
	verifier = sealed[11+passphraseSaltSize : passphraseHeaderSize]
	return cost, salt, verifier, nil
}

// derive gives the KEK and its verifier, which tells nothing of the KEK.
func (p *Passphrase) derive(cost argon2Params, salt []byte) (key, verifier []byte, err error) {
	root := argon2.IDKey(p.passphrase, salt, cost.passes, cost.memoryKiB, cost.lanes, keySize)
	defer clear(root)
	key, err = hkdf.Expand(sha256.New, root, "bkrp keystore passphrase key", keySize)
	if err != nil {
		return nil, nil, fmt.Errorf("keystore: deriving a key: %w", err)
	}
	verifier, err = hkdf.Expand(sha256.New, root, "bkrp keystore passphrase verifier", passphraseVerifierSize)
	if err != nil {
		return nil, nil, fmt.Errorf("keystore: deriving a key: %w", err)
	}
	return key, verifier, nil
}
