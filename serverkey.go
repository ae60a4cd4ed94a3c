package bkrp

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
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
	macs [2]sync.Pool
}

// ParseServerKey reads a stored key that fills b, and copies it. Errors wrap
// ErrKeyFormat.
func ParseServerKey(b []byte) (*ServerKey, error) {
	if len(b) != ServerKeySize || binary.LittleEndian.Uint32(b) != serverKeyVersion {
		return nil, fmt.Errorf("%w: %d octets are no ServerWrap key", ErrKeyFormat, len(b))
	}
	k := new(ServerKey)
	copy(k.key[:], b[4:])
	return k, nil
}

// GenerateServerKey draws a new key (3.1.4.1.1 step 2).
func GenerateServerKey() *ServerKey {
	k := new(ServerKey)
	rand.Read(k.key[:])
	return k
}

// AppendBinary appends the stored form to b. The error is always nil.
func (k *ServerKey) AppendBinary(b []byte) ([]byte, error) {
	b = binary.LittleEndian.AppendUint32(b, serverKeyVersion)
	return append(b, k.key[:]...), nil
}

// keyedMAC is HMAC-SHA1 under a key that it has taken in.
type keyedMAC struct {
	h   hash.Hash
	sum [sha1.Size]byte
}

// Derive is HMAC-SHA1 of salt under SrvKey in that form: SymKey of R2, MacKey
// of R3 (3.1.4.1.1 steps 5 and 6).
func (k *ServerKey) Derive(form SrvKeyForm, salt []byte) (sum [20]byte) {
	pool, srvKey := &k.macs[0], k.key[:]
	if form == SrvKeyLeading64 {
		pool, srvKey = &k.macs[1], k.key[:64]
	}
	m, ok := pool.Get().(*keyedMAC)
	if !ok {
		m = &keyedMAC{h: hmac.New(sha1.New, srvKey)}
	}
	m.h.Write(salt)
	m.h.Sum(m.sum[:0])
	sum = m.sum
	m.sum = [sha1.Size]byte{}
	m.h.Reset()
	pool.Put(m)
	return sum
}

// Clear overwrites the key.
func (k *ServerKey) Clear() {
	clear(k.key[:])
	k.macs = [2]sync.Pool{}
}
