package keystore_test

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/keystore"
	"github.com/seed05845750/bkrp/keystore/keystoretest"
)

func TestAccounts(t *testing.T) {
	s, b, kek := newStore(t)
	ctx := t.Context()
	alice, err := s.AddAccount(ctx, "Alice", "Password")
	if err != nil {
		t.Fatal(err)
	}
	if want, _ := testDomain.SID.Child(1100); alice.SID != want {
		t.Errorf("SID is %v, want %v", alice.SID, want)
	}
	t.Run("MS-NLMP 4.2.2.1.2", func(t *testing.T) {
		if got := hex.EncodeToString(alice.NTHash[:]); got != "a4f49c406510bdcab6824ee7c30fd852" {
			t.Errorf("NT hash of the example's password is %s", got)
		}
	})
	for _, store := range []*keystore.Store{s, openStore(t, b, kek)} {
		for _, name := range []string{"Alice", "alice", "ALICE"} {
			if got, err := store.Account(ctx, name); err != nil || got != alice {
				t.Errorf("Account(%s) is %s, %v", name, got.Name, err)
			}
		}
		if got, err := store.AccountBySID(ctx, alice.SID); err != nil || got != alice {
			t.Errorf("AccountBySID is %s, %v", got.Name, err)
		}
	}
	if _, err := s.AddAccount(ctx, "aLICE", "x"); !errors.Is(err, keystore.ErrAccountExists) {
		t.Errorf("adding a name twice: %v, want ErrAccountExists", err)
	}
	for _, name := range []string{"bob", "", "x\x00", strings.Repeat("a", 1000)} {
		if _, err := s.Account(ctx, name); !errors.Is(err, keystore.ErrNoAccount) {
			t.Errorf("Account(%.10q): %v, want ErrNoAccount", name, err)
		}
		for what, err := range map[string]error{
			"SetPassword":   s.SetPassword(ctx, name, "x"),
			"SetDisabled":   s.SetDisabled(ctx, name, true),
			"RemoveAccount": s.RemoveAccount(ctx, name),
		} {
			if !errors.Is(err, keystore.ErrNoAccount) {
				t.Errorf("%s of %.10q: %v, want ErrNoAccount", what, name, err)
			}
		}
	}

	if err := s.SetPassword(ctx, "ALICE", "other"); err != nil {
		t.Fatal(err)
	}
	if err := s.SetDisabled(ctx, "alice", true); err != nil {
		t.Fatal(err)
	}
	got, err := s.Account(ctx, "alice")
	if err != nil || got.NTHash == alice.NTHash || !got.Disabled || got.SID != alice.SID || got.Name != "Alice" {
		t.Errorf("after changes the account is %+v, %v", got, err)
	}
	if err := s.RemoveAccount(ctx, "alice"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Account(ctx, "alice"); !errors.Is(err, keystore.ErrNoAccount) {
		t.Errorf("after removal: %v, want ErrNoAccount", err)
	}
	again, err := s.AddAccount(ctx, "alice", "Password")
	if err != nil {
		t.Fatal(err)
	}
	if again.SID == alice.SID {
		t.Errorf("SID %v was given twice", again.SID)
	}
	list, err := s.Accounts(ctx)
	if err != nil || len(list) != 1 || list[0] != again {
		t.Errorf("accounts are %v, %v", list, err)
	}
	if names, err := s.SecretNames(ctx); err != nil || len(names) != 0 {
		t.Errorf("accounts stand among the secrets: %q, %v", names, err)
	}
}

func TestAccountNamesAndPasswords(t *testing.T) {
	s, _, _ := newStore(t)
	for _, name := range []string{
		"", " ", "..", " a", "a ", "a.", "a\nb", "a\x00", "\u202ea", "\xff", strings.Repeat("a", 65), "guest", "KRBTGT",
		`a"`, "a/b", `a\b`, "a[", "a]", "a:", "a;", "a|", "a=", "a,", "a+", "a*", "a?", "a<", "a>", "a@b",
	} {
		if _, err := s.AddAccount(t.Context(), name, "password"); !errors.Is(err, keystore.ErrAccountName) {
			t.Errorf("name %.20q: %v, want ErrAccountName", name, err)
		}
	}
	for _, password := range []string{"", "a\x00b", "\xff", strings.Repeat("a", 769)} {
		if _, err := s.AddAccount(t.Context(), "alice", password); !errors.Is(err, keystore.ErrPassword) {
			t.Errorf("password of %d octets: %v, want ErrPassword", len(password), err)
		}
	}
	for _, name := range []string{"alice", "Jürgen", "o'neil", "svc$", "a b", "x.y", strings.Repeat("ü", 64)} {
		if _, err := s.AddAccount(t.Context(), name, "pässword"); err != nil {
			t.Errorf("name %q: %v", name, err)
		}
		if a, err := s.Account(t.Context(), strings.ToUpper(name)); err != nil || a.Name != name {
			t.Errorf("account of %q is %q, %v", name, a.Name, err)
		}
	}
	a, err := s.AddAccount(t.Context(), "Administrator", "password")
	if err != nil {
		t.Fatal(err)
	}
	if _, rid, _ := a.SID.Cut(); rid != 500 {
		t.Errorf("RID of Administrator is %d", rid)
	}
}

// No SID is given twice, also not by two stores at once.
func TestConcurrentAccounts(t *testing.T) {
	_, b, kek := newStore(t)
	stores := []*keystore.Store{openStore(t, b, kek), openStore(t, b, kek)}
	var mu sync.Mutex
	seen := make(map[dtyp.SID]string)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			name := fmt.Sprintf("user%d", i)
			a, err := stores[i%2].AddAccount(t.Context(), name, "password")
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Errorf("%s: %v", name, err)
			} else if other, ok := seen[a.SID]; ok {
				t.Errorf("%s and %s are both %v", name, other, a.SID)
			}
			seen[a.SID] = name
		})
	}
	wg.Wait()
	for _, s := range stores {
		eventually(t, func() bool {
			list, err := s.Accounts(t.Context())
			return err == nil && len(list) == 8
		})
	}
}

