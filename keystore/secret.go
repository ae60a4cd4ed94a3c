package keystore

import (
	"context"
	"fmt"
)

// Secret returns the value of an LSA secret of the protocol: a key in its
// format of [MS-BKRP] 2.2.5 or 2.2.7, or the GUID of a current key. The name
// is one of those of L-13, in any case. Every other name, and one that is
// absent, is ErrNotFound; a key whose private half is in a token is
// ErrNotExportable.
//
// This is key material. It is for the LSA interface and for exports, which
// authorise their callers.
func (s *Store) Secret(ctx context.Context, name string) ([]byte, error) {
	canonical, ok := canonicalSecret(name)
	if !ok {
		return nil, ErrNotFound
	}
	value, _, err := s.vault.get(ctx, canonical)
	if isTokenRecord(value) && !s.vault.bare {
		clear(value)
		return nil, fmt.Errorf("%w: %s", ErrNotExportable, canonical)
	}
	return value, err
}

// SecretInUse is Secret for those who are to use the key: one that is locked is
// ErrKeyLocked.
func (s *Store) SecretInUse(ctx context.Context, name string) ([]byte, error) {
	if canonical, ok := canonicalSecret(name); ok {
		if guid, isKey := secretGUID(canonical); isKey {
			life, _, err := s.lifeOf(ctx, guid)
			if err != nil {
				return nil, err
			}
			if life.State == KeyLocked {
				return nil, fmt.Errorf("%w: %v", ErrKeyLocked, guid)
			}
		}
	}
	return s.Secret(ctx, name)
}

// SecretNames returns the names of the LSA secrets, sorted.
func (s *Store) SecretNames(ctx context.Context) ([]string, error) {
	entries, err := s.vault.backend.List(ctx, SecretPrefix)
	if err != nil {
		return nil, fmt.Errorf("listing the secrets: %w", err)
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		if canonical, ok := canonicalSecret(e.Name); ok && canonical == e.Name {
			names = append(names, e.Name)
		}
	}
	return names, nil
}
