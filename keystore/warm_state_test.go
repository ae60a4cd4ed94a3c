package keystore_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/keystore"
)

// late is a backend that lets something happen between two lists, after which it
// waits until its watch has told of a change of one entry.
type late struct {
	keystore.Backend
	happens func()
	name    string
	once    sync.Once
	told    chan struct{}
}

func (l *late) List(ctx context.Context, prefix string) ([]keystore.Entry, error) {
	if prefix == keystore.SecretPrefix {
		l.once.Do(func() {
			l.happens()
			<-l.told
		})
	}
	return l.Backend.List(ctx, prefix)
}

func (l *late) Watch(ctx context.Context, changed func(string)) error {
	return l.Backend.Watch(ctx, func(name string) {
		changed(name)
		if name == l.name {
			select {
			case l.told <- struct{}{}:
			default:
			}
		}
	})
}

// A key that is locked while all keys are read into memory does not come into
// memory as it was before.
func TestLockedWhileWarming(t *testing.T) {
	forKinds(t, func(t *testing.T, k kind) {
		s, b, kek := newStore(t)
		guid := mustCurrent(t, k, s)
		if _, err := k.rotate(s, t.Context()); err != nil {
			t.Fatal(err)
		}
		l := &late{Backend: b, told: make(chan struct{}, 1), name: "life/" + guid.String()}
		warmed := make(chan struct{})
		l.happens = func() {
			defer close(warmed)
			if err := s.SetKeyState(context.Background(), guid, keystore.KeyLocked); err != nil {
				t.Error(err)
			}
		}
		other := openPreloaded(t, l, kek)
		<-warmed
		eventually(t, func() bool { // all are in memory, as far as they can be
			names, err := s.SecretNames(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range names {
				if text, ok := strings.CutPrefix(name, keystore.SecretPrefix); ok && len(text) == 36 && text != guid.String() && !other.InMemory(dtyp.MustParseGUID(text)) {
					return false
				}
			}
			return true
		})
		if err := k.key(other, t.Context(), guid); !errors.Is(err, keystore.ErrKeyLocked) {
			t.Errorf("the locked key is given out: %v", err)
		}
	})
}
