package keystore_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/seed05845750/bkrp/keystore"
	"github.com/seed05845750/bkrp/keystore/keystoretest"
)

// headerAway fails every reading of the header.
func headerAway(_ int, c keystoretest.Call) error {
	if c.Operation == keystoretest.Get && c.Name == "store" {
		return keystoretest.ErrFault
	}
	return nil
}

// rekeyed has a store's values sealed under a data key that only its header
// tells.
func rekeyed(t *testing.T, s *keystore.Store) {
	t.Helper()
	if err := s.BeginRekey(t.Context(), newKEK(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Reseal(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// An account that cannot be opened since the header cannot be read is not
// damaged: it logs on as soon as the header can be read again.
func TestAccountIsNotDamagedByAnAbsentHeader(t *testing.T) {
	other, b, kek := newStore(t)
	if _, err := other.AddAccount(t.Context(), "alice", "a password"); err != nil {
		t.Fatal(err)
	}
	f := keystoretest.NewFaults(b, nil)
	s := openStore(t, f, kek)
	eventually(t, s.Following)
	f.SetFail(headerAway)
	rekeyed(t, other)
	if _, err := s.Account(t.Context(), "alice"); !errors.Is(err, keystoretest.ErrFault) || errors.Is(err, keystore.ErrCorrupt) {
		t.Errorf("while the header cannot be read: %v", err)
	}
	if _, err := s.Accounts(t.Context()); !errors.Is(err, keystoretest.ErrFault) {
		t.Errorf("all accounts: %v", err)
	}
	f.SetFail(nil)
	if _, err := s.Account(t.Context(), "alice"); err != nil {
		t.Errorf("when it can be read again: %v", err)
	}
}

// Keys that are in memory are not dropped because their states cannot be read
// for a while, nor are they said to be damaged; their states are read later.
func TestStateIsNotDamagedByAnAbsentHeader(t *testing.T) {
	forKinds(t, func(t *testing.T, k kind) {
		other, b, kek := newStore(t)
		locked := mustCurrent(t, k, other)
		kept, err := k.rotate(other, t.Context())
		if err != nil {
			t.Fatal(err)
		}
		a := &away{Backend: b}
		f := keystoretest.NewFaults(a, nil)
		s := openPreloaded(t, f, kek)
		eventually(t, func() bool { return s.InMemory(kept) && s.InMemory(locked) })

		a.leave(true)
		eventually(t, func() bool { return !s.Following() })
		rekeyed(t, other)
		if err := other.SetKeyState(t.Context(), locked, keystore.KeyLocked); err != nil {
			t.Fatal(err)
		}
		f.SetFail(headerAway)
		tried := f.Count(keystoretest.Get)
		a.leave(false)
		// It has asked for the header at least three times, between which it reads all.
		eventually(t, func() bool { return f.Count(keystoretest.Get) >= tried+3 })
		if err := k.key(s, t.Context(), kept); err != nil {
			t.Errorf("while the header cannot be read: %v", err)
		}
		f.SetFail(nil)
		eventually(t, func() bool { return errors.Is(k.key(s, t.Context(), locked), keystore.ErrKeyLocked) })
		if err := k.key(s, t.Context(), kept); err != nil {
			t.Errorf("when it can be read again: %v", err)
		}
	})
}

// A server that was away while the store was given another KEK, and has the old
// one still, says so, and neither that accounts are damaged nor that keys are
// absent. What it is given the new one for it can do at once.
func TestOldKEKAfterARekey(t *testing.T) {
	other, b, kek := newStore(t)
	if _, err := other.AddAccount(t.Context(), "alice", "a password"); err != nil {
		t.Fatal(err)
	}
	key, err := other.RotateServerWrapKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	a := &away{Backend: b}
	var configured atomic.Value
	configured.Store(kek)
	s, err := keystore.Open(t.Context(), a, kek, keystore.Options{
		Sealer: func(context.Context) (keystore.Sealer, error) { return configured.Load().(keystore.Sealer), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	a.leave(true)
	eventually(t, func() bool { return !s.Following() })
	next := newKEK(t)
	if err := rekey(t.Context(), other, next); err != nil {
		t.Fatal(err)
	}
	a.leave(false)
	eventually(t, s.Following)
	if _, err := s.Account(t.Context(), "alice"); !errors.Is(err, keystore.ErrWrongKEK) || errors.Is(err, keystore.ErrCorrupt) {
		t.Errorf("an account: %v", err)
	}
	if _, err := s.ServerWrapKey(t.Context(), key.GUID()); !errors.Is(err, keystore.ErrWrongKEK) {
		t.Errorf("a key: %v", err)
	}
	if g, err := s.CurrentServerWrapKey(t.Context()); !errors.Is(err, keystore.ErrWrongKEK) {
		t.Errorf("the current key: %v, %v", g, err)
	}
	configured.Store(next)
	if _, err := s.Account(t.Context(), "alice"); err != nil {
		t.Errorf("an account with the new KEK: %v", err)
	}
	if got, err := s.CurrentServerWrapKey(t.Context()); err != nil || got.GUID() != key.GUID() {
		t.Errorf("the current key with the new KEK: %v", err)
	}
}
