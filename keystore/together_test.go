package keystore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/keystore"
	"github.com/seed05845750/bkrp/keystore/keystoretest"
)

// shaky is a backend that now and then does not answer, before or after it has
// done what was asked; and, once it is dead, never.
type shaky struct {
	keystore.Backend
	one  int // call in so many fails; 0 is none
	dead atomic.Bool
}

func (b *shaky) fault() error {
	if b.dead.Load() || b.one > 0 && rand.IntN(b.one) == 0 {
		return keystoretest.ErrFault
	}
	return nil
}

func (b *shaky) Get(ctx context.Context, name string) ([]byte, keystore.Revision, error) {
	if err := b.fault(); err != nil {
		return nil, 0, err
	}
	return b.Backend.Get(ctx, name)
}

func (b *shaky) List(ctx context.Context, prefix string) ([]keystore.Entry, error) {
	if err := b.fault(); err != nil {
		return nil, err
	}
	return b.Backend.List(ctx, prefix)
}

func (b *shaky) CompareAndSwap(ctx context.Context, name string, old keystore.Revision, value []byte) (keystore.Revision, error) {
	if err := b.fault(); err != nil {
		return 0, err
	}
	rev, err := b.Backend.CompareAndSwap(ctx, name, old, value)
	return rev, errors.Join(err, b.fault())
}

// world is a backend with servers on it.
type world struct {
	t          *testing.T
	b          keystore.Backend
	keks       []keystore.Sealer
	configured atomic.Int32 // which of keks the configuration names

	mu   sync.Mutex
	told map[dtyp.GUID][20]byte // the keys that somebody was told of, and what each derives
}

// learn notes a key that was given out: it is the same for ever.
func (w *world) learn(key *keystore.ServerWrapKey, err error) error {
	if err != nil {
		return err
	}
	sum := key.Derive(bkrp.SrvKeyFull, []byte("salt"))
	w.mu.Lock()
	defer w.mu.Unlock()
	if before, known := w.told[key.GUID()]; known && before != sum {
		w.t.Errorf("key %v has become another one", key.GUID())
	}
	w.told[key.GUID()] = sum
	return nil
}

// any is a key that was given out, zero if none was.
func (w *world) any() dtyp.GUID {
	w.mu.Lock()
	defer w.mu.Unlock()
	for guid := range w.told {
		return guid
	}
	return dtyp.GUID{}
}

// acts are what a server or an administrator does. Errors are what is expected of
// a backend like that, unless they say that a key is absent which was given out.
var acts = []func(w *world, ctx context.Context, s *keystore.Store) error{
	func(w *world, ctx context.Context, s *keystore.Store) error {
		return w.learn(s.CurrentServerWrapKey(ctx))
	},
	func(w *world, ctx context.Context, s *keystore.Store) error {
		guid := w.any()
		err := w.learn(s.ServerWrapKey(ctx, guid))
		if !guid.IsZero() && (errors.Is(err, keystore.ErrNoKey) || errors.Is(err, keystore.ErrMalformedKey) || errors.Is(err, keystore.ErrCorrupt)) {
			w.t.Errorf("key %v was given out: %v", guid, err)
		}
		return err
	},
	func(w *world, ctx context.Context, s *keystore.Store) error {
		return w.learn(s.ImportServerKey(ctx, dtyp.GUID([]byte(fmt.Sprintf("%016x", rand.Uint64()))), bkrp.GenerateServerKey(), rand.IntN(3) == 0))
	},
	func(w *world, ctx context.Context, s *keystore.Store) error {
		_, err := s.BeginRotation(ctx, keystore.ServerWrap)
		return err
	},
	func(w *world, ctx context.Context, s *keystore.Store) error {
		_, err := s.PreferRotation(ctx, keystore.ServerWrap)
		return err
	},
	func(w *world, ctx context.Context, s *keystore.Store) error {
		_, err := s.RollBackRotation(ctx, keystore.ServerWrap)
		return err
	},
	func(w *world, ctx context.Context, s *keystore.Store) error {
		return s.SetKeyState(ctx, w.any(), keystore.KeyState(rand.IntN(3)))
	},
	func(w *world, ctx context.Context, s *keystore.Store) error {
		return s.BeginRekey(ctx, w.keks[rand.IntN(len(w.keks))])
	},
	func(w *world, ctx context.Context, s *keystore.Store) error {
		_, err := s.Reseal(ctx)
		return err
	},
	func(w *world, ctx context.Context, s *keystore.Store) error {
		i := rand.IntN(len(w.keks))
		if _, err := s.KEKIndex(ctx, w.keks[i]); err != nil {
			return err // nobody configures what does not open the store
		}
		w.configured.Store(int32(i))
		return s.FinishRekey(ctx, w.keks[i])
	},
}

