package lsarpc

import (
	"crypto/des"
	"encoding/binary"
	"errors"
	"math/bits"

	"github.com/seed05845750/bkrp/internal/ndr"
)

// desWindow is how many octets of the session key make one DES key.
const desWindow = 7

var errSessionKey = errors.New("lsarpc: session key too short")

// sealSecret encrypts a secret's value under the transport's session key
// ([MS-LSAD] 5.1.2): its length and the number 1, four octets each, the
// value, zeros up to a multiple of eight, each block under a DES key of its
// own. It is as weak as it looks; that the transport encrypts is what
// protects the value.
func sealSecret(sessionKey, value []byte) ([]byte, error) {
	if len(sessionKey) < desWindow {
		return nil, errSessionKey
	}
	b := make([]byte, 0, 8+len(value)+7)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(value)))
	b = binary.LittleEndian.AppendUint32(b, 1)
	b = append(b, value...)
	for len(b)%des.BlockSize != 0 {
		b = append(b, 0)
	}
	at := 0
	for i := 0; i < len(b); i += des.BlockSize {
		// What is left of the key at its end is not used: the windows go on
		// at that distance from its beginning.
		if at+desWindow > len(sessionKey) {
			at = len(sessionKey) - at
		}
		key := desKey([desWindow]byte(sessionKey[at:]))
		block, err := des.NewCipher(key[:])
		if err != nil {
			return nil, err
		}
		block.Encrypt(b[i:i+des.BlockSize], b[i:i+des.BlockSize])
		at += desWindow
	}
	return b, nil
}

// desKey spreads 56 bits over eight octets of seven, with odd parity below.
func desKey(k [desWindow]byte) (key [8]byte) {
	var v uint64
	for _, o := range k {
		v = v<<8 | uint64(o)
	}
	for i := range key {
		b := byte(v>>(49-7*i)) << 1
		if bits.OnesCount8(b)%2 == 0 {
			b |= 1
		}
		key[i] = b
	}
	return key
}

// writeCipherValue writes a unique pointer to an LSAPR_CR_CIPHER_VALUE
// (2.2.6.1), NULL for nil.
func writeCipherValue(w *ndr.Writer, sealed []byte) {
	w.Referent(sealed != nil)
	if sealed == nil {
		return
	}
	w.AlignPointer()
	w.U32(uint32(len(sealed)))
	w.U32(uint32(len(sealed)))
	w.Referent(true)
	w.ConformantVarying(len(sealed), len(sealed))
	w.Octets(sealed)
}

// skipCipherValue reads a unique pointer to an LSAPR_CR_CIPHER_VALUE, which
// means nothing on the way in.
func skipCipherValue(r *ndr.Reader) {
	if !r.Referent() {
		return
	}
	r.AlignPointer()
	length, maximum := r.U32(), r.U32()
	if !r.Referent() {
		r.CheckCount("MaximumLength", uint64(maximum), 0)
		return
	}
	allocated, n := r.ConformantVarying(1)
	r.Octets(n)
	r.CheckCount("Length", uint64(length), n)
	if r.Err() == nil && allocated != uint64(maximum) {
		r.Fail("MaximumLength is %d for an array of %d", maximum, allocated)
	}
}
