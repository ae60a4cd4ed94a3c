package keystore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/dtyp"
)

// Options are what a Store takes besides its backend and sealer. The zero
// Options are usable.
type Options struct {
	// Log takes what an operator has to know: keys created, and why. Default:
	// nothing is logged.
	Log *slog.Logger
	// Now is the clock, for the dates in certificates. Default: time.Now.
	Now func() time.Time
}

// Store keeps the keys and accounts of a domain. It is safe for concurrent
// use, and several Stores, also in several processes, may stand on backends
// that share their entries.
//
// A key that has been used once is answered from memory, without a lock and
// without touching the backend. The memory follows the backend's watch.
type Store struct {
	vault   *vault
	id      dtyp.GUID
	domain  Domain
	created time.Time
	log     *slog.Logger
	now     func() time.Time

	// generatePair is bkrp.GenerateKeyPair, except in tests that cannot wait
	// for a new RSA key each time.
	generatePair func(domain string, now time.Time) (*bkrp.KeyPair, error)

	client   *ring[*ClientWrapKey]
	server   *ring[*ServerWrapKey]
	accounts directory

	// ridWritten is the Revision of the counter of RIDs as this Store wrote it
	// last, 0 if it did not yet.
	ridWritten atomic.Uint64

	// following says that the backend's watch stands, so that what may change
	// can be kept in memory.
	following atomic.Bool
	stop      context.CancelFunc
	stopped   chan struct{}
}

// Create makes a store in an empty backend, sealed by sealer. A backend with
// entries, even without a header, is ErrStoreExists and is left alone.
func Create(ctx context.Context, backend Backend, sealer Sealer, d Domain) error {
	d, err := d.check()
	if err != nil {
		return err
	}
	entries, err := backend.List(ctx, "")
	if err != nil {
		return fmt.Errorf("looking into the backend: %w", err)
	}
	if len(entries) != 0 {
		return ErrStoreExists
	}
	h, _, err := newHeader(ctx, backend, sealer, d, time.Now())
	if err != nil {
		return err
	}
	b, err := json.Marshal(h)
	if err != nil {
		return fmt.Errorf("keystore: writing the header: %w", err)
	}
	_, err = backend.CompareAndSwap(ctx, headerName, 0, b)
	if errors.Is(err, ErrConflict) {
		return ErrStoreExists
	}
	if err != nil {
		return fmt.Errorf("writing the header: %w", err)
	}
	return nil
}

// Open opens the store in a backend. It returns ErrNoStore if there is none,
// ErrWrongKEK if sealer is not the one it was sealed by, and ErrCorrupt if
// its header is not what was written. The backend stays the caller's, to be
// closed after the Store.
func Open(ctx context.Context, backend Backend, sealer Sealer, o Options) (*Store, error) {
	b, _, err := backend.Get(ctx, headerName)
	if errors.Is(err, ErrNotFound) {
		return nil, absentHeader(ctx, backend)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the store's header: %w", err)
	}
	h, err := parseHeader(b)
	if err != nil {
		return nil, err
	}
	v, inner, err := h.unlock(ctx, backend, sealer)
	if err != nil {
		return nil, err
	}
	return start(ctx, &Store{vault: v, id: h.ID, domain: inner.Domain, created: inner.Created}, o), nil
}

// start completes a store and begins to follow its backend.
func start(ctx context.Context, s *Store, o Options) *Store {
	s.log, s.now, s.generatePair, s.stopped = o.Log, o.Now, bkrp.GenerateKeyPair, make(chan struct{})
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	s.client = newRing(s, CurrentClientSecret, parseClientWrapKey, s.newClientWrapKey)
	s.server = newRing(s, CurrentServerSecret, parseServerWrapKey, newServerWrapKey)
	s.accounts.init(s)

	// The watch lasts as long as the Store, not as the call that opens it.
	watch, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	go s.follow(watch)
	return s
}

// absentHeader tells an empty backend from a store that has lost its header.
func absentHeader(ctx context.Context, backend Backend) error {
	entries, err := backend.List(ctx, "")
	if err != nil {
		return fmt.Errorf("looking into the backend: %w", err)
	}
	if len(entries) != 0 {
		return fmt.Errorf("%w: its header is missing", ErrCorrupt)
	}
	return ErrNoStore
}

// Close ends the Store's watch and waits for it. It does not close the
// backend. The Store is not to be used afterwards; keys it has handed out
// stay usable.
func (s *Store) Close() error {
	s.stop()
	<-s.stopped
	return nil
}

// ID is the identity of the store, drawn at its creation; zero for the secrets
// of a domain.
func (s *Store) ID() dtyp.GUID { return s.id }

// Domain is the domain that the store serves.
func (s *Store) Domain() Domain { return s.domain }

// Created is when the store was created, to the second; zero for the secrets of
// a domain.
func (s *Store) Created() time.Time { return s.created }

// rewatch is how long the Store waits before it sets up a broken watch again.
const rewatch = time.Second

// follow keeps the memory in step with the backend until ctx is done.
func (s *Store) follow(ctx context.Context) {
	defer close(s.stopped)
	for {
		err := s.vault.backend.Watch(ctx, func(name string) {
			s.following.Store(true)
			s.changed(name)
		})
		s.following.Store(false)
		s.changed(AnyName)
		if ctx.Err() != nil || errors.Is(err, ErrClosed) {
			return
		}
		s.log.Warn("watch of the key store broke; reading current keys from it at each call", "err", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(rewatch):
		}
	}
}

// changed forgets what may no longer be true of an entry (S-3.1.6-01).
func (s *Store) changed(name string) {
	s.client.forget(name)
	s.server.forget(name)
	s.accounts.forget(name)
}
