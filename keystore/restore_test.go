package keystore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/keystore"
	"github.com/seed05845750/bkrp/keystore/keystoretest"
)

// equalStores fails the test unless a restored store has what is in a dump.
func equalStores(t *testing.T, d *keystore.Dump, b keystore.Backend, kek keystore.Sealer) {
	t.Helper()
	s := openStore(t, b, kek)
	if s.ID() == d.Store || s.Domain() != d.Domain || !s.Created().Equal(d.Created) {
		t.Errorf("restored store %v of %v, created %v, from %v", s.ID(), s.Domain(), s.Created(), d.Store)
	}
	again := mustDump(t, s)
	if len(again.Damaged) != 0 || len(again.Entries) != len(d.Entries) {
		t.Fatalf("restored %d of %d entries, damaged %q", len(again.Entries), len(d.Entries), again.Damaged)
	}
	for i, e := range again.Entries {
		if e.Name != d.Entries[i].Name || e.Name != "rid" && !bytes.Equal(e.Value, d.Entries[i].Value) {
			t.Errorf("%s is another one than %s", e.Name, d.Entries[i].Name)
		}
	}
}

func TestRestore(t *testing.T) {
	s, source, oldKEK := fullStore(t)
	d := mustDump(t, s)
	ctx := t.Context()
	b, kek := keystore.NewMemory(), newKEK(t)
	if err := keystore.Restore(ctx, b, kek, d); err != nil {
		t.Fatal(err)
	}
	equalStores(t, d, b, kek)
	if _, err := keystore.Open(ctx, b, oldKEK, keystore.Options{}); !errors.Is(err, keystore.ErrWrongKEK) {
		t.Errorf("opening under the old KEK: %v", err)
	}

	t.Run("no RID twice", func(t *testing.T) {
		// carol had 1102 and is gone; dave is added after the backup.
		dave, err := s.AddAccount(ctx, "dave", "x")
		if err != nil {
			t.Fatal(err)
		}
		restored := openStore(t, b, kek)
		for range 3 {
			erin, err := restored.AddAccount(ctx, fmt.Sprint("erin", time.Now().UnixNano()), "x")
			if err != nil {
				t.Fatal(err)
			}
			_, rid, _ := erin.SID.Cut()
			if erin.SID == dave.SID || rid < 1103+keystore.RestoredRIDs {
				t.Errorf("erin has %v, dave had %v", erin.SID, dave.SID)
			}
		}
	})
	t.Run("no RID twice without a counter", func(t *testing.T) {
		empty, _, _ := newStore(t)
		c := keystore.NewMemory()
		if err := keystore.Restore(ctx, c, kek, mustDump(t, empty)); err != nil {
			t.Fatal(err)
		}
		first, err := openStore(t, c, kek).AddAccount(ctx, "first", "x")
		if want, _ := testDomain.SID.Child(1100 + keystore.RestoredRIDs); err != nil || first.SID != want {
			t.Errorf("first has %v, %v", first.SID, err)
		}
	})
	t.Run("RIDs run out rather than around", func(t *testing.T) {
		c := clone(t, source)
		late := openStore(t, c, oldKEK)
		full := mustDump(t, late)
		for i := range full.Entries {
			if full.Entries[i].Name == "rid" {
				full.Entries[i].Value = []byte{0xff, 0xff, 0xff, 0x3f}
			}
		}
		into := keystore.NewMemory()
		if err := keystore.Restore(ctx, into, kek, full); err != nil {
			t.Fatal(err)
		}
		if a, err := openStore(t, into, kek).AddAccount(ctx, "over", "x"); !errors.Is(err, keystore.ErrCorrupt) {
			t.Errorf("%v, %v", a.SID, err)
		}
	})
	t.Run("use of keys", func(t *testing.T) {
		before, err := s.Usages(ctx)
		if err != nil {
			t.Fatal(err)
		}
		after, err := openStore(t, b, kek).Usages(ctx)
		if err != nil || len(after) != len(before) {
			t.Fatalf("%d of %d usages, %v", len(after), len(before), err)
		}
		for guid, u := range before {
			if fmt.Sprint(after[guid]) != fmt.Sprint(u) {
				t.Errorf("%v: %v, was %v", guid, after[guid], u)
			}
		}
	})
	t.Run("values do not mix", func(t *testing.T) {
		c := clone(t, b)
		v, _, err := source.Get(ctx, keystore.CurrentServerSecret)
		if err != nil {
			t.Fatal(err)
		}
		replace(t, c, keystore.CurrentServerSecret, v)
		if _, err := openStore(t, c, kek).CurrentServerWrapKey(ctx); !errors.Is(err, keystore.ErrCorrupt) {
			t.Errorf("a value of the old store opens in the new one: %v", err)
		}
	})
}

