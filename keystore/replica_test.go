package keystore_test

import (
	"errors"
	"testing"

	"github.com/seed05845750/bkrp/keystore"
)

// A damaged record of a rotation does not silence the replicas: those who are
// not heard of are taken for dead, and nobody waits for the dead.
func TestReplicasReportBesideADamagedRotation(t *testing.T) {
	_, b, kek := newStore(t)
	one := openReplica(t, b, kek, "one")
	mustCurrent(t, kinds[0], one)
	for _, kind := range []keystore.KeyKind{keystore.ServerWrap, keystore.ClientWrap} {
		if _, err := one.BeginRotation(t.Context(), kind); err != nil {
			t.Fatal(err)
		}
	}
	damage(t, b, "rotation/"+keystore.ClientWrap.String())
	last := keystore.Revision(0)
	for range 5 { // reports since
		eventually(t, func() bool {
			list, err := b.List(t.Context(), "replica/")
			if err != nil || len(list) != 1 || list[0].Revision == last {
				return false
			}
			last = list[0].Revision
			return true
		})
	}
	r, err := one.PreferRotation(t.Context(), keystore.ServerWrap)
	if err != nil {
		t.Fatalf("the rotation of the other kind: %v", err)
	}
	if got := mustCurrent(t, kinds[0], one); got != r.Next {
		t.Errorf("current is %v, want %v", got, r.Next)
	}
	if _, err := one.PreferRotation(t.Context(), keystore.ClientWrap); !errors.Is(err, keystore.ErrCorrupt) {
		t.Errorf("the one whose record is damaged: %v, want ErrCorrupt", err)
	}
	if _, err := one.BeginRotation(t.Context(), keystore.ClientWrap); err != nil {
		t.Errorf("beginning it anew: %v", err)
	}
}

// damage flips a bit of an entry.
func damage(t *testing.T, b keystore.Backend, name string) {
	t.Helper()
	value, rev, err := b.Get(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	value[len(value)-1] ^= 1
	if _, err := b.CompareAndSwap(t.Context(), name, rev, value); err != nil {
		t.Fatal(err)
	}
}

// The key of a rotation that was locked meanwhile is not preferred, whoever is
// heard of.
func TestPreferLocked(t *testing.T) {
	forKinds(t, func(t *testing.T, k kind) {
		_, b, kek := newStore(t)
		one := openReplica(t, b, kek, "one")
		old := mustCurrent(t, k, one)
		r, err := one.BeginRotation(t.Context(), kindNamed(k))
		if err != nil {
			t.Fatal(err)
		}
		if err := one.SetKeyState(t.Context(), r.Next, keystore.KeyLocked); err != nil {
			t.Fatal(err)
		}
		if _, err := one.PreferRotation(t.Context(), kindNamed(k)); !errors.Is(err, keystore.ErrKeyState) {
			t.Errorf("preferred: %v, want ErrKeyState", err)
		}
		if got := mustCurrent(t, k, one); got != old {
			t.Errorf("current is %v, want %v", got, old)
		}
	})
}
