package keystore_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/keystore"
	"github.com/seed05845750/bkrp/keystore/keystoretest"
)

var testDomain = keystore.Domain{
	DNSName:     "bkrp.example",
	NetBIOSName: "BKRP",
	SID:         dtyp.MustParseSID("S-1-5-21-1-2-3"),
}

// newKEK is a key file in the test's directory.
func newKEK(t testing.TB) *keystore.KeyFile {
	t.Helper()
	k, err := keystore.CreateKeyFile(filepath.Join(t.TempDir(), "kek.bin"))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// openStore opens a store that is closed with the test, with fast key pairs.
func openStore(t testing.TB, b keystore.Backend, sealer keystore.Sealer) *keystore.Store {
	t.Helper()
	s, err := keystore.Open(context.Background(), b, sealer, keystore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s.SetGeneratePair(pairs.next)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// newStore makes a store in memory.
func newStore(t testing.TB) (*keystore.Store, keystore.Backend, keystore.Sealer) {
	t.Helper()
	b, kek := keystore.NewMemory(), newKEK(t)
	if err := keystore.Create(context.Background(), b, kek, testDomain); err != nil {
		t.Fatal(err)
	}
	return openStore(t, b, kek), b, kek
}

// pairs hands out key pairs that no store has seen. The RSA keys are made
// once; tests which need many take server keys.
var pairs pairSource

type pairSource struct {
	mu    sync.Mutex
	spare []*bkrp.KeyPair
}

func (p *pairSource) next(domain string, now time.Time) (*bkrp.KeyPair, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.spare); n > 0 {
		pair := p.spare[n-1]
		p.spare = p.spare[:n-1]
		return pair, nil
	}
	return bkrp.GenerateKeyPair(domain, now)
}

func mustSecret(t *testing.T, s *keystore.Store, name string) []byte {
	t.Helper()
	v, err := s.Secret(t.Context(), name)
	if err != nil {
		t.Fatalf("Secret(%s): %v", name, err)
	}
	return v
}

func TestCreateAndOpen(t *testing.T) {
	s, b, kek := newStore(t)
	if err := keystore.Create(t.Context(), b, kek, testDomain); !errors.Is(err, keystore.ErrStoreExists) {
		t.Errorf("creating a store twice: %v, want ErrStoreExists", err)
	}
	if s.Domain() != testDomain {
		t.Errorf("Domain = %+v", s.Domain())
	}
	again := openStore(t, b, kek)
	if again.ID() != s.ID() || !again.Created().Equal(s.Created()) || again.Domain() != testDomain {
		t.Errorf("store opened again is %v of %v for %v", again.ID(), again.Created(), again.Domain())
	}
	if _, err := keystore.Open(t.Context(), keystore.NewMemory(), kek, keystore.Options{}); !errors.Is(err, keystore.ErrNoStore) {
		t.Errorf("opening nothing: %v, want ErrNoStore", err)
	}
}

func TestDomainCheck(t *testing.T) {
	sid := testDomain.SID
	for _, d := range []keystore.Domain{
		{"", "BKRP", sid},
		{"bkrp..example", "BKRP", sid},
		{"bkrp.example\n", "BKRP", sid},
		{"-a.example", "BKRP", sid},
		{strings.Repeat("a.", 130) + "a", "BKRP", sid},
		{"bkrp.example", "", sid},
		{"bkrp.example", "SIXTEENLETTERSXY", sid},
		{"bkrp.example", `BK\RP`, sid},
		{"bkrp.example", "BKRP", dtyp.SID{}},
		{"bkrp.example", "BKRP", dtyp.MustParseSID("S-1-5-1-2-3-4-5-6-7-8-9-10-11-12-13-14-15")},
	} {
		err := keystore.Create(t.Context(), keystore.NewMemory(), newKEK(t), d)
		if !errors.Is(err, keystore.ErrDomain) {
			t.Errorf("%+v: %v, want ErrDomain", d, err)
		}
	}
	one, two := keystore.RandomDomainSID(), keystore.RandomDomainSID()
	if one == two || !strings.HasPrefix(one.String(), "S-1-5-21-") {
		t.Errorf("random SIDs are %v and %v", one, two)
	}
}

// What is sealed opens with its KEK, under its name, in its store, whole, and
// not otherwise.
func TestSealing(t *testing.T) {
	s, b, kek := newStore(t)
	if _, err := s.CurrentServerWrapKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.CurrentClientWrapKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	names, err := s.SecretNames(t.Context())
	if err != nil || len(names) != 4 {
		t.Fatalf("names are %q, %v", names, err)
	}
	ctx := t.Context()

	t.Run("no secret in the backend", func(t *testing.T) {
		entries, err := b.List(ctx, "")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			secret := mustSecret(t, s, name)
			for _, e := range entries {
				if bytes.Contains(e.Value, secret) || len(secret) > 64 && bytes.Contains(e.Value, secret[len(secret)-32:]) {
					t.Errorf("%s stands open in %s", name, e.Name)
				}
			}
		}
	})
	t.Run("another KEK", func(t *testing.T) {
		passphrase, err := keystore.NewPassphrase([]byte("secret"))
		if err != nil {
			t.Fatal(err)
		}
		for _, other := range []keystore.Sealer{newKEK(t), passphrase} {
			_, err := keystore.Open(ctx, b, other, keystore.Options{})
			if !errors.Is(err, keystore.ErrWrongKEK) || errors.Is(err, keystore.ErrCorrupt) {
				t.Errorf("%v, want ErrWrongKEK only", err)
			}
		}
	})
	t.Run("values swapped", func(t *testing.T) {
		for _, from := range names {
			for _, to := range names {
				if from == to {
					continue
				}
				c := clone(t, b)
				v, _, _ := c.Get(ctx, from)
				replace(t, c, to, v)
				s := openStore(t, c, kek)
				if got, err := s.Secret(ctx, to); !errors.Is(err, keystore.ErrCorrupt) || got != nil {
					t.Errorf("value of %s under %s: %v, want ErrCorrupt", from, to, err)
				}
			}
		}
	})
	t.Run("value of another store", func(t *testing.T) {
		other, otherBackend, _ := newStore(t)
		if _, err := other.CurrentServerWrapKey(ctx); err != nil {
			t.Fatal(err)
		}
		v, _, err := otherBackend.Get(ctx, keystore.CurrentServerSecret)
		if err != nil {
			t.Fatal(err)
		}
		c := clone(t, b)
		replace(t, c, keystore.CurrentServerSecret, v)
		s := openStore(t, c, kek)
		if _, err := s.CurrentServerWrapKey(ctx); !errors.Is(err, keystore.ErrCorrupt) {
			t.Errorf("%v, want ErrCorrupt", err)
		}
		if now, err := s.SecretNames(ctx); err != nil || len(now) != len(names) {
			t.Errorf("a corrupt pointer led to new objects: %q, %v", now, err)
		}
	})
	t.Run("altered and truncated", func(t *testing.T) {
		name := keystore.CurrentServerSecret
		whole, _, _ := b.Get(ctx, name)
		for i := range whole {
			altered := bytes.Clone(whole)
			altered[i] ^= 1
			for _, bad := range [][]byte{altered, whole[:i]} {
				c := clone(t, b)
				replace(t, c, name, bad)
				s := openStore(t, c, kek)
				if got, err := s.Secret(ctx, name); !errors.Is(err, keystore.ErrCorrupt) || got != nil {
					t.Fatalf("octet %d: %v, want ErrCorrupt", i, err)
				}
				_ = s.Close()
			}
		}
	})
	t.Run("altered header", func(t *testing.T) {
		whole, _, _ := b.Get(ctx, "store")
		for i := range whole {
			altered := bytes.Clone(whole)
			altered[i] ^= 1
			c := clone(t, b)
			replace(t, c, "store", altered)
			got, err := keystore.Open(ctx, c, kek, keystore.Options{})
			if err == nil {
				// Only the KEK's name, which is for messages, may change.
				if !bytes.Contains(altered[max(0, i-60):i+1], []byte(`"kek"`)) {
					t.Errorf("octet %d of the header may be altered: %s", i, altered)
				}
				_ = got.Close()
			} else if !errors.Is(err, keystore.ErrCorrupt) && !errors.Is(err, keystore.ErrWrongKEK) {
				t.Errorf("octet %d: %v", i, err)
			}
		}
	})
	t.Run("header missing", func(t *testing.T) {
		c := clone(t, b)
		replace(t, c, "store", nil)
		if _, err := keystore.Open(ctx, c, kek, keystore.Options{}); !errors.Is(err, keystore.ErrCorrupt) {
			t.Errorf("%v, want ErrCorrupt", err)
		}
		if err := keystore.Create(ctx, c, kek, testDomain); !errors.Is(err, keystore.ErrStoreExists) {
			t.Errorf("creating over what is left: %v, want ErrStoreExists", err)
		}
	})
}

// clone copies a backend's entries to a new one.
func clone(t *testing.T, b keystore.Backend) keystore.Backend {
	t.Helper()
	entries, err := b.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	c := keystore.NewMemory()
	for _, e := range entries {
		if _, err := c.CompareAndSwap(t.Context(), e.Name, 0, e.Value); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// replace writes an entry, nil deleting it, whatever was there.
func replace(t *testing.T, b keystore.Backend, name string, value []byte) {
	t.Helper()
	_, rev, err := b.Get(t.Context(), name)
	if err != nil && !errors.Is(err, keystore.ErrNotFound) {
		t.Fatal(err)
	}
	if _, err := b.CompareAndSwap(t.Context(), name, rev, value); err != nil {
		t.Fatal(err)
	}
}

func TestSecretNames(t *testing.T) {
	s, _, _ := newStore(t)
	guid := dtyp.MustParseGUID("01234567-89ab-cdef-0123-456789abcdef")
	key := bkrp.GenerateServerKey()
	if _, err := s.ImportServerKey(t.Context(), guid, key, true); err != nil {
		t.Fatal(err)
	}
	want, err := key.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("A-24", func(t *testing.T) {
		for _, name := range []string{
			"G$BCKUPKEY_01234567-89ab-cdef-0123-456789abcdef",
			"g$bckupkey_01234567-89AB-CDEF-0123-456789ABCDEF",
		} {
			if got := mustSecret(t, s, name); !bytes.Equal(got, want) {
				t.Errorf("%s is not the key", name)
			}
		}
		if got := mustSecret(t, s, "g$BckUpKey_p"); !bytes.Equal(got, guid[:]) {
			t.Errorf("pointer is %x", got)
		}
	})
	t.Run("A-23", func(t *testing.T) {
		names, err := s.SecretNames(t.Context())
		if err != nil || len(names) != 2 || names[0] != "G$BCKUPKEY_01234567-89ab-cdef-0123-456789abcdef" || names[1] != "G$BCKUPKEY_P" {
			t.Errorf("names are %q, %v", names, err)
		}
	})
	for _, name := range []string{
		"", "store", "rid", "account/ALICE", "G$BCKUPKEY_", "G$BCKUPKEY_PREFERRED", "G$BCKUPKEY_X",
		"G$BCKUPKEY_{01234567-89ab-cdef-0123-456789abcdef}", "BCKUPKEY_P", "G$BCKUPKEY_P ",
	} {
		if _, err := s.Secret(t.Context(), name); !errors.Is(err, keystore.ErrNotFound) {
			t.Errorf("Secret(%q): %v, want ErrNotFound", name, err)
		}
	}
	if err := s.PutSecret(t.Context(), "store", []byte("x")); !errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("PutSecret of the header: %v, want ErrNotFound", err)
	}
}

// The LSA secrets of a real Windows domain controller work as they are.
func TestWindowsSecrets(t *testing.T) {
	dir := filepath.Join(vectors(t), "dsinternals-adatum")
	s, _, _ := newStore(t)
	const lsa = "lsa_secret_BCKUPKEY_"
	files, err := filepath.Glob(filepath.Join(dir, lsa+"*.bin"))
	if err != nil || len(files) < 4 {
		t.Fatalf("the vectors have %d secrets, %v", len(files), err)
	}
	for _, file := range files {
		value, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), lsa), ".bin")
		if err := s.PutSecret(t.Context(), keystore.SecretPrefix+strings.TrimSuffix(name, "_serverwrap"), value); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
	}
	before, err := s.SecretNames(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	client, err := s.CurrentClientWrapKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := client.GUID().String(); got != "efe756ec-f87c-493a-902f-259030203445" {
		t.Errorf("current ClientWrap key is %s", got)
	}
	certificate, err := os.ReadFile(filepath.Join(dir, "cert.der"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(client.Certificate(), certificate) {
		t.Error("certificate is not the one of the domain")
	}
	server, err := s.CurrentServerWrapKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := server.GUID().String(); got != "585c52d5-1778-4d43-9d7b-c22b4f7e5fa4" {
		t.Errorf("current ServerWrap key is %s", got)
	}
	blob, err := os.ReadFile(filepath.Join(dir, "client_side_wrapped_secret.bin"))
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := bkrp.ParseClientWrapped(blob)
	if err != nil {
		t.Fatal(err)
	}
	key, err := s.ClientWrapKey(t.Context(), wrapped.KeyGUID)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := wrapped.Open(key.DecryptRaw, key.RejectionKey())
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join(dir, "expected_secret.bin"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(secret.Secret, want) {
		t.Error("the wrapped secret opens to something else")
	}
	if after, err := s.SecretNames(t.Context()); err != nil || len(after) != len(before) {
		t.Errorf("names were %q and are %q, %v", before, after, err)
	}
}

// vectors is the folder of recorded data beside the repository.
func vectors(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatal("no go.mod above the package")
		}
		dir = parent
	}
	dir = filepath.Join(filepath.Dir(dir), "shared", "vectors")
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		t.Skipf("the recorded data is not here (%s)", dir)
	}
	return dir
}

