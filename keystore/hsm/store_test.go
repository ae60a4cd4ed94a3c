//go:build pkcs11 && cgo

package hsm_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/keystore"
	"github.com/seed05845750/bkrp/keystore/hsm"
)

var domain = keystore.Domain{DNSName: "bkrp.example", NetBIOSName: "BKRP", SID: dtyp.MustParseSID("S-1-5-21-1-2-3")}

// sealerIn makes a key in a token, and a sealer by it.
func sealerIn(t testing.TB, token *hsm.Token) *keystore.TokenSealer {
	t.Helper()
	key, err := token.CreateKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sealer, err := keystore.NewTokenSealer(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return sealer
}

// storeIn makes a store whose KEK and ClientWrap keys are in the token.
func storeIn(t testing.TB, backend keystore.Backend, sealer keystore.Sealer, token *hsm.Token) *keystore.Store {
	t.Helper()
	s, err := keystore.Open(t.Context(), backend, sealer, keystore.Options{Tokens: token, KeysInToken: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func wrap(t testing.TB, s *keystore.Store, secret []byte) *bkrp.ClientWrapped {
	t.Helper()
	key, err := s.CurrentClientWrapKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := bkrp.ParseCertificate(key.Certificate())
	if err != nil {
		t.Fatal(err)
	}
	blob, err := bkrp.WrapClient(certificate, dtyp.MustParseSID("S-1-5-21-1-2-3-1104"), secret, bkrp.ClientWrappedVersion3)
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := bkrp.ParseClientWrapped(blob)
	if err != nil {
		t.Fatal(err)
	}
	return wrapped
}

func unwrap(t testing.TB, s *keystore.Store, blob *bkrp.ClientWrapped) ([]byte, error) {
	key, err := s.ClientWrapKey(t.Context(), blob.KeyGUID)
	if err != nil {
		return nil, err
	}
	secret, err := blob.Open(key.DecryptRaw, key.RejectionKey())
	if err != nil {
		return nil, err
	}
	return secret.Secret, nil
}

// Two stores of one backend, each with its own way to one token.
func TestStoresOnOneToken(t *testing.T) {
	h := softHSM(t, "bkrp")
	kek, first, second := openToken(t, h.URI("bkrp", "kek")), openToken(t, h.URI("bkrp", "")), openToken(t, h.URI("bkrp", ""))
	sealer, backend := sealerIn(t, kek), keystore.NewMemory()
	if err := keystore.Create(t.Context(), backend, sealer, domain); err != nil {
		t.Fatal(err)
	}
	one, two := storeIn(t, backend, sealer, first), storeIn(t, backend, sealer, second)
	secret := []byte("known to two")
	blob := wrap(t, one, secret)
	for _, s := range []*keystore.Store{one, two} {
		if got, err := unwrap(t, s, blob); err != nil || !bytes.Equal(got, secret) {
			t.Errorf("%q, %v", got, err)
		}
	}
	blob.EncryptedSecret[7] ^= 1
	for _, s := range []*keystore.Store{one, two} {
		if _, err := unwrap(t, s, blob); !errors.Is(err, bkrp.ErrClientSecret) {
			t.Errorf("altered: %v", err)
		}
	}
}

// Whatever is wrong with what the token is given: it is told from a token that
// is away, and from the wrong key.
func TestSealedByToken(t *testing.T) {
	h := softHSM(t, "bkrp", "other")
	sealer := sealerIn(t, openToken(t, h.URI("bkrp", "kek")))
	other := sealerIn(t, openToken(t, h.URI("other", "kek")))
	plain, bound := []byte("data keys"), []byte("store")
	sealed, err := sealer.Seal(t.Context(), plain, bound)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := sealer.Open(t.Context(), sealed, bound); err != nil || !bytes.Equal(got, plain) {
		t.Fatal(err)
	}
	if _, err := other.Open(t.Context(), sealed, bound); !errors.Is(err, keystore.ErrWrongKEK) {
		t.Errorf("another token: %v", err)
	}
	if _, err := sealer.Open(t.Context(), sealed, []byte("else")); !errors.Is(err, keystore.ErrCorrupt) {
		t.Errorf("of another store: %v", err)
	}
	for _, i := range []int{2, 30, 150, len(sealed) - 50, len(sealed) - 1} {
		altered := bytes.Clone(sealed)
		altered[i] ^= 1
		if _, err := sealer.Open(t.Context(), altered, bound); !errors.Is(err, keystore.ErrCorrupt) {
			t.Errorf("octet %d: %v", i, err)
		}
	}
}

func BenchmarkUnwrap(b *testing.B) {
	h := softHSM(b, "bkrp")
	token, backend := openToken(b, h.URI("bkrp", "kek")), keystore.NewMemory()
	sealer := sealerIn(b, token)
	if err := keystore.Create(b.Context(), backend, sealer, domain); err != nil {
		b.Fatal(err)
	}
	s := storeIn(b, backend, sealer, token)
	blob := wrap(b, s, []byte("secret"))
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := unwrap(b, s, blob); err != nil {
				b.Error(err)
			}
		}
	})
}
