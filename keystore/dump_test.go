package keystore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/keystore"
	"github.com/seed05845750/bkrp/keystore/keystoretest"
)

// fullStore is a store with entries of every kind: keys of both kinds in every
// state, rotations, accounts, and the use of keys.
func fullStore(t *testing.T) (s *keystore.Store, b keystore.Backend, kek keystore.Sealer) {
	t.Helper()
	b, kek = keystore.NewMemory(), newKEK(t)
	if err := keystore.Create(t.Context(), b, kek, testDomain); err != nil {
		t.Fatal(err)
	}
	s, err := keystore.Open(t.Context(), b, kek, keystore.Options{Replica: "one", UsageFlush: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	s.SetGeneratePair(pairs.next)
	ctx := t.Context()
	client, err := s.CurrentClientWrapKey(ctx)
	if err != nil {
		t.Fatal(err)
	}
	retired, err := s.CurrentServerWrapKey(ctx)
	if err != nil {
		t.Fatal(err)
	}
	locked, err := s.RotateServerWrapKey(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.BeginRotation(ctx, keystore.ServerWrap); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		if _, err = s.PreferRotation(ctx, keystore.ServerWrap); err == nil || i == 99 {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	err = errors.Join(err, s.SetKeyState(ctx, retired.GUID(), keystore.KeyRetired), s.SetKeyState(ctx, locked.GUID(), keystore.KeyLocked))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"alice", "bob", "carol"} {
		if _, err := s.AddAccount(ctx, name, "secret of "+name); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.RemoveAccount(ctx, "carol"); err != nil {
		t.Fatal(err)
	}
	client.Used(user(1100), keystore.UseRetrieve)
	client.Used(user(1101), keystore.UseUnwrap)
	retired.Used(user(1100), keystore.UseUnwrap)
	return s, b, kek
}

func mustDump(t *testing.T, s *keystore.Store) *keystore.Dump {
	t.Helper()
	d, err := s.Dump(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// isReplica tells the entries that are in no dump.
func isReplica(name string) bool { return strings.HasPrefix(name, "replica/") }

func TestDump(t *testing.T) {
	s, b, _ := fullStore(t)
	d := mustDump(t, s)
	if errs := d.Check(); len(errs) != 0 || len(d.Damaged) != 0 {
		t.Fatalf("a whole store has problems: %v, damaged %q", errs, d.Damaged)
	}
	kinds := make(map[string]int)
	for _, e := range d.Entries {
		kind, _, _ := strings.Cut(e.Name, "/")
		if strings.HasPrefix(kind, keystore.SecretPrefix) {
			kind = "secret"
		}
		kinds[kind]++
	}
	want := map[string]int{"secret": 6, "life": 4, "rotation": 1, "account": 2, "rid": 1, "use": 2, "who": 3}
	if fmt.Sprint(kinds) != fmt.Sprint(want) {
		t.Errorf("entries are %v, want %v", kinds, want)
	}
	entries, err := b.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		listed := slices.ContainsFunc(d.Entries, func(x keystore.DumpEntry) bool { return x.Name == e.Name })
		if listed == (e.Name == "store" || isReplica(e.Name)) {
			t.Errorf("%s is in the dump: %v", e.Name, listed)
		}
	}
	states := make(map[string]int)
	for _, k := range d.Keys() {
		states[fmt.Sprintf("%v %v %v", k.Kind, k.State, k.Current)]++
	}
	if fmt.Sprint(states) != "map[ClientWrap active true:1 ServerWrap active true:1 ServerWrap locked false:1 ServerWrap retired false:1]" {
		t.Errorf("keys are %v", states)
	}
	if d.Accounts() != 2 {
		t.Errorf("%d accounts", d.Accounts())
	}
	if text := fmt.Sprintf("%v %+v %#v %s %v", d, d, *d, d, d.Entries); len(text) > 2000 || strings.Contains(text, "alice") {
		t.Errorf("a dump prints what is in it, %d characters", len(text))
	}
	d.Clear()
	for _, e := range d.Entries {
		if len(bytes.Trim(e.Value, "\x00")) != 0 {
			t.Errorf("%s is not overwritten", e.Name)
		}
	}
}

func TestDumpOfDomain(t *testing.T) {
	s, err := keystore.OpenDomain(t.Context(), keystore.NewMemory(), testDomain, keystore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Dump(t.Context()); !errors.Is(err, keystore.ErrDomainKeys) {
		t.Errorf("%v, want ErrDomainKeys", err)
	}
}

// Whichever entry is damaged, and wherever: it is named, and nothing else is
// lost.
func TestEveryEntryDamaged(t *testing.T) {
	s, b, kek := fullStore(t)
	whole := mustDump(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	restored := make(map[string][]byte)
	for _, e := range whole.Entries {
		restored[e.Name] = e.Value
	}
	entries, err := b.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name == "store" {
			continue // TestSealing: no store opens then
		}
		for _, at := range []int{0, 1, 5, 29, len(e.Value) / 2, len(e.Value) - 1} {
			c := clone(t, b)
			altered := bytes.Clone(e.Value)
			altered[at] ^= 1
			replace(t, c, e.Name, altered)
			t.Run(fmt.Sprintf("%s/%d", e.Name, at), func(t *testing.T) {
				checkDamaged(t, openStore(t, c, kek), e.Name, restored)
			})
		}
	}
}

// checkDamaged checks a store in which one entry is damaged.
func checkDamaged(t *testing.T, s *keystore.Store, name string, whole map[string][]byte) {
	d := mustDump(t, s)
	if len(d.Damaged) != 1 || d.Damaged[0] != name || len(d.Entries) != len(whole) {
		t.Fatalf("damaged are %q of %d entries", d.Damaged, len(d.Entries))
	}
	for _, e := range d.Entries {
		want := whole[e.Name]
		if e.Name == name {
			want = nil
		}
		if !bytes.Equal(e.Value, want) {
			t.Errorf("%s is another one", e.Name)
		}
	}
	errs := d.Check()
	if !slices.ContainsFunc(errs, func(err error) bool {
		return errors.Is(err, keystore.ErrCorrupt) && strings.Contains(err.Error(), name)
	}) {
		t.Errorf("not named in %v", errs)
	}
	// What serves calls goes on with all but the one.
	for _, k := range d.Keys() {
		secret, life := keystore.SecretPrefix+k.GUID.String(), "life/"+k.GUID.String()
		_, err := s.ServerWrapKey(t.Context(), k.GUID)
		if len(whole[secret]) != bkrp.ServerKeySize {
			_, err = s.ClientWrapKey(t.Context(), k.GUID)
		}
		damaged := name == secret || name == life
		locked := bytes.Contains(whole[life], []byte("locked"))
		switch {
		case locked && errors.Is(err, keystore.ErrKeyLocked) && name != life:
		case damaged && errors.Is(err, keystore.ErrCorrupt) && strings.Contains(err.Error(), k.GUID.String()):
		case !damaged && !locked && err == nil:
		default:
			t.Errorf("key %v with damaged %s: %v", k.GUID, name, err)
		}
	}
	accounts, err := s.Accounts(t.Context())
	if strings.HasPrefix(name, "account/") {
		if len(accounts) != 1 || !errors.Is(err, keystore.ErrCorrupt) {
			t.Errorf("%d accounts, %v", len(accounts), err)
		}
	} else if len(accounts) != 2 || err != nil {
		t.Errorf("%d accounts, %v", len(accounts), err)
	}
	usages, err := s.Usages(t.Context())
	if err != nil || len(usages) != 2 {
		t.Errorf("%d usages, %v", len(usages), err)
	}
}

// A damaged report of a replica is not in a dump, keeps nobody from anything,
// and is named where replicas are.
func TestReplicaDamaged(t *testing.T) {
	s, b, kek := fullStore(t)
	defer s.Close()
	c := clone(t, b)
	entries, err := c.List(t.Context(), "replica/")
	if err != nil || len(entries) != 1 {
		t.Fatalf("%d replicas, %v", len(entries), err)
	}
	altered := bytes.Clone(entries[0].Value)
	altered[len(altered)-1] ^= 1
	replace(t, c, entries[0].Name, altered)
	other := openStore(t, c, kek)
	list, err := other.Replicas(t.Context())
	if err != nil || len(list) != 1 || !strings.Contains(list[0].Name, strings.TrimPrefix(entries[0].Name, "replica/")) {
		t.Errorf("replicas are %+v, %v", list, err)
	}
	if d := mustDump(t, other); len(d.Damaged) != 0 || len(d.Check()) != 0 {
		t.Errorf("damaged are %q, %v", d.Damaged, d.Check())
	}
}

func TestDumpCheck(t *testing.T) {
	s, _, _ := fullStore(t)
	guid := "11111111-2222-3333-4444-555555555555"
	set := func(name string, value []byte) func(*keystore.Dump) {
		return func(d *keystore.Dump) {
			i, found := slices.BinarySearchFunc(d.Entries, name, func(e keystore.DumpEntry, name string) int { return strings.Compare(e.Name, name) })
			if !found {
				d.Entries = slices.Insert(d.Entries, i, keystore.DumpEntry{Name: name})
			}
			d.Entries[i].Value = value
		}
	}
	other := dtyp.MustParseGUID(guid)
	for _, c := range []struct {
		name string
		with func(*keystore.Dump)
	}{
		{keystore.CurrentServerSecret, set(keystore.CurrentServerSecret, other[:])},
		{keystore.CurrentClientSecret, set(keystore.CurrentClientSecret, []byte("short"))},
		{keystore.SecretPrefix + guid, set(keystore.SecretPrefix+guid, []byte("no key"))},
		{"life/" + guid, set("life/"+guid, []byte(`{"version":1,"state":"active"}`))},
		{"life/x", set("life/x", []byte(`{"version":1,"state":"active"}`))},
		{"rid", set("rid", []byte{0x4d, 4, 0, 0})}, // 1101, and bob has it
		{"rid", set("rid", []byte{1})},
		{"account/ALICE", set("account/ALICE", []byte("{}"))},
		{"account/MALLORY", set("account/MALLORY", []byte(`{"version":1,"name":"mallory","sid":"S-1-5-21-1-2-3-1100","ntHash":"AAAAAAAAAAAAAAAAAAAAAA=="}`))},
		{"account/MALLORY", set("account/MALLORY", []byte(`{"version":1,"name":"mallory","sid":"S-1-5-21-9-9-9-1107","ntHash":"AAAAAAAAAAAAAAAAAAAAAA=="}`))},
		{"rotation/ServerWrap", set("rotation/ServerWrap", []byte("{}"))},
		{"rotation/Other", set("rotation/Other", []byte("{}"))},
		{"use/" + guid + "/one", set("use/"+guid+"/one", []byte("{}"))},
		{"who/" + guid + "/one/00", set("who/"+guid+"/one/00", []byte("x"))},
		{"something", set("something", []byte("x"))},
		{"SID of a domain", func(d *keystore.Dump) { d.Domain.SID = dtyp.SID{} }},
	} {
		d := mustDump(t, s)
		c.with(d)
		if errs := d.Check(); len(errs) == 0 || !strings.Contains(errors.Join(errs...).Error(), c.name) {
			t.Errorf("%s: found %v", c.name, errs)
		}
	}
}

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

func TestCurrentKeyMakesNone(t *testing.T) {
	s, b, _ := newStore(t)
	ctx := t.Context()
	for _, kind := range []keystore.KeyKind{keystore.ClientWrap, keystore.ServerWrap} {
		if guid, err := s.CurrentKey(ctx, kind); !errors.Is(err, keystore.ErrNoKey) {
			t.Errorf("%v: %v, %v", kind, guid, err)
		}
	}
	if entries, err := b.List(ctx, keystore.SecretPrefix); err != nil || len(entries) != 0 {
		t.Fatalf("%d secrets were made, %v", len(entries), err)
	}
	k, err := s.CurrentServerWrapKey(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if guid, err := s.CurrentKey(ctx, keystore.ServerWrap); err != nil || guid != k.GUID() {
		t.Errorf("%v, %v, want %v", guid, err, k.GUID())
	}
	lost := dtyp.MustParseGUID("11111111-2222-3333-4444-555555555555")
	if err := s.PutSecret(ctx, keystore.CurrentServerSecret, lost[:]); err != nil {
		t.Fatal(err)
	}
	if guid, err := s.CurrentKey(ctx, keystore.ServerWrap); !errors.Is(err, keystore.ErrMalformedKey) || errors.Is(err, keystore.ErrNoKey) {
		t.Errorf("a pointer to nothing: %v, %v", guid, err)
	}
}
