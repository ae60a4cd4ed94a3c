package keystore

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
)

// ErrTokenKey says that a key in a token cannot serve as key-encryption key.
var ErrTokenKey = errors.New("keystore: key in the token cannot seal a store")

// TokenDecrypter is an RSA key whose private half stays where it is: in a
// hardware module, or in a service that manages keys. It is safe for concurrent
// use.
type TokenDecrypter interface {
	// PublicKey is the public half, of 2048 to 8192 bits.
	PublicKey() *rsa.PublicKey
	// DecryptOAEP opens an RSAES-OAEP ciphertext (RFC 8017 7.1) whose label is
	// empty and both of whose hash functions are the one given. It comes to an
	// end in bounded time, also where the token does not answer.
	DecryptOAEP(ctx context.Context, hash crypto.Hash, ciphertext []byte) ([]byte, error)
}

// oaepHashes are the hash functions of OAEP, by the number that stands for them
// in a seal; the first one that the token takes is used. OAEP asks nothing of
// its hash function that SHA-1 has lost: nobody gains from a collision. There
// are tokens which know no other.
var oaepHashes = [...]struct {
	number byte
	hash   crypto.Hash
	new    func() hash.Hash
}{
	{2, crypto.SHA256, sha256.New},
	{1, crypto.SHA1, sha1.New},
}

const (
	minTokenModulus = 2048 / 8
	maxTokenModulus = 8192 / 8
	tokenKeyIDSize  = 16
	// tokenSealHeader is what stands before the RSA ciphertext: kind, version,
	// number of the hash function, id of the key, length of the ciphertext (2
	// octets, little-endian).
	tokenSealHeader = 2 + 1 + tokenKeyIDSize + 2
)

// TokenSealer is a Sealer whose KEK is an RSA key in a token. What it seals is
// sealed under a fresh key, and that by RSA: a token takes no more octets.
// The token is needed to open, not to seal.
type TokenSealer struct {
	key    TokenDecrypter
	public *rsa.PublicKey
	id     [tokenKeyIDSize]byte
	oaep   int // index of oaepHashes
}

// NewTokenSealer makes a Sealer of a key in a token, and tries the key. The error
// is ErrTokenKey where that cannot be a KEK, and another one where the token
// cannot tell.
func NewTokenSealer(ctx context.Context, key TokenDecrypter) (*TokenSealer, error) {
	s := &TokenSealer{key: key, public: key.PublicKey()}
	if n := s.public.Size(); n < minTokenModulus || n > maxTokenModulus {
		return nil, fmt.Errorf("%w: it has %d bits, and it takes 2048 to 8192", ErrTokenKey, s.public.N.BitLen())
	}
	der, err := x509.MarshalPKIXPublicKey(s.public)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTokenKey, err)
	}
	sum := sha256.Sum256(der)
	copy(s.id[:], sum[:])
	var refused []error
	for s.oaep = range oaepHashes {
		if err = s.try(ctx); err == nil {
			return s, nil
		}
		refused = append(refused, fmt.Errorf("with %v: %w", oaepHashes[s.oaep].hash, err))
		if ctx.Err() != nil {
			break
		}
	}
	return nil, fmt.Errorf("keystore: trying the key in the token by RSA-OAEP: %w", errors.Join(refused...))
}

// try has the token open something.
func (s *TokenSealer) try(ctx context.Context) error {
	probe := make([]byte, keySize)
	rand.Read(probe)
	c, err := rsa.EncryptOAEP(oaepHashes[s.oaep].new(), rand.Reader, s.public, probe, nil)
	if err != nil {
		return err
	}
	got, err := s.key.DecryptOAEP(ctx, oaepHashes[s.oaep].hash, c)
	if err == nil && !bytes.Equal(got, probe) {
		err = fmt.Errorf("%w: it does not give back what was put in", ErrTokenKey)
	}
	return err
}

// KeyID is "kms:" and a hash of the public key.
func (s *TokenSealer) KeyID() string { return "kms:" + hex.EncodeToString(s.id[:]) }

// Seal implements Sealer. The result is a header, the RSA ciphertext of a key,
// and nonce, ciphertext and tag under that.
func (s *TokenSealer) Seal(_ context.Context, plaintext, associatedData []byte) ([]byte, error) {
	key := make([]byte, keySize)
	defer clear(key)
	rand.Read(key)
	oaep := &oaepHashes[s.oaep]
	c, err := rsa.EncryptOAEP(oaep.new(), rand.Reader, s.public, key, nil)
	if err != nil {
		return nil, fmt.Errorf("keystore: sealing by RSA: %w", err)
	}
	header := append([]byte{sealedByToken, sealedVersion, oaep.number}, s.id[:]...)
	header = binary.LittleEndian.AppendUint16(header, uint16(len(c)))
	return sealUnder(key, append(header, c...), plaintext, associatedData)
}

// Open implements Sealer.
func (s *TokenSealer) Open(ctx context.Context, sealed, associatedData []byte) ([]byte, error) {
	if err := checkSealedBy(sealed, sealedByToken); err != nil {
		return nil, err
	}
	t, err := parseTokenSeal(sealed)
	if err != nil {
		return nil, err
	}
	if t.id != s.id {
		return nil, fmt.Errorf("%w: the store asks for kms:%x, this is %s", ErrWrongKEK, t.id, s.KeyID())
	}
	if len(t.ciphertext) != s.public.Size() {
		return nil, fmt.Errorf("%w: sealed data key has an RSA ciphertext of %d octets", ErrCorrupt, len(t.ciphertext))
	}
	key, err := s.key.DecryptOAEP(ctx, t.hash, t.ciphertext)
	if err != nil {
		// Tokens give all kinds of errors for a ciphertext they cannot open. One
		// that opens another one is in order.
		if away := s.try(ctx); away != nil {
			return nil, fmt.Errorf("keystore: opening by the token: %w", errors.Join(err, away))
		}
		return nil, fmt.Errorf("%w: the token does not open the sealed data key: %w", ErrCorrupt, err)
	}
	defer clear(key)
	if len(key) != keySize {
		return nil, fmt.Errorf("%w: sealed data key is under a key of %d octets", ErrCorrupt, len(key))
	}
	return openUnder(key, sealed, tokenSealHeader+len(t.ciphertext), associatedData)
}

// tokenSeal is what a TokenSealer writes before what it seals.
type tokenSeal struct {
	hash       crypto.Hash
	id         [tokenKeyIDSize]byte
	ciphertext []byte
}

// parseTokenSeal reads what stands behind kind and version. Errors are
// ErrCorrupt.
func parseTokenSeal(sealed []byte) (t tokenSeal, err error) {
	if len(sealed) < tokenSealHeader {
		return tokenSeal{}, fmt.Errorf("%w: sealed data key is cut short", ErrCorrupt)
	}
	for _, oaep := range oaepHashes {
		if sealed[2] == oaep.number {
			t.hash = oaep.hash
		}
	}
	if t.hash == 0 {
		return tokenSeal{}, fmt.Errorf("%w: sealed data key names hash function %d", ErrCorrupt, sealed[2])
	}
	copy(t.id[:], sealed[3:])
	n := int(binary.LittleEndian.Uint16(sealed[tokenSealHeader-2:]))
	if n > len(sealed)-tokenSealHeader {
		return tokenSeal{}, fmt.Errorf("%w: sealed data key is cut short", ErrCorrupt)
	}
	t.ciphertext = sealed[tokenSealHeader : tokenSealHeader+n]
	return t, nil
}
