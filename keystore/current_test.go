package keystore_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/keystore"
	"github.com/seed05845750/bkrp/keystore/keystoretest"
)

// kind lets one test body run on both kinds of keys.
type kind struct {
	name    string
	pointer string
	current func(*keystore.Store, context.Context) (dtyp.GUID, error)
	key     func(*keystore.Store, context.Context, dtyp.GUID) error
	state   func(*keystore.Store, context.Context, dtyp.GUID) (keystore.KeyState, error)
	rotate  func(*keystore.Store, context.Context) (dtyp.GUID, error)
	point   func(*keystore.Store, context.Context, dtyp.GUID) error
}

var kinds = []kind{
	{
		name: "ServerWrap", pointer: keystore.CurrentServerSecret,
		current: func(s *keystore.Store, ctx context.Context) (dtyp.GUID, error) {
			return guidOf(s.CurrentServerWrapKey(ctx))
		},
		key: func(s *keystore.Store, ctx context.Context, g dtyp.GUID) error {
			_, err := s.ServerWrapKey(ctx, g)
			return err
		},
		state: func(s *keystore.Store, ctx context.Context, g dtyp.GUID) (keystore.KeyState, error) {
			key, err := s.ServerWrapKey(ctx, g)
			if err != nil {
				return 0, err
			}
			return key.State(), nil
		},
		rotate: func(s *keystore.Store, ctx context.Context) (dtyp.GUID, error) {
			return guidOf(s.RotateServerWrapKey(ctx))
		},
		point: (*keystore.Store).SetCurrentServerWrapKey,
	},
	{
		name: "ClientWrap", pointer: keystore.CurrentClientSecret,
		current: func(s *keystore.Store, ctx context.Context) (dtyp.GUID, error) {
			return guidOf(s.CurrentClientWrapKey(ctx))
		},
		key: func(s *keystore.Store, ctx context.Context, g dtyp.GUID) error {
			_, err := s.ClientWrapKey(ctx, g)
			return err
		},
		state: func(s *keystore.Store, ctx context.Context, g dtyp.GUID) (keystore.KeyState, error) {
			key, err := s.ClientWrapKey(ctx, g)
			if err != nil {
				return 0, err
			}
			return key.State(), nil
		},
		rotate: func(s *keystore.Store, ctx context.Context) (dtyp.GUID, error) {
			return guidOf(s.RotateClientWrapKey(ctx))
		},
		point: (*keystore.Store).SetCurrentClientWrapKey,
	},
}

func guidOf[K interface{ GUID() dtyp.GUID }](k K, err error) (dtyp.GUID, error) {
	if err != nil {
		return dtyp.GUID{}, err
	}
	return k.GUID(), nil
}

// forKinds runs a test for both kinds.
func forKinds(t *testing.T, test func(*testing.T, kind)) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) { test(t, k) })
	}
}

