package keystore_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"math/big"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/keystore"
)

// softToken is a token in memory, and leaves leading zeros out.
type softToken struct {
	mu   sync.Mutex
	keys map[string]*rsa.PrivateKey
	away atomic.Bool
}

var errAway = errors.New("token is away")

func newSoftToken() *softToken { return &softToken{keys: map[string]*rsa.PrivateKey{}} }

func (s *softToken) Name() string { return "pkcs11:token=soft" }

func (s *softToken) Generate(_ context.Context, id []byte, _ string) (*rsa.PublicKey, error) {
	if s.away.Load() {
		return nil, errAway
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[string(id)] = key
	return &key.PublicKey, nil
}

func (s *softToken) DecryptRaw(_ context.Context, id []byte, _ *rsa.PublicKey, c []byte) ([]byte, error) {
	s.mu.Lock()
	key := s.keys[string(id)]
	s.mu.Unlock()
	if s.away.Load() || key == nil {
		return nil, errAway
	}
	return new(big.Int).Exp(new(big.Int).SetBytes(c), key.D, key.N).Bytes(), nil
}

var alice = dtyp.MustParseSID("S-1-5-21-1-2-3-1104")

// wrapFor wraps a secret of alice's under a key.
func wrapFor(t *testing.T, key *keystore.ClientWrapKey, secret string) *bkrp.ClientWrapped {
	t.Helper()
	certificate, err := bkrp.ParseCertificate(key.Certificate())
	if err != nil {
		t.Fatal(err)
	}
	blob, err := bkrp.WrapClient(certificate, alice, []byte(secret), bkrp.ClientWrappedVersion3)
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := bkrp.ParseClientWrapped(blob)
	if err != nil {
		t.Fatal(err)
	}
	return wrapped
}

// unwrap opens a blob by whatever store it is.
func unwrap(t *testing.T, s *keystore.Store, blob *bkrp.ClientWrapped) (string, error) {
	t.Helper()
	key, err := s.ClientWrapKey(t.Context(), blob.KeyGUID)
	if err != nil {
		return "", err
	}
	secret, err := blob.Open(key.DecryptRaw, key.RejectionKey())
	if err != nil {
		return "", err
	}
	if secret.SID != alice {
		t.Errorf("it is %v's", secret.SID)
	}
	return string(secret.Secret), nil
}

func openWith(t *testing.T, b keystore.Backend, kek keystore.Sealer, o keystore.Options) *keystore.Store {
	t.Helper()
	s, err := keystore.Open(t.Context(), b, kek, o)
	if err != nil {
		t.Fatal(err)
	}
	s.SetGeneratePair(pairs.next)
	t.Cleanup(func() { s.Close() })
	return s
}

// Keys in the store and in the token side by side, on two stores of one backend.
func TestKeysInToken(t *testing.T) {
	soft, b, kek := newStore(t)
	before, err := soft.CurrentClientWrapKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	old := wrapFor(t, before, "in the store")

	token := newSoftToken()
	one := openWith(t, b, kek, keystore.Options{Tokens: token, KeysInToken: true})
	two := openWith(t, b, kek, keystore.Options{Tokens: token, Preload: true})
	key, err := one.RotateClientWrapKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(token.keys) != 1 {
		t.Fatalf("%d keys in the token", len(token.keys))
	}
	blob := wrapFor(t, key, "in the token")
	for name, s := range map[string]*keystore.Store{"the one that made it": one, "another": two} {
		if got, err := unwrap(t, s, blob); err != nil || got != "in the token" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		if got, err := unwrap(t, s, old); err != nil || got != "in the store" {
			t.Errorf("%s, the key from before: %q, %v", name, got, err)
		}
	}

	// The answer to wrong padding is the same on both, also when it is
	// looked at from behind Open.
	theirs, err := two.ClientWrapKey(t.Context(), key.GUID())
	if err != nil {
		t.Fatal(err)
	}
	if *theirs.RejectionKey() != *key.RejectionKey() || *key.RejectionKey() == *before.RejectionKey() {
		t.Error("A-57: rejection keys of one key differ, or those of two are the same")
	}
	blob.EncryptedSecret[100] ^= 1
	if _, err := unwrap(t, two, blob); !errors.Is(err, bkrp.ErrClientSecret) {
		t.Errorf("A-09: altered: %v", err)
	}
	blob.EncryptedSecret[100] ^= 1

	name := keystore.SecretPrefix + key.GUID().String()
	if got, err := one.Secret(t.Context(), name); !errors.Is(err, keystore.ErrNotExportable) || got != nil {
		t.Errorf("read as secret: %v", err)
	}
	if _, err := one.ServerWrapKey(t.Context(), key.GUID()); !errors.Is(err, keystore.ErrMalformedKey) {
		t.Errorf("A-25: as ServerWrap key: %v", err)
	}

	// Neither a token that is away nor none at all make a key unknown, or have a
	// new one made.
	token.away.Store(true)
	if _, err := unwrap(t, two, blob); !errors.Is(err, errAway) {
		t.Errorf("token is away: %v", err)
	}
	if _, err := one.RotateClientWrapKey(t.Context()); !errors.Is(err, errAway) {
		t.Errorf("making a key without the token: %v", err)
	}
	fresh := openWith(t, b, kek, keystore.Options{Tokens: token, KeysInToken: true})
	if k, err := fresh.CurrentClientWrapKey(t.Context()); err != nil || k.GUID() != key.GUID() {
		t.Errorf("the current key while the token is away: %v, %v", k, err)
	}
	if _, err := unwrap(t, openWith(t, b, kek, keystore.Options{}), blob); !errors.Is(err, keystore.ErrNoToken) {
		t.Errorf("no token: %v", err)
	}
	token.away.Store(false)
	if got, err := unwrap(t, fresh, blob); err != nil || got != "in the token" {
		t.Errorf("the token is back: %q, %v", got, err)
	}
}

// Another key in its place is found out, and what it gives is not given on.
func TestTokenGivesAnotherKey(t *testing.T) {
	_, b, kek := newStore(t)
	token := newSoftToken()
	s := openWith(t, b, kek, keystore.Options{Tokens: token, KeysInToken: true})
	key, err := s.CurrentClientWrapKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	blob := wrapFor(t, key, "secret")
	for id := range token.keys {
		if _, err := token.Generate(t.Context(), []byte(id), ""); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := unwrap(t, s, blob); err == nil || errors.Is(err, bkrp.ErrClientSecret) {
		t.Errorf("another key answers: %v", err)
	}
}

// What is damaged in the entry is found, and named as such.
func TestTokenRecordAltered(t *testing.T) {
	_, b, kek := newStore(t)
	s := openWith(t, b, kek, keystore.Options{Tokens: newSoftToken(), KeysInToken: true})
	key, err := s.CurrentClientWrapKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	name := keystore.SecretPrefix + key.GUID().String()
	sealed, rev, err := b.Get(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{0, 5, 40, len(sealed) / 2, len(sealed) - 1} {
		altered := bytes.Clone(sealed)
		altered[i] ^= 1
		if rev, err = b.CompareAndSwap(t.Context(), name, rev, altered); err != nil {
			t.Fatal(err)
		}
		fresh := openWith(t, b, kek, keystore.Options{})
		if _, err := fresh.ClientWrapKey(t.Context(), key.GUID()); !errors.Is(err, keystore.ErrCorrupt) {
			t.Errorf("octet %d: %v", i, err)
		}
		if err := fresh.Close(); err != nil {
			t.Error(err)
		}
	}
}
