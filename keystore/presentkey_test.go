package keystore_test

import (
	"errors"
	"testing"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/keystore"
)

func TestCurrentKeyMakesNone(t *testing.T) {
	s, b, _ := newStore(t)
	ctx := t.Context()
	for _, kind := range []keystore.KeyKind{keystore.ClientWrap, keystore.ServerWrap} {
		if guid, err := s.CurrentKey(ctx, kind); !errors.Is(err, keystore.ErrNoKey) {
			t.Errorf("%v: %v, %v", kind, guid, err)
		}
	}
	if entries, err := b.List(ctx, keystore.SecretPrefix); err != nil || len(entries) != 0 {
		t.Fatalf("%d secrets were made, %v", len(entries), err)
	}
	k, err := s.CurrentServerWrapKey(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if guid, err := s.CurrentKey(ctx, keystore.ServerWrap); err != nil || guid != k.GUID() {
		t.Errorf("%v, %v, want %v", guid, err, k.GUID())
	}
	lost := dtyp.MustParseGUID("11111111-2222-3333-4444-555555555555")
	if err := s.PutSecret(ctx, keystore.CurrentServerSecret, lost[:]); err != nil {
		t.Fatal(err)
	}
	if guid, err := s.CurrentKey(ctx, keystore.ServerWrap); !errors.Is(err, keystore.ErrMalformedKey) || errors.Is(err, keystore.ErrNoKey) {
		t.Errorf("a pointer to nothing: %v, %v", guid, err)
	}
}
