package keystore

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// quick is a passphrase with costs that a test can pay many times.
func quick(t testing.TB, passphrase string) *Passphrase {
	t.Helper()
	p, err := NewPassphrase([]byte(passphrase))
	if err != nil {
		t.Fatal(err)
	}
	p.cost = argon2Params{passes: 1, memoryKiB: 64, lanes: 1}
	return p
}

func testKeyFile(t testing.TB) (*KeyFile, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kek")
	k, err := CreateKeyFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return k, path
}

func TestSealers(t *testing.T) {
	one, _ := testKeyFile(t)
	two, _ := testKeyFile(t)
	for name, test := range map[string]struct{ sealer, other, otherKind Sealer }{
		"key file":   {one, two, quick(t, "one")},
		"passphrase": {quick(t, "one"), quick(t, "One"), two},
		"token":      {testTokenSealer(t), testTokenSealer(t), one},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, plain, bound := t.Context(), bytes.Repeat([]byte{7}, keySize), []byte("bound")
			sealed, err := test.sealer.Seal(ctx, plain, bound)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := test.sealer.Open(ctx, sealed, bound); err != nil || !bytes.Equal(got, plain) {
				t.Fatalf("Open of what Seal made: %v", err)
			}
			if again, err := test.sealer.Seal(ctx, plain, bound); err != nil || bytes.Equal(again, sealed) {
				t.Errorf("the same sealed twice looks the same (%v)", err)
			}
			for _, other := range []Sealer{test.other, test.otherKind} {
				if got, err := other.Open(ctx, sealed, bound); !errors.Is(err, ErrWrongKEK) || got != nil {
					t.Errorf("%s opens it: %v, want ErrWrongKEK", other.KeyID(), err)
				}
			}
			if got, err := test.sealer.Open(ctx, sealed, []byte("Bound")); !errors.Is(err, ErrCorrupt) || got != nil {
				t.Errorf("bound to something else: %v, want ErrCorrupt", err)
			}
			for i := range sealed {
				if name == "passphrase" && i >= 2 && i < 11 {
					continue // costs, which are tested for their bounds
				}
				altered := bytes.Clone(sealed)
				altered[i] ^= 0x80
				got, err := test.sealer.Open(ctx, altered, bound)
				if got != nil || !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrWrongKEK) {
					t.Errorf("octet %d altered: %v", i, err)
				}
				if got, err := test.sealer.Open(ctx, sealed[:i], bound); got != nil || !errors.Is(err, ErrCorrupt) {
					t.Errorf("first %d octets: %v, want ErrCorrupt", i, err)
				}
			}
		})
	}
}

// What a store asks for before it is authenticated is bounded.
func TestPassphraseCosts(t *testing.T) {
	p := quick(t, "one")
	sealed, err := p.Seal(t.Context(), make([]byte, keySize), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, costs := range [][]byte{
		{0, 0, 0, 0, 64, 0, 0, 0, 1},
		{17, 0, 0, 0, 64, 0, 0, 0, 1},
		{1, 0, 0, 0, 7, 0, 0, 0, 1},
		{1, 0, 0, 0, 1, 0, 16, 0, 1},
		{1, 0, 0, 0, 64, 0, 0, 0, 0},
		{1, 0, 0, 0, 255, 0, 0, 0, 17},
		{255, 255, 255, 255, 255, 255, 255, 255, 255},
	} {
		bad := bytes.Clone(sealed)
		copy(bad[2:], costs)
		if _, err := p.Open(t.Context(), bad, nil); !errors.Is(err, ErrCorrupt) {
			t.Errorf("costs %v: %v, want ErrCorrupt", costs, err)
		}
	}
	if _, err := NewPassphrase(nil); !errors.Is(err, ErrPassphrase) {
		t.Errorf("empty passphrase: %v, want ErrPassphrase", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Open(ctx, sealed, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("done context: %v, want context.Canceled", err)
	}
}

// A store opens by its passphrase with the costs of production.
func TestPassphraseStore(t *testing.T) {
	b := NewMemory()
	p, err := NewPassphrase([]byte("correct horse"))
	if err != nil {
		t.Fatal(err)
	}
	d := Domain{DNSName: "bkrp.example", NetBIOSName: "BKRP", SID: RandomDomainSID()}
	if err := Create(t.Context(), b, p, d); err != nil {
		t.Fatal(err)
	}
	again, err := NewPassphrase([]byte("correct horse"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), b, again, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	wrong, err := NewPassphrase([]byte("correct horse\n"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), b, wrong, Options{}); !errors.Is(err, ErrWrongKEK) {
		t.Errorf("wrong passphrase: %v, want ErrWrongKEK", err)
	}
}

func TestKeyFiles(t *testing.T) {
	k, path := testKeyFile(t)
	got, err := ReadKeyFile(path)
	if err != nil || *got != *k {
		t.Fatalf("reading what was created: %v", err)
	}
	if _, err := CreateKeyFile(path); !errors.Is(err, os.ErrExist) {
		t.Errorf("creating over a key file: %v, want fs.ErrExist", err)
	}
	if _, err := ReadKeyFile(path + "x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("absent file: %v, want fs.ErrNotExist", err)
	}
	if _, err := ReadKeyFile(filepath.Dir(path)); !errors.Is(err, ErrKeyFile) {
		t.Errorf("directory: %v, want ErrKeyFile", err)
	}
	text := []byte(k.text())
	for i := range text {
		altered := bytes.Clone(text)
		altered[i] ^= 1
		if got, err := parseKeyFile(altered); err == nil && *got != *k {
			t.Errorf("octet %d altered gives another key", i)
		}
	}
	for _, bad := range [][]byte{nil, text[:len(text)-2], append(bytes.Clone(text), "key x\n"...), make([]byte, 1<<20)} {
		if _, err := parseKeyFile(bad); !errors.Is(err, ErrKeyFile) {
			t.Errorf("%d octets: %v, want ErrKeyFile", len(bad), err)
		}
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o660, 0o666} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadKeyFile(path); !errors.Is(err, ErrKeyFile) {
			t.Errorf("mode %#o: %v, want ErrKeyFile", mode, err)
		}
	}
}

// A key file is made also where there are no hard links, and replaces nothing there
// either.
func TestKeyFileWithoutLinks(t *testing.T) {
	link = func(string, string) error { return os.ErrPermission }
	t.Cleanup(func() { link = os.Link })
	dir := t.TempDir()
	path := filepath.Join(dir, "kek.bin")
	made, err := CreateKeyFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := CreateKeyFile(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over a file that is there: %v, want fs.ErrExist", err)
	}
	read, err := ReadKeyFile(path)
	if err != nil || read.KeyID() != made.KeyID() {
		t.Errorf("reading it: %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("there is %v, %v", left, err)
	}
}
