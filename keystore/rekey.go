package keystore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrRekey says that a change of the key-encryption key cannot be begun or
// finished as things stand.
var ErrRekey = errors.New("keystore: the key-encryption key cannot be changed now")

// A rekey replaces the KEK in three steps, each of which may be interrupted and
// done again:
//
//  1. BeginRekey has both KEKs open the store, and makes a new data key.
//  2. Reseal moves every value under it.
//  3. FinishRekey has the new KEK alone open the store.
//
// Between 1 and 3 a process that knows either KEK opens the store and all that
// is in it, whichever wrote it.

// KEKs names the key-encryption keys that open the store: one, or during a
// rekey two.
func (s *Store) KEKs(ctx context.Context) ([]string, error) {
	if s.vault.bare {
		return nil, nil
	}
	h, _, err := readHeader(ctx, s.vault.backend)
	if err != nil {
		return nil, err
	}
	return h.keks(), nil
}

// ConfiguredSealer is the KEK that Options.Sealer brings; where there is none,
// the one that opened the store last.
func (s *Store) ConfiguredSealer(ctx context.Context) (Sealer, error) {
	if s.vault.bare {
		return nil, fmt.Errorf("%w: the secrets of a domain are not sealed", ErrRekey)
	}
	if s.sealer != nil {
		return s.sealer(ctx)
	}
	return s.atHand()[0], nil
}

// KEKIndex returns which of the store's KEKs, as KEKs lists them, a sealer is.
// During a rekey 0 is the KEK from before and 1 the next one. The error is
// ErrWrongKEK where it is none of them.
func (s *Store) KEKIndex(ctx context.Context, sealer Sealer) (int, error) {
	if s.vault.bare {
		return -1, fmt.Errorf("%w: the secrets of a domain are not sealed", ErrRekey)
	}
	h, _, err := readHeader(ctx, s.vault.backend)
	if err != nil {
		return -1, err
	}
	i, _, err := openedBy(ctx, h.Seals, sealer, h.ID)
	if i >= 0 {
		err = nil
	}
	return i, err
}

// BeginRekey has next open the store beside the KEK it has, and makes a new
// data key for what is written from now on. To begin again with the same KEK is
// no error. While another rekey is under way it is ErrRekey.
func (s *Store) BeginRekey(ctx context.Context, next Sealer) error {
	if s.vault.bare {
		return fmt.Errorf("%w: the secrets of a domain are not sealed", ErrRekey)
	}
	err := s.changeHeader(ctx, func(h *header) (bool, error) { return s.addSeal(ctx, h, next) })
	if err != nil {
		return err
	}
	s.addSealer(next)
	return nil
}

// addSeal seals the data keys and a new one under both KEKs, and reports
// whether that changed the header.
func (s *Store) addSeal(ctx context.Context, h *header, next Sealer) (changed bool, err error) {
	i, _, err := openedBy(ctx, h.Seals, next, h.ID)
	if i >= 0 {
		if len(h.Seals) == 1 {
			return false, fmt.Errorf("%w: the store is sealed by %q already", ErrRekey, next.KeyID())
		}
		return false, nil
	}
	if !errors.Is(err, ErrWrongKEK) {
		return false, err
	}
	if len(h.Seals) >= maxSeals {
		return false, fmt.Errorf("%w: another one is under way, to %s; finish it first", ErrRekey, strings.Join(h.keks(), " or "))
	}
	present, keys, err := s.unlock(ctx, h)
	if err != nil {
		return false, err
	}
	inner, err := h.inner(newVault(s.vault.backend, h.ID, keys))
	if err != nil {
		return false, err
	}
	if len(keys) >= maxDataKeys {
		return false, fmt.Errorf("%w: the store has had %d data keys; restore a backup of it into a new store", ErrRekey, len(keys))
	}
	keys = keys.with()
	h.Seals = h.Seals[:0]
	for _, sealer := range []Sealer{present, next} {
		made, err := newSeal(ctx, sealer, h.ID, keys)
		if err != nil {
			return false, err
		}
		// What cannot be opened again must not become the only way in.
		if _, err := made.open(ctx, sealer, h.ID); err != nil {
			return false, fmt.Errorf("opening what %q has sealed: %w", sealer.KeyID(), err)
		}
		h.Seals = append(h.Seals, made)
	}
	return true, h.sealInner(newVault(s.vault.backend, h.ID, keys), *inner)
}

