package ntlm

import (
	"bytes"
	"errors"
	"math"
	"testing"

	"github.com/seed05845750/bkrp/internal/gss"
)

func testSessions() (client, server *session) {
	key := [16]byte(bytes.Repeat([]byte{9}, 16))
	return newSession(key, flagSign|flagSeal, 0, true), newSession(key, flagSign|flagSeal, 0, false)
}

// TestSignatureChanged changes each bit of a sealed message and its signature.
func TestSignatureChanged(t *testing.T) {
	text := []byte("header, stub, trailer")
	for bit := range 8 * (len(text) + signatureSize) {
		client, server := testSessions()
		msg := bytes.Clone(text)
		sig, err := client.Seal(nil, msg, 8, 12)
		if err != nil {
			t.Fatal(err)
		}
		all := append(bytes.Clone(msg), sig...)
		all[bit/8] ^= 1 << (bit % 8)
		if err := server.Unseal(all[:len(msg)], 8, 12, all[len(msg):]); !errors.Is(err, gss.ErrSignature) {
			t.Fatalf("bit %d of octet %d changed: %v", bit%8, bit/8, err)
		}
		// The context is dead: even the right message is refused now.
		if err := server.Unseal(msg, 8, 12, sig); !errors.Is(err, gss.ErrSignature) {
			t.Fatalf("after a broken signature: %v", err)
		}
	}
}

// TestSequence drops, repeats and reflects messages.
func TestSequence(t *testing.T) {
	msg := []byte("message")
	sign := func(s *session) []byte {
		sig, err := s.Sign(nil, msg)
		if err != nil {
			t.Fatal(err)
		}
		return sig
	}
	client, server := testSessions()
	sign(client)
	if err := server.Verify(msg, sign(client)); !errors.Is(err, gss.ErrSignature) {
		t.Errorf("second message first: %v", err)
	}
	client, server = testSessions()
	first := sign(client)
	if err := server.Verify(msg, first); err != nil {
		t.Errorf("first message: %v", err)
	}
	if err := server.Verify(msg, first); !errors.Is(err, gss.ErrSignature) {
		t.Errorf("first message again: %v", err)
	}
	client, _ = testSessions()
	if err := client.Verify(msg, sign(client)); !errors.Is(err, gss.ErrSignature) {
		t.Errorf("message reflected: %v", err)
	}
	for _, sig := range [][]byte{nil, first[:15], append(first, 0)} {
		_, server = testSessions()
		if err := server.Verify(msg, sig); !errors.Is(err, gss.ErrSignature) {
			t.Errorf("signature of %d octets: %v", len(sig), err)
		}
	}
}

// TestSequenceEnd says that sequence numbers do not begin again.
func TestSequenceEnd(t *testing.T) {
	client, _ := testSessions()
	client.send.next = math.MaxUint32
	if _, err := client.Sign(nil, nil); err != nil {
		t.Errorf("last message: %v", err)
	}
	if _, err := client.Sign(nil, nil); !errors.Is(err, gss.ErrExpired) {
		t.Errorf("message after the last: %v", err)
	}
}

// TestMechListKeyStream is [MS-SPNG] 3.3.5.1: the checksum over the mechanism
// list leaves the key stream where it was, and takes a sequence number.
func TestMechListKeyStream(t *testing.T) {
	client, server := testSessions()
	mic, err := client.SignMechList(nil, []byte("list"))
	if err != nil {
		t.Fatal(err)
	}
	if err := server.VerifyMechList([]byte("list"), mic); err != nil {
		t.Error(err)
	}
	fresh, _ := testSessions()
	a, b := []byte("message"), []byte("message")
	sig, err := client.Seal(nil, a, 0, len(a))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fresh.Seal(nil, b, 0, len(b)); err != nil || !bytes.Equal(a, b) {
		t.Errorf("sealed after mechListMIC %x, without one %x", a, b)
	}
	if err := server.Unseal(a, 0, len(a), sig); err != nil {
		t.Error(err)
	}
	if err := server.VerifyMechList([]byte("tsil"), mic); !errors.Is(err, gss.ErrSignature) {
		t.Errorf("another list: %v", err)
	}
}

// TestSealAllocates says that the hot path does not.
func TestSealAllocates(t *testing.T) {
	client, server := testSessions()
	msg, sig := make([]byte, 512), make([]byte, 0, signatureSize)
	if n := testing.AllocsPerRun(100, func() {
		s, err := client.Seal(sig, msg, 24, 500)
		if err != nil || server.Unseal(msg, 24, 500, s) != nil {
			t.Fatal("sealing or unsealing")
		}
	}); n != 0 {
		t.Errorf("%v allocations for sealing and unsealing", n)
	}
}

func BenchmarkSeal(b *testing.B) {
	client, _ := testSessions()
	msg, sig := make([]byte, 512), make([]byte, 0, signatureSize)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := client.Seal(sig, msg, 24, 500); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLogon(b *testing.B) {
	cfg := testConfig()
	c := newClient()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.logOn(b, cfg); err != nil {
			b.Fatal(err)
		}
	}
}
