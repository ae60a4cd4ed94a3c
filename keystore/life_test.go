package keystore_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/keystore"
	"github.com/seed05845750/bkrp/keystore/keystoretest"
)

// A key that is not current can be retired, locked and made active again; every
// store on the backend follows, and the key stays.
func TestKeyStates(t *testing.T) {
	forKinds(t, func(t *testing.T, k kind) {
		s, b, kek := newStore(t)
		other := openPreloaded(t, b, kek)
		ctx := t.Context()
		first := mustCurrent(t, k, s)
		for _, state := range []keystore.KeyState{keystore.KeyRetired, keystore.KeyLocked} {
			if err := s.SetKeyState(ctx, first, state); !errors.Is(err, keystore.ErrKeyCurrent) {
				t.Errorf("the current key %v: %v", state, err)
			}
		}
		if _, err := k.rotate(s, ctx); err != nil {
			t.Fatal(err)
		}
		secret := mustSecret(t, s, keystore.SecretPrefix+first.String())
		for _, store := range []*keystore.Store{s, other} {
			if state, err := k.state(store, ctx, first); err != nil || state != keystore.KeyActive {
				t.Errorf("the key is %v: %v", state, err)
			}
		}

		if err := s.SetKeyState(ctx, first, keystore.KeyRetired); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() bool {
			state, err := k.state(other, ctx, first)
			return err == nil && state == keystore.KeyRetired
		})
		if err := k.point(s, ctx, first); !errors.Is(err, keystore.ErrKeyState) {
			t.Errorf("a retired key becomes current: %v", err)
		}
		if err := s.SetKeyState(ctx, first, keystore.KeyLocked); err != nil {
			t.Fatal(err)
		}
		if err := k.key(s, ctx, first); !errors.Is(err, keystore.ErrKeyLocked) {
			t.Errorf("a locked key is given out where it was locked: %v", err)
		}
		eventually(t, func() bool { return errors.Is(k.key(other, ctx, first), keystore.ErrKeyLocked) })
		if err := k.point(s, ctx, first); !errors.Is(err, keystore.ErrKeyLocked) {
			t.Errorf("a locked key becomes current: %v", err)
		}
		if err := k.key(openStore(t, b, kek), ctx, first); !errors.Is(err, keystore.ErrKeyLocked) {
			t.Errorf("a locked key is given out by a store opened later: %v", err)
		}
		name := keystore.SecretPrefix + first.String()
		if string(mustSecret(t, s, name)) != string(secret) {
			t.Error("locking has altered the key")
		}
		if _, err := s.SecretInUse(ctx, strings.ToUpper(name)); !errors.Is(err, keystore.ErrKeyLocked) {
			t.Errorf("the secret of a locked key is given out for use: %v", err)
		}
		if _, err := s.SecretInUse(ctx, k.pointer); err != nil {
			t.Errorf("the pointer: %v", err)
		}

		if err := s.SetKeyState(ctx, first, keystore.KeyActive); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() bool { return k.key(other, ctx, first) == nil })
		if got, err := s.SecretInUse(ctx, name); err != nil || string(got) != string(secret) {
			t.Errorf("the secret of a key that is active again: %v", err)
		}
		if err := k.point(s, ctx, first); err != nil {
			t.Errorf("making it current again: %v", err)
		}
		if err := s.SetKeyState(ctx, dtyp.GUID{1}, keystore.KeyLocked); !errors.Is(err, keystore.ErrNoKey) {
			t.Errorf("locking a key that is not there: %v", err)
		}
	})
}