// serve is a server that lives and comes back some times, and adds to done what
// it has done.
func (w *world) serve(ctx context.Context, name string, done []atomic.Int64) {
	for lives := 0; lives < 40; {
		b := &shaky{Backend: w.b, one: []int{0, 10, 40}[rand.IntN(3)]}
		kek := func(context.Context) (keystore.Sealer, error) { return w.keks[w.configured.Load()], nil }
		sealer, _ := kek(ctx)
		s, err := keystore.Open(ctx, b, sealer, keystore.Options{
			Replica: name, Heartbeat: 10 * time.Millisecond, Sealer: kek, Preload: rand.IntN(2) == 0, UsageFlush: 5 * time.Millisecond,
		})
		if err != nil {
			continue
		}
		lives++
		for range 20 + rand.IntN(40) {
			patience, cancel := context.WithTimeout(ctx, time.Duration(1+rand.IntN(50))*time.Millisecond)
			what := rand.IntN(len(acts))
			if acts[what](w, patience, s) == nil {
				done[what].Add(1)
			}
			cancel()
		}
		b.dead.Store(rand.IntN(3) > 0) // or it ends in order
		_ = s.Close()
	}
}

// Servers that come and go on a backend that often fails rotate, roll back, import,
// lock, unlock and change the KEK, all at the same time. At every moment some KEK
// opens the store, a dump of it is whole and can be restored, and what is restored
// has every key that was given out by then.
func TestEverythingTogether(t *testing.T) {
	if testing.Short() {
		t.Skip("runs for some seconds; not with -short")
	}
	ctx := t.Context()
	w := &world{t: t, b: keystore.NewMemory(), keks: []keystore.Sealer{newKEK(t), newKEK(t), newKEK(t)}, told: make(map[dtyp.GUID][20]byte)}
	if err := keystore.Create(ctx, w.b, w.keks[0], testDomain); err != nil {
		t.Fatal(err)
	}
	done := make([]atomic.Int64, len(acts))
	var servers sync.WaitGroup
	for i := range 3 {
		servers.Go(func() { w.serve(ctx, fmt.Sprint("server", i), done) })
	}
	ended := make(chan struct{})
	go func() {
		servers.Wait()
		close(ended)
	}()
	dumps := 0
	for last := false; !last && !t.Failed(); {
		select {
		case <-ended:
			last = true
		default:
		}
		w.prove(ctx)
		dumps++
	}
	<-ended
	counts := make([]int64, len(done))
	for i := range done {
		counts[i] = done[i].Load()
	}
	if len(w.told) == 0 {
		t.Error("no key was given out")
	}
	t.Logf("%d dumps, %d keys, acts %v", dumps, len(w.told), counts)
}

// open opens the store by the KEK that does.
func (w *world) open(ctx context.Context) (s *keystore.Store, err error) {
	for _, kek := range w.keks {
		if s, err = keystore.Open(ctx, w.b, kek, keystore.Options{}); err == nil {
			return s, nil
		}
	}
	return nil, err
}

// prove takes a dump and restores it.
func (w *world) prove(ctx context.Context) {
	w.mu.Lock()
	var want []dtyp.GUID
	for guid := range w.told {
		want = append(want, guid)
	}
	w.mu.Unlock()
	s, err := w.open(ctx)
	if err != nil {
		w.t.Errorf("no KEK opens the store: %v", err)
		return
	}
	defer s.Close()
	dump, err := s.Dump(ctx)
	if errors.Is(err, keystore.ErrWrongKEK) {
		return // it was replaced in the meantime
	}
	if err != nil {
		w.t.Error(err)
		return
	}
	for _, problem := range dump.Check() {
		// Of two who make a key current and lock it one goes back, a moment later.
		if text := problem.Error(); !strings.HasSuffix(text, "which is locked") && !strings.HasSuffix(text, "which is retired") {
			w.t.Error(problem)
		}
	}
	backend, kek := keystore.NewMemory(), keystore.NewThrowAwaySealer()
	if err := keystore.Restore(ctx, backend, kek, dump); err != nil {
		w.t.Error(err)
		return
	}
	restored, err := keystore.Open(ctx, backend, kek, keystore.Options{})
	if err != nil {
		w.t.Error(err)
		return
	}
	defer restored.Close()
	for _, guid := range want {
		if info, err := restored.KeyInfo(ctx, guid); err == nil && info.State == keystore.KeyLocked {
			err = restored.SetKeyState(ctx, guid, keystore.KeyActive)
			if err != nil {
				w.t.Error(err)
			}
		}
		if err := w.learn(restored.ServerWrapKey(ctx, guid)); err != nil {
			w.t.Errorf("restored: %v", err)
		}
	}
}
