package keystore

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/seed05845750/bkrp/dtyp"
)

// dataKeys are the keys that the values of a store are sealed under, by their
// numbers. New values go under the highest one. No data key is ever dropped: a
// replica that has not yet heard of a new one may still write under the one
// before. The map is not altered once it is in use.
type dataKeys map[uint32]*[keySize]byte

const (
	// dataKeySize is a data key as it is sealed: number (4 octets,
	// little-endian) and key.
	dataKeySize = 4 + keySize
	// maxDataKeys bounds how many a header may have; each rekey makes one.
	maxDataKeys = 1024
)

// current is the number of the data key for new values.
func (k dataKeys) current() uint32 {
	var highest uint32
	for n := range k {
		highest = max(highest, n)
	}
	return highest
}

// with is k and a new data key.
func (k dataKeys) with() dataKeys {
	more := maps.Clone(k)
	if more == nil {
		more = make(dataKeys)
	}
	key := new([keySize]byte)
	rand.Read(key[:])
	more[k.current()+1] = key
	return more
}

// append appends the keys in the form in which a Sealer seals them.
func (k dataKeys) append(b []byte) []byte {
	b = slices.Grow(b, len(k)*dataKeySize) // one allocation, for the caller to clear
	for _, n := range slices.Sorted(maps.Keys(k)) {
		b = binary.LittleEndian.AppendUint32(b, n)
		b = append(b, k[n][:]...)
	}
	return b
}

// parseDataKeys is the inverse of append.
func parseDataKeys(b []byte) (dataKeys, error) {
	if len(b) == 0 || len(b)%dataKeySize != 0 || len(b) > maxDataKeys*dataKeySize {
		return nil, fmt.Errorf("%w: data keys of %d octets", ErrCorrupt, len(b))
	}
	keys := make(dataKeys, len(b)/dataKeySize)
	for ; len(b) > 0; b = b[dataKeySize:] {
		n := binary.LittleEndian.Uint32(b)
		if n == 0 || keys[n] != nil {
			return nil, fmt.Errorf("%w: data key %d stands there twice or has no number", ErrCorrupt, n)
		}
		keys[n] = (*[keySize]byte)(slices.Clone(b[4:dataKeySize]))
	}
	return keys, nil
}

// seal is the data keys of a store under one KEK.
type seal struct {
	KEK      string `json:"kek"` // Sealer.KeyID, for messages and for a first guess
	DataKeys []byte `json:"dataKeys"`
}

// sealsBound is the associated data of a store's seals.
func sealsBound(store dtyp.GUID) []byte {
	return append([]byte("bkrp keystore data keys\x00"), store[:]...)
}

// newSeal seals the data keys of a store.
func newSeal(ctx context.Context, sealer Sealer, store dtyp.GUID, keys dataKeys) (seal, error) {
	plain := keys.append(nil)
	defer clear(plain)
	sealed, err := sealer.Seal(ctx, plain, sealsBound(store))
	if err != nil {
		return seal{}, fmt.Errorf("sealing the data keys by %q: %w", sealer.KeyID(), err)
	}
	return seal{KEK: sealer.KeyID(), DataKeys: sealed}, nil
}

// open opens a seal. ErrWrongKEK means that sealer did not make it.
func (s *seal) open(ctx context.Context, sealer Sealer, store dtyp.GUID) (dataKeys, error) {
	plain, err := sealer.Open(ctx, s.DataKeys, sealsBound(store))
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	return parseDataKeys(plain)
}

// openedBy returns which of the seals sealer opens, -1 if none, and the data
// keys in it.
func openedBy(ctx context.Context, seals []seal, sealer Sealer, store dtyp.GUID) (int, dataKeys, error) {
	// Those of its name first: it may take its time to find that it is wrong.
	order := make([]int, 0, len(seals))
	for i := range seals {
		if seals[i].KEK == sealer.KeyID() {
			order = append(order, i)
		}
	}
	for i := range seals {
		if seals[i].KEK != sealer.KeyID() {
			order = append(order, i)
		}
	}
	var reasons []error
	for _, i := range order {
		keys, err := seals[i].open(ctx, sealer, store)
		if err == nil {
			return i, keys, nil
		}
		reasons = append(reasons, fmt.Errorf("sealed by %q: %w", seals[i].KEK, err))
		if !errors.Is(err, ErrWrongKEK) && !errors.Is(err, ErrCorrupt) {
			break // the sealer cannot tell: another seal would not help
		}
	}
	return -1, nil, errors.Join(reasons...)
}
