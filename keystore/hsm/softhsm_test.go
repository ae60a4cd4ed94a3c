//go:build pkcs11 && cgo

package hsm_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"math/big"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/interop/peers"
	"github.com/seed05845750/bkrp/keystore"
	"github.com/seed05845750/bkrp/keystore/hsm"
)

var (
	_ keystore.Tokens         = (*hsm.Token)(nil)
	_ keystore.TokenDecrypter = (*hsm.Key)(nil)
)

var testTime = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

// softHSM makes a SoftHSM that this process uses, until the test ends.
func softHSM(t testing.TB, labels ...string) *peers.SoftHSM {
	t.Helper()
	h := peers.NewSoftHSM(t, t.TempDir(), labels...)
	t.Setenv("SOFTHSM2_CONF", h.Conf)
	return h
}

func parse(t testing.TB, text string) hsm.URI {
	t.Helper()
	u, err := hsm.ParseURI(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func openToken(t testing.TB, uri string) *hsm.Token {
	t.Helper()
	token, err := hsm.Open(t.Context(), parse(t, uri), hsm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := token.Close(); err != nil {
			t.Error(err)
		}
	})
	return token
}

// encrypt is the public operation.
func encrypt(public *rsa.PublicKey, m *big.Int) []byte {
	return new(big.Int).Exp(m, big.NewInt(int64(public.E)), public.N).FillBytes(make([]byte, public.Size()))
}

func TestRaw(t *testing.T) {
	h := softHSM(t, "bkrp")
	token := openToken(t, h.URI("bkrp", ""))
	guid := bkrp.NewKeyGUID()
	public, err := token.Generate(t.Context(), guid[:], "BackupKey")
	if err != nil {
		t.Fatal(err)
	}
	if public.N.BitLen() != 2048 || public.E != 65537 {
		t.Fatalf("%d bits, e %d", public.N.BitLen(), public.E)
	}
	proved, err := bkrp.ProveRaw(public, func(c []byte) ([]byte, error) {
		return token.DecryptRaw(t.Context(), guid[:], public, c)
	})
	if err != nil {
		t.Fatal(err)
	}
	// Zeros at the head, as they are in every right padding, and more of them.
	var wg sync.WaitGroup
	for zeros := range 40 {
		wg.Go(func() {
			m := make([]byte, 256)
			rand.Read(m[1+zeros:])
			em, err := proved(encrypt(public, new(big.Int).SetBytes(m)))
			if err != nil || !bytes.Equal(em, m) {
				t.Errorf("with %d zeros: %x, %v", zeros, em, err)
			}
		})
	}
	wg.Wait()
	for _, m := range []*big.Int{big.NewInt(0), big.NewInt(1), new(big.Int).Sub(public.N, big.NewInt(1))} {
		if em, err := proved(encrypt(public, m)); err != nil || new(big.Int).SetBytes(em).Cmp(m) != 0 {
			t.Errorf("%v: %x, %v", m, em, err)
		}
	}

	// A certificate is issued by it.
	if _, err := bkrp.IssueCertificate(public, proved, guid, "bkrp.example", testTime); err != nil {
		t.Error(err)
	}
	other := *public
	other.N = new(big.Int).Add(public.N, big.NewInt(2))
	if _, err := token.DecryptRaw(t.Context(), guid[:], &other, make([]byte, 256)); !errors.Is(err, hsm.ErrKey) {
		t.Errorf("another key under the same identity: %v", err)
	}
	unknown := bkrp.NewKeyGUID()
	if _, err := token.DecryptRaw(t.Context(), unknown[:], public, make([]byte, 256)); !errors.Is(err, hsm.ErrNoKey) {
		t.Errorf("unknown identity: %v", err)
	}
}

func TestOAEP(t *testing.T) {
	h := softHSM(t, "bkrp")
	token := openToken(t, h.URI("bkrp", "kek"))
	if _, err := token.Key(t.Context()); !errors.Is(err, hsm.ErrNoKey) {
		t.Fatalf("before it is made: %v", err)
	}
	made, err := token.CreateKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := token.CreateKey(t.Context()); !errors.Is(err, hsm.ErrKey) {
		t.Errorf("made twice: %v", err)
	}
	key, err := token.Key(t.Context())
	if err != nil || !key.PublicKey().Equal(made.PublicKey()) || key.PublicKey().N.BitLen() != 3072 {
		t.Fatalf("%v, %v", key, err)
	}
	c, _ := rsa.EncryptOAEP(sha1.New(), rand.Reader, key.PublicKey(), []byte("secret"), nil)
	if got, err := key.DecryptOAEP(t.Context(), crypto.SHA1, c); err != nil || string(got) != "secret" {
		t.Errorf("%q, %v", got, err)
	}
	// SoftHSM knows OAEP by SHA-1 only, which a later one may not.
	c, _ = rsa.EncryptOAEP(sha256.New(), rand.Reader, key.PublicKey(), []byte("secret"), nil)
	if got, err := key.DecryptOAEP(t.Context(), crypto.SHA256, c); err == nil && string(got) != "secret" || err != nil && !errors.Is(err, hsm.ErrKey) {
		t.Errorf("%q, %v", got, err)
	}
}

func TestPIN(t *testing.T) {
	h := softHSM(t, "bkrp")
	if err := os.WriteFile(h.PINFile, []byte("1234\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := hsm.Open(t.Context(), parse(t, h.URI("bkrp", "")), hsm.Options{}); !errors.Is(err, hsm.ErrPIN) {
			t.Errorf("wrong PIN: %v", err)
		}
	}
	if err := os.Chmod(h.PINFile, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := hsm.Open(t.Context(), parse(t, h.URI("bkrp", "")), hsm.Options{}); !errors.Is(err, hsm.ErrPIN) {
		t.Errorf("PIN for everybody: %v", err)
	}
}

func TestNoToken(t *testing.T) {
	h := softHSM(t, "bkrp")
	if _, err := hsm.Open(t.Context(), parse(t, h.URI("other", "")), hsm.Options{}); !errors.Is(err, hsm.ErrUnavailable) {
		t.Errorf("wrong token: %v", err)
	}
	u := parse(t, h.URI("bkrp", ""))
	u.Module = h.Conf
	if _, err := hsm.Open(t.Context(), u, hsm.Options{}); !errors.Is(err, hsm.ErrUnavailable) {
		t.Errorf("no library: %v", err)
	}
}

// The token goes away with everything, and comes back.
func TestRemoved(t *testing.T) {
	h := softHSM(t, "bkrp")
	token := openToken(t, h.URI("bkrp", ""))
	guid := bkrp.NewKeyGUID()
	public, err := token.Generate(t.Context(), guid[:], "BackupKey")
	if err != nil {
		t.Fatal(err)
	}
	probe := func() error {
		em, err := token.DecryptRaw(context.Background(), guid[:], public, encrypt(public, big.NewInt(7)))
		if err == nil && new(big.Int).SetBytes(em).Int64() != 7 {
			t.Errorf("%x", em)
		}
		return err
	}
	for round := range 2 {
		if err := probe(); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if err := os.Rename(h.TokenDir(), h.TokenDir()+".away"); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if err := probe(); err == nil {
				t.Fatalf("round %d: the key is used without the token", round)
			} else {
				t.Log(err)
			}
		}
		if err := os.Rename(h.TokenDir()+".away", h.TokenDir()); err != nil {
			t.Fatal(err)
		}
		token.RenewAtOnce()
	}
	if err := probe(); err != nil {
		t.Fatalf("after it came back: %v", err)
	}
}

func BenchmarkRaw(b *testing.B) {
	h := softHSM(b, "bkrp")
	token := openToken(b, h.URI("bkrp", ""))
	guid := bkrp.NewKeyGUID()
	public, err := token.Generate(b.Context(), guid[:], "BackupKey")
	if err != nil {
		b.Fatal(err)
	}
	c := encrypt(public, big.NewInt(7))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := token.DecryptRaw(b.Context(), guid[:], public, c); err != nil {
			b.Fatal(err)
		}
	}
}
