package smb2

import (
	"bytes"
	"testing"

	"github.com/seed05845750/bkrp/internal/smb2/wire"
)

// What the client's end seals the server's end opens, without its signature.
func TestClientSession(t *testing.T) {
	contextKey := bytes.Repeat([]byte{5}, 32) // a longer one counts by its first 16 octets
	s, err := NewClientSession(contextKey)
	if err != nil {
		t.Fatal(err)
	}
	keys := deriveKeys(wire.Dialect302, wire.AES128CCM, contextKey[:16], nil)
	if !bytes.Equal(s.ApplicationKey(), keys.application) {
		t.Error("application key")
	}
	server, err := newSealer(wire.AES128CCM, keys.decryption)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		msg := append([]byte("\xfeSMB"), bytes.Repeat([]byte{0xff}, 96)...)
		kept := bytes.Clone(msg)
		sealed, err := s.Seal(msg)
		if err != nil || !IsEncrypted(sealed) || !bytes.Equal(msg, kept) {
			t.Fatalf("%x, %v", sealed, err)
		}
		transform, _, err := wire.ParseTransform(sealed)
		if err != nil {
			t.Fatal(err)
		}
		got, err := server.open(sealed, &transform)
		if err != nil {
			t.Fatal(err)
		}
		want := bytes.Clone(msg)
		want[16] &^= 0x8
		clear(want[48:64])
		if !bytes.Equal(got, want) {
			t.Errorf("\n got %x\nwant %x", got, want)
		}
	}
}

func TestClientSessionRefuses(t *testing.T) {
	if _, err := NewClientSession(make([]byte, 15)); err == nil {
		t.Error("a key of 15 octets is taken")
	}
	s, err := NewClientSession(make([]byte, 16))
	if err != nil {
		t.Fatal(err)
	}
	for _, msg := range [][]byte{nil, []byte("\xfeSMB"), make([]byte, 100), append([]byte("\xfeSMB"), make([]byte, 96)...)} {
		if _, err := s.Seal(msg); err == nil {
			t.Errorf("sealed: %x", msg)
		}
	}
}
