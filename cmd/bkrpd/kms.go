package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/seed05845750/bkrp/keystore"
	"github.com/seed05845750/bkrp/keystore/hsm"
)

// kekKMS begins the URI of a key in a token, or of a token: "kms:pkcs11:...".
const kekKMS = "kms"

// Values of hsmConfig.ClientWrapKeys.
const (
	keysInStore = "store"
	keysInToken = "token"
)

// hsmConfig is [hsm]: the token that keeps private keys.
type hsmConfig struct {
	Token          string   `toml:"token" doc:"Token that has private keys of ClientWrap, kms:pkcs11:token=LABEL?module-path=/LIBRARY&pin-source=/FILE; needed as long as keys are in it."`
	ClientWrapKeys string   `toml:"clientwrap_keys" oneof:"store|token" doc:"Where the private halves of new ClientWrap keys are made. One in the token never leaves it: it cannot be exported, read as an LSA secret or replicated to a Windows domain controller, and no backup of the store has it. Losing the token then loses whatever was wrapped; see to its own backup."`
	Timeout        duration `toml:"timeout" doc:"How long a token may take for one operation, also where it has the key-encryption key."`
}

func defaultHSMConfig() hsmConfig {
	return hsmConfig{ClientWrapKeys: keysInStore, Timeout: duration(hsm.DefaultTimeout)}
}

func (c *hsmConfig) check(need func(ok bool, key, format string, args ...any)) {
	need(c.Timeout >= duration(time.Second), "hsm.timeout", "must be 1s or more")
	need(c.Token != "" || c.ClientWrapKeys == keysInStore, "hsm.token", `must name a token if hsm.clientwrap_keys is "token"`)
	if c.Token == "" {
		return
	}
	u, err := parseKMS(c.Token)
	need(err == nil, "hsm.token", "%w", err)
	need(u.Object == "" && u.ID == "", "hsm.token", "must name a token, and no key in it: leave out object and id")
}

// checkKEK says what is wrong with a key-encryption key by a token.
func checkKEK(uri kekURI) error {
	u, err := hsm.ParseURI(uri.Path)
	if err == nil && u.Object == "" && u.ID == "" {
		err = errors.New("must name the key in the token: object=LABEL")
	}
	return err
}

// parseKMS reads kms: and the URI of a token.
func parseKMS(text string) (hsm.URI, error) {
	uri, ok := strings.CutPrefix(text, kekKMS+":")
	if !ok {
		return hsm.URI{}, errors.New("must be kms:pkcs11:token=LABEL and so on")
	}
	return hsm.ParseURI(uri)
}

// tokenKEK is a key-encryption key in a token, which it closes.
type tokenKEK struct {
	*keystore.TokenSealer
	io.Closer
}

// openTokenKEK takes the key-encryption key from a token. With create it is made
// if the token is there and has none of that name.
func openTokenKEK(ctx context.Context, uri kekURI, timeout duration, create bool) (keystore.Sealer, error) {
	u, err := hsm.ParseURI(uri.Path)
	if err != nil {
		return nil, err
	}
	token, err := hsm.Open(ctx, u, hsm.Options{Timeout: time.Duration(timeout)})
	if err != nil {
		return nil, fmt.Errorf("the key-encryption key is in a token: %w", err)
	}
	key, err := token.Key(ctx)
	if create && errors.Is(err, hsm.ErrNoKey) {
		key, err = token.CreateKey(ctx)
	}
	var sealer *keystore.TokenSealer
	if err == nil {
		sealer, err = keystore.NewTokenSealer(ctx, key)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the key-encryption key in the token: %w", err), token.Close())
	}
	return tokenKEK{sealer, token}, nil
}

// closeKEK closes what a key-encryption key is in, if anything.
func closeKEK(sealer keystore.Sealer) error {
	if c, ok := sealer.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// storeKeys is what a sealed store needs besides its backend.
type storeKeys struct {
	sealer keystore.Sealer
	token  *hsm.Token // of ClientWrap keys; nil if there is none
	later  *laterKEK
}

// openStoreKeys opens the tokens that the configuration names, and the
// key-encryption key wherever it is.
func openStoreKeys(ctx context.Context, cfg *config, log *slog.Logger) (k storeKeys, err error) {
	k.later = &laterKEK{file: cfg.Source}
	if k.sealer, err = openKEK(ctx, cfg); err != nil || cfg.HSM.Token == "" {
		return k, err
	}
	u, err := parseKMS(cfg.HSM.Token)
	if err == nil {
		k.token, err = hsm.Open(ctx, u, hsm.Options{Timeout: time.Duration(cfg.HSM.Timeout), Log: log})
	}
	if err != nil {
		return storeKeys{}, errors.Join(fmt.Errorf("the token of hsm.token: %w", err), k.Close())
	}
	return k, nil
}

// options are o, the token, and the key-encryption key as it is configured
// later.
func (k *storeKeys) options(cfg *config, o keystore.Options) keystore.Options {
	if k.token != nil {
		o.Tokens, o.KeysInToken = k.token, cfg.HSM.ClientWrapKeys == keysInToken
	}
	if k.later.file != "" {
		o.Sealer = k.later.open
	}
	return o
}

// Close closes the tokens.
func (k *storeKeys) Close() error {
	err := errors.Join(closeKEK(k.sealer), k.later.Close())
	if k.token != nil {
		err = errors.Join(err, k.token.Close())
	}
	return err
}

// tokenBackend is a backend whose store uses tokens, which end with it.
type tokenBackend struct {
	keystore.Backend
	keys storeKeys
}

// Close closes the backend and the tokens.
func (b tokenBackend) Close() error { return errors.Join(b.Backend.Close(), b.keys.Close()) }