func TestRestoreIntoEmptyOnly(t *testing.T) {
	s, _, _ := fullStore(t)
	d := mustDump(t, s)
	ctx := t.Context()
	t.Run("created and unused", func(t *testing.T) {
		_, b, kek := newStore(t)
		if err := keystore.Restore(ctx, b, kek, d); err != nil {
			t.Fatal(err)
		}
		equalStores(t, d, b, kek)
	})
	refused := func(t *testing.T, b keystore.Backend, kek keystore.Sealer, d *keystore.Dump, want error) {
		t.Helper()
		before, _ := b.List(ctx, "")
		if err := keystore.Restore(ctx, b, kek, d); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
		after, _ := b.List(ctx, "")
		if fmt.Sprint(before) != fmt.Sprint(after) {
			t.Error("something was written")
		}
	}
	t.Run("in use", func(t *testing.T) {
		used, b, kek := newStore(t)
		if _, err := used.CurrentServerWrapKey(ctx); err != nil {
			t.Fatal(err)
		}
		refused(t, b, kek, d, keystore.ErrNotEmpty)
	})
	t.Run("restored already", func(t *testing.T) {
		b, kek := keystore.NewMemory(), newKEK(t)
		if err := keystore.Restore(ctx, b, kek, d); err != nil {
			t.Fatal(err)
		}
		refused(t, b, kek, d, keystore.ErrNotEmpty)
	})
	t.Run("without a header", func(t *testing.T) {
		b := keystore.NewMemory()
		replace(t, b, "something", []byte("x"))
		refused(t, b, newKEK(t), d, keystore.ErrNotEmpty)
	})
	t.Run("another KEK", func(t *testing.T) {
		_, b, _ := newStore(t)
		refused(t, b, newKEK(t), d, keystore.ErrWrongKEK)
	})
	t.Run("no domain", func(t *testing.T) {
		bad := *d
		bad.Domain.SID = dtyp.SID{}
		refused(t, keystore.NewMemory(), newKEK(t), &bad, keystore.ErrDomain)
	})
	t.Run("out of order", func(t *testing.T) {
		bad := *d
		bad.Entries = slices.Clone(d.Entries)
		bad.Entries[0], bad.Entries[1] = bad.Entries[1], bad.Entries[0]
		refused(t, keystore.NewMemory(), newKEK(t), &bad, keystore.ErrCorrupt)
	})
}

