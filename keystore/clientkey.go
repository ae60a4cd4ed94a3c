package keystore

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/dtyp"
)

// ClientWrapKey is an RSA key pair of the ClientWrap subprotocol ([MS-BKRP]
// 3.1.1.2, 2.2.5), as operations. It is safe for concurrent use.
type ClientWrapKey struct {
	guid        dtyp.GUID
	state       KeyState
	use         *keyUse
	certificate []byte
	raw         bkrp.RawRSA
	rejection   *bkrp.RejectionKey
	// try has the token do the operation once and proves it; nil for a key that is
	// in the store itself.
	try func(ctx context.Context) error
}

// GUID names the key in wrapped secrets.
func (k *ClientWrapKey) GUID() dtyp.GUID { return k.guid }

// State is KeyActive or KeyRetired: a locked key is not given out.
func (k *ClientWrapKey) State() KeyState { return k.state }

// Used counts a use of the key that has succeeded, on behalf of sid. It costs
// next to nothing, and over the secrets of a domain it does nothing.
func (k *ClientWrapKey) Used(sid dtyp.SID, use Use) { k.use.used(sid, use) }

// RetiredUse notes that the key was used although it is retired, and says
// whether an alarm is due: there was none for as long as every. uses is how
// often it happened since.
func (k *ClientWrapKey) RetiredUse(now time.Time, every time.Duration) (uses uint64, due bool) {
	return k.use.retiredUse(now, every)
}

// Certificate is the DER certificate of the public key ([MS-BKRP] 2.2.1). It
// is not to be altered.
func (k *ClientWrapKey) Certificate() []byte { return k.certificate }

// DecryptRaw is the RSA operation of the private key without unpadding, both
// ways big-endian and of the modulus's length. It is meant for the raw
// argument of bkrp.ClientWrapped.Open, which unpads in constant time.
func (k *ClientWrapKey) DecryptRaw(ciphertext []byte) ([]byte, error) {
	defer runtime.KeepAlive(k)
	return k.raw(ciphertext)
}

// RejectionKey is the secret behind the answers to wrong padding, the
// same in every replica that has the key. It is overwritten with the key: who
// uses it keeps the key alive.
func (k *ClientWrapKey) RejectionKey() *bkrp.RejectionKey { return k.rejection }

// CurrentClientWrapKey returns the current ClientWrap key. Where the store
// definitely has none, or what it has is malformed, one is created: once,
// however many callers ask, and durable before it is returned ([MS-BKRP]
// 3.1.4.1.3). A store that cannot tell is an error and creates nothing.
func (s *Store) CurrentClientWrapKey(ctx context.Context) (*ClientWrapKey, error) {
	return s.client.currentKey(ctx)
}

// ClientWrapKey returns the ClientWrap key of a GUID. The error is ErrNoKey if
// it is absent, ErrKeyLocked if it is locked, ErrMalformedKey if the secret is
// no key pair, and another one if the store cannot tell.
func (s *Store) ClientWrapKey(ctx context.Context, guid dtyp.GUID) (*ClientWrapKey, error) {
	return s.client.key(ctx, guid)
}

// RotateClientWrapKey makes a new ClientWrap key and makes it the current one.
// The old one stays for the secrets wrapped with it.
func (s *Store) RotateClientWrapKey(ctx context.Context) (*ClientWrapKey, error) {
	return s.client.rotate(ctx)
}

// SetCurrentClientWrapKey makes a key that is in the store the current one.
func (s *Store) SetCurrentClientWrapKey(ctx context.Context, guid dtyp.GUID) error {
	return s.client.setCurrent(ctx, guid, always)
}

// ImportKeyPair adds a key pair under the GUID in its certificate, and makes
// it the current one if asked to. The same pair again is no error, nor is the same
// RSA key with another certificate: the store keeps the one it has. Another key
// of that GUID is ErrKeyExists.
func (s *Store) ImportKeyPair(ctx context.Context, pair *bkrp.KeyPair, makeCurrent bool) (*ClientWrapKey, error) {
	secret, err := pair.AppendBinary(nil)
	if err != nil {
		return nil, fmt.Errorf("importing key pair %v: %w", pair.GUID(), err)
	}
	defer clear(secret)
	k, err := s.client.insert(ctx, pair.GUID(), secret, makeCurrent)
	if errors.Is(err, ErrKeyExists) && s.holdsRSAKey(ctx, pair) {
		return s.keepClientWrapKey(ctx, pair.GUID(), makeCurrent)
	}
	return k, err
}

// holdsRSAKey says whether the key under the GUID of a pair has the pair's RSA
// key. bkrp.ParseKeyPair proves that a private key fits its public one, so that
// equal public keys have equal private ones.
func (s *Store) holdsRSAKey(ctx context.Context, pair *bkrp.KeyPair) bool {
	secret, err := s.Secret(ctx, keySecret(pair.GUID()))
	if err != nil {
		return false
	}
	defer clear(secret)
	old, err := bkrp.ParseKeyPair(secret)
	if err != nil {
		return false
	}
	defer old.Clear()
	return old.PublicKey().Equal(pair.PublicKey())
}

// keepClientWrapKey is ImportKeyPair of a key that is there.
func (s *Store) keepClientWrapKey(ctx context.Context, guid dtyp.GUID, makeCurrent bool) (*ClientWrapKey, error) {
	if makeCurrent {
		if err := s.client.setCurrent(ctx, guid, always); err != nil {
			return nil, err
		}
	}
	return s.client.key(ctx, guid)
}

// dressClientWrapKey gives a key its state and what counts its use; one that is
// locked has nothing else.
func (s *Store) dressClientWrapKey(guid dtyp.GUID, k *ClientWrapKey, state KeyState) *ClientWrapKey {
	if k == nil {
		k = &ClientWrapKey{guid: guid}
	}
	k.state, k.use = state, s.usage.of(guid)
	return k
}

// parseClientWrapKey reads the secret of a key pair. The GUID that clients
// find in the certificate must be the one the secret is found by, or what
// they wrap with it could not be unwrapped.
func (s *Store) parseClientWrapKey(guid dtyp.GUID, secret []byte) (*ClientWrapKey, error) {
	if isTokenRecord(secret) && !s.vault.bare {
		return s.parseTokenKey(guid, secret)
	}
	pair, err := bkrp.ParseKeyPair(secret)
	if err != nil {
		return nil, fmt.Errorf("%w: %v: %w", ErrMalformedKey, guid, err)
	}
	if pair.GUID() != guid {
		return nil, fmt.Errorf("%w: %v: certificate names key %v", ErrMalformedKey, guid, pair.GUID())
	}
	return newClientWrapKeyOf(pair), nil
}

// newClientWrapKeyOf makes a key of a pair, which is the key's from then on.
func newClientWrapKeyOf(pair *bkrp.KeyPair) *ClientWrapKey {
	k := &ClientWrapKey{
		guid:        pair.GUID(),
		certificate: pair.Certificate().Raw,
		raw:         pair.DecryptRaw,
		rejection:   pair.RejectionKey(),
	}
	wipeAfter(k, pair)
	return k
}

// newClientWrapKey makes a 2048-bit key pair with its certificate.
func (s *Store) newClientWrapKey(ctx context.Context) (*ClientWrapKey, []byte, error) {
	if s.keysInToken {
		return s.newTokenKey(ctx)
	}
	pair, err := s.generatePair(s.domain.DNSName, s.now())
	if err != nil {
		return nil, nil, err
	}
	secret, err := pair.AppendBinary(nil)
	if err != nil {
		return nil, nil, err
	}
	return newClientWrapKeyOf(pair), secret, nil
}
