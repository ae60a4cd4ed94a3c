package keystore_test

import (
	"context"
	"crypto/rsa"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/keystore"
)

// A server whose token does not have the new key does not serve it, although it can
// read what the store has of it: the rotation waits for it.
func TestRotationWaitsForTokens(t *testing.T) {
	_, b, kek := newStore(t)
	ctx := t.Context()
	with := func(name string, token keystore.Tokens) *keystore.Store {
		return openWith(t, b, kek, keystore.Options{
			Replica: name, Heartbeat: 20 * time.Millisecond, Tokens: token, KeysInToken: token != nil, Preload: true,
		})
	}
	made, other := newSoftToken(), newSoftToken()
	one := with("one", made)
	with("two", other)
	with("three", nil)
	with("hangs", hangingToken{})
	r, err := one.BeginRotation(ctx, keystore.ClientWrap)
	if err != nil {
		t.Fatal(err)
	}
	lacking := func() (names []string) {
		list, err := one.Lacking(ctx, r.Next)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range list {
			names = append(names, l.Name)
		}
		return names
	}
	eventually(t, func() bool { return slices.Equal(lacking(), []string{"hangs", "three", "two"}) })
	if _, err := one.PreferRotation(ctx, keystore.ClientWrap); !errors.Is(err, keystore.ErrRotation) {
		t.Errorf("preferring it: %v, want ErrRotation", err)
	}
	for id, key := range made.keys {
		other.mu.Lock()
		other.keys[id] = key
		other.mu.Unlock()
	}
	eventually(t, func() bool { return slices.Equal(lacking(), []string{"hangs", "three"}) })
}

// hangingToken does not answer.
type hangingToken struct{}

func (hangingToken) Name() string { return "hangs" }

func (hangingToken) Generate(ctx context.Context, _ []byte, _ string) (*rsa.PublicKey, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func (hangingToken) DecryptRaw(ctx context.Context, _ []byte, _ *rsa.PublicKey, _ []byte) ([]byte, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}