// A key in memory is answered without the backend and without allocation.
func TestHotPath(t *testing.T) {
	b, kek := keystore.NewMemory(), newKEK(t)
	if err := keystore.Create(t.Context(), b, kek, testDomain); err != nil {
		t.Fatal(err)
	}
	f := keystoretest.NewFaults(b, nil)
	s := openStore(t, f, kek)
	current := func() *keystore.ServerWrapKey {
		k, err := s.CurrentServerWrapKey(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	eventually(t, func() bool { // until the watch has reported the creation
		before := len(f.Calls())
		current()
		current()
		return len(f.Calls()) == before
	})
	guid := current().GUID()
	before, ctx := len(f.Calls()), t.Context()
	allocs := testing.AllocsPerRun(100, func() {
		if _, err := s.CurrentServerWrapKey(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := s.ServerWrapKey(ctx, guid); err != nil {
			t.Fatal(err)
		}
	})
	if allocs != 0 || len(f.Calls()) != before {
		t.Errorf("%v allocations, %d calls of the backend", allocs, len(f.Calls())-before)
	}

	// Unknown keys cost one Get each and leave nothing behind.
	for i := range 50 {
		if _, err := s.ServerWrapKey(t.Context(), dtyp.GUID{byte(i)}); !errors.Is(err, keystore.ErrNoKey) {
			t.Fatalf("unknown key: %v, want ErrNoKey", err)
		}
	}
	if n := len(f.Calls()) - before; n != 50 {
		t.Errorf("50 unknown keys cost %d calls of the backend", n)
	}
}

// eventually waits for what happens soon in another goroutine.
func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it did not happen")
		}
	}
}