// What one store changes the other follows; what is looked up is in memory.
func TestAccountsFollow(t *testing.T) {
	_, b, kek := newStore(t)
	writer := openStore(t, b, kek)
	f := keystoretest.NewFaults(b, nil)
	reader := openStore(t, f, kek)
	if _, err := writer.AddAccount(t.Context(), "alice", "password"); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool {
		_, err := reader.Account(t.Context(), "alice")
		return err == nil
	})
	eventually(t, func() bool { // the watch may still be reporting
		before := len(f.Calls())
		_, known := reader.Account(t.Context(), "alice")
		_, unknown := reader.Account(t.Context(), "nobody")
		return known == nil && errors.Is(unknown, keystore.ErrNoAccount) && len(f.Calls()) == before
	})
	if err := writer.RemoveAccount(t.Context(), "alice"); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool {
		_, err := reader.Account(t.Context(), "alice")
		return errors.Is(err, keystore.ErrNoAccount)
	})
}

// An entry that was altered or moved keeps that account out, and no other.
func TestDamagedAccount(t *testing.T) {
	s, b, kek := newStore(t)
	for _, name := range []string{"alice", "bob"} {
		if _, err := s.AddAccount(t.Context(), name, "password"); err != nil {
			t.Fatal(err)
		}
	}
	v, _, err := b.Get(t.Context(), "account/BOB")
	if err != nil {
		t.Fatal(err)
	}
	replace(t, b, "account/ALICE", v)
	fresh := openStore(t, b, kek)
	if _, err := fresh.Account(t.Context(), "alice"); !errors.Is(err, keystore.ErrCorrupt) {
		t.Errorf("account with another one's entry: %v, want ErrCorrupt", err)
	}
	if _, err := fresh.Account(t.Context(), "bob"); err != nil {
		t.Errorf("the other account: %v", err)
	}
	if list, err := fresh.Accounts(t.Context()); len(list) != 1 || !errors.Is(err, keystore.ErrCorrupt) {
		t.Errorf("Accounts gives %d, %v; want the other one and ErrCorrupt", len(list), err)
	}
}

// A storage that does not answer is no absence of accounts.
func TestAccountFaults(t *testing.T) {
	_, b, kek := newStore(t)
	f := keystoretest.NewFaults(b, func(n int, _ keystoretest.Call) error {
		if n == 0 {
			return nil // the header
		}
		return keystoretest.ErrFault
	})
	s := openStore(t, f, kek)
	if _, err := s.Account(t.Context(), "alice"); !errors.Is(err, keystoretest.ErrFault) || errors.Is(err, keystore.ErrNoAccount) {
		t.Errorf("Account: %v, want the fault", err)
	}
	if _, err := s.AddAccount(t.Context(), "alice", "password"); !errors.Is(err, keystoretest.ErrFault) {
		t.Errorf("AddAccount: %v, want the fault", err)
	}
}