// Reseal moves every value that is under an older data key to the newest one,
// and returns how many it moved. Values stay readable throughout. What cannot
// be opened is left as it is and named in the error, after all others have
// been moved; unless it is about the use of keys, which nothing depends on.
func (s *Store) Reseal(ctx context.Context) (moved int, err error) {
	if s.vault.bare {
		return 0, fmt.Errorf("%w: the secrets of a domain are not sealed", ErrRekey)
	}
	if err := s.renewDataKeys(ctx); err != nil {
		return 0, err
	}
	entries, err := s.vault.backend.List(ctx, "")
	if err != nil {
		return 0, fmt.Errorf("listing the store: %w", err)
	}
	var left []error
	for _, e := range entries {
		if e.Name == headerName {
			continue
		}
		did, err := s.reseal(ctx, e.Name)
		if ctx.Err() != nil {
			return moved, ctx.Err()
		}
		if errors.Is(err, ErrCorrupt) && isUsage(e.Name) {
			s.log.Error("a record of the use of a key is damaged; it is left as it is", "entry", e.Name, "err", err)
			err = nil
		}
		if err != nil {
			left = append(left, err)
		}
		if did {
			moved++
		}
	}
	return moved, errors.Join(left...)
}

// reseal moves one value to the newest data key, if it is not there yet.
func (s *Store) reseal(ctx context.Context, name string) (did bool, err error) {
	for range pointerAttempts {
		sealed, rev, err := s.vault.backend.Get(ctx, name)
		if errors.Is(err, ErrNotFound) {
			return false, nil // removed in the meantime
		}
		if err != nil {
			return false, fmt.Errorf("reading %s: %w", name, err)
		}
		n, err := sealedUnder(sealed)
		if err == nil && n == s.vault.keys.Load().current() {
			return false, nil
		}
		value, err := s.vault.openNewer(ctx, name, sealed)
		if err != nil {
			return false, fmt.Errorf("opening %s: %w", name, err)
		}
		_, err = s.vault.swap(ctx, name, rev, value)
		clear(value)
		if !errors.Is(err, ErrConflict) {
			return err == nil, err
		}
	}
	return false, fmt.Errorf("writing %s: %w", name, ErrConflict)
}

// FinishRekey has keep alone open the store; every other KEK no longer does.
// It is ErrRekey where keep does not open it, a value is under an older data
// key still, or a replica that lives is configured with another KEK. Where keep
// is the KEK from before, the rekey is called off.
func (s *Store) FinishRekey(ctx context.Context, keep Sealer) error {
	if s.vault.bare {
		return fmt.Errorf("%w: the secrets of a domain are not sealed", ErrRekey)
	}
	if moved, err := s.Reseal(ctx); err != nil {
		return fmt.Errorf("%w: moving the values left, after %d: %w", ErrRekey, moved, err)
	}
	return s.changeHeader(ctx, func(h *header) (bool, error) {
		i, _, err := openedBy(ctx, h.Seals, keep, h.ID)
		if i < 0 {
			return false, fmt.Errorf("%w: %q does not open the store: %w", ErrRekey, keep.KeyID(), err)
		}
		s.addSealer(keep) // before it is the only one, and the others are of no use
		if len(h.Seals) == 1 {
			return false, nil
		}
		if err := s.checkKEKs(ctx, &h.Seals[i]); err != nil {
			return false, err
		}
		h.Seals = []seal{h.Seals[i]}
		return true, nil
	})
}

