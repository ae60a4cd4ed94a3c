package keystore_test

import (
	"bytes"
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
	eventually(t, func() bool { // as soon as s itself reports to have the key
		_, err = s.PreferRotation(ctx, keystore.ServerWrap)
		return err == nil
	})
	err = errors.Join(s.SetKeyState(ctx, retired.GUID(), keystore.KeyRetired), s.SetKeyState(ctx, locked.GUID(), keystore.KeyLocked))
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

// To look at a dump, or to restore it, does not alter it.
func TestDumpStaysAsItIs(t *testing.T) {
	s, _, kek := fullStore(t)
	d := mustDump(t, s)
	before := make(map[string][]byte)
	for _, e := range d.Entries {
		before[e.Name] = bytes.Clone(e.Value)
	}
	_, _ = d.Keys(), d.Check()
	if err := keystore.Restore(t.Context(), keystore.NewMemory(), kek, d); err != nil {
		t.Fatal(err)
	}
	for _, e := range d.Entries {
		if !bytes.Equal(e.Value, before[e.Name]) {
			t.Errorf("%s is another one", e.Name)
		}
	}
	for _, k := range d.Keys() {
		name := keystore.SecretPrefix + k.GUID.String()
		if k.State != keystore.KeyLocked && !bytes.Equal(before[name], mustSecret(t, s, name)) {
			t.Errorf("%s is not what the store has", name)
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

// A backend that takes no more writes does not keep a store from being dumped.
func TestDumpOfReadOnlyStore(t *testing.T) {
	_, b, kek := newStore(t)
	faults := keystoretest.NewFaults(b, nil)
	s := openStore(t, faults, kek)
	key, err := s.CurrentServerWrapKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	key.Used(user(1100), keystore.UseUnwrap)
	faults.SetFail(func(_ int, c keystoretest.Call) error {
		if c.Operation == keystoretest.Swap {
			return keystoretest.ErrFault
		}
		return nil
	})
	if d := mustDump(t, s); len(d.Entries) != 3 || len(d.Check()) != 0 {
		t.Errorf("%v, %v", d, d.Check())
	}
}
