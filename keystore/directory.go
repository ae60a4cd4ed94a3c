package keystore

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/seed05845750/bkrp/dtyp"
)

// directory is the accounts in memory, all or none of them, so that a name
// which is there costs the same to look up as one which is not.
type directory struct {
	store *Store
	turns turns
	mu    sync.Mutex // held by those who replace book
	book  atomic.Pointer[book]
}

// book is never altered, only replaced.
type book struct {
	generation uint64 // grows whenever something is forgotten
	known      bool
	byName     map[string]*Account // by folded name
	bySID      map[dtyp.SID]*Account
	sorted     []Account
	// damaged has the errors of the entries that are not what was written, by
	// folded name: they keep one account from logging on, and not all.
	damaged map[string]error
	// last is the accounts as they were when the backend's watch broke; nil when
	// one of them is known to have changed since.
	last *book
}

func (d *directory) init(s *Store) {
	d.store = s
	d.book.Store(new(book))
}

// read returns all accounts, from memory if they are known.
func (d *directory) read(ctx context.Context) (*book, error) {
	if b := d.book.Load(); b.known {
		return b, nil
	}
	release, err := d.turns.take(ctx, accountPrefix)
	if err != nil {
		return nil, err
	}
	defer release()
	old := d.book.Load()
	if old.known {
		return old, nil
	}
	b, err := d.load(ctx)
	if err != nil {
		return nil, err
	}
	b.generation = old.generation

	d.mu.Lock()
	defer d.mu.Unlock()
	if d.book.Load().generation == old.generation && d.store.following.Load() {
		d.book.Store(b)
	}
	return b, nil
}

// readForUse is read for those who log on. While the backend is away it returns
// the accounts as they were before, and while its watch is broken does so without
// asking: or nobody could have a secret unwrapped then. Whether a name is among
// them takes the same time to tell, either way.
func (d *directory) readForUse(ctx context.Context) (*book, error) {
	b := d.book.Load()
	if !b.known && b.last != nil && !d.store.following.Load() {
		return b.last, nil
	}
	b, err := d.read(ctx)
	if err != nil && ctx.Err() == nil {
		if last := d.book.Load().last; last != nil {
			return last, nil
		}
	}
	return b, err
}

// load reads all accounts from the backend.
func (d *directory) load(ctx context.Context) (*book, error) {
	var entries []Entry // a domain has its accounts elsewhere
	if v := d.store.vault; !v.bare {
		var err error
		if entries, err = v.backend.List(ctx, accountPrefix); err != nil {
			return nil, fmt.Errorf("listing the accounts: %w", err)
		}
	}
	b := &book{
		known:  true,
		byName: make(map[string]*Account, len(entries)),
		bySID:  make(map[dtyp.SID]*Account, len(entries)),
		sorted: make([]Account, 0, len(entries)),
	}
	for _, e := range entries {
		a, err := d.open(ctx, e)
		if err != nil && !errors.Is(err, ErrCorrupt) {
			return nil, err // it cannot be told: nothing of it is kept
		}
		if err != nil {
			d.store.log.Error("an account is damaged and cannot log on", "err", err)
			if b.damaged == nil {
				b.damaged = make(map[string]error)
			}
			b.damaged[strings.TrimPrefix(e.Name, accountPrefix)] = err
			continue
		}
		b.sorted = append(b.sorted, a)
	}
	sort.Slice(b.sorted, func(i, j int) bool {
		return foldAccount(b.sorted[i].Name) < foldAccount(b.sorted[j].Name)
	})
	for i := range b.sorted {
		a := &b.sorted[i]
		b.byName[foldAccount(a.Name)] = a
		b.bySID[a.SID] = a
	}
	return b, nil
}

// open opens and reads the entry of an account.
func (d *directory) open(ctx context.Context, e Entry) (Account, error) {
	value, err := d.store.vault.openNewer(ctx, e.Name, e.Value)
	if err != nil {
		return Account{}, fmt.Errorf("opening %s: %w", e.Name, err)
	}
	defer clear(value)
	return parseAccount(e.Name, value)
}

// forget drops the accounts if the entry of that name is one of them.
func (d *directory) forget(name string) {
	if name != AnyName && !strings.HasPrefix(name, accountPrefix) {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	old := d.book.Load()
	b := &book{generation: old.generation + 1}
	if name == AnyName { // nothing is known of a change
		b.last = old.last
		if old.known {
			b.last = old
		}
	}
	d.book.Store(b)
}

// Accounts returns all accounts, sorted by name. If some are damaged, the
// others are returned together with an error that is ErrCorrupt.
func (s *Store) Accounts(ctx context.Context) ([]Account, error) {
	b, err := s.accounts.read(ctx)
	if err != nil {
		return nil, err
	}
	var damaged []error
	for _, err := range b.damaged {
		damaged = append(damaged, err)
	}
	return append([]Account(nil), b.sorted...), errors.Join(damaged...)
}

// Account returns the account of a name in whatever case ([MS-NLMP] 3.3.2).
// ErrNoAccount means that there is none, ErrCorrupt that it is damaged; any
// other error that the store cannot tell. While the backend is away it answers
// with the accounts as they were before, so that logging on goes on.
func (s *Store) Account(ctx context.Context, name string) (Account, error) {
	b, err := s.accounts.readForUse(ctx)
	if err != nil {
		return Account{}, err
	}
	folded := foldAccount(name)
	a, ok := b.byName[folded]
	if !ok {
		if err := b.damaged[folded]; err != nil {
			return Account{}, err
		}
		return Account{}, ErrNoAccount
	}
	return *a, nil
}

// AccountBySID returns the account of a SID. The errors are those of Account.
func (s *Store) AccountBySID(ctx context.Context, sid dtyp.SID) (Account, error) {
	b, err := s.accounts.readForUse(ctx)
	if err != nil {
		return Account{}, err
	}
	a, ok := b.bySID[sid]
	if !ok {
		return Account{}, ErrNoAccount
	}
	return *a, nil
}