// A restore that ends at any call of the backend, whether that call was done or
// not, leaves a store that nobody opens; the same restore completes it.
func TestRestoreInterrupted(t *testing.T) {
	s, _, _ := fullStore(t)
	d := mustDump(t, s)
	other := mustDump(t, func() *keystore.Store { o, _, _ := newStore(t); return o }())
	ctx := t.Context()
	count := keystoretest.NewFaults(keystore.NewMemory(), nil)
	kek := newKEK(t)
	if err := keystore.Restore(ctx, count, kek, d); err != nil {
		t.Fatal(err)
	}
	steps := len(count.Calls())
	if steps < len(d.Entries)+4 {
		t.Fatalf("%d calls for %d entries", steps, len(d.Entries))
	}
	completed := 0
	for _, after := range []bool{false, true} {
		for n := range steps {
			memory := keystore.NewMemory()
			faults := keystoretest.NewFaults(memory, killedAt(n))
			faults.After = after
			if err := keystore.Restore(ctx, faults, kek, d); !errors.Is(err, keystoretest.ErrFault) {
				t.Fatalf("step %d: %v", n, err)
			}
			whole := after && n == steps-1 // it only was not told
			opened, err := keystore.Open(ctx, memory, kek, keystore.Options{})
			switch {
			case err == nil:
				_ = opened.Close()
				if !whole {
					t.Fatalf("step %d: half a store opens", n)
				}
			case whole || !errors.Is(err, keystore.ErrRestoring) && !errors.Is(err, keystore.ErrNoStore):
				t.Fatalf("step %d: %v", n, err)
			}
			if errors.Is(err, keystore.ErrRestoring) {
				if err := keystore.Restore(ctx, memory, kek, other); !errors.Is(err, keystore.ErrRestoring) {
					t.Fatalf("step %d: another backup over half of one: %v", n, err)
				}
				if err := keystore.Create(ctx, memory, kek, testDomain); !errors.Is(err, keystore.ErrStoreExists) {
					t.Fatalf("step %d: a new store over half of one: %v", n, err)
				}
			}
			err = keystore.Restore(ctx, memory, kek, d)
			if whole {
				if !errors.Is(err, keystore.ErrNotEmpty) {
					t.Fatalf("step %d: restoring a whole store again: %v", n, err)
				}
			} else if err != nil {
				t.Fatalf("step %d: the second restore: %v", n, err)
			}
			equalStores(t, d, memory, kek)
			completed++
		}
	}
	t.Logf("%d restores ended at one of %d calls, and were completed", completed, steps)
}

// killedAt ends everything from call n on.
func killedAt(n int) func(int, keystoretest.Call) error {
	return func(i int, _ keystoretest.Call) error {
		if i >= n {
			return keystoretest.ErrFault
		}
		return nil
	}
}

// What somebody writes into the backend while a store is being restored does not
// become part of it.
func TestRestoreDisturbed(t *testing.T) {
	s, _, _ := fullStore(t)
	d := mustDump(t, s)
	ctx, kek := t.Context(), newKEK(t)
	for _, name := range []string{"rid", "zzz", d.Entries[0].Name} {
		memory := keystore.NewMemory()
		done := false
		faults := keystoretest.NewFaults(memory, func(_ int, c keystoretest.Call) error {
			if c.Operation == keystoretest.Swap && c.Name != "store" && !done {
				done = true
				_, err := memory.CompareAndSwap(context.Background(), name, 0, []byte("disturbed"))
				return err
			}
			return nil
		})
		if err := keystore.Restore(ctx, faults, kek, d); !errors.Is(err, keystore.ErrCorrupt) && !errors.Is(err, keystore.ErrNotEmpty) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := keystore.Open(ctx, memory, kek, keystore.Options{}); !errors.Is(err, keystore.ErrRestoring) {
			t.Errorf("%s: opening: %v", name, err)
		}
	}
}

// What was damaged in the store is no less damaged in the restored one: a locked
// key does not become active by losing its state.
func TestRestoreOfDamaged(t *testing.T) {
	s, b, kek := fullStore(t)
	d := mustDump(t, s)
	ctx := t.Context()
	for _, k := range d.Keys() {
		if k.State != keystore.KeyLocked {
			continue
		}
		c := clone(t, b)
		replace(t, c, "life/"+k.GUID.String(), []byte("damaged"))
		damaged := mustDump(t, openStore(t, c, kek))
		if len(damaged.Damaged) != 1 {
			t.Fatalf("damaged are %q", damaged.Damaged)
		}
		into := keystore.NewMemory()
		if err := keystore.Restore(ctx, into, kek, damaged); err != nil {
			t.Fatal(err)
		}
		if _, err := openStore(t, into, kek).ServerWrapKey(ctx, k.GUID); !errors.Is(err, keystore.ErrCorrupt) {
			t.Errorf("a key whose state is not known: %v", err)
		}
		return
	}
	t.Fatal("no key was locked")
}