func mustCurrent(t *testing.T, k kind, s *keystore.Store) dtyp.GUID {
	t.Helper()
	g, err := k.current(s, t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestCurrentKeyIsCreatedOnce(t *testing.T) {
	forKinds(t, func(t *testing.T, k kind) {
		s, b, kek := newStore(t)
		first := mustCurrent(t, k, s)
		t.Run("S-3.1.4.1.1-01 S-3.1.4.1.1-07 S-3.1.4.1.3-07", func(t *testing.T) {
			if got := mustSecret(t, s, k.pointer); !bytes.Equal(got, first[:]) {
				t.Errorf("pointer is %x, want %x", got, first)
			}
		})
		t.Run("S-3.1.4.1.3-10", func(t *testing.T) {
			if again := mustCurrent(t, k, s); again != first {
				t.Errorf("second call gives %v, first gave %v", again, first)
			}
		})
		t.Run("S-3.1.1.1-02 S-3.1.1.2-02", func(t *testing.T) {
			if again := mustCurrent(t, k, openStore(t, b, kek)); again != first {
				t.Errorf("after opening again it is %v, before it was %v", again, first)
			}
		})
		if names, err := s.SecretNames(t.Context()); err != nil || len(names) != 2 {
			t.Errorf("secrets are %q, %v", names, err)
		}
	})
}

// The formats of the stored keys are those of 2.2.5 and 2.2.7.
func TestStoredFormats(t *testing.T) {
	s, _, _ := newStore(t)
	server, err := s.CurrentServerWrapKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	client, err := s.CurrentClientWrapKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Run("S-3.1.4.1.1-04", func(t *testing.T) {
		secret := mustSecret(t, s, keystore.SecretPrefix+server.GUID().String())
		if len(secret) != 260 || !bytes.Equal(secret[:4], []byte{1, 0, 0, 0}) {
			t.Fatalf("server key is %d octets beginning with %x", len(secret), secret[:4])
		}
		key, err := bkrp.ParseServerKey(secret)
		if err != nil {
			t.Fatal(err)
		}
		salt := []byte("salt")
		if key.Derive(bkrp.SrvKeyFull, salt) != server.Derive(bkrp.SrvKeyFull, salt) {
			t.Error("stored key derives something else")
		}
	})
	t.Run("S-3.1.4.1.3-04 S-3.1.4.1.3-06", func(t *testing.T) {
		pair, err := bkrp.ParseKeyPair(mustSecret(t, s, keystore.SecretPrefix+client.GUID().String()))
		if err != nil {
			t.Fatal(err)
		}
		if bits := pair.Certificate().PublicKey.N.BitLen(); bits != 2048 {
			t.Errorf("modulus has %d bits", bits)
		}
		if !bytes.Equal(pair.Certificate().Raw, client.Certificate()) {
			t.Error("stored certificate is another one")
		}
	})
	t.Run("A-25", func(t *testing.T) {
		if _, err := s.ServerWrapKey(t.Context(), client.GUID()); !errors.Is(err, keystore.ErrMalformedKey) {
			t.Errorf("key pair as server key: %v, want ErrMalformedKey", err)
		}
		if _, err := s.ClientWrapKey(t.Context(), server.GUID()); !errors.Is(err, keystore.ErrMalformedKey) {
			t.Errorf("server key as key pair: %v, want ErrMalformedKey", err)
		}
	})
}

// Pointer or key absent or malformed: a new key, and the old objects stay.
func TestCurrentKeyIsReplaced(t *testing.T) {
	forKinds(t, func(t *testing.T, k kind) {
		for _, test := range []struct {
			id     string
			damage func(t *testing.T, s *keystore.Store, b keystore.Backend, current dtyp.GUID)
		}{
			{"pointer deleted", func(t *testing.T, _ *keystore.Store, b keystore.Backend, _ dtyp.GUID) {
				replace(t, b, k.pointer, nil)
			}},
			{"pointer of 15 octets", func(t *testing.T, s *keystore.Store, _ keystore.Backend, _ dtyp.GUID) {
				putSecret(t, s, k.pointer, make([]byte, 15))
			}},
			{"pointer empty", func(t *testing.T, s *keystore.Store, _ keystore.Backend, _ dtyp.GUID) {
				putSecret(t, s, k.pointer, nil)
			}},
			{"pointer dangling", func(t *testing.T, s *keystore.Store, _ keystore.Backend, _ dtyp.GUID) {
				putSecret(t, s, k.pointer, make([]byte, 16))
			}},
			{"key deleted", func(t *testing.T, _ *keystore.Store, b keystore.Backend, g dtyp.GUID) {
				replace(t, b, keystore.SecretPrefix+g.String(), nil)
			}},
			{"key malformed", func(t *testing.T, s *keystore.Store, _ keystore.Backend, g dtyp.GUID) {
				putSecret(t, s, keystore.SecretPrefix+g.String(), []byte("malformed"))
			}},
		} {
			t.Run("S-3.1.4.1.1-03 S-3.1.4.1.3-03 A-36 "+test.id, func(t *testing.T) {
				s, b, _ := newStore(t)
				first := mustCurrent(t, k, s)
				other, err := k.rotate(s, t.Context())
				if err != nil {
					t.Fatal(err)
				}
				test.damage(t, s, b, other)
				before, err := s.SecretNames(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				var now dtyp.GUID
				eventually(t, func() bool { // S-3.1.6-01
					now = mustCurrent(t, k, s)
					return now != other
				})
				if now == first {
					t.Error("an old key became current")
				}
				if err := k.key(s, t.Context(), first); err != nil {
					t.Errorf("S-3.1.6-02: old key: %v", err)
				}
				after, err := s.SecretNames(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				for _, name := range before {
					if !contains(after, name) {
						t.Errorf("%s was deleted", name)
					}
				}
				if got := mustSecret(t, s, k.pointer); !bytes.Equal(got, now[:]) {
					t.Errorf("pointer is %x, want %x", got, now)
				}
			})
		}
	})
}

func contains(list []string, s string) bool {
	for _, v := range list {
		if v == s {
			return true
		}
	}
	return false
}

func putSecret(t *testing.T, s *keystore.Store, name string, value []byte) {
	t.Helper()
	if err := s.PutSecret(t.Context(), name, value); err != nil {
		t.Fatal(err)
	}
}

// A storage that cannot tell never leads to a new key, and a failure at
// any step leaves nothing that a later call could not go on from.
func TestFaults(t *testing.T) {
	forKinds(t, func(t *testing.T, k kind) {
		t.Run("A-37 existing key", func(t *testing.T) {
			_, b, kek := newStore(t)
			want := mustCurrent(t, k, openStore(t, b, kek))
			for step := range 3 {
				// Call 0 opens the header.
				f := keystoretest.NewFaults(b, keystoretest.AtStep(step+1, keystoretest.ErrFault))
				s := openStore(t, f, kek)
				g, err := k.current(s, t.Context())
				f.SetFail(nil)
				if step < 2 && !errors.Is(err, keystoretest.ErrFault) {
					t.Errorf("fault at step %d: %v, %v; want the fault", step, g, err)
				}
				if f.Count(keystoretest.Swap) != 0 {
					t.Errorf("fault at step %d led to writing", step)
				}
				if got := mustCurrent(t, k, s); got != want {
					t.Errorf("after a fault at step %d the current key is %v, want %v", step, got, want)
				}
			}
		})
		for _, after := range []bool{false, true} {
			t.Run(map[bool]string{false: "A-37 first use", true: "A-37 first use, answer lost"}[after], func(t *testing.T) {
				for step := range 8 {
					b, kek := keystore.NewMemory(), newKEK(t)
					if err := keystore.Create(t.Context(), b, kek, testDomain); err != nil {
						t.Fatal(err)
					}
					f := keystoretest.NewFaults(b, keystoretest.AtStep(step+1, keystoretest.ErrFault))
					f.After = after
					s := openStore(t, f, kek)
					g, err := k.current(s, t.Context())
					f.SetFail(nil)
					if err != nil && !errors.Is(err, keystoretest.ErrFault) {
						t.Fatalf("step %d: %v", step, err)
					}
					now := mustCurrent(t, k, s)
					if err == nil && now != g {
						t.Errorf("step %d: %v was handed out, and now %v is current", step, g, now)
					}
					if got := mustCurrent(t, k, openStore(t, b, kek)); got != now {
						t.Errorf("step %d: another store has %v, this one %v", step, got, now)
					}
				}
			})
		}
		t.Run("A-38 conflicts", func(t *testing.T) {
			b, kek := keystore.NewMemory(), newKEK(t)
			if err := keystore.Create(t.Context(), b, kek, testDomain); err != nil {
				t.Fatal(err)
			}
			f := keystoretest.NewFaults(b, keystoretest.ConflictStorm(k.pointer, 10))
			s := openStore(t, f, kek)
			mustCurrent(t, k, s)
			if names, err := s.SecretNames(t.Context()); err != nil || len(names) != 2 {
				t.Errorf("ten conflicts left %q, %v; want one key and its pointer", names, err)
			}
			f = keystoretest.NewFaults(clone(t, b), keystoretest.ConflictStorm(k.pointer, 1<<30))
			s = openStore(t, f, kek)
			if _, err := k.rotate(s, t.Context()); !errors.Is(err, keystore.ErrConflict) {
				t.Errorf("conflicts without end: %v, want ErrConflict", err)
			}
		})
	})
}

// The key is written before the pointer, and nothing but these.
func TestKeyBeforePointer(t *testing.T) {
	forKinds(t, func(t *testing.T, k kind) {
		t.Run("S-3.1.4.1.1-06 S-3.1.4.1.3-07", func(t *testing.T) {
			_, b, kek := newStore(t)
			f := keystoretest.NewFaults(b, nil)
			s := openStore(t, f, kek)
			guid := mustCurrent(t, k, s)
			var written []string
			for _, c := range f.Calls() {
				if c.Operation == keystoretest.Swap {
					written = append(written, c.Name)
				}
			}
			want := []string{keystore.SecretPrefix + guid.String(), "life/" + guid.String(), k.pointer}
			if !slices.Equal(written, want) {
				t.Errorf("written were %q", written)
			}
		})
	})
}

// 200 first calls at once over two stores on one backend: one current key of
// each kind, and every key that was handed out can be opened.
func TestConcurrentFirstUse(t *testing.T) {
	_, b, kek := newStore(t)
	stores := []*keystore.Store{openStore(t, b, kek), openStore(t, b, kek)}
	forKinds(t, func(t *testing.T, k kind) {
		const calls = 200
		got := make([]dtyp.GUID, calls)
		var wg sync.WaitGroup
		start := make(chan struct{})
		for i := range calls {
			wg.Go(func() {
				<-start
				var err error
				if got[i], err = k.current(stores[i%2], t.Context()); err != nil {
					t.Errorf("call %d: %v", i, err)
				}
			})
		}
		close(start)
		wg.Wait()
		fresh := openStore(t, b, kek)
		for i, g := range got {
			if g != got[0] {
				t.Fatalf("call %d got %v, call 0 got %v", i, g, got[0])
			}
			if err := k.key(fresh, t.Context(), g); err != nil {
				t.Fatalf("key of call %d: %v", i, err)
			}
		}
		if g := mustCurrent(t, k, fresh); g != got[0] {
			t.Errorf("current is %v, handed out was %v", g, got[0])
		}
	})
	names, err := stores[0].SecretNames(t.Context())
	if err != nil || len(names) < 4 || len(names) > 6 {
		t.Errorf("secrets are %q, %v; want two pointers and a key of each kind from each store at most", names, err)
	}
}

// A caller who goes away does not stop the creation, or nobody would ever get
// a key where all callers are impatient.
func TestImpatientCaller(t *testing.T) {
	_, b, kek := newStore(t)
	ctx, cancel := context.WithCancel(t.Context())
	f := keystoretest.NewFaults(b, func(_ int, c keystoretest.Call) error {
		if c.Operation == keystoretest.Swap {
			cancel()
		}
		return nil
	})
	s := openStore(t, f, kek)
	first, err := s.CurrentServerWrapKey(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if got := mustCurrent(t, kinds[0], openStore(t, b, kek)); got != first.GUID() {
		t.Errorf("current is %v, handed out was %v", got, first.GUID())
	}
	if _, err := s.ServerWrapKey(ctx, dtyp.GUID{1}); !errors.Is(err, context.Canceled) {
		t.Errorf("call with a done context: %v, want context.Canceled", err)
	}
}

func TestRotation(t *testing.T) {
	forKinds(t, func(t *testing.T, k kind) {
		s, b, kek := newStore(t)
		peer := openStore(t, b, kek)
		first := mustCurrent(t, k, s)
		if got := mustCurrent(t, k, peer); got != first {
			t.Fatalf("peer has %v, want %v", got, first)
		}
		second, err := k.rotate(s, t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := mustCurrent(t, k, s); got != second || second == first {
			t.Errorf("current is %v after rotation from %v to %v", got, first, second)
		}
		t.Run("S-3.1.6-01", func(t *testing.T) {
			eventually(t, func() bool { return mustCurrent(t, k, peer) == second })
		})
		t.Run("S-3.1.6-02", func(t *testing.T) {
			for _, store := range []*keystore.Store{s, peer, openStore(t, b, kek)} {
				if err := k.key(store, t.Context(), first); err != nil {
					t.Errorf("old key: %v", err)
				}
			}
		})
		if err := k.point(s, t.Context(), first); err != nil {
			t.Fatal(err)
		}
		if got := mustCurrent(t, k, s); got != first {
			t.Errorf("current is %v after going back to %v", got, first)
		}
		if err := k.point(s, t.Context(), dtyp.GUID{9}); !errors.Is(err, keystore.ErrNoKey) {
			t.Errorf("pointing at nothing: %v, want ErrNoKey", err)
		}
		if got := mustCurrent(t, k, s); got != first {
			t.Errorf("current is %v after a refusal, want %v", got, first)
		}
	})
}

func TestImport(t *testing.T) {
	s, _, _ := newStore(t)
	ctx := t.Context()
	guid, one, two := dtyp.GUID{1}, bkrp.GenerateServerKey(), bkrp.GenerateServerKey()
	for range 2 { // the same again is no error
		if _, err := s.ImportServerKey(ctx, guid, one, false); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.ImportServerKey(ctx, guid, two, true); !errors.Is(err, keystore.ErrKeyExists) {
		t.Errorf("another key of that GUID: %v, want ErrKeyExists", err)
	}
	if _, err := s.Secret(ctx, keystore.CurrentServerSecret); !errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("pointer after imports: %v, want ErrNotFound", err)
	}
	if _, err := s.ImportServerKey(ctx, guid, one, true); err != nil {
		t.Fatal(err)
	}
	if got := mustCurrent(t, kinds[0], s); got != guid {
		t.Errorf("current is %v, want the imported %v", got, guid)
	}
	pair, err := pairs.next("other.example", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	key, err := s.ImportKeyPair(ctx, pair, true)
	if err != nil {
		t.Fatal(err)
	}
	if got := mustCurrent(t, kinds[1], s); got != pair.GUID() || !bytes.Equal(key.Certificate(), pair.Certificate().Raw) {
		t.Errorf("current is %v, want the imported %v", got, pair.GUID())
	}
	// A pair under a name that its certificate does not have cannot be used.
	secret, err := pair.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	putSecret(t, s, keystore.SecretPrefix+dtyp.GUID{7}.String(), secret)
	if _, err := s.ClientWrapKey(ctx, dtyp.GUID{7}); !errors.Is(err, keystore.ErrMalformedKey) {
		t.Errorf("pair under another GUID: %v, want ErrMalformedKey", err)
	}
}
