package keystore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/dtyp"
)

// KeyInfo is what the store knows about a key, without the key.
type KeyInfo struct {
	GUID dtyp.GUID
	// Kind is 0 for a key that cannot be read.
	Kind KeyKind
	// State is what the key may be used for, and Since when it got that state,
	// to the second; zero if it is not known.
	State KeyState
	Since time.Time
	// Current says that the key is the current one of its kind.
	Current bool
	// Created is when the key was made, to the second. For a ClientWrap key that
	// came from elsewhere it is the date in its certificate, for another one it is
	// zero.
	Created time.Time
	// Certificate is the DER certificate of a ClientWrap key.
	Certificate []byte
	// Err says why the key, or its state, cannot be read; the rest is then what
	// is known nevertheless.
	Err error
}

// Keys returns what the store knows about its keys, sorted by Kind
// and Created.
func (s *Store) Keys(ctx context.Context) ([]KeyInfo, error) {
	if s.vault.bare {
		return nil, fmt.Errorf("listing the keys: %w", ErrDomainKeys)
	}
	entries, err := s.vault.backend.List(ctx, SecretPrefix)
	if err != nil {
		return nil, fmt.Errorf("listing the keys: %w", err)
	}
	current, err := s.currentKeys(ctx)
	if err != nil {
		return nil, err
	}
	lives, err := s.vault.backend.List(ctx, lifePrefix)
	if err != nil {
		return nil, fmt.Errorf("listing the states of keys: %w", err)
	}
	byName := make(map[string]Entry, len(lives))
	for _, e := range lives {
		byName[e.Name] = e
	}
	var list []KeyInfo
	for _, e := range entries {
		guid, ok := secretGUID(e.Name)
		if !ok {
			continue
		}
		k, err := s.describe(ctx, guid, e, byName[lifeEntry(guid)])
		if err != nil {
			return nil, err
		}
		k.Current = slices.Contains(current, guid)
		list = append(list, k)
	}
	slices.SortStableFunc(list, func(a, b KeyInfo) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), a.Created.Compare(b.Created), strings.Compare(a.GUID.String(), b.GUID.String()))
	})
	return list, nil
}

// KeyInfo returns what the store knows about one key. The error is ErrNoKey if
// there is none of that GUID.
func (s *Store) KeyInfo(ctx context.Context, guid dtyp.GUID) (KeyInfo, error) {
	if s.vault.bare {
		return KeyInfo{}, fmt.Errorf("looking at key %v: %w", guid, ErrDomainKeys)
	}
	name := keySecret(guid)
	value, rev, err := s.vault.backend.Get(ctx, name)
	if errors.Is(err, ErrNotFound) {
		return KeyInfo{}, fmt.Errorf("%w: %v", ErrNoKey, guid)
	}
	if err != nil {
		return KeyInfo{}, fmt.Errorf("reading key %v: %w", guid, err)
	}
	current, err := s.currentKeys(ctx)
	if err != nil {
		return KeyInfo{}, err
	}
	life := Entry{Name: lifeEntry(guid)}
	if life.Value, life.Revision, err = s.vault.backend.Get(ctx, life.Name); err != nil && !errors.Is(err, ErrNotFound) {
		return KeyInfo{}, fmt.Errorf("reading the state of key %v: %w", guid, err)
	}
	k, err := s.describe(ctx, guid, Entry{Name: name, Value: value, Revision: rev}, life)
	k.Current = slices.Contains(current, guid)
	return k, err
}

// currentKeys are those that the pointers name.
func (s *Store) currentKeys(ctx context.Context) (list []dtyp.GUID, err error) {
	for _, kind := range []KeyKind{ClientWrap, ServerWrap} {
		guid, err := s.pointerOf(ctx, kind)
		if err != nil && !errors.Is(err, ErrCorrupt) {
			return nil, err
		}
		if err == nil && !guid.IsZero() {
			list = append(list, guid)
		}
	}
	return list, nil
}

// describe tells of a key by its entry and that of its life, which has no
// revision where there is none. What is damaged is told in it; an error
// means that the store cannot tell.
func (s *Store) describe(ctx context.Context, guid dtyp.GUID, e, lifeEntry Entry) (KeyInfo, error) {
	k := KeyInfo{GUID: guid}
	l, err := s.openLife(ctx, lifeEntry)
	switch {
	case errors.Is(err, ErrCorrupt): // and refused for it
		k.State, k.Err = KeyLocked, err
	case err != nil:
		return k, err
	default:
		k.State, k.Since, k.Created = l.State, l.Since, l.Created
	}
	pair, server := s.client.held.Load().keys[guid], s.server.held.Load().keys[guid]
	if pair != nil && pair.certificate == nil || server != nil && server.key == nil {
		pair, server = nil, nil // locked: in memory is that it is, and not the key
	}
	if pair == nil && server == nil {
		pair, server, err = s.openKey(ctx, guid, e)
	}
	switch {
	case errors.Is(err, ErrCorrupt), errors.Is(err, ErrMalformedKey):
		k.Err = errors.Join(k.Err, err)
	case err != nil:
		return k, err
	case server != nil:
		k.Kind = ServerWrap
	default:
		k.Kind, k.Certificate = ClientWrap, pair.Certificate()
		if c, err := bkrp.ParseCertificate(k.Certificate); err == nil && k.Created.IsZero() {
			k.Created = c.NotBefore.UTC()
		}
	}
	return k, nil
}

// openLife reads the life of a key, a zero one where there is no entry.
func (s *Store) openLife(ctx context.Context, e Entry) (life, error) {
	if e.Revision == 0 {
		return life{}, nil
	}
	value, err := s.vault.openNewer(ctx, e.Name, e.Value)
	if err != nil {
		return life{}, fmt.Errorf("opening %s: %w", e.Name, err)
	}
	return parseLife(e.Name, value)
}
