package keystore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/dtyp"
)

const (
	// warmRetry is how long the Store waits before it tries again to read what
	// it could not.
	warmRetry = time.Second
	// maxWarming bounds the names that wait to be read; with more of them
	// everything is.
	maxWarming = 1024
	// warmBatch is how many keys are put into memory at once.
	warmBatch = 256
)

// warming is the names of entries that have changed and are to be read into
// memory ahead of their use.
type warming struct {
	keys bool // whether keys are read as well, or the header alone
	wake chan struct{}

	mu    sync.Mutex
	all   bool
	names map[string]struct{}
}

func (w *warming) init(keys bool) {
	w.keys, w.wake, w.names = keys, make(chan struct{}, 1), make(map[string]struct{})
}

// add notes that an entry, or with AnyName any, may have changed. It does not
// block.
func (w *warming) add(name string) {
	if w.wake == nil {
		return
	}
	_, isKey := keyOf(name)
	inMemory := isKey || isPointer(name) || strings.HasPrefix(name, accountPrefix)
	if name != headerName && name != AnyName && !(w.keys && inMemory) {
		return
	}
	w.mu.Lock()
	if name == AnyName || len(w.names) >= maxWarming {
		w.all = true
		clear(w.names)
	} else if !w.all {
		w.names[name] = struct{}{}
	}
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// take returns what is to be read, and forgets it.
func (w *warming) take() (all bool, names []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	all, w.all = w.all, false
	for name := range w.names {
		names = append(names, name)
	}
	clear(w.names)
	return all, names
}

// warm reads what has changed into memory until ctx is done.
func (s *Store) warm(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.warming.wake:
		}
		// While the watch is broken, the backend is as well; AnyName comes again
		// when it stands.
		if !s.following.Load() {
			continue
		}
		all, names := s.warming.take()
		err := s.warmUp(ctx, all, names)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			continue
		}
		s.log.Warn("reading keys ahead of their use; trying again", "err", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(warmRetry):
			s.warming.add(AnyName)
		}
	}
}

// warmUp reads the entries of these names, or all. An error means that it is
// worth trying again; what is damaged has been logged instead.
func (s *Store) warmUp(ctx context.Context, all bool, names []string) error {
	err := s.warmEntries(ctx, all, names)
	if errors.Is(err, ErrWrongKEK) { // until somebody changes the configuration
		s.log.Error("the store is sealed under another key-encryption key than this server has; going on with what is in memory", "err", err)
		return nil
	}
	if err != nil || !s.warming.keys {
		return err
	}
	// Last, since each key that was forgotten meanwhile took the current one with
	// it, if it was that.
	return errors.Join(s.client.warmCurrent(ctx), s.server.warmCurrent(ctx))
}

// warmCurrent has the current key in memory, where there is one.
func (r *ring[K]) warmCurrent(ctx context.Context) error {
	var none K
	if r.held.Load().current != none {
		return nil
	}
	_, _, err := r.readCurrent(ctx)
	if definitelyNone(err) || errors.Is(err, ErrCorrupt) || errors.Is(err, ErrKeyLocked) {
		return nil // is seen, and said, when it is needed
	}
	return err
}

// isPointer reports whether a name is that of a secret which points to a current
// key.
func isPointer(name string) bool { return name == CurrentClientSecret || name == CurrentServerSecret }

// warmEntries is warmUp but for the current keys.
func (s *Store) warmEntries(ctx context.Context, all bool, names []string) error {
	for _, name := range names {
		if isPointer(name) {
			continue
		}
		if guid, isKey := keyOf(name); isKey {
			if err := s.warmKey(ctx, guid); err != nil {
				return err
			}
			continue
		}
		if strings.HasPrefix(name, accountPrefix) {
			if _, err := s.accounts.read(ctx); err != nil {
				return err
			}
			continue
		}
		// Of the header alone. What is under a newer data key brings it in as well.
		err := s.renewDataKeys(ctx)
		if errors.Is(err, ErrWrongKEK) || errors.Is(err, ErrCorrupt) {
			s.log.Error("the store's header does not open; going on with the data keys at hand", "err", err)
		} else if err != nil {
			return err
		}
	}
	inMemory := len(s.client.held.Load().keys) + len(s.server.held.Load().keys)
	if !all || inMemory == 0 && !s.warming.keys {
		return nil
	}
	// What is forgotten from here on may have another state than the one read now.
	since := generations{s.client.held.Load().generation, s.server.held.Load().generation}
	states, err := s.readStates(ctx)
	if err != nil || !s.warming.keys {
		return err
	}
	if _, err := s.accounts.read(ctx); err != nil {
		return err
	}
	entries, err := s.vault.backend.List(ctx, SecretPrefix)
	if err != nil {
		return fmt.Errorf("listing the keys: %w", err)
	}
	for len(entries) > 0 && ctx.Err() == nil {
		n := min(len(entries), warmBatch)
		if err := s.warmKeys(ctx, entries[:n], states, since); err != nil {
			return err
		}
		entries = entries[n:]
	}
	return nil
}

