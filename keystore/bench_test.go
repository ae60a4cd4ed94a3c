package keystore_test

import (
	"path/filepath"
	"testing"

	"github.com/seed05845750/bkrp/keystore"
	"github.com/seed05845750/bkrp/keystore/boltstore"
)

// BenchmarkCurrentKey is the hot path, from all processors at once.
func BenchmarkCurrentKey(b *testing.B) {
	s, _, _ := newStore(b)
	ctx := b.Context()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := s.CurrentServerWrapKey(ctx); err != nil {
				b.Error(err)
			}
		}
	})
}

// BenchmarkAccount is what a logon looks up.
func BenchmarkAccount(b *testing.B) {
	s, _, _ := newStore(b)
	ctx := b.Context()
	if _, err := s.AddAccount(ctx, "alice", "password"); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Account(ctx, "ALICE"); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpen is the start of a daemon on an existing store, up to the first
// key.
func BenchmarkOpen(b *testing.B) {
	path, kek, ctx := filepath.Join(b.TempDir(), "keys.db"), newKEK(b), b.Context()
	file, err := boltstore.Create(path, boltstore.Options{})
	if err != nil {
		b.Fatal(err)
	}
	if err := keystore.Create(ctx, file, kek, testDomain); err != nil {
		b.Fatal(err)
	}
	s := openStore(b, file, kek)
	if _, err := s.CurrentClientWrapKey(ctx); err != nil {
		b.Fatal(err)
	}
	_ = s.Close()
	_ = file.Close()
	for b.Loop() {
		file, err := boltstore.Open(path, boltstore.Options{})
		if err != nil {
			b.Fatal(err)
		}
		s, err := keystore.Open(ctx, file, kek, keystore.Options{})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := s.CurrentClientWrapKey(ctx); err != nil {
			b.Fatal(err)
		}
		_ = s.Close()
		_ = file.Close()
	}
}

// BenchmarkPassphrase is what a passphrase adds to that.
func BenchmarkPassphrase(b *testing.B) {
	p, err := keystore.NewPassphrase([]byte("correct horse"))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := p.Seal(b.Context(), make([]byte, 32), nil); err != nil {
			b.Fatal(err)
		}
	}
}
