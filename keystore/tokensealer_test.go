package keystore

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"strings"
	"testing"
)

var errTokenAway = errors.New("token is away")

// softDecrypter is a token in memory.
type softDecrypter struct {
	key *rsa.PrivateKey
	// only is the one hash function it knows; 0 is any.
	only crypto.Hash
	away bool
}

func (d *softDecrypter) PublicKey() *rsa.PublicKey { return &d.key.PublicKey }

func (d *softDecrypter) DecryptOAEP(_ context.Context, hash crypto.Hash, c []byte) ([]byte, error) {
	if d.away || d.only != 0 && d.only != hash {
		return nil, errTokenAway
	}
	return rsa.DecryptOAEP(hash.New(), nil, d.key, c, nil)
}

func testToken(t testing.TB) *softDecrypter {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return &softDecrypter{key: key}
}

func testTokenSealer(t testing.TB) *TokenSealer {
	t.Helper()
	s, err := NewTokenSealer(t.Context(), testToken(t))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The hash function is the best one that the token knows, and stands in the
// seal: one that learns another later opens what it opened before.
func TestTokenSealerHash(t *testing.T) {
	token := testToken(t)
	for hash, number := range map[crypto.Hash]byte{0: 2, crypto.SHA256: 2, crypto.SHA1: 1} {
		token.only = hash
		s, err := NewTokenSealer(t.Context(), token)
		if err != nil {
			t.Fatalf("%v: %v", hash, err)
		}
		sealed, err := s.Seal(t.Context(), []byte("plain"), nil)
		if err != nil || sealed[2] != number {
			t.Fatalf("%v: number %d, %v", hash, sealed[2], err)
		}
		token.only = 0
		newer, err := NewTokenSealer(t.Context(), token)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := newer.Open(t.Context(), sealed, nil); err != nil || string(got) != "plain" {
			t.Errorf("%v: %q, %v", hash, got, err)
		}
	}
}

// A token that is away says nothing about what is sealed.
func TestTokenSealerAway(t *testing.T) {
	token := testToken(t)
	s, err := NewTokenSealer(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	token.away = true
	sealed, err := s.Seal(t.Context(), []byte("plain"), nil)
	if err != nil {
		t.Fatalf("sealing without the token: %v", err)
	}
	if _, err := s.Open(t.Context(), sealed, nil); !errors.Is(err, errTokenAway) || errors.Is(err, ErrCorrupt) || errors.Is(err, ErrWrongKEK) {
		t.Errorf("opening without the token: %v", err)
	}
	if _, err := NewTokenSealer(t.Context(), token); !errors.Is(err, errTokenAway) {
		t.Errorf("NewTokenSealer without the token: %v", err)
	}
	token.away = false
	if got, err := s.Open(t.Context(), sealed, nil); err != nil || string(got) != "plain" {
		t.Errorf("the token is back: %q, %v", got, err)
	}
	if !strings.HasPrefix(s.KeyID(), "kms:") || len(s.KeyID()) != 4+32 {
		t.Errorf("KeyID %q", s.KeyID())
	}
}

// A whole store has more data keys than RSA takes octets.
func TestTokenSealerLong(t *testing.T) {
	s, plain := testTokenSealer(t), bytes.Repeat([]byte{9}, maxDataKeys*dataKeySize)
	sealed, err := s.Seal(t.Context(), plain, []byte("bound"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.Open(t.Context(), sealed, []byte("bound")); err != nil || !bytes.Equal(got, plain) {
		t.Error(err)
	}
}

func TestTokenSealerShortKey(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewTokenSealer(t.Context(), &softDecrypter{key: key}); !errors.Is(err, ErrTokenKey) {
		t.Error(err)
	}
}

func FuzzParseTokenSeal(f *testing.F) {
	s := testTokenSealer(f)
	sealed, err := s.Seal(f.Context(), make([]byte, keySize), nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	f.Add(sealed[:tokenSealHeader])
	f.Fuzz(func(t *testing.T, b []byte) {
		seal, err := parseTokenSeal(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		if len(seal.ciphertext) > len(b)-tokenSealHeader || seal.hash == 0 {
			t.Fatalf("%d of %d octets, hash %v", len(seal.ciphertext), len(b), seal.hash)
		}
	})
}
