package keystore

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/seed05845750/bkrp/dtyp"
)

// A value in the backend is
//
//	version   1 octet, 1
//	data key  4 octets, little-endian, the number of the data key
//	nonce     24 octets
//	ciphertext, tag of 16 octets (XChaCha20-Poly1305)
//
// and binds as associated data its first five octets, the purpose, the
// identity of the store and the value's name.
const (
	valueVersion    = 1
	valueHeaderSize = 1 + 4
)

// vault seals and opens the values of one store.
type vault struct {
	backend Backend
	store   dtyp.GUID
	dataKey [keySize]byte
	number  uint32 // of the data key
	// bare leaves values as they are: others have to read them.
	bare bool
}

// seal seals a value under its name.
func (v *vault) seal(name string, value []byte) ([]byte, error) {
	if v.bare {
		return value, nil
	}
	header := binary.LittleEndian.AppendUint32([]byte{valueVersion}, v.number)
	return sealUnder(v.dataKey[:], header, value, v.bound(name))
}

// open is the inverse of seal. Every error is ErrCorrupt.
func (v *vault) open(name string, sealed []byte) ([]byte, error) {
	if v.bare {
		return sealed, nil
	}
	if len(sealed) < valueHeaderSize {
		return nil, fmt.Errorf("%w: sealed value is cut short", ErrCorrupt)
	}
	if sealed[0] != valueVersion {
		return nil, fmt.Errorf("%w: sealed value has version %d, this program knows %d", ErrCorrupt, sealed[0], valueVersion)
	}
	if n := binary.LittleEndian.Uint32(sealed[1:]); n != v.number {
		return nil, fmt.Errorf("%w: value is sealed under data key %d, the store has %d", ErrCorrupt, n, v.number)
	}
	return openUnder(v.dataKey[:], sealed, valueHeaderSize, v.bound(name))
}

// bound is the associated data of a value.
func (v *vault) bound(name string) []byte {
	b := append([]byte("bkrp keystore value\x00"), v.store[:]...)
	return append(b, name...)
}

// get reads and opens a value. The errors are ErrNotFound, ErrCorrupt and
// those of the backend; they name the entry.
func (v *vault) get(ctx context.Context, name string) ([]byte, Revision, error) {
	sealed, rev, err := v.backend.Get(ctx, name)
	if err != nil {
		return nil, 0, fmt.Errorf("reading %s: %w", name, err)
	}
	value, err := v.open(name, sealed)
	if err != nil {
		return nil, rev, fmt.Errorf("opening %s: %w", name, err)
	}
	return value, rev, nil
}

// swap seals and writes a value, as Backend.CompareAndSwap.
func (v *vault) swap(ctx context.Context, name string, old Revision, value []byte) (Revision, error) {
	sealed, err := v.seal(name, value)
	if err != nil {
		return 0, err
	}
	rev, err := v.backend.CompareAndSwap(ctx, name, old, sealed)
	if err != nil {
		return 0, fmt.Errorf("writing %s: %w", name, err)
	}
	return rev, nil
}

// randomGUID draws 128 random bits and marks them as a version 4 UUID
// (RFC 9562 5.4, A-53).
func randomGUID() (g dtyp.GUID) {
	rand.Read(g[:])
	g[7] = g[7]&0x0F | 0x40 // the high octet of Data3 in the packet form
	g[8] = g[8]&0x3F | 0x80
	return g
}

// put seals and writes a value, whatever was there before.
func (v *vault) put(ctx context.Context, name string, value []byte) error {
	for range pointerAttempts {
		_, rev, err := v.backend.Get(ctx, name)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return fmt.Errorf("reading %s: %w", name, err)
		}
		if _, err = v.swap(ctx, name, rev, value); !errors.Is(err, ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("writing %s: %w", name, ErrConflict)
}
