package keystore

import (
	"context"
	"errors"
	"fmt"

	"github.com/seed05845750/bkrp/dtyp"
)

// CurrentKey is the GUID of the current key of one kind, as a call would take
// it. It makes none: where there is none yet the error is ErrNoKey, and where the
// pointer to it leads nowhere ErrMalformedKey.
func (s *Store) CurrentKey(ctx context.Context, kind KeyKind) (dtyp.GUID, error) {
	if kind == ClientWrap {
		return presentKey(ctx, &s.client)
	}
	return presentKey(ctx, &s.server)
}

func presentKey[K wrapKey](ctx context.Context, r *ring[K]) (dtyp.GUID, error) {
	var none K
	if k := r.inMemory(); k != none {
		return k.GUID(), nil
	}
	k, rev, err := r.readCurrent(ctx)
	if errors.Is(err, ErrNoKey) && rev != 0 {
		return dtyp.GUID{}, fmt.Errorf("%w: %s leads nowhere: %v", ErrMalformedKey, r.pointer, err)
	}
	if err != nil {
		return dtyp.GUID{}, err
	}
	return k.GUID(), nil
}
