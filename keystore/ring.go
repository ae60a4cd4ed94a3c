package keystore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"

	"github.com/seed05845750/bkrp/dtyp"
)

var (
	// ErrNoKey says that there is definitely no key of that GUID.
	ErrNoKey = errors.New("keystore: no such key")
	// ErrMalformedKey says that the secret of that name is not in the format
	// of the kind of key that was asked for; it may be a key of the other
	// kind, since both share one name space.
	ErrMalformedKey = errors.New("keystore: secret is not a key of this kind")
	// ErrKeyExists says that another key stands under that GUID already. Keys
	// are never replaced.
	ErrKeyExists = errors.New("keystore: another key has this GUID")
)

// wrapKey is a key of either kind.
type wrapKey interface {
	comparable
	GUID() dtyp.GUID
	State() KeyState
}

// ring is the keys of one kind and the pointer to the current one (3.1.1.1,
// 3.1.1.2).
type ring[K wrapKey] struct {
	store   *Store
	pointer string // the secret with the GUID of the current key
	parse   func(guid dtyp.GUID, secret []byte) (K, error)
	// dress gives a key its state. With KeyLocked the key is of no use and may
	// be zero.
	dress  func(guid dtyp.GUID, key K, state KeyState) K
	create func(ctx context.Context) (key K, secret []byte, err error)

	turns turns
	held  atomic.Pointer[held[K]]
	mu    sync.Mutex // held by those who replace held
}

// held is what a ring has in memory. It is never altered, only replaced.
type held[K wrapKey] struct {
	// generation grows whenever something is forgotten, so that what was read
	// before is not remembered after.
	generation uint64
	current    K // zero if not known
	// last was the current key when that was last known. It serves while the
	// backend is away.
	last K
	keys map[dtyp.GUID]K
}

// init makes the ring ready.
func (r *ring[K]) init(s *Store, pointer string) {
	r.store, r.pointer = s, pointer
	r.held.Store(new(held[K]))
}

// key returns the key of a GUID. The errors are ErrNoKey, ErrMalformedKey,
// ErrKeyLocked, and others where the store cannot tell.
func (r *ring[K]) key(ctx context.Context, guid dtyp.GUID) (K, error) {
	var none K
	k, ok := r.held.Load().keys[guid]
	if !ok {
		var err error
		if k, err = r.load(ctx, guid); err != nil {
			return none, err
		}
	}
	if k.State() == KeyLocked {
		return none, fmt.Errorf("%w: %v", ErrKeyLocked, guid)
	}
	return k, nil
}

// load reads a key and its state, and remembers it. A locked one is remembered
// without the key.
func (r *ring[K]) load(ctx context.Context, guid dtyp.GUID) (K, error) {
	var none K
	name := keySecret(guid)
	release, err := r.turns.take(ctx, name)
	if err != nil {
		return none, err
	}
	defer release()
	h := r.held.Load()
	if k, ok := h.keys[guid]; ok {
		return k, nil
	}
	k, err := r.read(ctx, guid)
	if err != nil {
		return none, err
	}
	r.remember(h.generation, k)
	return k, nil
}

// read reads a key and its state from the backend.
func (r *ring[K]) read(ctx context.Context, guid dtyp.GUID) (K, error) {
	var none K
	name := keySecret(guid)
	sealed, _, err := r.store.vault.backend.Get(ctx, name)
	if errors.Is(err, ErrNotFound) {
		return none, fmt.Errorf("%w: %v", ErrNoKey, guid)
	}
	if err != nil {
		return none, fmt.Errorf("reading %s: %w", name, err)
	}
	life, _, err := r.store.lifeOf(ctx, guid)
	if err != nil {
		return none, err // whether it is locked cannot be told
	}
	if life.State == KeyLocked {
		return r.dress(guid, none, life.State), nil // and is not even opened
	}
	secret, err := r.store.vault.openNewer(ctx, name, sealed)
	if err != nil {
		return none, fmt.Errorf("opening %s: %w", name, err)
	}
	defer clear(secret)
	k, err := r.parse(guid, secret)
	if err != nil {
		return none, err
	}
	return r.dress(guid, k, life.State), nil
}

