package keystore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/seed05845750/bkrp/keystore"
	"github.com/seed05845750/bkrp/keystore/keystoretest"
)

// filled is a store with keys of both kinds and an account.
func filled(t *testing.T) (b keystore.Backend, kek keystore.Sealer, secrets map[string][]byte) {
	t.Helper()
	s, b, kek := newStore(t)
	for _, k := range kinds {
		mustCurrent(t, k, s)
	}
	if _, err := s.AddAccount(t.Context(), "alice", "a password"); err != nil {
		t.Fatal(err)
	}
	return b, kek, secretsOf(t, s)
}

func secretsOf(t *testing.T, s *keystore.Store) map[string][]byte {
	t.Helper()
	names, err := s.SecretNames(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	secrets := make(map[string][]byte)
	for _, name := range names {
		secrets[name] = mustSecret(t, s, name)
	}
	return secrets
}

// holds checks that a store which is opened anew by sealer has all secrets.
func holds(t *testing.T, b keystore.Backend, sealer keystore.Sealer, want map[string][]byte) {
	t.Helper()
	s := openStore(t, b, sealer)
	got := secretsOf(t, s)
	if len(got) != len(want) {
		t.Fatalf("the store has %d secrets, want %d", len(got), len(want))
	}
	for name, value := range want {
		if !bytes.Equal(got[name], value) {
			t.Fatalf("%s is another one than before", name)
		}
	}
	if _, err := s.Account(t.Context(), "alice"); err != nil {
		t.Fatal(err)
	}
}

// rekey is all three steps.
func rekey(ctx context.Context, s *keystore.Store, next keystore.Sealer) error {
	if err := s.BeginRekey(ctx, next); err != nil {
		return err
	}
	if _, err := s.Reseal(ctx); err != nil {
		return err
	}
	return s.FinishRekey(ctx, next)
}

func TestRekey(t *testing.T) {
	b, old, secrets := filled(t)
	next := newKEK(t)
	s, replica := openStore(t, b, old), openStore(t, b, old)
	ctx := t.Context()

	if err := s.BeginRekey(ctx, old); !errors.Is(err, keystore.ErrRekey) {
		t.Errorf("a rekey to the present KEK: %v", err)
	}
	if err := s.FinishRekey(ctx, next); !errors.Is(err, keystore.ErrRekey) {
		t.Errorf("finishing what was not begun: %v", err)
	}
	for range 2 { // the second time it is under way
		if err := s.BeginRekey(ctx, next); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.BeginRekey(ctx, newKEK(t)); !errors.Is(err, keystore.ErrRekey) {
		t.Errorf("a second rekey beside the first: %v", err)
	}
	if keks, err := s.KEKs(ctx); err != nil || len(keks) != 2 {
		t.Errorf("KEKs are %v, %v", keks, err)
	}
	holds(t, b, old, secrets)
	holds(t, b, next, secrets)

	moved, err := s.Reseal(ctx)
	if want := len(secrets) + 4; err != nil || moved != want { // two lives, the account, the counter of RIDs
		t.Errorf("moved %d values, want %d: %v", moved, want, err)
	}
	if moved, err = s.Reseal(ctx); err != nil || moved != 0 {
		t.Errorf("moved %d values again: %v", moved, err)
	}
	holds(t, b, old, secrets)

	// A replica with the old KEK reads what is under the new data key, and what
	// it writes itself is read by all.
	if got := secretsOf(t, replica); len(got) != len(secrets) {
		t.Errorf("the replica has %d secrets", len(got))
	}
	added, err := replica.RotateServerWrapKey(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.FinishRekey(ctx, next); err != nil {
		t.Fatal(err)
	}
	if _, err := openStore(t, b, next).ServerWrapKey(ctx, added.GUID()); err != nil {
		t.Error(err)
	}
	if _, err := keystore.Open(ctx, b, old, keystore.Options{}); !errors.Is(err, keystore.ErrWrongKEK) {
		t.Errorf("opening by the old KEK: %v", err)
	}
	secrets = secretsOf(t, s)
	holds(t, b, next, secrets)
	// And back again, by the store that has been open all along.
	if err := rekey(ctx, s, old); err != nil {
		t.Fatal(err)
	}
	holds(t, b, old, secrets)
}

// A rekey may stop at any step, with or without the step having been done: the
// store opens by one KEK at least, everything is in it, and it can be finished,
// or called off, from there.
func TestRekeyIsInterrupted(t *testing.T) {
	for _, after := range []bool{false, true} {
		whole, old, secrets := filled(t)
		for n := 0; ; n++ {
			b := clone(t, whole)
			next := newKEK(t)
			f := keystoretest.NewFaults(b, nil)
			f.After = after
			s, err := keystore.Open(t.Context(), f, old, keystore.Options{})
			if err != nil {
				t.Fatal(err)
			}
			opened := len(f.Calls())
			f.SetFail(keystoretest.AtStep(opened+n, keystoretest.ErrFault))
			err = rekey(t.Context(), s, next)
			steps := len(f.Calls()) - opened
			_ = s.Close()
			if err == nil && steps <= n {
				if n < 10 {
					t.Fatalf("a rekey takes %d steps only", n)
				}
				break
			}
			t.Run(fmt.Sprintf("after=%v/step=%d", after, n), func(t *testing.T) {
				by := old
				if _, openErr := keystore.Open(t.Context(), b, old, keystore.Options{}); errors.Is(openErr, keystore.ErrWrongKEK) {
					by = next
				} else if openErr != nil {
					t.Fatal(openErr)
				}
				holds(t, b, by, secrets)
				again := openStore(t, b, by)
				keep := keystore.Sealer(next)
				if n%2 == 0 && by == old { // called off
					keep = old
				} else if by == old {
					if err := again.BeginRekey(t.Context(), next); err != nil {
						t.Fatal(err)
					}
				}
				if err := again.FinishRekey(t.Context(), keep); err != nil {
					t.Fatal(err)
				}
				holds(t, b, keep, secrets)
				if keks, err := again.KEKs(t.Context()); err != nil || len(keks) != 1 {
					t.Errorf("KEKs are %v, %v", keks, err)
				}
			})
		}
	}
}

// A store that was opened by a KEK which no longer opens the header takes the
// configured one when it needs a data key that it has not.
func TestSealerFromTheConfiguration(t *testing.T) {
	b, old, _ := filled(t)
	second, third := newKEK(t), newKEK(t)
	ctx := t.Context()
	asked := 0
	stale, err := keystore.Open(ctx, deaf{b}, old, keystore.Options{
		Sealer: func(context.Context) (keystore.Sealer, error) { asked++; return third, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer stale.Close()
	forgotten, err := keystore.Open(ctx, deaf{b}, old, keystore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer forgotten.Close()
	s := openStore(t, b, old)
	for _, kek := range []keystore.Sealer{second, third} {
		if err := rekey(ctx, s, kek); err != nil {
			t.Fatal(err)
		}
	}
	key, err := s.RotateServerWrapKey(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stale.ServerWrapKey(ctx, key.GUID()); err != nil || asked == 0 {
		t.Errorf("with the KEK of the configuration, asked for %d times: %v", asked, err)
	}
	if _, err := forgotten.ServerWrapKey(ctx, key.GUID()); !errors.Is(err, keystore.ErrWrongKEK) {
		t.Errorf("without: %v, want ErrWrongKEK", err)
	}
}

// A value that is damaged stays, is named, and keeps the old KEK from being
// dropped; everything else is moved.
func TestResealNamesTheDamaged(t *testing.T) {
	b, old, secrets := filled(t)
	var name string
	for n := range secrets {
		if n != keystore.CurrentClientSecret && n != keystore.CurrentServerSecret {
			name = n
		}
	}
	value, rev, err := b.Get(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	value[len(value)/2] ^= 1
	if _, err := b.CompareAndSwap(t.Context(), name, rev, value); err != nil {
		t.Fatal(err)
	}
	s, next := openStore(t, b, old), newKEK(t)
	if err := s.BeginRekey(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	moved, err := s.Reseal(t.Context())
	if !errors.Is(err, keystore.ErrCorrupt) || !bytes.Contains([]byte(err.Error()), []byte(name)) || moved != len(secrets)+3 {
		t.Errorf("moved %d values, and %v", moved, err)
	}
	if err := s.FinishRekey(t.Context(), next); !errors.Is(err, keystore.ErrRekey) {
		t.Errorf("finishing: %v", err)
	}
	if left, _, err := b.Get(t.Context(), name); err != nil || !bytes.Equal(left, value) {
		t.Errorf("the damaged value was altered: %v", err)
	}
}

// Replicas that begin a rekey at the same time to different KEKs do not lock
// each other out.
func TestConcurrentRekey(t *testing.T) {
	b, old, secrets := filled(t)
	one, two := newKEK(t), newKEK(t)
	done := make(chan error, 2)
	for _, kek := range []keystore.Sealer{one, two} {
		s := openStore(t, b, old)
		go func() { done <- s.BeginRekey(context.Background(), kek) }()
	}
	failed := 0
	for range 2 {
		if err := <-done; errors.Is(err, keystore.ErrRekey) {
			failed++
		} else if err != nil {
			t.Error(err)
		}
	}
	if failed != 1 {
		t.Errorf("%d of 2 were refused, want 1", failed)
	}
	holds(t, b, old, secrets)
}

// A store that was asked twice to begin, as one is after an interruption, knows
// the next KEK under two names and the one from before under none. It can call
// the rekey off nevertheless, and goes on reading what comes.
func TestRekeyIsCalledOffAfterItWasBegunTwice(t *testing.T) {
	b, old, secrets := filled(t)
	s, next := openStore(t, b, old), newKEK(t)
	again := *next
	for _, kek := range []keystore.Sealer{next, &again} {
		if err := s.BeginRekey(t.Context(), kek); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.FinishRekey(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	holds(t, b, old, secrets)
	if err := s.BeginRekey(t.Context(), newKEK(t)); err != nil {
		t.Errorf("a rekey after it: %v", err)
	}
}
