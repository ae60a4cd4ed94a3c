package keystore_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/keystore"
)

// A key that was damaged is had back by importing it from an export or from
// another store, and opens again what was wrapped under it.
func TestImportInPlaceOfADamagedKey(t *testing.T) {
	s, b, kek := newStore(t)
	ctx := t.Context()
	guid, key := dtyp.GUID{1}, bkrp.GenerateServerKey()
	pair, err := pairs.next("other.example", s.Created())
	if err != nil {
		t.Fatal(err)
	}
	imports := map[dtyp.GUID]func(*keystore.Store) error{
		guid: func(s *keystore.Store) error {
			_, err := s.ImportServerKey(ctx, guid, key, true)
			return err
		},
		pair.GUID(): func(s *keystore.Store) error {
			_, err := s.ImportKeyPair(ctx, pair, true)
			return err
		},
	}
	for guid, again := range imports {
		if err := again(s); err != nil {
			t.Fatal(err)
		}
		name := keystore.SecretPrefix + guid.String()
		good := mustSecret(t, s, name)
		sealed, _, err := b.Get(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		for what, value := range map[string][]byte{
			"a bit":     flipped(sealed, len(sealed)/2),
			"cut":       sealed[:len(sealed)-1],
			"cut short": sealed[:20],
		} {
			replace(t, b, name, value)
			damaged := openStore(t, b, kek)
			if _, err := damaged.Secret(ctx, name); !errors.Is(err, keystore.ErrCorrupt) {
				t.Fatalf("%s: %v", what, err)
			}
			if err := again(damaged); err != nil {
				t.Errorf("%s: %v", what, err)
				continue
			}
			if got := mustSecret(t, openStore(t, b, kek), name); !bytes.Equal(got, good) {
				t.Errorf("%s: it is another key", what)
			}
		}
	}
}

// What was damaged in a backup, and so is empty in the store that was restored
// from it, is had back in the same way.
func TestImportInPlaceOfAKeyDamagedInTheBackup(t *testing.T) {
	s, b, _ := newStore(t)
	ctx := t.Context()
	guid, key := dtyp.GUID{1}, bkrp.GenerateServerKey()
	if _, err := s.ImportServerKey(ctx, guid, key, true); err != nil {
		t.Fatal(err)
	}
	replace(t, b, keystore.SecretPrefix+guid.String(), []byte("damaged"))
	dump, err := s.Dump(ctx)
	if err != nil || len(dump.Damaged) != 1 {
		t.Fatal(dump, err)
	}
	fresh, kek := keystore.NewMemory(), newKEK(t)
	if err := keystore.Restore(ctx, fresh, kek, dump); err != nil {
		t.Fatal(err)
	}
	restored := openStore(t, fresh, kek)
	if _, err := restored.ServerWrapKey(ctx, guid); !errors.Is(err, keystore.ErrMalformedKey) {
		t.Fatalf("before: %v", err)
	}
	if _, err := restored.ImportServerKey(ctx, guid, key, true); err != nil {
		t.Fatal(err)
	}
	if _, err := restored.ServerWrapKey(ctx, guid); err != nil {
		t.Error(err)
	}
	if _, err := restored.ImportServerKey(ctx, guid, bkrp.GenerateServerKey(), true); !errors.Is(err, keystore.ErrKeyExists) {
		t.Errorf("another key over it: %v", err)
	}
}

// What another version of the program has sealed, or is under a data key that the
// header has lost, may be good: it is not replaced.
func TestImportLeavesWhatMayBeGood(t *testing.T) {
	s, b, kek := newStore(t)
	ctx := t.Context()
	guid, key := dtyp.GUID{1}, bkrp.GenerateServerKey()
	if _, err := s.ImportServerKey(ctx, guid, key, false); err != nil {
		t.Fatal(err)
	}
	name := keystore.SecretPrefix + guid.String()
	sealed, _, err := b.Get(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	version := bytes.Clone(sealed)
	version[0]++
	number := bytes.Clone(sealed)
	binary.LittleEndian.PutUint32(number[1:], 7)
	for _, value := range [][]byte{version, number} {
		replace(t, b, name, value)
		if _, err := openStore(t, b, kek).ImportServerKey(ctx, guid, key, false); !errors.Is(err, keystore.ErrCorrupt) {
			t.Errorf("importing over it: %v", err)
		}
		if now, _, err := b.Get(ctx, name); err != nil || !bytes.Equal(now, value) {
			t.Errorf("it was replaced: %v", err)
		}
	}
}

func flipped(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 1
	return b
}
