package hsm

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"slices"
	"time"
)

const (
	// clientWrapBits is the length of a key of the ClientWrap subprotocol
	// ([MS-BKRP] 2.2.5), and kekBits that of one that seals a store.
	clientWrapBits = 2048
	kekBits        = 3072
	// generateTime is how long a token may take to make a key.
	generateTime = time.Minute
)

// object is a private key that was found in the token, and its public half.
type object struct {
	handle uint
	public *rsa.PublicKey
}

// find finds the one private key of a name.
func (t *Token) find(session uint, n name) (object, error) {
	t.mu.Lock()
	o, ok := t.objects[n]
	t.mu.Unlock()
	if ok {
		return o, nil
	}
	lib := t.module.lib
	found, err := lib.privateKeys(session, n.label, n.id)
	if err != nil {
		return object{}, fmt.Errorf("looking for the key: %w", err)
	}
	if len(found) == 0 {
		return object{}, fmt.Errorf("%w: %s", ErrNoKey, n)
	}
	if len(found) > 1 {
		return object{}, fmt.Errorf("%w: more than one is %s", ErrKey, n)
	}
	public, err := lib.publicKey(session, found[0])
	if err != nil {
		return object{}, fmt.Errorf("reading the public half of %s: %w", n, err)
	}
	o = object{found[0], public}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.objects[n] = o
	return o, nil
}

// String is the name as in a URI.
func (n name) String() string { return URI{Object: n.label, ID: n.id}.Name() }

// Generate implements keystore.Tokens: it makes an RSA key of 2048 bits that
// cannot be extracted.
func (t *Token) Generate(ctx context.Context, id []byte, label string) (*rsa.PublicKey, error) {
	o, err := t.generate(ctx, name{label, string(id)}, clientWrapBits)
	return o.public, err
}

func (t *Token) generate(ctx context.Context, n name, bits int) (object, error) {
	return do(ctx, t, max(t.timeout, generateTime), func(session uint) (object, error) {
		lib := t.module.lib
		// A try before this one may have made it.
		found, err := lib.privateKeys(session, "", n.id)
		if err != nil {
			return object{}, fmt.Errorf("looking for the key: %w", err)
		}
		if len(found) == 0 {
			made, err := lib.generate(session, n.label, n.id, bits)
			if err != nil {
				return object{}, fmt.Errorf("making a key: %w", err)
			}
			found = append(found, made)
		}
		o := object{handle: found[0]}
		if o.public, err = lib.publicKey(session, o.handle); err != nil {
			return object{}, fmt.Errorf("reading the public half of %s: %w", n, err)
		}
		leaks, err := lib.extractable(session, o.handle)
		if err != nil {
			return object{}, fmt.Errorf("looking at %s: %w", n, err)
		}
		if leaks || o.public.N.BitLen() != bits {
			return object{}, fmt.Errorf("%w: the token has made %s as a key of %d bits that can be extracted: %t", ErrKey, n, o.public.N.BitLen(), leaks)
		}
		return o, nil
	})
}

// DecryptRaw implements keystore.Tokens: it is the RSA operation without
// padding (CKM_RSA_X_509).
func (t *Token) DecryptRaw(ctx context.Context, id []byte, public *rsa.PublicKey, ciphertext []byte) ([]byte, error) {
	n, c := name{id: string(id)}, slices.Clone(ciphertext)
	return do(ctx, t, t.timeout, func(session uint) ([]byte, error) {
		o, err := t.find(session, n)
		if err != nil {
			return nil, err
		}
		if !o.public.Equal(public) {
			return nil, fmt.Errorf("%w: %s is another one than the certificate is of; is this the right token?", ErrKey, n)
		}
		return t.module.lib.decryptRaw(session, o.handle, c)
	})
}

// Key is one RSA key in a token. It implements keystore.TokenDecrypter.
type Key struct {
	token  *Token
	name   name
	public *rsa.PublicKey
}

// Key finds the key that the URI names. The error wraps ErrNoKey if the token
// is there and has no such key.
func (t *Token) Key(ctx context.Context) (*Key, error) {
	n, err := t.keyName()
	if err != nil {
		return nil, err
	}
	o, err := do(ctx, t, t.timeout, func(session uint) (object, error) { return t.find(session, n) })
	if err != nil {
		return nil, err
	}
	return &Key{t, n, o.public}, nil
}

// CreateKey makes the key that the URI names: RSA of 3072 bits, which cannot be
// extracted. The error wraps ErrKey if there is one of that name.
func (t *Token) CreateKey(ctx context.Context) (*Key, error) {
	n, err := t.keyName()
	if err != nil {
		return nil, err
	}
	found, err := do(ctx, t, t.timeout, func(session uint) ([]uint, error) { return t.module.lib.privateKeys(session, n.label, n.id) })
	if err != nil {
		return nil, err
	}
	if len(found) > 0 {
		return nil, fmt.Errorf("%w: the token has a key %s already", ErrKey, n)
	}
	made := n
	if made.id == "" {
		made.id = rand.Text()
	}
	o, err := t.generate(ctx, made, kekBits)
	if err != nil {
		return nil, err
	}
	return &Key{t, n, o.public}, nil
}

func (t *Token) keyName() (name, error) {
	n := name{t.uri.Object, t.uri.ID}
	if n == (name{}) {
		return n, fmt.Errorf("%w: it lacks the key: object or id", ErrURI)
	}
	return n, nil
}

// PublicKey is the public half.
func (k *Key) PublicKey() *rsa.PublicKey { return k.public }

// DecryptOAEP opens an RSAES-OAEP ciphertext with an empty label.
func (k *Key) DecryptOAEP(ctx context.Context, hash crypto.Hash, ciphertext []byte) ([]byte, error) {
	c := slices.Clone(ciphertext)
	return do(ctx, k.token, k.token.timeout, func(session uint) ([]byte, error) {
		o, err := k.token.find(session, k.name)
		if err != nil {
			return nil, err
		}
		if !o.public.Equal(k.public) {
			return nil, fmt.Errorf("%w: %s has become another one", ErrKey, k.name)
		}
		return k.token.module.lib.decryptOAEP(session, o.handle, hash, c)
	})
}
