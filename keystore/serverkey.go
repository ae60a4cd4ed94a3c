package keystore

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/dtyp"
)

// ServerWrapKey is a key of the ServerWrap subprotocol ([MS-BKRP] 3.1.1.1,
// 2.2.7), as an operation. It is safe for concurrent use.
type ServerWrapKey struct {
	guid  dtyp.GUID
	state KeyState
	use   *keyUse
	key   *bkrp.ServerKey
}

// GUID names the key in wrapped secrets.
func (k *ServerWrapKey) GUID() dtyp.GUID { return k.guid }

// State is KeyActive or KeyRetired: a locked key is not given out.
func (k *ServerWrapKey) State() KeyState { return k.state }

// Used counts a use of the key that has succeeded, on behalf of sid. It costs
// next to nothing, and over the secrets of a domain it does nothing.
func (k *ServerWrapKey) Used(sid dtyp.SID, use Use) { k.use.used(sid, use) }

// RetiredUse notes that the key was used although it is retired, and says
// whether an alarm is due: there was none for as long as every. uses is how
// often it happened since.
func (k *ServerWrapKey) RetiredUse(now time.Time, every time.Duration) (uses uint64, due bool) {
	return k.use.retiredUse(now, every)
}

// Derive is HMAC-SHA1 of salt under the key in the given form: the
// symmetric key or the MAC key of a wrapped secret.
func (k *ServerWrapKey) Derive(form bkrp.SrvKeyForm, salt []byte) [20]byte {
	defer runtime.KeepAlive(k)
	return k.key.Derive(form, salt)
}

// CurrentServerWrapKey returns the current ServerWrap key. Where the store
// definitely has none, or what it has is malformed, one is created: once,
// however many callers ask, and durable before it is returned ([MS-BKRP]
// 3.1.4.1.1). A store that cannot tell is an error and creates nothing.
func (s *Store) CurrentServerWrapKey(ctx context.Context) (*ServerWrapKey, error) {
	return s.server.currentKey(ctx)
}

// ServerWrapKey returns the ServerWrap key of a GUID. The error is ErrNoKey if
// it is absent, ErrKeyLocked if it is locked, ErrMalformedKey if the secret is
// no server key, and another one if the store cannot tell.
func (s *Store) ServerWrapKey(ctx context.Context, guid dtyp.GUID) (*ServerWrapKey, error) {
	return s.server.key(ctx, guid)
}

// RotateServerWrapKey makes a new ServerWrap key and makes it the current one.
// The old one stays for the secrets wrapped with it.
func (s *Store) RotateServerWrapKey(ctx context.Context) (*ServerWrapKey, error) {
	return s.server.rotate(ctx)
}

// SetCurrentServerWrapKey makes a key that is in the store the current one.
func (s *Store) SetCurrentServerWrapKey(ctx context.Context, guid dtyp.GUID) error {
	return s.server.setCurrent(ctx, guid, always)
}

// ImportServerKey adds a server key under a GUID, and makes it the current one
// if asked to. The same key again is no error; another key of that GUID is
// ErrKeyExists.
func (s *Store) ImportServerKey(ctx context.Context, guid dtyp.GUID, key *bkrp.ServerKey, makeCurrent bool) (*ServerWrapKey, error) {
	secret, err := key.AppendBinary(nil)
	if err != nil {
		return nil, fmt.Errorf("importing server key %v: %w", guid, err)
	}
	defer clear(secret)
	return s.server.insert(ctx, guid, secret, makeCurrent)
}

// dressServerWrapKey gives a key its state and what counts its use; one that is
// locked has nothing else.
func (s *Store) dressServerWrapKey(guid dtyp.GUID, k *ServerWrapKey, state KeyState) *ServerWrapKey {
	if k == nil {
		k = &ServerWrapKey{guid: guid}
	}
	k.state, k.use = state, s.usage.of(guid)
	return k
}

// parseServerWrapKey reads the secret of a server key.
func parseServerWrapKey(guid dtyp.GUID, secret []byte) (*ServerWrapKey, error) {
	key, err := bkrp.ParseServerKey(secret)
	if err != nil {
		return nil, fmt.Errorf("%w: %v: %w", ErrMalformedKey, guid, err)
	}
	return newServerWrapKeyOf(guid, key), nil
}

// newServerWrapKeyOf makes a key of its octets, which are the key's from then
// on.
func newServerWrapKeyOf(guid dtyp.GUID, key *bkrp.ServerKey) *ServerWrapKey {
	k := &ServerWrapKey{guid: guid, key: key}
	wipeAfter(k, key)
	return k
}

// newServerWrapKey draws a server key and its GUID.
func newServerWrapKey(context.Context) (*ServerWrapKey, []byte, error) {
	key := bkrp.GenerateServerKey()
	secret, err := key.AppendBinary(nil)
	if err != nil {
		return nil, nil, err
	}
	return newServerWrapKeyOf(randomGUID(), key), secret, nil
}
