package keystore

import (
	"context"
	"errors"
	"fmt"
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
	if _, isKey := secretGUID(name); name != headerName && name != AnyName && !(w.keys && isKey) {
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
	var entries []Entry
	header := false // without need for it: what is under a newer data key brings it in
	for _, name := range names {
		if name == headerName {
			header = true
			continue
		}
		value, _, err := s.vault.backend.Get(ctx, name)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return fmt.Errorf("reading %s: %w", name, err)
		}
		entries = append(entries, Entry{Name: name, Value: value})
	}
	if header {
		if err := s.renewDataKeys(ctx); errors.Is(err, ErrWrongKEK) || errors.Is(err, ErrCorrupt) {
			s.log.Error("the store's header does not open; going on with the data keys at hand", "err", err)
		} else if err != nil {
			return err
		}
	}
	if all && s.warming.keys {
		var err error
		if entries, err = s.vault.backend.List(ctx, SecretPrefix); err != nil {
			return fmt.Errorf("listing the keys: %w", err)
		}
	}
	s.warmKeys(ctx, entries)
	return nil
}

// warmKeys puts into memory the keys among entries that are not there yet.
func (s *Store) warmKeys(ctx context.Context, entries []Entry) {
	for len(entries) > 0 && ctx.Err() == nil {
		n := min(len(entries), warmBatch)
		s.warmSome(ctx, entries[:n])
		entries = entries[n:]
	}
}

func (s *Store) warmSome(ctx context.Context, entries []Entry) {
	client, server := s.client.held.Load(), s.server.held.Load()
	var pairs []*ClientWrapKey
	var keys []*ServerWrapKey
	for _, e := range entries {
		guid, ok := secretGUID(e.Name)
		if !ok || client.keys[guid] != nil || server.keys[guid] != nil || ctx.Err() != nil {
			continue
		}
		pair, key, err := s.openKey(ctx, guid, e)
		switch {
		case err != nil:
			s.log.Error("a key is damaged: what was wrapped under it cannot be unwrapped until it is restored from a backup",
				"key", guid, "err", err)
		case pair != nil:
			pairs = append(pairs, pair)
		default:
			keys = append(keys, key)
		}
	}
	if s.client.remember(client.generation, pairs...) && s.server.remember(server.generation, keys...) {
		return
	}
	for _, e := range entries { // something has changed meanwhile; perhaps one of these
		s.warming.add(e.Name)
	}
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
	pair, err = parseClientWrapKey(guid, secret)
	return pair, nil, err
}
