package keystore_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/seed05845750/bkrp/keystore"
	"github.com/seed05845750/bkrp/keystore/boltstore"
)

// A bit flipped anywhere in the file of a store is found when it is opened or
// when the store is read, or is where nothing of the store stands. Whatever opens
// still has all other entries.
func TestBoltFileDamagedAnywhere(t *testing.T) {
	s, source, kek := fullStore(t)
	mustDump(t, s) // writes the use of keys
	dir := t.TempDir()
	path := filepath.Join(dir, "whole.db")
	bolt, err := boltstore.Create(path, boltstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	entries, err := source.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if _, err := bolt.CompareAndSwap(t.Context(), e.Name, 0, e.Value); err != nil {
			t.Fatal(err)
		}
	}
	whole := mustDump(t, openStore(t, bolt, kek))
	if err := bolt.Close(); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	results := make(map[string]int)
	page := os.Getpagesize()
	for at := 0; at < len(file); at++ {
		// All of the numbers in front of each page, and a part of the values.
		if at%page >= 80 && at%101 != 0 {
			continue
		}
		altered := bytes.Clone(file)
		altered[at] ^= 1 << (at % 8)
		if allZero(file[at/page*page:(at/page+1)*page]) && at%page != 0 {
			continue
		}
		path := filepath.Join(dir, fmt.Sprint(at))
		if err := os.WriteFile(path, altered, 0o600); err != nil {
			t.Fatal(err)
		}
		result := outcome(path, kek, whole)
		results[result]++
		if result == "lost" {
			t.Errorf("octet %d (page %d, %d): a store opens without a word and is another one", at, at/page, at%page)
		}
		_ = os.Remove(path)
	}
	t.Logf("%d octets: %v", len(file), results)
}

func allZero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }

// outcome is what comes of a damaged file.
func outcome(path string, kek keystore.Sealer, whole *keystore.Dump) string {
	ctx := context.Background()
	b, err := boltstore.Open(path, boltstore.Options{})
	if err != nil {
		return "file refused"
	}
	defer b.Close()
	s, err := keystore.Open(ctx, b, kek, keystore.Options{})
	if err != nil {
		return "store refused"
	}
	defer s.Close()
	d, err := s.Dump(ctx)
	if err != nil {
		return "not read"
	}
	same := 0
	for _, e := range d.Entries {
		for _, w := range whole.Entries {
			if w.Name == e.Name && bytes.Equal(w.Value, e.Value) {
				same++
			}
		}
	}
	switch {
	case same == len(whole.Entries) && len(d.Entries) == same:
		return "nothing"
	case same < len(whole.Entries)-1 && len(d.Check()) == 0:
		return "lost"
	case len(d.Damaged) > 0:
		return "entry named"
	case len(d.Check()) > 0:
		return "found"
	}
	return "lost"
}