// A change of state whose answer was lost has been made, and is reported as made;
// one that was not made is not.
func TestStateWithoutAnswer(t *testing.T) {
	for _, after := range []bool{true, false} {
		forKinds(t, func(t *testing.T, k kind) {
			s, b, kek := newStore(t)
			first := mustCurrent(t, k, s)
			second, err := k.rotate(s, t.Context())
			if err != nil {
				t.Fatal(err)
			}
			f := keystoretest.NewFaults(b, nil)
			f.After = after
			crossed := openStore(t, f, kek)
			lose := func(c keystoretest.Call) error {
				if c.Operation == keystoretest.Swap && strings.HasPrefix(c.Name, "life/") {
					return keystoretest.ErrFault
				}
				return nil
			}
			f.SetFail(func(_ int, c keystoretest.Call) error { return lose(c) })
			err = crossed.SetKeyState(t.Context(), first, keystore.KeyRetired)
			if state, stateErr := k.state(openStore(t, b, kek), t.Context(), first); stateErr != nil ||
				(err == nil) != after || (state == keystore.KeyRetired) != after {
				t.Errorf("after=%v: %v, and the key is %v: %v", after, err, state, stateErr)
			}

			// While it is written the key becomes current: it must not stay out of
			// use, whether or not the answer came.
			if err := s.SetKeyState(t.Context(), first, keystore.KeyActive); err != nil {
				t.Fatal(err)
			}
			struck := false
			f.SetFail(func(_ int, c keystoretest.Call) error {
				if err := lose(c); err == nil || struck {
					return nil
				}
				struck = true
				// By somebody who looked at the state before.
				putPointer(t, s, k, first)
				return keystoretest.ErrFault
			})
			_ = crossed.SetKeyState(t.Context(), first, keystore.KeyLocked)
			fresh := openStore(t, b, kek)
			g, err := k.current(fresh, t.Context())
			if err != nil || g != first && g != second {
				t.Fatalf("current is %v: %v", g, err)
			}
			if state, err := k.state(fresh, t.Context(), g); err != nil || state != keystore.KeyActive {
				t.Errorf("the current key is %v: %v", state, err)
			}
		})
	}
}

// putPointer makes a key current without a look at its state.
func putPointer(t *testing.T, s *keystore.Store, k kind, g dtyp.GUID) {
	t.Helper()
	if err := s.PutSecret(t.Context(), k.pointer, g[:]); err != nil {
		t.Error(err)
	}
}

