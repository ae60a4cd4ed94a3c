package bkrp

import (
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/seed05845750/bkrp/dtyp"
)

// maxAccessCheck bounds an AccessCheck that is worth decrypting, in octets. The
// longest one of a 32-octet nonce has 176. It keeps a blob of some megabytes
// from costing more than the RSA operation does.
const maxAccessCheck = 16 << 10

// Open opens the blob (3.1.4.1.4, steps 3 to 7). raw is the RSA private
// operation of the key that KeyGUID names: it takes the ciphertext and gives
// the encoded message, both big-endian and as long as the modulus, with the
// padding still on; Open clears the message. rejection belongs to the same key.
//
// The result is copied out of the blob. Comparing its SID with the caller's is
// left to the caller of Open, who must not give the secret to anyone else.
//
// Whatever is wrong with the blob, the error is ErrClientSecret, and from the
// return of raw on the same steps are run on data of the same length, so that
// neither answer nor time tell whether the padding was right. Only
// what the blob shows without any key is refused earlier. An error of raw other
// than ErrCiphertext comes back wrapped.
func (w *ClientWrapped) Open(raw RawRSA, rejection *RejectionKey) (*ClientSecret, error) {
	f := formatOf(w.Version)
	if f == nil || len(w.EncryptedSecret) < f.overhead() || !f.accessCheckLength(len(w.AccessCheck)) {
		return nil, ErrClientSecret
	}
	ciphertext := slices.Clone(w.EncryptedSecret)
	slices.Reverse(ciphertext)
	em, err := raw(ciphertext)
	if errors.Is(err, ErrCiphertext) {
		return nil, ErrClientSecret
	}
	if err != nil {
		return nil, fmt.Errorf("decrypting EncryptedSecret: %w", err)
	}
	defer clear(em)
	if len(em) != len(ciphertext) {
		return nil, fmt.Errorf("bkrp: RSA operation gave %d octets for %d", len(em), len(ciphertext))
	}
	o := opening{f: f, em: em, access: w.AccessCheck}
	return o.run(ciphertext, rejection)
}

// accessCheckLength says whether an AccessCheck can be of this length: whole
// blocks, room for the shortest SID and the hash.
func (f *clientFormat) accessCheckLength(n int) bool {
	return n%f.blockSize == 0 && n >= 8+8+f.hashSize && n <= maxAccessCheck
}

// opening is one ClientWrap blob on its way through the steps of Open.
type opening struct {
	f *clientFormat
	// em is the encoded message, and then the message that takes part in the
	// remaining steps.
	em []byte
	// access is the ciphertext of the AccessCheck.
	access []byte
	// trace, if set, is told of each step; only tests set it.
	trace func(step string)
}

// run goes through all steps and acts on the verdict at the end of them.
func (o *opening) run(ciphertext []byte, rejection *RejectionKey) (*ClientSecret, error) {
	ok, n := unpad(o.em)
	o.done("unpad")
	synthetic, m, err := rejection.synthesize(ciphertext)
	if err != nil {
		return nil, err
	}
	defer clear(synthetic)
	for i := range o.em {
		o.em[i] = ok.pickByte(o.em[i], synthetic[i])
	}
	n = ok.pick(n, m)
	o.done("synthesize")

	// The message ends where em ends, so PayloadKey stands at a known place.
	// The head of the message does not, until it is moved to the front of em.
	var payloadKey [48]byte
	defer clear(payloadKey[:])
	key := payloadKey[:o.f.payloadKey()]
	copy(key, o.em[len(o.em)-len(key):])
	shiftLeft(o.em, uint64(len(o.em))-n)
	o.done("align")
	secretLen, good := o.f.secretFormat(o.em, n)
	ok &= good
	o.done("secret format")

	check, err := o.decryptAccessCheck(key)
	if err != nil {
		return nil, err
	}
	defer clear(check)
	o.done("decrypt")
	nonceLen, good := o.f.accessCheckFormat(check)
	ok &= good
	o.done("access check format")
	ok &= o.f.hashIsRight(check)
	o.done("hash")
	if ok != yes {
		return nil, ErrClientSecret
	}
	return o.take(secretLen, check, nonceLen)
}

func (o *opening) done(step string) {
	if o.trace != nil {
		o.trace(step)
	}
}

// secretFormat checks a message of n octets at the head of b against 2.2.2.1
// or 2.2.2.2 and gives cbSecret.
func (f *clientFormat) secretFormat(b []byte, n uint64) (secretLen uint64, ok mask) {
	secretLen = uint64(binary.LittleEndian.Uint32(b))
	ok = yes
	for i, word := range f.fixed {
		ok &= equal(uint64(binary.LittleEndian.Uint32(b[4+4*i:])), uint64(word))
	}
	// This also refuses a message too short for the words above, which then
	// were zeros from behind it.
	ok &= equal(uint64(f.secretHeader())+secretLen+uint64(f.payloadKey()), n)
	return secretLen, ok
}

// decryptAccessCheck is the AccessCheck in the clear: CBC, no padding to take
// off. Go's 3DES looks into tables, so its time may depend on the key
// by way of the cache; but a wrong padding leads to a key as well, one that
// an attacker knows as little of.
func (o *opening) decryptAccessCheck(payloadKey []byte) ([]byte, error) {
	block, err := o.f.newCipher(payloadKey[:o.f.keySize])
	if err != nil {
		return nil, fmt.Errorf("bkrp: decrypting AccessCheck: %w", err)
	}
	plain := make([]byte, len(o.access))
	cipher.NewCBCDecrypter(block, payloadKey[o.f.keySize:]).CryptBlocks(plain, o.access)
	return plain, nil
}

// accessCheckFormat checks an AccessCheck in the clear against 2.2.2.3 or
// 2.2.2.4 and gives cbNonce. The SID stands behind the nonce, at a place that
// only cbNonce tells, and so every place is looked at. The padding may hold
// anything, but it is as short as can be.
func (f *clientFormat) accessCheckFormat(b []byte) (nonceLen uint64, ok mask) {
	ok = equal(uint64(binary.LittleEndian.Uint32(b)), 1)
	nonceLen = uint64(binary.LittleEndian.Uint32(b[4:]))
	var revision, count uint64
	for i := 8; i+1 < len(b); i++ {
		here := equal(uint64(i), 8+nonceLen)
		revision = here.pick(uint64(b[i]), revision)
		count = here.pick(uint64(b[i+1]), count)
	}
	ok &= equal(revision, 1) & less(count, dtyp.MaxSubAuthorities+1)
	used, total := 8+nonceLen+8+4*count+uint64(f.hashSize), uint64(len(b))
	ok &= ^less(total, used) & less(total-used, uint64(f.blockSize))
	return nonceLen, ok
}

// hashIsRight says whether the last octets are the hash of those before them.
func (f *clientFormat) hashIsRight(check []byte) mask {
	split := len(check) - f.hashSize
	same := subtle.ConstantTimeCompare(f.sum(check[:split]), check[split:])
	return -mask(same)
}

// take copies the secret, its owner and the nonce out of what was checked.
func (o *opening) take(secretLen uint64, check []byte, nonceLen uint64) (*ClientSecret, error) {
	nonce, rest := check[8:8+nonceLen], check[8+nonceLen:]
	sid, _, err := dtyp.CutSID(rest)
	if err != nil {
		return nil, ErrClientSecret
	}
	head := uint64(o.f.secretHeader())
	return &ClientSecret{
		SID:    sid,
		Secret: slices.Clone(o.em[head : head+secretLen]),
		Nonce:  slices.Clone(nonce),
	}, nil
}
