package keystore_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/keystore"
	"github.com/seed05845750/bkrp/keystore/keystoretest"
)

// deaf is a backend whose watch stands and reports no change, as one does not
// that is not known to have been made.
type deaf struct{ keystore.Backend }

func (deaf) Watch(ctx context.Context, changed func(string)) error {
	changed(keystore.AnyName)
	<-ctx.Done()
	return ctx.Err()
}

// A pointer that was moved by a write whose answer was lost is followed at the
// next call, not when the store is opened again.
func TestRotationWithoutAnswer(t *testing.T) {
	forKinds(t, func(t *testing.T, k kind) {
		_, b, kek := newStore(t)
		f := keystoretest.NewFaults(deaf{b}, nil)
		f.After = true
		s := openStore(t, f, kek)
		first := mustCurrent(t, k, s)
		eventually(t, func() bool { // the key comes from memory
			before := f.Count(keystoretest.Get)
			mustCurrent(t, k, s)
			return f.Count(keystoretest.Get) == before
		})
		f.SetFail(func(_ int, c keystoretest.Call) error {
			if c.Operation == keystoretest.Swap && c.Name == k.pointer {
				return keystoretest.ErrFault
			}
			return nil
		})
		if g, err := k.rotate(s, t.Context()); !errors.Is(err, keystoretest.ErrFault) || g != (dtyp.GUID{}) {
			t.Errorf("rotation gives %v, %v; want the fault", g, err)
		}
		f.SetFail(nil)
		want := mustCurrent(t, k, openStore(t, b, kek))
		if got := mustCurrent(t, k, s); got != want || got == first {
			t.Errorf("current is %v, the backend has %v", got, want)
		}
	})
}

// keyKind is the kind of key for rotations in phases.
func (k kind) keyKind(t *testing.T) (kind keystore.KeyKind) {
	t.Helper()
	if err := kind.UnmarshalText([]byte(k.name)); err != nil {
		t.Fatal(err)
	}
	return kind
}

// A rotation that was begun before there was a current key goes on from the one
// that the first caller got in between, and back to it.
func TestRotationBeforeFirstUse(t *testing.T) {
	forKinds(t, func(t *testing.T, k kind) {
		kind := k.keyKind(t)
		for _, prefer := range []bool{false, true} {
			s, _, _ := newStore(t)
			if _, err := s.BeginRotation(t.Context(), kind); err != nil {
				t.Fatal(err)
			}
			if _, err := s.RollBackRotation(t.Context(), kind); !errors.Is(err, keystore.ErrRotation) {
				t.Errorf("rolling back to nothing: %v, want ErrRotation", err)
			}
			first := mustCurrent(t, k, s)
			if prefer {
				r, err := s.PreferRotation(t.Context(), kind)
				if err != nil || r.Previous != first || mustCurrent(t, k, s) != r.Next {
					t.Errorf("preferred: %v, %v; want %v to be the one before", r, err, first)
				}
			}
			if r, err := s.RollBackRotation(t.Context(), kind); err != nil || r.Previous != first {
				t.Errorf("rolled back: %v, %v", r, err)
			}
			if got := mustCurrent(t, k, s); got != first {
				t.Errorf("current is %v, want %v", got, first)
			}
		}
	})
}

