package keyform

import (
	"encoding/binary"
	"fmt"
	"math/big"
	"slices"
)

// The 1172 octets of an RSA key in 2.2.5 and in a PVK file: BLOBHEADER,
// RSAPUBKEY, and numbers whose low octet comes first.
const (
	blobSize    = 20 + 2*modulusSize + 5*primeSize
	modulusSize = 256
	primeSize   = 128

	blobHeader    = 0x00000207 // PRIVATEKEYBLOB, version 2
	blobAlgorithm = 0x0000a400 // CALG_RSA_KEYX
	blobMagic     = 0x32415352 // "RSA2"
)

// rsaNumbers are the numbers of an RSA key (RFC 8017 3.2), big-endian.
type rsaNumbers struct {
	e                        uint32
	n, p, q, dP, dQ, qInv, d []byte
}

// fields are the numbers of a key with their lengths in a blob, in its order.
func (k *rsaNumbers) fields() []rsaField {
	return []rsaField{
		{&k.n, modulusSize}, {&k.p, primeSize}, {&k.q, primeSize},
		{&k.dP, primeSize}, {&k.dQ, primeSize}, {&k.qInv, primeSize}, {&k.d, modulusSize},
	}
}

type rsaField struct {
	number *[]byte
	size   int
}

// readBlob reads a blob of blobSize octets and copies the numbers. Whether they
// belong together is for bkrp.ParseKeyPair to say.
func readBlob(blob []byte) *rsaNumbers {
	k := &rsaNumbers{e: binary.LittleEndian.Uint32(blob[16:])}
	rest := blob[20:]
	for _, f := range k.fields() {
		*f.number = slices.Clone(rest[:f.size])
		slices.Reverse(*f.number)
		rest = rest[f.size:]
	}
	return k
}

// blob is the inverse of readBlob. A number too long for its field is
// ErrFormat.
func (k *rsaNumbers) blob() ([]byte, error) {
	b := make([]byte, 0, blobSize)
	for _, word := range []uint32{blobHeader, blobAlgorithm, blobMagic, 8 * modulusSize, k.e} {
		b = binary.LittleEndian.AppendUint32(b, word)
	}
	for _, f := range k.fields() {
		if len(*f.number) > f.size {
			clear(b)
			return nil, fmt.Errorf("%w: it is no RSA key of %d bits with two primes of half that", ErrFormat, 8*modulusSize)
		}
		start := len(b)
		b = append(b, *f.number...)
		slices.Reverse(b[start:])
		b = b[:start+f.size] // the rest of make's octets are zeros
	}
	return b, nil
}

func (k *rsaNumbers) clear() {
	for _, f := range k.fields() {
		clear(*f.number)
	}
}

// checkCRT says which numbers of a key do not belong together, and tells nothing
// of them. That public and private exponent do has been proved by
// bkrp.ParseKeyPair. It is not constant-time; it sees a key this once.
func checkCRT(blob []byte) error {
	k := readBlob(blob)
	defer k.clear()
	number := func(b []byte) *big.Int { return new(big.Int).SetBytes(b) }
	one := big.NewInt(1)
	p, q, e := number(k.p), number(k.q), new(big.Int).SetUint64(uint64(k.e))
	p1, q1 := new(big.Int).Sub(p, one), new(big.Int).Sub(q, one)
	inverse := func(a *big.Int, b []byte, m *big.Int) bool {
		return m.Cmp(one) > 0 && new(big.Int).Mod(new(big.Int).Mul(a, number(b)), m).Cmp(one) == 0
	}
	wrong := ""
	switch {
	case new(big.Int).Mul(p, q).Cmp(number(k.n)) != 0 || p.BitLen() != 8*primeSize || q.BitLen() != 8*primeSize:
		wrong = "the primes do not multiply to the modulus"
	case !inverse(e, k.d, p1) || !inverse(e, k.d, q1):
		wrong = "the private exponent does not fit the primes"
	case !inverse(e, k.dP, p1):
		wrong = "the first CRT exponent does not fit its prime"
	case !inverse(e, k.dQ, q1):
		wrong = "the second CRT exponent does not fit its prime"
	case !inverse(q, k.qInv, p) || number(k.qInv).Cmp(p) >= 0:
		wrong = "the CRT coefficient does not fit the primes"
	}
	if wrong != "" {
		return fmt.Errorf("%w: RSA key: %s", ErrFormat, wrong)
	}
	return nil
}
