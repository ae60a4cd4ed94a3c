package keystore

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"

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
	keys    atomic.Pointer[dataKeys]
	// renew takes in data keys that have come to the header since; nil where
	// that cannot be.
	renew func(ctx context.Context) error
	// bare leaves values as they are: others have to read them.
	bare bool
}

func newVault(backend Backend, store dtyp.GUID, keys dataKeys) *vault {
	v := &vault{backend: backend, store: store}
	v.keys.Store(&keys)
	return v
}

// seal seals a value under its name.
func (v *vault) seal(name string, value []byte) ([]byte, error) {
	if v.bare {
		return value, nil
	}
	keys := *v.keys.Load()
	n := keys.current()
	header := binary.LittleEndian.AppendUint32([]byte{valueVersion}, n)
	return sealUnder(keys[n][:], header, value, v.bound(name))
}

// sealedUnder is the number of the data key that a value is sealed under.
func sealedUnder(sealed []byte) (uint32, error) {
	if len(sealed) < valueHeaderSize {
		return 0, fmt.Errorf("%w: sealed value is cut short", errDamaged)
	}
	if sealed[0] != valueVersion {
		return 0, fmt.Errorf("%w: sealed value has version %d, this program knows %d", ErrCorrupt, sealed[0], valueVersion)
	}
	return binary.LittleEndian.Uint32(sealed[1:]), nil
}

// errDataKey says that a value is sealed under a data key which is not known.
var errDataKey = fmt.Errorf("%w: its data key is not in the store's header", ErrCorrupt)

// open is the inverse of seal. Every error is ErrCorrupt.
func (v *vault) open(name string, sealed []byte) ([]byte, error) {
	if v.bare {
		return sealed, nil
	}
	n, err := sealedUnder(sealed)
	if err != nil {
		return nil, err
	}
	key := (*v.keys.Load())[n]
	if key == nil {
		return nil, fmt.Errorf("%w: data key %d", errDataKey, n)
	}
	return openUnder(key[:], sealed, valueHeaderSize, v.bound(name))
}

// openNewer is open for values that another store may have sealed under a data
// key of which this one has not heard yet.
func (v *vault) openNewer(ctx context.Context, name string, sealed []byte) ([]byte, error) {
	value, err := v.open(name, sealed)
	if v.renew == nil || !errors.Is(err, errDataKey) {
		return value, err
	}
	if err := v.renew(ctx); err != nil {
		return nil, err
	}
	return v.open(name, sealed)
}

// bound is the associated data of a value.
func (v *vault) bound(name string) []byte {
	b := append([]byte("bkrp keystore value\x00"), v.store[:]...)
	return append(b, name...)
}

// get reads and opens a value. The errors are ErrNotFound, ErrCorrupt and
// those of the backend; they name the entry. With ErrCorrupt comes its revision.
func (v *vault) get(ctx context.Context, name string) ([]byte, Revision, error) {
	sealed, rev, err := v.backend.Get(ctx, name)
	if err != nil {
		return nil, rev, fmt.Errorf("reading %s: %w", name, err)
	}
	value, err := v.openNewer(ctx, name, sealed)
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
	return v.putWhile(ctx, name, value, always)
}

// putWhile is put as long as holds gives no error, which is returned otherwise.
// The value is not written over one that came after holds was asked.
func (v *vault) putWhile(ctx context.Context, name string, value []byte, holds func(context.Context) error) error {
	for range pointerAttempts {
		_, rev, err := v.backend.Get(ctx, name)
		if err != nil && !errors.Is(err, ErrNotFound) && !(errors.Is(err, ErrCorrupt) && rev != 0) {
			return fmt.Errorf("reading %s: %w", name, err)
		}
		if err := holds(ctx); err != nil {
			return err
		}
		if _, err = v.swap(ctx, name, rev, value); !errors.Is(err, ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("writing %s: %w", name, ErrConflict)
}
