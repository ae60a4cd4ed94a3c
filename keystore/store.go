package keystore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
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
	// Preload has all keys and accounts read into memory, and new ones as they
	// come, so that unwrapping goes on while the backend is away.
	Preload bool
	// Replica is the name under which the Store reports to others that it serves
	// the keys, for PreferRotation and FinishRekey to wait for it. Default: it
	// does not, as when a store is opened for a moment, or by one server only.
	Replica string
	// Heartbeat is how often it reports, from 10 milliseconds to a minute.
	// Default: DefaultHeartbeat.
	Heartbeat time.Duration
	// Sealer brings the KEK that the configuration has now, where another one
	// has replaced the one that the store was opened with. Default: there is
	// none, and values that were sealed after such a change cannot be opened.
	Sealer func(ctx context.Context) (Sealer, error)
	// Tokens keeps private keys of the ClientWrap subprotocol. Default: there are
	// none, and keys that were made in one cannot be used.
	Tokens Tokens
	// KeysInToken has new ClientWrap keys made in Tokens, where their private
	// halves stay: they can be neither exported nor read as LSA secrets, and are in
	// no backup of the store. Those that the store has itself go on being used.
	KeysInToken bool
	// UsageFlush is how often the use of keys is written down, less often where
	// that would be more than 8 KiB a second, as with tens of thousands of callers:
	// a crash loses at most that much of it, and Close nothing. Default:
	// DefaultUsageFlush.
	UsageFlush time.Duration
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

	tokens      Tokens
	keysInToken bool

	client   ring[*ClientWrapKey]
	server   ring[*ServerWrapKey]
	accounts directory

	sealer    func(ctx context.Context) (Sealer, error)
	sealersMu sync.Mutex
	sealers   []Sealer // those that opened the store, the last one first
	// headerTurns lets one goroutine at a time take in the header.
	headerTurns turns

	warming  warming
	replicas replicas
	usage    usage

	// ridWritten is the Revision of the counter of RIDs as this Store wrote it
	// last, 0 if it did not yet.
	ridWritten atomic.Uint64

	// following says that the backend's watch stands, so that what may change
	// can be kept in memory.
	following atomic.Bool
	stop      context.CancelFunc
	running   sync.WaitGroup // follow, warm, wipe, report, countUse
	drops     chan struct{}  // keys were dropped from memory
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
	h, _, err := newHeader(ctx, backend, sealer, randomGUID(), sealedHeader{Domain: d, Created: time.Now().UTC().Truncate(time.Second)})
	if err != nil {
		return err
	}
	err = h.write(ctx, backend, 0)
	if errors.Is(err, ErrConflict) {
		return ErrStoreExists
	}
	return err
}

// Open opens the store in a backend. It returns ErrNoStore if there is none,
// ErrWrongKEK if sealer is not the one it was sealed by, and ErrCorrupt if
// its header is not what was written. The backend stays the caller's, to be
// closed after the Store.
func Open(ctx context.Context, backend Backend, sealer Sealer, o Options) (*Store, error) {
	h, _, err := readHeader(ctx, backend)
	if errors.Is(err, ErrNotFound) {
		return nil, absentHeader(ctx, backend)
	}
	if err != nil {
		return nil, err
	}
	v, inner, err := h.unlock(ctx, backend, sealer)
	if err != nil {
		return nil, err
	}
	if len(inner.Restoring) != 0 {
		return nil, fmt.Errorf("opening store %v: %w", h.ID, ErrRestoring)
	}
	s := &Store{vault: v, id: h.ID, domain: inner.Domain, created: inner.Created, sealers: []Sealer{sealer}}
	v.renew = s.renewDataKeys
	return start(ctx, s, o), nil
}

// start completes a store and begins to follow its backend.
func start(ctx context.Context, s *Store, o Options) *Store {
	s.log, s.now, s.sealer, s.generatePair = o.Log, o.Now, o.Sealer, bkrp.GenerateKeyPair
	s.tokens, s.keysInToken = o.Tokens, o.KeysInToken
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	s.client.parse, s.client.dress, s.client.create = s.parseClientWrapKey, s.dressClientWrapKey, s.newClientWrapKey
	s.client.init(s, CurrentClientSecret)
	s.server.parse, s.server.dress, s.server.create = parseServerWrapKey, s.dressServerWrapKey, newServerWrapKey
	s.server.init(s, CurrentServerSecret)
	s.accounts.init(s)

	// The watch lasts as long as the Store, not as the call that opens it.
	watch, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	s.replicas.init(o, s.now())
	if !s.vault.bare {
		s.warming.init(o.Preload)
		s.usage.init(o, s.now())
		s.running.Go(func() { s.warm(watch) })
		s.running.Go(func() { s.countUse(watch) })
	}
	s.drops = make(chan struct{}, 1)
	s.running.Go(func() { s.wipe(watch) })
	if !s.vault.bare && s.replicas.name != "" {
		s.running.Go(func() { s.report(watch) })
	}
	s.running.Go(func() { s.follow(watch) })
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

// Close ends the Store's watch, writes down the use of keys and waits for both,
// and drops the keys from memory, which are overwritten as soon as nobody uses
// them. It does not close the backend. The Store is not to be used afterwards;
// keys it has handed out stay usable.
func (s *Store) Close() error {
	s.stop()
	s.running.Wait()
	s.client.clear()
	s.server.clear()
	runtime.GC() // finds the keys that nobody uses any more, to be overwritten
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
		s.log.Warn("watch of the key store broke; going on with the keys in memory until it stands again", "err", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(rewatch):
		}
	}
}

// changed forgets what may no longer be true of an entry (S-3.1.6-01).
func (s *Store) changed(name string) {
	if isUsage(name) { // it is read when somebody asks for it
		return
	}
	s.client.forget(name)
	s.server.forget(name)
	s.accounts.forget(name)
	s.warming.add(name)
	if name == headerName || name == AnyName || strings.HasPrefix(name, rotationPrefix) {
		s.replicas.poke()
	}
}
