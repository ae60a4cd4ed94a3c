package bkrp

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/rc4"
	"crypto/sha1"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/le"
)

// ServerWrappedVersion is the first word of a ServerWrap blob.
const ServerWrappedVersion = 1

const (
	r2Size = 68 // the salt of the RC4 key
	r3Size = 32 // the salt of the MAC key

	// serverWrappedHeader is the length of what stands before the ciphertext,
	// payloadHeader of what stands in the payload before the SID.
	serverWrappedHeader = 12 + dtyp.GUIDSize + r2Size
	payloadHeader       = r3Size + sha1.Size
	minSIDSize          = 8
)

// 2.2.4 ServerWrap secret

// ServerWrapped is a secret wrapped by the server under the domain's symmetric
// key ([MS-BKRP] 2.2.4).
type ServerWrapped struct {
	// PayloadLength is the length of the secret, as the blob says; Open
	// compares it with the one it has.
	PayloadLength uint32
	// KeyGUID is GUID_of_Wrapping_Key.
	KeyGUID dtyp.GUID
	// R2 is the salt from which the RC4 key is derived.
	R2 [r2Size]byte
	// Ciphertext is Rc4EncryptedPayload, at least 60 octets.
	Ciphertext []byte
}

// ParseServerWrapped reads a ServerWrap blob that fills b. The
// result refers to b. Errors wrap ErrFormat.
func ParseServerWrapped(b []byte) (*ServerWrapped, error) {
	c := le.NewCursor(b)
	version := c.Uint32()
	w := &ServerWrapped{PayloadLength: c.Uint32()}
	ciphertext := c.Uint32()
	c.Fill(w.KeyGUID[:])
	c.Fill(w.R2[:])
	w.Ciphertext = c.Bytes(uint64(ciphertext))
	if err := c.Done(); err != nil {
		return nil, fmt.Errorf("%w: ServerWrap secret: %w", ErrFormat, err)
	}
	if version != ServerWrappedVersion {
		return nil, fmt.Errorf("%w: ServerWrap secret of version %d", ErrFormat, version)
	}
	if len(w.Ciphertext) < payloadHeader+minSIDSize {
		return nil, fmt.Errorf("%w: ServerWrap secret: payload of %d octets", ErrFormat, len(w.Ciphertext))
	}
	return w, nil
}

// AppendBinary appends the blob to b. Errors wrap ErrFormat.
func (w *ServerWrapped) AppendBinary(b []byte) ([]byte, error) {
	if n := len(w.Ciphertext); n < payloadHeader+minSIDSize || uint64(n) > math.MaxUint32 {
		return b, fmt.Errorf("%w: ServerWrap secret: payload of %d octets", ErrFormat, n)
	}
	b = appendServerWrappedHeader(b, w.PayloadLength, uint32(len(w.Ciphertext)), w.KeyGUID)
	b = append(b, w.R2[:]...)
	return append(b, w.Ciphertext...), nil
}

// appendServerWrappedHeader appends what stands before R2.
func appendServerWrappedHeader(b []byte, payload, ciphertext uint32, key dtyp.GUID) []byte {
	b = binary.LittleEndian.AppendUint32(b, ServerWrappedVersion)
	b = binary.LittleEndian.AppendUint32(b, payload)
	b = binary.LittleEndian.AppendUint32(b, ciphertext)
	return append(b, key[:]...)
}

// Open opens the blob (3.1.4.1.2.1, steps 2 to 4). derive is HMAC-SHA1 of a
// salt under SrvKey of the key that KeyGUID names: ServerKey.Derive in one of
// its forms. The secret is copied out of the blob. Comparing sid with the
// caller's is left to the caller of Open.
//
// The error is ErrServerMAC, also when the SID cannot be read, or
// ErrServerPayloadLength.
func (w *ServerWrapped) Open(derive func(salt []byte) [20]byte) (sid dtyp.SID, secret []byte, err error) {
	if len(w.Ciphertext) < payloadHeader {
		return dtyp.SID{}, nil, ErrServerMAC
	}
	plain := make([]byte, len(w.Ciphertext))
	if err := rc4Apply(derive(w.R2[:]), plain, w.Ciphertext); err != nil {
		return dtyp.SID{}, nil, err
	}
	sid, secret, err = openPayload(derive, plain)
	if err == nil && uint64(len(secret)) != uint64(w.PayloadLength) {
		err = ErrServerPayloadLength
	}
	if err != nil {
		clear(plain)
		return dtyp.SID{}, nil, err
	}
	return sid, secret, nil
}

// 2.2.4.1 Rc4EncryptedPayload

// openPayload takes a decrypted payload apart, R3, MAC, SID, Secret, once its
// MAC is proved. The secret refers to plain.
func openPayload(derive func(salt []byte) [20]byte, plain []byte) (dtyp.SID, []byte, error) {
	r3, mac, body := plain[:r3Size], plain[r3Size:payloadHeader], plain[payloadHeader:]
	if want := macOf(derive(r3), body); !hmac.Equal(mac, want[:]) {
		return dtyp.SID{}, nil, ErrServerMAC
	}
	sid, secret, err := dtyp.CutSID(body)
	if err != nil {
		return dtyp.SID{}, nil, ErrServerMAC
	}
	return sid, secret, nil
}

// WrapServer wraps secret under the key of that GUID, for sid alone
// ([MS-BKRP] 3.1.4.1.1, steps 3 to 8). derive is as for Open. The errors are
// ErrEmptySecret, ErrSecretTooLong, and dtyp.ErrSID for the zero SID.
func WrapServer(derive func(salt []byte) [20]byte, key dtyp.GUID, sid dtyp.SID, secret []byte) ([]byte, error) {
	if len(secret) == 0 {
		return nil, ErrEmptySecret
	}
	payload := payloadHeader + sid.Size() + len(secret)
	if uint64(payload) > math.MaxUint32 {
		return nil, fmt.Errorf("%w: %d octets", ErrSecretTooLong, len(secret))
	}
	b := make([]byte, 0, serverWrappedHeader+payload)
	b = appendServerWrappedHeader(b, uint32(len(secret)), uint32(payload), key)
	b = b[:serverWrappedHeader+payloadHeader]
	r2, plain := b[serverWrappedHeader-r2Size:serverWrappedHeader], b[serverWrappedHeader:]
	rand.Read(r2)
	r3, mac := plain[:r3Size], plain[r3Size:]
	rand.Read(r3)
	b, err := sid.AppendBinary(b)
	if err != nil {
		return nil, err
	}
	b = append(b, secret...)
	sum := macOf(derive(r3), b[serverWrappedHeader+payloadHeader:])
	copy(mac, sum[:])
	if err := rc4Apply(derive(r2), b[serverWrappedHeader:], b[serverWrappedHeader:]); err != nil {
		clear(b)
		return nil, err
	}
	return b, nil
}

// macOf is HMAC-SHA1 of b, which proves a payload or a RecoveredSecret.
func macOf(key [20]byte, b []byte) (sum [20]byte) {
	h := hmac.New(sha1.New, key[:])
	h.Write(b)
	h.Sum(sum[:0])
	return sum
}

// rc4Apply is RC4 under a 20-octet key, the same for both directions; no
// keystream is dropped. 2.2.4 and 2.2.6 prescribe it. dst may be src.
func rc4Apply(key [20]byte, dst, src []byte) error {
	c, err := rc4.NewCipher(key[:])
	if err != nil {
		return fmt.Errorf("bkrp: applying RC4: %w", err)
	}
	c.XORKeyStream(dst, src)
	return nil
}
