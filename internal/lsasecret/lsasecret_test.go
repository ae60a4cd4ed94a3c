package lsasecret

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"strings"
	"testing"
)

// vectors are session key, value and ciphertext as impacket makes it.
func vectors(t testing.TB) (all [][3][]byte) {
	t.Helper()
	text, err := os.ReadFile("testdata/secrets.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if len(words) != 3 || words[0] == "#" {
			continue
		}
		var v [3][]byte
		for i, word := range words {
			if v[i], err = hex.DecodeString(word); err != nil {
				break
			}
		}
		if err == nil { // or it is of the comment
			all = append(all, v)
		}
	}
	if len(all) < 5 {
		t.Fatalf("%d vectors", len(all))
	}
	return all
}

func TestVectors(t *testing.T) {
	for _, v := range vectors(t) {
		sealed, err := Seal(v[0], v[1])
		if err != nil || !bytes.Equal(sealed, v[2]) {
			t.Errorf("Seal of %d octets: %x, %v; want %x", len(v[1]), sealed, err, v[2])
		}
		before := bytes.Clone(v[2])
		value, err := Open(v[0], v[2])
		if err != nil || !bytes.Equal(value, v[1]) {
			t.Errorf("Open: %x, %v; want %x", value, err, v[1])
		}
		if !bytes.Equal(before, v[2]) {
			t.Error("Open altered what it was given")
		}
	}
}

func TestSessionKeys(t *testing.T) {
	// Whatever its length, the key is never read beyond its end.
	value := bytes.Repeat([]byte{7}, 1000)
	for n := desWindow; n <= 64; n++ {
		key := bytes.Repeat([]byte{0x5a}, n)
		sealed, err := Seal(key, value)
		if err != nil || len(sealed) != 1008 {
			t.Fatalf("key of %d octets: %d, %v", n, len(sealed), err)
		}
		if got, err := Open(key, sealed); err != nil || !bytes.Equal(got, value) {
			t.Errorf("key of %d octets: %v", n, err)
		}
	}
	if _, err := Seal([]byte("short"), nil); !errors.Is(err, ErrSessionKey) {
		t.Errorf("session key of 5 octets: %v", err)
	}
	if _, err := Open([]byte("short"), make([]byte, 16)); !errors.Is(err, ErrSessionKey) {
		t.Errorf("session key of 5 octets: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	key := []byte("0123456789abcdef")
	sealed, err := Seal(key, []byte("sixteen octets!!"))
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"nothing":       nil,
		"half a header": sealed[:4],
		"no block":      sealed[:len(sealed)-1],
		"cut short":     sealed[:len(sealed)-8],
		"a block more":  append(bytes.Clone(sealed), make([]byte, 8)...),
	} {
		if got, err := Open(key, b); !errors.Is(err, ErrValue) || got != nil {
			t.Errorf("%s: %x, %v", name, got, err)
		}
	}
	if got, err := Open([]byte("another key 0123"), sealed); !errors.Is(err, ErrValue) || got != nil {
		t.Errorf("another key: %x, %v", got, err)
	}
}

func FuzzOpen(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(v[0], v[2])
	}
	f.Fuzz(func(t *testing.T, key, sealed []byte) {
		value, err := Open(key, sealed)
		if err != nil {
			return
		}
		again, err := Seal(key, value)
		if err != nil || len(again) != len(sealed) {
			t.Fatalf("%x opens and does not seal: %v", sealed, err)
		}
		// The padding's content is free.
		if back, err := Open(key, again); err != nil || !bytes.Equal(back, value) {
			t.Fatalf("%x: %v", value, err)
		}
	})
}