// checkKEKs refuses to keep one seal alone while a replica that lives could not
// start again with it.
func (s *Store) checkKEKs(ctx context.Context, keep *seal) error {
	s.replicas.poke()
	all, err := s.Replicas(ctx)
	if err != nil {
		return err
	}
	name := sealName(keep)
	all = slices.DeleteFunc(all, func(r Replica) bool { return !r.Live || r.kekSeal == name })
	if len(all) > 0 {
		return fmt.Errorf("%w: %s must be configured with it first", ErrRekey, replicaNames(all))
	}
	return nil
}

// changeHeader reads, changes and writes the header, until nobody else does so
// at the same time, and takes in what came of it. change reports whether there
// is anything to write.
func (s *Store) changeHeader(ctx context.Context, change func(h *header) (bool, error)) error {
	for range pointerAttempts {
		h, rev, err := readHeader(ctx, s.vault.backend)
		if err != nil {
			return err
		}
		changed, err := change(h)
		if err != nil || !changed {
			return err
		}
		err = h.write(ctx, s.vault.backend, rev)
		if errors.Is(err, ErrConflict) {
			continue
		}
		if err != nil {
			return err
		}
		s.log.Info("changed what seals the store", "keks", h.keks())
		return s.renewDataKeys(ctx)
	}
	return fmt.Errorf("changing the header: %w", ErrConflict)
}

// renewDataKeys takes in the data keys that the header has now.
func (s *Store) renewDataKeys(ctx context.Context) error {
	release, err := s.headerTurns.take(ctx, headerName)
	if err != nil {
		return err
	}
	defer release()
	h, _, err := readHeader(ctx, s.vault.backend)
	if err != nil {
		return err
	}
	if h.ID != s.id {
		return fmt.Errorf("%w: the header is that of store %v, and this was %v", ErrCorrupt, h.ID, s.id)
	}
	_, keys, err := s.unlock(ctx, h)
	if err != nil {
		return err
	}
	if _, err := h.inner(newVault(s.vault.backend, h.ID, keys)); err != nil {
		return err
	}
	known := *s.vault.keys.Load()
	for n, key := range known {
		if keys[n] == nil || *keys[n] != *key {
			return fmt.Errorf("%w: data key %d is no longer in the header", ErrCorrupt, n)
		}
	}
	s.vault.keys.Store(&keys)
	return nil
}

// unlock opens the header's seals by one of the KEKs at hand, or else by the
// one that Options.Sealer brings.
func (s *Store) unlock(ctx context.Context, h *header) (Sealer, dataKeys, error) {
	var reasons []error
	for _, sealer := range s.atHand() {
		i, keys, err := openedBy(ctx, h.Seals, sealer, h.ID)
		if i >= 0 {
			return sealer, keys, nil
		}
		reasons = append(reasons, err)
	}
	if s.sealer != nil {
		sealer, err := s.sealer(ctx)
		if err != nil {
			return nil, nil, errors.Join(append(reasons, err)...)
		}
		i, keys, err := openedBy(ctx, h.Seals, sealer, h.ID)
		if i >= 0 {
			s.addSealer(sealer)
			return sealer, keys, nil
		}
		reasons = append(reasons, err)
	}
	return nil, nil, fmt.Errorf("opening store %v: %w", h.ID, errors.Join(reasons...))
}

// atHand is the sealers that have opened the store, the last one first.
func (s *Store) atHand() []Sealer {
	s.sealersMu.Lock()
	defer s.sealersMu.Unlock()
	return append([]Sealer(nil), s.sealers...)
}

// addSealer keeps a sealer that opens the store now, and no more than two.
func (s *Store) addSealer(sealer Sealer) {
	s.sealersMu.Lock()
	defer s.sealersMu.Unlock()
	kept := []Sealer{sealer}
	for _, old := range s.sealers {
		if old != sealer && len(kept) < maxSeals {
			kept = append(kept, old)
		}
	}
	s.sealers = kept
}
