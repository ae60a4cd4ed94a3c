package keystore_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/keystore"
)

// broken is what the backend envelopes has in place of a value that it can see to
// be damaged.
const broken = "broken"

// envelopes is a backend which can tell that a value is damaged, as etcdstore can
// by what it puts in front of them.
type envelopes struct{ keystore.Backend }

func (b envelopes) Get(ctx context.Context, name string) ([]byte, keystore.Revision, error) {
	value, rev, err := b.Backend.Get(ctx, name)
	if string(value) == broken {
		return nil, rev, fmt.Errorf("%w: %s", keystore.ErrCorrupt, name)
	}
	return value, rev, err
}

func (b envelopes) List(ctx context.Context, prefix string) ([]keystore.Entry, error) {
	list, err := b.Backend.List(ctx, prefix)
	for i := range list {
		if string(list[i].Value) == broken {
			list[i].Value = []byte{}
		}
	}
	return list, err
}

// An entry that the backend can see to be damaged is named, hides no other, and
// is mended by what writes it.
func TestDamagedEnvelope(t *testing.T) {
	_, source, kek := fullStore(t)
	entries, err := source.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	var header keystore.Entry
	entries = slices.DeleteFunc(entries, func(e keystore.Entry) bool { // which are in no dump
		if e.Name == "store" {
			header = e
		}
		return e.Name == "store" || strings.HasPrefix(e.Name, "replica/")
	})
	for _, e := range entries {
		t.Run(e.Name, func(t *testing.T) {
			b := keystore.NewMemory()
			for _, other := range append(slices.Clone(entries), header) {
				if _, err := b.CompareAndSwap(t.Context(), other.Name, 0, other.Value); err != nil {
					t.Fatal(err)
				}
			}
			replace(t, b, e.Name, []byte(broken))
			s, err := keystore.Open(t.Context(), envelopes{b}, kek, keystore.Options{Preload: true, UsageFlush: time.Hour})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			s.SetGeneratePair(pairs.next)
			d := mustDump(t, s)
			if len(d.Damaged) != 1 || d.Damaged[0] != e.Name || len(d.Entries) != len(entries) {
				t.Errorf("damaged are %q of %d", d.Damaged, len(d.Entries))
			}
			for _, k := range d.Keys() {
				hidden := strings.HasSuffix(e.Name, k.GUID.String())
				if k.Kind == 0 || hidden || k.State == keystore.KeyLocked {
					continue
				}
				if err := usable(t, s, k); err != nil {
					t.Errorf("%v %v: %v", k.Kind, k.GUID, err)
				}
			}
			mend(t, s, e.Name)
		})
	}
}

func usable(t *testing.T, s *keystore.Store, k keystore.DumpKey) (err error) {
	if k.Kind == keystore.ServerWrap {
		_, err = s.ServerWrapKey(t.Context(), k.GUID)
	} else {
		_, err = s.ClientWrapKey(t.Context(), k.GUID)
	}
	return err
}

// mend does what is left to do about a damaged entry.
func mend(t *testing.T, s *keystore.Store, name string) {
	t.Helper()
	ctx := t.Context()
	kind, rest, _ := strings.Cut(name, "/")
	switch {
	case name == keystore.CurrentClientSecret, name == keystore.CurrentServerSecret:
		kind := keystore.ClientWrap
		if name == keystore.CurrentServerSecret {
			kind = keystore.ServerWrap
		}
		r, err := s.BeginRotation(ctx, kind)
		if err == nil {
			r, err = s.PreferRotation(ctx, kind)
		}
		if got, currentErr := s.CurrentKey(ctx, kind); err != nil || currentErr != nil || got != r.Next {
			t.Errorf("rotated to %v, %v; current is %v, %v", r.Next, err, got, currentErr)
		}
	case kind == "life":
		if err := s.SetKeyState(ctx, dtyp.MustParseGUID(rest), keystore.KeyRetired); err != nil && !errors.Is(err, keystore.ErrKeyCurrent) {
			t.Error(err)
		}
	case kind == "account":
		if err := s.RemoveAccount(ctx, rest); err != nil {
			t.Error(err)
		}
		if _, err := s.Accounts(ctx); err != nil {
			t.Errorf("the other accounts: %v", err)
		}
	}
}
