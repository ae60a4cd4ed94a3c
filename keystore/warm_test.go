package keystore_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/keystore"
	"github.com/seed05845750/bkrp/keystore/keystoretest"
)

// away is a backend that can be cut off: its watch breaks, and nothing answers.
type away struct {
	keystore.Backend
	cut atomic.Bool

	mu    sync.Mutex
	watch []context.CancelFunc
}

func (a *away) leave(gone bool) {
	a.cut.Store(gone)
	if !gone {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, stop := range a.watch {
		stop()
	}
	a.watch = nil
}

func (a *away) Watch(ctx context.Context, changed func(string)) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	a.mu.Lock()
	a.watch = append(a.watch, stop)
	a.mu.Unlock()
	if a.cut.Load() {
		return keystoretest.ErrFault
	}
	return a.Backend.Watch(ctx, changed)
}

func (a *away) Get(ctx context.Context, name string) ([]byte, keystore.Revision, error) {
	if a.cut.Load() {
		return nil, 0, keystoretest.ErrFault
	}
	return a.Backend.Get(ctx, name)
}

func (a *away) CompareAndSwap(ctx context.Context, name string, old keystore.Revision, value []byte) (keystore.Revision, error) {
	if a.cut.Load() {
		return 0, keystoretest.ErrFault
	}
	return a.Backend.CompareAndSwap(ctx, name, old, value)
}

func (a *away) List(ctx context.Context, prefix string) ([]keystore.Entry, error) {
	if a.cut.Load() {
		return nil, keystoretest.ErrFault
	}
	return a.Backend.List(ctx, prefix)
}

func openPreloaded(t *testing.T, b keystore.Backend, kek keystore.Sealer) *keystore.Store {
	t.Helper()
	s, err := keystore.Open(t.Context(), b, kek, keystore.Options{Preload: true})
	if err != nil {
		t.Fatal(err)
	}
	s.SetGeneratePair(pairs.next)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// While the backend is away, keys go on unwrapping that were there before, also
// those that this replica was never asked for; the current ones go on wrapping;
// no key is made, and a key that is not known is not said to be unknown.
func TestBackendIsAway(t *testing.T) {
	forKinds(t, func(t *testing.T, k kind) {
		other, b, kek := newStore(t)
		before := mustCurrent(t, k, other)
		a := &away{Backend: b}
		s := openPreloaded(t, a, kek)
		if got := mustCurrent(t, k, s); got != before {
			t.Fatalf("current is %v, want %v", got, before)
		}
		added, err := k.rotate(other, t.Context())
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, func() bool { return mustCurrent(t, k, s) == added })
		third, err := k.rotate(other, t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := k.point(other, t.Context(), added); err != nil {
			t.Fatal(err)
		}
		// Without a call that asks for it.
		eventually(t, func() bool {
			return s.CurrentInMemory(kindNamed(k)) == added && s.InMemory(third) && s.InMemory(before)
		})
		a.leave(true)
		for range 100 {
			for _, g := range []dtyp.GUID{before, added, third} {
				if err := k.key(s, t.Context(), g); err != nil {
					t.Fatalf("key %v: %v", g, err)
				}
			}
		}
		eventually(t, func() bool { return !s.Following() })
		if got := mustCurrent(t, k, s); got != added {
			t.Errorf("current is %v, want %v", got, added)
		}
		if err := k.key(s, t.Context(), dtyp.GUID{1}); !errors.Is(err, keystoretest.ErrFault) || errors.Is(err, keystore.ErrNoKey) {
			t.Errorf("a key that is not known: %v", err)
		}
		if _, err := k.rotate(s, t.Context()); !errors.Is(err, keystoretest.ErrFault) {
			t.Errorf("rotation: %v", err)
		}
		// What happens meanwhile is known soon after it is back.
		fourth, err := k.rotate(other, t.Context())
		if err != nil {
			t.Fatal(err)
		}
		a.leave(false)
		eventually(t, func() bool { return mustCurrent(t, k, s) == fourth && s.InMemory(fourth) })
	})
}

// A store that has never had a current key does not make one while it cannot
// tell.
func TestBackendIsAwayFromTheStart(t *testing.T) {
	forKinds(t, func(t *testing.T, k kind) {
		_, b, kek := newStore(t)
		a := &away{Backend: b}
		s := openPreloaded(t, a, kek)
		a.leave(true)
		if g, err := k.current(s, t.Context()); !errors.Is(err, keystoretest.ErrFault) {
			t.Errorf("current is %v, %v; want the fault", g, err)
		}
	})
}

// A damaged key does not keep the others out of memory.
func TestPreloadSkipsTheDamaged(t *testing.T) {
	s, b, kek := newStore(t)
	good, err := s.RotateServerWrapKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	bad, err := s.RotateServerWrapKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	replace(t, b, keystore.SecretPrefix+bad.GUID().String(), []byte("not sealed"))
	again := openPreloaded(t, b, kek)
	eventually(t, func() bool { return again.InMemory(good.GUID()) })
	if _, err := again.ServerWrapKey(t.Context(), bad.GUID()); !errors.Is(err, keystore.ErrCorrupt) {
		t.Errorf("the damaged key: %v", err)
	}
}

// A key is read ahead of its use also when the pointer moves while that is done,
// as it does in every rotation.
func TestPreloadWhilePointerMoves(t *testing.T) {
	forKinds(t, func(t *testing.T, k kind) {
		_, b, kek := newStore(t)
		f := keystoretest.NewFaults(b, nil)
		s := openPreloaded(t, f, kek)
		added := mustCurrent(t, k, s)
		eventually(t, func() bool { return s.InMemory(added) })
		secret := keystore.SecretPrefix + added.String()
		reads := 0
		f.SetFail(func(_ int, c keystoretest.Call) error {
			if c.Operation == keystoretest.Get && c.Name == secret {
				if reads++; reads == 2 { // the first tells its kind
					s.Changed(k.pointer)
				}
			}
			return nil
		})
		s.Changed(secret)
		eventually(t, func() bool { return s.InMemory(added) })
	})
}
