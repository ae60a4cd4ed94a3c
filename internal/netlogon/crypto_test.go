package netlogon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/oiweiwei/go-msrpc/ssp/credential"
	peer "github.com/oiweiwei/go-msrpc/ssp/netlogon"
	peercrypto "github.com/oiweiwei/go-msrpc/ssp/netlogon/crypto"

	"github.com/seed05845750/bkrp/internal/gss"
	"github.com/seed05845750/bkrp/internal/nthash"
)

// The keys, credentials and signatures, beside those of go-msrpc.
func TestCryptoBesideGoMSRPC(t *testing.T) {
	const password = "Machine.Passw0rd.1"
	client, server := [8]byte{1, 2, 3, 4, 5, 6, 7, 8}, [8]byte{9, 8, 7, 6, 5, 4, 3, 2}
	cfg := peer.NewConfig()
	cfg.Credential = credential.NewFromPassword("SRV1$", password)
	cfg.ClientChallenge, cfg.ServerChallenge = client[:], server[:]
	want, err := peer.ComputeSessionKey(t.Context(), cfg.Capabilities, cfg.Credential, client[:], server[:])
	if err != nil {
		t.Fatal(err)
	}
	key := newSessionKey(nthash.Sum(password), client, server)
	if !bytes.Equal(key[:], want) {
		t.Errorf("session key %x, want %x", key[:], want)
	}
	theirs, err := peer.NewSecureCredential(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	wantCredential, err := theirs.Encrypt(t.Context(), bytes.Clone(client[:]))
	if err != nil {
		t.Fatal(err)
	}
	if got := key.credential(client); !bytes.Equal(got[:], wantCredential) {
		t.Errorf("credential %x, want %x", got, wantCredential)
	}

	t.Run("they unseal", func(t *testing.T) {
		s := &session{key: key, next: 6}
		msg := []byte("a message of some 40 octets, to be sealed")
		clear := bytes.Clone(msg)
		sig, err := s.Seal(nil, msg, 0, len(msg))
		if err != nil {
			t.Fatal(err)
		}
		cipher := peercrypto.NewCipher(t.Context(), peercrypto.EtypeAESSHA2, key[:], true)
		want, err := cipher.Unwrap(t.Context(), 6, [][]byte{msg}, [][]byte{msg}, sig)
		if err != nil || !bytes.Equal(msg, clear) || !bytes.Equal(want[:24], sig[:24]) {
			t.Errorf("%q, %x, want %x: %v", msg, sig, want, err)
		}
	})
	t.Run("they seal", func(t *testing.T) {
		msg := []byte("an answer of theirs")
		clear := bytes.Clone(msg)
		cipher := peercrypto.NewCipher(t.Context(), peercrypto.EtypeAESSHA2, key[:], false)
		sig, err := cipher.Wrap(t.Context(), 7, [][]byte{msg}, [][]byte{msg})
		if err != nil {
			t.Fatal(err)
		}
		s := &session{key: key, next: 7}
		if err := s.Unseal(msg, 0, len(msg), sig); err != nil || !bytes.Equal(msg, clear) {
			t.Errorf("%q: %v", msg, err)
		}
	})
}

// Every octet of a sealed message and of its signature counts, and so do its
// place in the sequence and its direction.
func TestUnsealRefuses(t *testing.T) {
	key := sessionKey{1, 2, 3}
	const text = "sealed by the domain controller"
	sealed := func() (msg, sig []byte) {
		msg = []byte(text)
		sig, err := (&session{key: key, peer: true, next: 1}).Seal(nil, msg, 0, len(msg))
		if err != nil {
			t.Fatal(err)
		}
		return msg, sig
	}
	refused := func(name string, s *session, msg, sig []byte) {
		t.Helper()
		if err := s.Unseal(msg, 0, len(msg), sig); !errors.Is(err, gss.ErrSignature) {
			t.Errorf("%s: %v", name, err)
		}
		msg, sig = sealed()
		if err := s.Unseal(msg, 0, len(msg), sig); !errors.Is(err, gss.ErrSignature) {
			t.Errorf("%s, and then a good one: %v", name, err)
		}
	}
	msg, sig := sealed()
	if err := (&session{key: key, next: 1}).Unseal(msg, 0, len(msg), sig); err != nil || string(msg) != text {
		t.Fatalf("%q, %v", msg, err)
	}
	for i := range len(text) + signatureUsed {
		msg, sig := sealed()
		if i < len(msg) {
			msg[i] ^= 1
		} else {
			sig[i-len(msg)] ^= 1
		}
		refused(fmt.Sprint("octet ", i), &session{key: key, next: 1}, msg, sig)
	}
	for n := range signatureUsed {
		msg, sig := sealed()
		refused(fmt.Sprint(n, " octets"), &session{key: key, next: 1}, msg, sig[:n])
	}
	msg, sig = sealed()
	refused("replayed", &session{key: key, next: 3}, msg, sig)
	msg, sig = sealed()
	refused("another key", &session{key: sessionKey{1, 2}, next: 1}, msg, sig)
	msg = []byte(text)
	own := &session{key: key, next: 1}
	sig, err := own.Seal(nil, msg, 0, len(msg))
	if err != nil {
		t.Fatal(err)
	}
	refused("reflected", &session{key: key, next: 1}, msg, sig)
}

func TestNothingGoesUnsealed(t *testing.T) {
	s := &session{}
	if _, err := s.Sign(nil, nil); !errors.Is(err, gss.ErrRefused) {
		t.Error(err)
	}
	if err := s.Verify(nil, nil); !errors.Is(err, gss.ErrRefused) {
		t.Error(err)
	}
	s.next = 1 << 32
	if _, err := s.Seal(nil, nil, 0, 0); !errors.Is(err, gss.ErrExpired) {
		t.Error(err)
	}
}

func TestBindTokens(t *testing.T) {
	for _, in := range [][]byte{nil, {1, 0, 0}, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, {2, 0, 0, 0, 0, 0, 0, 0}} {
		x := (&initiator{domain: "BKRP", computer: "SRV1"}).Initiate(gss.InitiateOptions{})
		out, sc, err := x.Step(context.Background(), nil)
		if want := "\x00\x00\x00\x00\x03\x00\x00\x00BKRP\x00SRV1\x00"; string(out) != want || sc != nil || err != nil {
			t.Errorf("%q, %v, %v", out, sc, err)
		}
		if _, sc, err := x.Step(context.Background(), in); sc != nil || !errors.Is(err, gss.ErrToken) {
			t.Errorf("%x: %v, %v", in, sc, err)
		}
	}
}

func TestKeysStayHidden(t *testing.T) {
	key := sessionKey(bytes.Repeat([]byte{0xA7}, 16))
	v := &validation{name: "alice", sessionKey: key}
	for _, holder := range []any{key, &initiator{key: key}, &session{key: key}, v} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%x", "%d", "%s"} {
			text := strings.ToLower(fmt.Sprintf(verb, holder))
			if strings.Contains(text, "a7a7") || strings.Contains(text, "167") || strings.Contains(text, "0xa7") {
				t.Errorf("%T by %s: %s", holder, verb, text)
			}
		}
	}
}
