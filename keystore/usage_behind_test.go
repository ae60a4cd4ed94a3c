package keystore_test

import (
	"errors"
	"testing"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/keystore"
	"github.com/seed05845750/bkrp/keystore/keystoretest"
)

// Where the counts cannot be written down, as on a full disk, the numbers from
// before are told, and that they are. What was counted is not lost by it.
func TestUsageOfAStoreThatCannotBeWritten(t *testing.T) {
	_, b, kek := newStore(t)
	f := keystoretest.NewFaults(b, nil)
	s := openStore(t, f, kek)
	key, err := s.CurrentServerWrapKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	alice, bob := dtyp.MustParseSID("S-1-5-21-1-2-3-1100"), dtyp.MustParseSID("S-1-5-21-1-2-3-1101")
	check := func(unwraps uint64, callers int, want error) {
		t.Helper()
		all, err := s.Usages(t.Context())
		if !errors.Is(err, want) || all[key.GUID()].Unwraps != unwraps {
			t.Errorf("usages: %d unwraps, want %d: %v", all[key.GUID()].Unwraps, unwraps, err)
		}
		u, err := s.Usage(t.Context(), key.GUID())
		if !errors.Is(err, want) || u.Unwraps != unwraps {
			t.Errorf("usage: %d unwraps, want %d: %v", u.Unwraps, unwraps, err)
		}
		c, err := s.Callers(t.Context(), key.GUID())
		if !errors.Is(err, want) || c == nil || len(c.List) != callers {
			t.Errorf("callers: %+v, want %d: %v", c, callers, err)
		}
	}
	key.Used(alice, keystore.UseUnwrap)
	check(1, 1, nil)
	f.SetFail(func(_ int, c keystoretest.Call) error {
		if c.Operation == keystoretest.Swap {
			return keystoretest.ErrFault
		}
		return nil
	})
	key.Used(bob, keystore.UseUnwrap)
	check(1, 1, keystore.ErrUsageBehind)
	f.SetFail(nil)
	check(2, 2, nil)
}