// currentKey returns the current key, and makes one if there is none.
func (r *ring[K]) currentKey(ctx context.Context) (K, error) {
	var none K
	if k := r.inMemory(); k != none {
		return k, nil
	}
	release, err := r.turns.take(ctx, r.pointer)
	if err != nil {
		return none, err
	}
	defer release()
	if k := r.inMemory(); k != none {
		return k, nil
	}
	return r.settle(ctx)
}

// inMemory is the current key as far as it is known without asking the backend.
// While the backend's watch is broken that is the last one known: it may have
// been replaced in the meantime, and wraps as well as the one that did.
func (r *ring[K]) inMemory() K {
	var none K
	h := r.held.Load()
	if h.current == none && !r.store.vault.bare && !r.store.following.Load() {
		return h.last
	}
	return h.current
}

// readCurrent follows the pointer, and remembers the key it leads to. Where
// that is none the error is ErrNoKey or ErrMalformedKey, and rev is the
// revision of the pointer to be replaced, 0 if it is absent.
func (r *ring[K]) readCurrent(ctx context.Context) (k K, rev Revision, err error) {
	for range pointerAttempts {
		last := rev
		// A key that was current may be locked as soon as another one is: between
		// the reading of the pointer and that of the key, too.
		if k, rev, err = r.followPointer(ctx); !errors.Is(err, ErrKeyLocked) || rev == last {
			break
		}
	}
	return k, rev, err
}

// followPointer is readCurrent where nobody moves the pointer meanwhile.
func (r *ring[K]) followPointer(ctx context.Context) (k K, rev Revision, err error) {
	generation := r.held.Load().generation
	value, rev, err := r.store.vault.get(ctx, r.pointer)
	if errors.Is(err, ErrNotFound) {
		return k, 0, fmt.Errorf("%w: %s is absent", ErrNoKey, r.pointer)
	}
	if err != nil {
		return k, 0, err
	}
	if len(value) != dtyp.GUIDSize {
		return k, rev, fmt.Errorf("%w: %s has %d octets and is no GUID", ErrMalformedKey, r.pointer, len(value))
	}
	if k, err = r.key(ctx, dtyp.GUID(value)); err == nil {
		r.rememberCurrent(generation, k)
	}
	return k, rev, err
}

// remember keeps keys that were read while the generation was the one given. It
// keeps none if something has been forgotten since, and reports which it was.
func (r *ring[K]) remember(generation uint64, keys ...K) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := *r.held.Load()
	if h.generation != generation {
		return false
	}
	h.keys = maps.Clone(h.keys)
	if h.keys == nil {
		h.keys = make(map[dtyp.GUID]K)
	}
	for _, k := range keys {
		if _, there := h.keys[k.GUID()]; !there {
			h.keys[k.GUID()] = k
		}
	}
	r.held.Store(&h)
	return true
}

// rememberCurrent keeps k as the current key, if nothing has been forgotten
// since generation and a later change would be noticed.
func (r *ring[K]) rememberCurrent(generation uint64, k K) {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := *r.held.Load()
	if h.generation != generation || !r.store.following.Load() {
		return
	}
	h.current, h.last = k, k
	r.held.Store(&h)
}

// clear drops everything.
func (r *ring[K]) clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held.Store(&held[K]{generation: r.held.Load().generation + 1})
}

// forget drops what the entry of that name has to do with. Where any entry may
// have changed, keys stay nevertheless: they are never replaced, unless they are
// a domain's, which others write.
func (r *ring[K]) forget(name string) {
	guid, isKey := keyOf(name)
	if name != AnyName && name != r.pointer && !isKey {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var none K
	old := r.held.Load()
	h := &held[K]{generation: old.generation + 1}
	if name != AnyName || !r.store.vault.bare {
		h.keys, h.last = old.keys, old.last
	}
	if name != AnyName {
		h.current = old.current
	}
	if _, ok := h.keys[guid]; isKey && ok {
		h.keys = maps.Clone(h.keys)
		delete(h.keys, guid)
		r.store.dropped()
	}
	if isKey && h.last != none && h.last.GUID() == guid {
		h.last = none
	}
	if name == r.pointer || h.current != none && isKey && h.current.GUID() == guid {
		h.current = none
	}
	r.held.Store(h)
}
