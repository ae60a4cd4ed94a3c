package keystore_test

import (
	"errors"
	"testing"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/keystore"
)

// The list of keys says what each one is, whether it is in memory or not, also
// when it is locked or damaged.
func TestKeys(t *testing.T) {
	s, b, kek := newStore(t)
	ctx := t.Context()
	damaged := currentServerKey(t, s).GUID()
	locked, err := s.CurrentClientWrapKey(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.RotateClientWrapKey(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.SetKeyState(ctx, locked.GUID(), keystore.KeyLocked); err != nil {
		t.Fatal(err)
	}
	pair, err := bkrp.GenerateKeyPair("other.example", noon().time())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.ImportKeyPair(ctx, pair, false); err != nil {
		t.Fatal(err)
	}
	if _, err := s.RotateServerWrapKey(ctx); err != nil {
		t.Fatal(err)
	}
	value, _, err := b.Get(ctx, keystore.SecretPrefix+damaged.String())
	if err != nil {
		t.Fatal(err)
	}
	value[len(value)-1] ^= 1
	replace(t, b, keystore.SecretPrefix+damaged.String(), value)

	for name, s := range map[string]*keystore.Store{"in memory": s, "just opened": openStore(t, b, kek)} {
		list, err := s.Keys(ctx)
		if err != nil || len(list) != 5 {
			t.Fatalf("%s: %d keys, %v", name, len(list), err)
		}
		current := 0
		for _, k := range list {
			one, err := s.KeyInfo(ctx, k.GUID)
			if err != nil || one.Kind != k.Kind || one.State != k.State || one.Current != k.Current || !one.Created.Equal(k.Created) {
				t.Errorf("%s: alone the key is %+v, %v", name, one, err)
			}
			if k.Current {
				current++
			}
			switch k.GUID {
			case locked.GUID():
				if k.Kind != keystore.ClientWrap || k.State != keystore.KeyLocked || k.Current || k.Since.IsZero() || len(k.Certificate) == 0 || k.Err != nil {
					t.Errorf("%s: the locked key is %+v", name, k)
				}
			case pair.GUID():
				if !k.Created.Equal(noon().time()) || k.State != keystore.KeyActive || k.Kind != keystore.ClientWrap {
					t.Errorf("%s: the imported key is %+v", name, k)
				}
			case damaged:
				if name == "just opened" && (k.Kind != 0 || !errors.Is(k.Err, keystore.ErrCorrupt)) {
					t.Errorf("%s: the damaged key is %+v", name, k)
				}
			}
		}
		if current != 2 {
			t.Errorf("%s: %d current keys", name, current)
		}
		if _, err := s.KeyInfo(ctx, dtyp.GUID{1}); !errors.Is(err, keystore.ErrNoKey) {
			t.Errorf("%s: an unknown key: %v", name, err)
		}
	}
}
