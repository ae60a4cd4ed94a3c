package keystore_test

import (
	"context"
	"errors"
	"testing"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/keystore"
	"github.com/seed05845750/bkrp/keystore/keystoretest"
)

// deaf is a backend whose watch stands and reports no change, as one does not
// that is not known to have been made.
type deaf struct{ keystore.Backend }

func (deaf) Watch(ctx context.Context, changed func(string)) error {
	changed(keystore.AnyName)
	<-ctx.Done()
	return ctx.Err()
}

// A pointer that was moved by a write whose answer was lost is followed at the
// next call, not when the store is opened again.
func TestRotationWithoutAnswer(t *testing.T) {
	forKinds(t, func(t *testing.T, k kind) {
		_, b, kek := newStore(t)
		f := keystoretest.NewFaults(deaf{b}, nil)
		f.After = true
		s := openStore(t, f, kek)
		first := mustCurrent(t, k, s)
		eventually(t, func() bool { // the key comes from memory
			before := f.Count(keystoretest.Get)
			mustCurrent(t, k, s)
			return f.Count(keystoretest.Get) == before
		})
		f.SetFail(func(_ int, c keystoretest.Call) error {
			if c.Operation == keystoretest.Swap && c.Name == k.pointer {
				return keystoretest.ErrFault
			}
			return nil
		})
		if g, err := k.rotate(s, t.Context()); !errors.Is(err, keystoretest.ErrFault) || g != (dtyp.GUID{}) {
			t.Errorf("rotation gives %v, %v; want the fault", g, err)
		}
		f.SetFail(nil)
		want := mustCurrent(t, k, openStore(t, b, kek))
		if got := mustCurrent(t, k, s); got != want || got == first {
			t.Errorf("current is %v, the backend has %v", got, want)
		}
	})
}