// Nothing that prints or logs shows a hash, a passphrase or a KEK.
func TestRedaction(t *testing.T) {
	s, _, _ := newStore(t)
	a, err := s.AddAccount(t.Context(), "alice", "Password")
	if err != nil {
		t.Fatal(err)
	}
	kek := newKEK(t)
	passphrase, err := keystore.NewPassphrase([]byte("open sesame"))
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	logger := slog.New(slog.NewJSONHandler(&log, nil))
	logger.Info("x", "account", a, "hash", a.NTHash, "kek", kek, "passphrase", passphrase)
	text, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	all := log.String() + string(text)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "%q", "%d"} {
		all += fmt.Sprintf(verb, a.NTHash) + fmt.Sprintf(verb, a)
	}
	all += fmt.Sprintf("%v %+v %#v %s", kek, kek, kek, kek) + fmt.Sprintf("%v %+v %#v %s", passphrase, passphrase, passphrase, passphrase)
	for _, secret := range []string{
		hex.EncodeToString(a.NTHash[:]), strings.ToUpper(hex.EncodeToString(a.NTHash[:])),
		"164 244 156", "164,244,156", "0xa4, 0xf4", "open sesame", hex.EncodeToString([]byte("open sesame")),
	} {
		if strings.Contains(all, secret) {
			t.Errorf("%q is printed", secret)
		}
	}
}

// A counter of RIDs that was removed or put back must not lead to a second
// account with the SID of the first, who has secrets under it.
func TestCounterOfRIDsIsTurnedBack(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, b keystore.Backend, old []byte){
		"removed":  func(t *testing.T, b keystore.Backend, _ []byte) { replace(t, b, "rid", nil) },
		"put back": func(t *testing.T, b keystore.Backend, old []byte) { replace(t, b, "rid", old) },
	} {
		t.Run(name, func(t *testing.T) {
			s, b, kek := newStore(t)
			ctx := t.Context()
			add := func(s *keystore.Store, name string) {
				t.Helper()
				if _, err := s.AddAccount(ctx, name, "password"); err != nil {
					t.Fatal(err)
				}
			}
			add(s, "alice")
			old, _, err := b.Get(ctx, "rid")
			if err != nil {
				t.Fatal(err)
			}
			add(s, "bob")
			damage(t, b, old)
			for _, s := range []*keystore.Store{s, openStore(t, b, kek)} {
				if a, err := s.AddAccount(ctx, "mallory", "password"); !errors.Is(err, keystore.ErrCorrupt) {
					t.Errorf("mallory is %v, %v; want ErrCorrupt", a.SID, err)
				}
				if _, err := s.Account(ctx, "mallory"); !errors.Is(err, keystore.ErrNoAccount) {
					t.Errorf("Account(mallory): %v, want ErrNoAccount", err)
				}
			}
			add(s, "Administrator") // who needs no counter
		})
	}
}

// While the backend is away, who could log on before still can, and who could not
// still cannot; a change of an account that was told of is not undone.
func TestAccountsWhileBackendIsAway(t *testing.T) {
	other, b, kek := newStore(t)
	alice, err := other.AddAccount(t.Context(), "alice", "Correct.Horse.1")
	if err != nil {
		t.Fatal(err)
	}
	a := &away{Backend: b}
	s := openPreloaded(t, a, kek)
	eventually(t, s.KnowsAccounts) // without having been asked for one
	if _, err := other.AddAccount(t.Context(), "bob", "Correct.Horse.2"); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { _, err := s.Account(t.Context(), "bob"); return err == nil && s.KnowsAccounts() })
	a.leave(true)
	for range 2 { // before it is noticed, and after
		for _, name := range []string{"alice", "bob"} {
			if _, err := s.Account(t.Context(), name); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if got, err := s.AccountBySID(t.Context(), alice.SID); err != nil || got.Name != "alice" {
			t.Errorf("SID of alice: %v, %v", got.Name, err)
		}
		if _, err := s.Account(t.Context(), "carol"); !errors.Is(err, keystore.ErrNoAccount) {
			t.Errorf("carol: %v, want ErrNoAccount", err)
		}
		eventually(t, func() bool { return !s.Following() })
	}
	if _, err := s.Accounts(t.Context()); !errors.Is(err, keystoretest.ErrFault) {
		t.Errorf("the list of accounts: %v, want the fault", err)
	}
	if err := other.SetDisabled(t.Context(), "alice", true); err != nil {
		t.Fatal(err)
	}
	a.leave(false)
	eventually(t, func() bool { got, err := s.Account(t.Context(), "alice"); return err == nil && got.Disabled })
	a.leave(true)
	eventually(t, func() bool { return !s.Following() })
	if got, err := s.Account(t.Context(), "alice"); err != nil || !got.Disabled {
		t.Errorf("alice, disabled before: %v, disabled %v", err, got.Disabled)
	}
	s.Changed("account/ALICE") // as when this store was told, or changed it itself
	if _, err := s.Account(t.Context(), "alice"); !errors.Is(err, keystoretest.ErrFault) {
		t.Errorf("alice, changed since: %v, want the fault", err)
	}
}
