package keystore

import (
	"context"
	"time"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/dtyp"
)

// SetGeneratePair puts key pairs made before in place of new ones, which take
// a test too long.
func (s *Store) SetGeneratePair(f func(domain string, now time.Time) (*bkrp.KeyPair, error)) {
	s.generatePair = f
}

// PutSecret writes the value of an LSA secret whatever was there before, as
// replication of the LSA's objects would. Nothing outside tests replaces a key.
func (s *Store) PutSecret(ctx context.Context, name string, value []byte) error {
	canonical, ok := canonicalSecret(name)
	if !ok {
		return ErrNotFound
	}
	if value == nil {
		value = []byte{}
	}
	err := s.vault.put(ctx, canonical, value)
	s.changed(canonical)
	return err
}

// InMemory reports whether a key is in memory.
func (s *Store) InMemory(guid dtyp.GUID) bool {
	return s.client.held.Load().keys[guid] != nil || s.server.held.Load().keys[guid] != nil
}

// Following reports whether the backend's watch stands.
func (s *Store) Following() bool { return s.following.Load() }

// KeysInMemory is how many keys are in memory.
func (s *Store) KeysInMemory() int {
	return len(s.client.held.Load().keys) + len(s.server.held.Load().keys)
}

// Forget drops a key from memory.
func (s *Store) Forget(guid dtyp.GUID) {
	s.client.forget(keySecret(guid))
	s.server.forget(keySecret(guid))
}

// KnowsAccounts reports whether all accounts are in memory.
func (s *Store) KnowsAccounts() bool { return s.accounts.book.Load().known }

// Changed does what the news of an entry's change does.
func (s *Store) Changed(name string) { s.changed(name) }

// CurrentInMemory is the GUID of the current key of a kind, zero if it is not in
// memory.
func (s *Store) CurrentInMemory(kind KeyKind) (guid dtyp.GUID) {
	if kind == ClientWrap {
		if k := s.client.held.Load().current; k != nil {
			return k.guid
		}
		return guid
	}
	if k := s.server.held.Load().current; k != nil {
		return k.guid
	}
	return guid
}