// readStates reads the states of all keys that have one, and forgets the keys in
// memory that have another one there: nobody has told of the change. One that is
// damaged, or is under another KEK than this server has, stands for locked, and
// its key is forgotten. One that cannot be told for now is an error.
func (s *Store) readStates(ctx context.Context) (map[dtyp.GUID]KeyState, error) {
	entries, err := s.vault.backend.List(ctx, lifePrefix)
	if err != nil {
		return nil, fmt.Errorf("listing the states of keys: %w", err)
	}
	states := make(map[dtyp.GUID]KeyState, len(entries))
	for _, e := range entries {
		guid, ok := lifeGUID(e.Name)
		if !ok {
			continue
		}
		var l life
		value, err := s.vault.openNewer(ctx, e.Name, e.Value)
		if err == nil {
			l, err = parseLife(e.Name, value)
		}
		switch {
		case err == nil:
		case errors.Is(err, ErrWrongKEK):
			s.log.Error("the state of a key does not open by the key-encryption key at hand: the key is refused until it does", "key", guid, "err", err)
			l.State = KeyLocked
		case errors.Is(err, ErrCorrupt):
			s.log.Error("the state of a key is damaged: the key is refused until its state is set anew", "key", guid, "err", err)
			l.State = KeyLocked
		default:
			return nil, fmt.Errorf("reading the state of key %v: %w", guid, err)
		}
		states[guid] = l.State
		if k := s.client.held.Load().keys[guid]; k != nil && k.state != l.State {
			s.client.forget(e.Name)
		}
		if k := s.server.held.Load().keys[guid]; k != nil && k.state != l.State {
			s.server.forget(e.Name)
		}
	}
	return states, nil
}

// generations are those of the two rings.
type generations struct{ client, server uint64 }

// warmKeys puts into memory the keys among entries that are not there yet, unless
// something was forgotten since their states were read. Those that are damaged are
// logged, and the error is about others that could not be read.
func (s *Store) warmKeys(ctx context.Context, entries []Entry, states map[dtyp.GUID]KeyState, since generations) error {
	client, server := s.client.held.Load(), s.server.held.Load()
	var pairs []*ClientWrapKey
	var keys []*ServerWrapKey
	var unread error
	for _, e := range entries {
		guid, ok := secretGUID(e.Name)
		state := states[guid]
		if !ok || client.keys[guid] != nil || server.keys[guid] != nil || ctx.Err() != nil {
			continue
		}
		if state == KeyLocked { // at its use the state is looked up once more
			continue
		}
		pair, key, err := s.openKey(ctx, guid, e)
		switch {
		case errors.Is(err, ErrCorrupt), errors.Is(err, ErrMalformedKey):
			s.damagedKey(guid, err)
		case err != nil:
			unread = err
		case pair != nil:
			pairs = append(pairs, s.dressClientWrapKey(guid, pair, state))
		default:
			keys = append(keys, s.dressServerWrapKey(guid, key, state))
		}
	}
	if s.client.remember(since.client, pairs...) && s.server.remember(since.server, keys...) {
		return unread
	}
	for _, e := range entries { // something has changed meanwhile; perhaps one of these
		s.warming.add(e.Name)
	}
	return unread
}

// warmKey puts one key into memory. It does nothing where there is no such key,
// or it is locked.
func (s *Store) warmKey(ctx context.Context, guid dtyp.GUID) error {
	value, _, err := s.vault.backend.Get(ctx, keySecret(guid))
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if errors.Is(err, ErrCorrupt) {
		s.damagedKey(guid, err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading key %v: %w", guid, err)
	}
	there := false
	if len(value) == valueHeaderSize+aeadOverhead+bkrp.ServerKeySize {
		_, err = s.server.load(ctx, guid)
		there = s.server.held.Load().keys[guid] != nil
	} else {
		_, err = s.client.load(ctx, guid)
		there = s.client.held.Load().keys[guid] != nil
	}
	if errors.Is(err, ErrCorrupt) || errors.Is(err, ErrMalformedKey) {
		s.damagedKey(guid, err)
		return nil
	}
	if err == nil && !there { // something has changed meanwhile; perhaps this one
		s.warming.add(keySecret(guid))
	}
	return err
}

func (s *Store) damagedKey(guid dtyp.GUID, err error) {
	s.log.Error("a key is damaged: what was wrapped under it cannot be unwrapped until the key is imported from an export, or from a store restored from a backup",
		"key", guid, "err", err)
}

// openKey opens the entry of a key of either kind, which its size tells.
func (s *Store) openKey(ctx context.Context, guid dtyp.GUID, e Entry) (pair *ClientWrapKey, key *ServerWrapKey, err error) {
	secret, err := s.vault.openNewer(ctx, e.Name, e.Value)
	if err != nil {
		return nil, nil, fmt.Errorf("opening %s: %w", e.Name, err)
	}
	defer clear(secret)
	if len(secret) == bkrp.ServerKeySize {
		key, err = parseServerWrapKey(guid, secret)
		return nil, key, err
	}
	pair, err = s.parseClientWrapKey(guid, secret)
	return pair, nil, err
}