// A rotation that another key overtook is not gone on with, and does not keep a
// new one from being begun.
func TestRotationOvertaken(t *testing.T) {
	forKinds(t, func(t *testing.T, k kind) {
		kind := k.keyKind(t)
		s, _, _ := newStore(t)
		mustCurrent(t, k, s)
		if _, err := s.BeginRotation(t.Context(), kind); err != nil {
			t.Fatal(err)
		}
		if _, err := s.BeginRotation(t.Context(), kind); !errors.Is(err, keystore.ErrRotation) {
			t.Errorf("a second one: %v, want ErrRotation", err)
		}
		other, err := k.rotate(s, t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.PreferRotation(t.Context(), kind); !errors.Is(err, keystore.ErrRotation) {
			t.Errorf("preferring its key: %v, want ErrRotation", err)
		}
		if _, err := s.RollBackRotation(t.Context(), kind); !errors.Is(err, keystore.ErrRotation) {
			t.Errorf("rolling it back: %v, want ErrRotation", err)
		}
		if got := mustCurrent(t, k, s); got != other {
			t.Errorf("current is %v, want %v", got, other)
		}
		if r, err := s.BeginRotation(t.Context(), kind); err != nil || r.Previous != other {
			t.Errorf("a new one: %v, %v", r, err)
		}
	})
}

// A first use whose pointer was written, or somebody else's in its place, is
// answered with the key that is current, though the write was not answered.
func TestFirstUseWithoutAnswer(t *testing.T) {
	forKinds(t, func(t *testing.T, k kind) {
		for _, theirs := range []bool{false, true} {
			other, b, kek := newStore(t)
			f := keystoretest.NewFaults(b, nil)
			f.After = !theirs
			f.SetFail(func(_ int, c keystoretest.Call) error {
				if c.Operation != keystoretest.Swap || c.Name != k.pointer {
					return nil
				}
				if theirs {
					mustCurrent(t, k, other)
				}
				return keystoretest.ErrFault
			})
			got := mustCurrent(t, k, openStore(t, f, kek))
			if want := mustCurrent(t, k, other); got != want {
				t.Errorf("written by another: %t: current is %v, want %v", theirs, got, want)
			}
		}
	})
}

// stalled is a backend on which one swap waits.
type stalled struct {
	keystore.Backend
	name          string // of the entry
	reached, free chan struct{}
	once          sync.Once
}

func (s *stalled) CompareAndSwap(ctx context.Context, name string, old keystore.Revision, value []byte) (keystore.Revision, error) {
	if name == s.name {
		s.once.Do(func() { close(s.reached); <-s.free })
	}
	return s.Backend.CompareAndSwap(ctx, name, old, value)
}

// Of two who end a rotation at the same time the one has it who was later to say
// how, whatever way the writes of the pointer take; and the other is told so,
// unless both said the same.
func TestRotationEndedTwice(t *testing.T) {
	forKinds(t, func(t *testing.T, k kind) {
		keyKind := k.keyKind(t)
		for _, c := range []struct {
			name string
			end  func(s *keystore.Store, ctx context.Context, kind keystore.KeyKind) (keystore.Rotation, error)
			want error
		}{
			{"preferred", (*keystore.Store).PreferRotation, keystore.ErrRotation},
			{"rolled back", (*keystore.Store).RollBackRotation, nil},
		} {
			t.Run(c.name+", then rolled back", func(t *testing.T) {
				other, b, kek := newStore(t)
				before := mustCurrent(t, k, other)
				slow := &stalled{Backend: b, name: k.pointer, reached: make(chan struct{}), free: make(chan struct{})}
				s := openStore(t, slow, kek)
				if _, err := other.BeginRotation(t.Context(), keyKind); err != nil {
					t.Fatal(err)
				}
				ended := make(chan error, 1)
				go func() {
					_, err := c.end(s, t.Context(), keyKind)
					ended <- err
				}()
				<-slow.reached
				if _, err := other.RollBackRotation(t.Context(), keyKind); err != nil {
					t.Errorf("rolling back in between: %v", err)
				}
				close(slow.free)
				if err := <-ended; !errors.Is(err, c.want) {
					t.Errorf("the first end: %v, want %v", err, c.want)
				}
				if r, err := other.Rotation(t.Context(), keyKind); err != nil || r.Phase != keystore.RotationRolledBack {
					t.Errorf("the rotation is %s, %v", r.Phase, err)
				}
				if got := mustCurrent(t, k, openStore(t, b, kek)); got != before {
					t.Errorf("current is %v, want %v, to which the rotation was rolled back", got, before)
				}
			})
		}
	})
}

// A rotation mends a damaged pointer to the current key: one that is begun then,
// and one that was under way, in either direction.
func TestRotationMendsThePointer(t *testing.T) {
	forKinds(t, func(t *testing.T, k kind) {
		kind := k.keyKind(t)
		_, b, kek := newStore(t)
		first := mustCurrent(t, k, openStore(t, b, kek))
		damage(t, b, k.pointer)
		s := openStore(t, b, kek)
		if g, err := k.current(s, t.Context()); !errors.Is(err, keystore.ErrCorrupt) {
			t.Errorf("current is %v, %v; want ErrCorrupt, and no new key", g, err)
		}
		begun, err := s.BeginRotation(t.Context(), kind)
		if err != nil || !begun.Previous.IsZero() {
			t.Fatalf("begun: %+v, %v", begun, err)
		}
		if _, err := s.PreferRotation(t.Context(), kind); err != nil {
			t.Fatal(err)
		}
		if got := mustCurrent(t, k, s); got != begun.Next {
			t.Errorf("current is %v, want %v", got, begun.Next)
		}
		if err := k.key(s, t.Context(), first); err != nil {
			t.Errorf("the key that was current before: %v", err)
		}

		again, err := s.BeginRotation(t.Context(), kind)
		if err != nil {
			t.Fatal(err)
		}
		damage(t, b, k.pointer)
		if _, err := s.PreferRotation(t.Context(), kind); err != nil || mustCurrent(t, k, s) != again.Next {
			t.Errorf("preferred over a damaged pointer: %v", err)
		}
		damage(t, b, k.pointer)
		if _, err := s.RollBackRotation(t.Context(), kind); err != nil || mustCurrent(t, k, s) != begun.Next {
			t.Errorf("rolled back over a damaged pointer: %v", err)
		}
	})
}

// A key that was current and is locked at once, while somebody follows the pointer
// to it, does not keep that one from the key which is current then.
func TestLockedBehindThePointer(t *testing.T) {
	forKinds(t, func(t *testing.T, k kind) {
		_, b, kek := newStore(t)
		admin := openStore(t, b, kek)
		first := mustCurrent(t, k, admin)
		f := keystoretest.NewFaults(b, nil)
		s := openStore(t, f, kek)
		var next dtyp.GUID
		f.SetFail(func(_ int, c keystoretest.Call) error {
			if c.Operation != keystoretest.Get || c.Name != keystore.SecretPrefix+first.String() || !next.IsZero() {
				return nil
			}
			var err error // the pointer has been read
			if next, err = k.rotate(admin, t.Context()); err == nil {
				err = admin.SetKeyState(t.Context(), first, keystore.KeyLocked)
			}
			return err
		})
		if got := mustCurrent(t, k, s); got != next {
			t.Errorf("current is %v, want %v", got, next)
		}
	})
}