// Asking for a locked key again and again costs the backend nothing.
func TestLockedKeyIsRemembered(t *testing.T) {
	forKinds(t, func(t *testing.T, k kind) {
		s, b, kek := newStore(t)
		first := mustCurrent(t, k, s)
		if _, err := k.rotate(s, t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.SetKeyState(t.Context(), first, keystore.KeyLocked); err != nil {
			t.Fatal(err)
		}
		f := keystoretest.NewFaults(b, nil)
		again := openStore(t, f, kek)
		eventually(t, func() bool {
			before := len(f.Calls())
			return errors.Is(k.key(again, t.Context(), first), keystore.ErrKeyLocked) && len(f.Calls()) == before
		})
	})
}

// A change of state that nobody told of, because the watch was broken, is found
// when the watch stands again.
func TestStateChangesWhileAway(t *testing.T) {
	forKinds(t, func(t *testing.T, k kind) {
		s, b, kek := newStore(t)
		first := mustCurrent(t, k, s)
		if _, err := k.rotate(s, t.Context()); err != nil {
			t.Fatal(err)
		}
		a := &away{Backend: b}
		other := openStore(t, a, kek) // without Preload
		eventually(t, func() bool {
			err := k.key(other, t.Context(), first)
			return err == nil && other.Following() && other.InMemory(first)
		})
		a.leave(true)
		eventually(t, func() bool { return !other.Following() })
		if err := s.SetKeyState(t.Context(), first, keystore.KeyLocked); err != nil {
			t.Fatal(err)
		}
		if err := k.key(other, t.Context(), first); err != nil {
			t.Errorf("while the backend is away: %v", err)
		}
		a.leave(false)
		eventually(t, func() bool { return errors.Is(k.key(other, t.Context(), first), keystore.ErrKeyLocked) })
	})
}

// A damaged state refuses its key and no other, and is put right by setting it.
func TestDamagedState(t *testing.T) {
	forKinds(t, func(t *testing.T, k kind) {
		s, b, kek := newStore(t)
		first := mustCurrent(t, k, s)
		second, err := k.rotate(s, t.Context())
		if err != nil {
			t.Fatal(err)
		}
		replace(t, b, "life/"+first.String(), []byte("no life"))
		again := openStore(t, b, kek)
		if err := k.key(again, t.Context(), first); !errors.Is(err, keystore.ErrCorrupt) {
			t.Errorf("the key with the damaged state: %v", err)
		}
		if err := k.key(again, t.Context(), second); err != nil {
			t.Error(err)
		}
		if err := again.SetKeyState(t.Context(), first, keystore.KeyActive); err != nil {
			t.Fatal(err)
		}
		if err := k.key(again, t.Context(), first); err != nil {
			t.Error(err)
		}
	})
}

// Retiring a key and making it current cross each other: never is the current
// key one that is out of use.
func TestRetireAgainstPoint(t *testing.T) {
	forKinds(t, func(t *testing.T, k kind) {
		s, b, kek := newStore(t)
		other := openStore(t, b, kek)
		ctx := context.Background()
		first := mustCurrent(t, k, s)
		second, err := k.rotate(s, ctx)
		if err != nil {
			t.Fatal(err)
		}
		for range 50 {
			if err := errors.Join(s.SetKeyState(ctx, first, keystore.KeyActive), k.point(s, ctx, second)); err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			wg.Go(func() { _ = s.SetKeyState(ctx, first, keystore.KeyRetired) })
			wg.Go(func() { _ = k.point(other, ctx, first) })
			wg.Wait()
			fresh := openStore(t, b, kek)
			g, err := k.current(fresh, ctx)
			if err != nil {
				t.Fatal(err)
			}
			if state, err := k.state(fresh, ctx, g); err != nil || state != keystore.KeyActive {
				t.Fatalf("the current key is %v: %v", state, err)
			}
			_ = fresh.Close()
		}
	})
}

// kindNamed is a kind as rotations name it.
func kindNamed(k kind) keystore.KeyKind {
	if k.name == keystore.ClientWrap.String() {
		return keystore.ClientWrap
	}
	return keystore.ServerWrap
}

func openReplica(t *testing.T, b keystore.Backend, kek keystore.Sealer, name string) *keystore.Store {
	t.Helper()
	s, err := keystore.Open(t.Context(), b, kek, keystore.Options{Preload: true, Replica: name, Heartbeat: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	s.SetGeneratePair(pairs.next)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// untilServed waits for all live replicas to serve the key of a rotation.
func untilServed(t *testing.T, s *keystore.Store, g dtyp.GUID) {
	t.Helper()
	eventually(t, func() bool {
		lacking, err := s.Lacking(t.Context(), g)
		return err == nil && len(lacking) == 0
	})
}

func TestRotationInPhases(t *testing.T) {
	forKinds(t, func(t *testing.T, k kind) {
		_, b, kek := newStore(t)
		ctx, kind := t.Context(), kindNamed(k)
		one, two := openReplica(t, b, kek, "one"), openReplica(t, b, kek, "two")
		old := mustCurrent(t, k, one)
		for name, f := range map[string]func(context.Context, keystore.KeyKind) (keystore.Rotation, error){
			"prefer": one.PreferRotation, "rollback": one.RollBackRotation, "show": one.Rotation,
		} {
			if _, err := f(ctx, kind); !errors.Is(err, keystore.ErrNoRotation) {
				t.Errorf("%s before any rotation: %v", name, err)
			}
		}
		r, err := one.BeginRotation(ctx, kind)
		if err != nil || r.Phase != keystore.RotationCreated || r.Previous != old {
			t.Fatalf("begun: %+v, %v", r, err)
		}
		if _, err := two.BeginRotation(ctx, kind); !errors.Is(err, keystore.ErrRotation) {
			t.Errorf("begun twice: %v", err)
		}
		if got := mustCurrent(t, k, two); got != old {
			t.Errorf("current is %v before it was preferred", got)
		}
		untilServed(t, two, r.Next)
		eventually(t, func() bool { return one.InMemory(r.Next) && two.InMemory(r.Next) })
		for range 2 {
			if p, err := two.PreferRotation(ctx, kind); err != nil || p.Phase != keystore.RotationPreferred {
				t.Fatalf("preferred: %+v, %v", p, err)
			}
		}
		eventually(t, func() bool { return mustCurrent(t, k, one) == r.Next && mustCurrent(t, k, two) == r.Next })
		for range 2 {
			if p, err := one.RollBackRotation(ctx, kind); err != nil || p.Phase != keystore.RotationRolledBack {
				t.Fatalf("rolled back: %+v, %v", p, err)
			}
		}
		eventually(t, func() bool { return mustCurrent(t, k, one) == old && mustCurrent(t, k, two) == old })
		if err := k.key(two, ctx, r.Next); err != nil {
			t.Errorf("the key that was rolled back from: %v", err)
		}
		if _, err := one.PreferRotation(ctx, kind); !errors.Is(err, keystore.ErrRotation) {
			t.Errorf("preferred after it was rolled back: %v", err)
		}
		// A rotation that was rolled back before it was preferred, and one that
		// somebody overtook.
		if r, err = one.BeginRotation(ctx, kind); err != nil {
			t.Fatal(err)
		}
		if _, err := one.RollBackRotation(ctx, kind); err != nil {
			t.Fatal(err)
		}
		if r, err = one.BeginRotation(ctx, kind); err != nil {
			t.Fatal(err)
		}
		third, err := k.rotate(one, ctx)
		if err != nil {
			t.Fatal(err)
		}
		untilServed(t, one, r.Next)
		if _, err := one.PreferRotation(ctx, kind); !errors.Is(err, keystore.ErrRotation) {
			t.Errorf("preferred after another key was made current: %v", err)
		}
		if _, err := one.RollBackRotation(ctx, kind); !errors.Is(err, keystore.ErrRotation) {
			t.Errorf("rolled back after another key was made current: %v", err)
		}
		if got := mustCurrent(t, k, one); got != third {
			t.Errorf("current is %v, want %v", got, third)
		}
	})
}

// A replica that lives and lacks the key holds up a rotation; one that is dead
// does so only until it is known to be dead, and one that ended in order does
// not at all. The heartbeats are those of a bubble: none is missed because the
// machine is busy.
func TestPreferWaitsForReplicas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, b, kek := newStore(t)
		a := &away{Backend: b}
		one, two := openReplica(t, b, kek, "one"), openReplica(t, a, kek, "two")
		ctx := t.Context()
		mustCurrent(t, kinds[0], one)
		names := func() (names []string) {
			all, err := one.Replicas(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range all {
				if r.Live {
					names = append(names, r.Name)
				}
			}
			return names
		}
		eventually(t, func() bool { return len(names()) == 2 })
		a.leave(true) // it is cut off, and does not report
		eventually(t, func() bool { return !two.Following() })
		r, err := one.BeginRotation(ctx, keystore.ServerWrap)
		if err != nil {
			t.Fatal(err)
		}
		refused := false
		eventually(t, func() bool {
			_, err := one.PreferRotation(ctx, keystore.ServerWrap)
			refused = refused || errors.Is(err, keystore.ErrRotation)
			return err == nil
		})
		if !refused {
			t.Error("the replica that was cut off was not waited for at all")
		}
		if got := names(); len(got) != 1 || got[0] != "one" {
			t.Errorf("alive are %v", got)
		}
		a.leave(false)
		eventually(t, func() bool { return len(names()) == 2 && two.InMemory(r.Next) })
		if err := two.Close(); err != nil {
			t.Fatal(err)
		}
		if got := names(); len(got) != 1 {
			t.Errorf("after one has ended: %v", got)
		}
	})
}

// The KEK from before is not dropped while a replica that lives is configured
// with it. The heartbeats are those of a bubble.
func TestFinishRekeyWaitsForReplicas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, b, kek := newStore(t)
		next := newKEK(t)
		var mu sync.Mutex
		configured := keystore.Sealer(kek)
		replica, err := keystore.Open(t.Context(), b, kek, keystore.Options{
			Replica: "one", Heartbeat: 20 * time.Millisecond,
			Sealer: func(context.Context) (keystore.Sealer, error) {
				mu.Lock()
				defer mu.Unlock()
				return configured, nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer replica.Close()
		eventually(t, func() bool { all, err := replica.Replicas(t.Context()); return err == nil && len(all) == 1 })
		s := openStore(t, b, kek)
		if err := s.BeginRekey(t.Context(), next); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			if err := s.FinishRekey(t.Context(), next); !errors.Is(err, keystore.ErrRekey) {
				t.Fatalf("finished: %v", err)
			}
		}
		mu.Lock()
		configured = next
		mu.Unlock()
		eventually(t, func() bool { return s.FinishRekey(t.Context(), next) == nil })
	})
}
