package main

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/keystore"
)

// adminKey is a key that is imported, as the LSA secret of its domain has it.
type adminKey struct {
	GUID    dtyp.GUID `json:"guid"`
	Kind    string    `json:"kind"`
	Current bool      `json:"current,omitempty"`
	Secret  []byte    `json:"secret"`
}

// String describes the key, without the secret.
func (k *adminKey) String() string {
	s := k.Kind + " key " + k.GUID.String()
	if k.Current {
		s += ", now current"
	}
	return s
}

// The kinds of keys.
const (
	kindClientWrap = "ClientWrap"
	kindServerWrap = "ServerWrap"
)

// kindOf tells by its format which kind of key a secret is.
func kindOf(guid dtyp.GUID, secret []byte) (string, error) {
	pair, pairErr := bkrp.ParseKeyPair(secret)
	if pairErr == nil {
		defer pair.Clear()
		if pair.GUID() != guid {
			return "", fmt.Errorf("key %v: its certificate names key %v", guid, pair.GUID())
		}
		return kindClientWrap, nil
	}
	key, keyErr := bkrp.ParseServerKey(secret)
	if keyErr == nil {
		key.Clear()
		return kindServerWrap, nil
	}
	return "", fmt.Errorf("key %v is in neither of the protocol's formats: %w", guid, errors.Join(pairErr, keyErr))
}

// administerImport puts a key into the store, and reads it again before it says
// that it did.
func administerImport(ctx context.Context, store *keystore.Store, k *adminKey) error {
	if k == nil {
		return errors.New("no key in the request")
	}
	defer clear(k.Secret)
	kind, err := kindOf(k.GUID, k.Secret)
	if err != nil {
		return err
	}
	var want []byte
	if kind == kindClientWrap {
		want, err = importKeyPair(ctx, store, k)
	} else {
		want, err = importServerKey(ctx, store, k)
	}
	defer clear(want)
	if err != nil {
		return err
	}
	got, err := store.Secret(ctx, keystore.SecretPrefix+k.GUID.String())
	if err != nil {
		return fmt.Errorf("reading the key again: %w", err)
	}
	defer clear(got)
	if subtle.ConstantTimeCompare(got, want) != 1 {
		return errors.New("the store does not give back the key that was put into it")
	}
	return nil
}

func importKeyPair(ctx context.Context, store *keystore.Store, k *adminKey) (want []byte, err error) {
	pair, err := bkrp.ParseKeyPair(k.Secret)
	if err != nil {
		return nil, err
	}
	defer pair.Clear()
	if _, err = store.ImportKeyPair(ctx, pair, k.Current); err != nil {
		return nil, err
	}
	return pair.AppendBinary(nil)
}

func importServerKey(ctx context.Context, store *keystore.Store, k *adminKey) (want []byte, err error) {
	key, err := bkrp.ParseServerKey(k.Secret)
	if err != nil {
		return nil, err
	}
	defer key.Clear()
	if _, err = store.ImportServerKey(ctx, k.GUID, key, k.Current); err != nil {
		return nil, err
	}
	return key.AppendBinary(nil)
}
