package bkrp

import (
	"crypto/rand"
	"crypto/sha1"
	"encoding"
	"encoding/binary"
	"fmt"
	"hash"
	"sync"
)

const (
	serverKeyVersion = 1
	serverKeyLength  = 256

	// ServerKeySize is the length of a stored ServerWrap key, in octets.
	ServerKeySize = 4 + serverKeyLength
)

// SrvKeyForm is how much of a ServerWrap key enters HMAC as SrvKey. The
// document says the leading 64 octets in one revision; Windows, Samba and later
// revisions take them all.
type SrvKeyForm uint8

const (
	// SrvKeyFull takes all 256 octets.
	SrvKeyFull SrvKeyForm = iota
	// SrvKeyLeading64 takes the first 64.
	SrvKeyLeading64
)

// ParseSrvKeyForm reads what String writes.
func ParseSrvKeyForm(s string) (SrvKeyForm, error) {
	switch s {
	case "full":
		return SrvKeyFull, nil
	case "leading64":
		return SrvKeyLeading64, nil
	}
	return 0, fmt.Errorf(`bkrp: form of SrvKey %q: it is "full" or "leading64"`, s)
}

// String is "full" or "leading64".
func (f SrvKeyForm) String() string {
	if f == SrvKeyLeading64 {
		return "leading64"
	}
	return "full"
}

// Other is the form that is tried when the MAC is not right under f.
func (f SrvKeyForm) Other() SrvKeyForm {
	if f == SrvKeyLeading64 {
		return SrvKeyFull
	}
	return SrvKeyLeading64
}

// 2.2.7 ServerWrap key

// ServerKey is the domain's symmetric key of the ServerWrap subprotocol
// ([MS-BKRP] 2.2.7). The name it is stored under has its GUID. It is safe for
// concurrent use until Clear.
type ServerKey struct {
	opaque
	key [serverKeyLength]byte
	// macs are HMAC-SHA1 under each form of SrvKey, keyed once: the key is
	// longer than a block, and most of the work is taking it in.
	macs   [2]keyedMAC
	hashes sync.Pool // of *macHash
}

// ParseServerKey reads a stored key that fills b, and copies it. Errors wrap
// ErrKeyFormat.
func ParseServerKey(b []byte) (*ServerKey, error) {
	if len(b) != ServerKeySize || binary.LittleEndian.Uint32(b) != serverKeyVersion {
		return nil, fmt.Errorf("%w: %d octets are no ServerWrap key", ErrKeyFormat, len(b))
	}
	k := new(ServerKey)
	copy(k.key[:], b[4:])
	k.takeIn()
	return k, nil
}

// GenerateServerKey draws a new key (3.1.4.1.1 step 2).
func GenerateServerKey() *ServerKey {
	k := new(ServerKey)
	rand.Read(k.key[:])
	k.takeIn()
	return k
}

// AppendBinary appends the stored form to b. The error is always nil.
func (k *ServerKey) AppendBinary(b []byte) ([]byte, error) {
	b = binary.LittleEndian.AppendUint32(b, serverKeyVersion)
	return append(b, k.key[:]...), nil
}

// sha1StateSize is the length of a state of SHA-1 as package crypto/sha1 writes
// it, in octets.
const sha1StateSize = 96

// keyedMAC is HMAC-SHA1 (RFC 2104 2) under a key that it has taken in: the states
// of SHA-1 behind the inner and the outer pad, which are worth as much as the key.
// crypto/hmac does the same, and keeps them where they cannot be overwritten.
type keyedMAC struct {
	inner, outer [sha1StateSize]byte
}

// macHash is what a keyedMAC works with. Nothing of the key stays in it.
type macHash struct {
	h   resumableHash
	sum [sha1.Size]byte
}

// resumableHash is what sha1.New returns, by its documentation.
type resumableHash interface {
	hash.Hash
	encoding.BinaryAppender
	encoding.BinaryUnmarshaler
}

// takeIn makes both MACs of the key.
func (k *ServerKey) takeIn() {
	h := sha1.New().(resumableHash)
	short := offStack(sha1.Size)
	defer clear(short)
	h.Write(k.key[:])
	h.Sum(short[:0]) // a key longer than a block is hashed before
	k.macs[SrvKeyFull].takeIn(h, short)
	k.macs[SrvKeyLeading64].takeIn(h, k.key[:sha1.BlockSize])
}

// takeIn keys the MAC with at most a block, and leaves nothing of it in h.
func (m *keyedMAC) takeIn(h resumableHash, key []byte) {
	pad := offStack(sha1.BlockSize)
	defer clear(pad)
	copy(pad, key)
	for i := range pad {
		pad[i] ^= 0x36
	}
	h.Reset()
	h.Write(pad)
	_, _ = h.AppendBinary(m.inner[:0]) // the error is always nil
	for i := range pad {
		pad[i] ^= 0x36 ^ 0x5c
	}
	h.Reset()
	h.Write(pad)
	_, _ = h.AppendBinary(m.outer[:0])
	h.Reset()
}

// Derive is HMAC-SHA1 of salt under SrvKey in that form: SymKey of R2, MacKey
// of R3 (3.1.4.1.1 steps 5 and 6).
func (k *ServerKey) Derive(form SrvKeyForm, salt []byte) (sum [20]byte) {
	mac := &k.macs[SrvKeyFull]
	if form == SrvKeyLeading64 {
		mac = &k.macs[SrvKeyLeading64]
	}
	m, ok := k.hashes.Get().(*macHash)
	if !ok {
		m = &macHash{h: sha1.New().(resumableHash)}
	}
	_ = m.h.UnmarshalBinary(mac.inner[:]) // what AppendBinary wrote
	m.h.Write(salt)
	m.h.Sum(m.sum[:0])
	_ = m.h.UnmarshalBinary(mac.outer[:])
	m.h.Write(m.sum[:])
	m.h.Sum(m.sum[:0])
	sum = m.sum
	m.sum = [sha1.Size]byte{}
	m.h.Reset()
	k.hashes.Put(m)
	return sum
}

// Clear overwrites the key.
func (k *ServerKey) Clear() {
	clear(k.key[:])
	k.macs = [2]keyedMAC{}
}
