package bkrp

import (
	"crypto/rsa"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"filippo.io/bigmod"
	"github.com/seed05845750/bkrp/internal/le"
)

const (
	modulusBits = 2048
	modulusSize = modulusBits / 8
	primeSize   = modulusSize / 2

	// rsaBlobSize is the length of the key proper, fields BLOBHEADER to
	// Private_Exponent, which a PVK file has as well.
	rsaBlobSize = 20 + 2*modulusSize + 5*primeSize
)

// The words at the head of an RSA key (2.2.5): a BLOBHEADER for a
// PRIVATEKEYBLOB of version 2 and CALG_RSA_KEYX, and the magic of RSAPUBKEY.
const (
	blobHeader    = 0x00000207
	blobAlgorithm = 0x0000a400
	blobMagic     = 0x32415352 // "RSA2"
)

// errFault is a result of the private operation that the public operation does
// not lead back from: a fault of the machine, since the key was proved when it
// was loaded.
var errFault = errors.New("bkrp: RSA operation went wrong and its result was dropped; check the machine's memory")

// rsaKey is an RSA key ready for the private operation. All of its arithmetic
// on secret numbers is constant-time once it is made.
type rsaKey struct {
	public *rsa.PublicKey
	n      *bigmod.Modulus
	d      []byte // big-endian, as long as the modulus
	// crt is nil if the numbers stored for the Chinese remainder theorem do
	// not fit the rest of the key; d serves alone then.
	crt *crtKey
}

// crtKey has the numbers of RFC 8017 3.2's second form.
type crtKey struct {
	p, q   *bigmod.Modulus
	dP, dQ []byte
	qInv   *bigmod.Nat // modulo p
	qModN  *bigmod.Nat
	// highP and highQ are 2^1024 modulo p and modulo q, for reduce.
	highP, highQ *bigmod.Nat
}

// rsaNumbers are the numbers of a key, as it is stored.
type rsaNumbers struct {
	e                        uint32
	n, p, q, dP, dQ, qInv, d *big.Int
}

// parseRSABlob reads the 1172 octets of a key. What comes back is nothing but
// the fields; newRSAKey looks at the numbers.
func parseRSABlob(b []byte) (*rsaNumbers, error) {
	c := le.NewCursor(b)
	header, algorithm, magic, bits := c.Uint32(), c.Uint32(), c.Uint32(), c.Uint32()
	k := &rsaNumbers{e: c.Uint32()}
	number := func(size uint64) *big.Int {
		b := slices.Clone(c.Bytes(size))
		defer clear(b)
		slices.Reverse(b)
		return new(big.Int).SetBytes(b)
	}
	k.n = number(modulusSize)
	k.p, k.q = number(primeSize), number(primeSize)
	k.dP, k.dQ, k.qInv = number(primeSize), number(primeSize), number(primeSize)
	k.d = number(modulusSize)
	if err := c.Done(); err != nil {
		return nil, fmt.Errorf("%w: RSA key: %w", ErrKeyFormat, err)
	}
	if header != blobHeader || algorithm != blobAlgorithm || magic != blobMagic {
		return nil, fmt.Errorf("%w: no header of an RSA private key", ErrKeyFormat)
	}
	if bits != modulusBits {
		return nil, fmt.Errorf("%w: RSA key of %d bits, not %d", ErrKeyFormat, bits, modulusBits)
	}
	return k, nil
}

// appendRSABlob is the inverse of parseRSABlob. Numbers shorter than their
// field have zeros at the high end, which is the last.
func (k *rsaNumbers) appendRSABlob(b []byte) []byte {
	for _, word := range []uint32{blobHeader, blobAlgorithm, blobMagic, modulusBits, k.e} {
		b = binary.LittleEndian.AppendUint32(b, word)
	}
	number := func(x *big.Int, size int) {
		start := len(b)
		b = append(b, make([]byte, size)...)
		x.FillBytes(b[start:])
		slices.Reverse(b[start:])
	}
	number(k.n, modulusSize)
	for _, x := range []*big.Int{k.p, k.q, k.dP, k.dQ, k.qInv} {
		number(x, primeSize)
	}
	number(k.d, modulusSize)
	return b
}

// newRSAKey checks the numbers and makes the key. The private exponent has to
// be right. math/big is not constant-time; it sees the key this once.
func newRSAKey(k *rsaNumbers) (*rsaKey, error) {
	if k.n.BitLen() != modulusBits || k.n.Bit(0) == 0 || k.e < 3 || k.e&1 == 0 || k.e > 1<<31-1 {
		return nil, fmt.Errorf("%w: modulus or public exponent of the RSA key is out of range", ErrKeyFormat)
	}
	if k.d.Cmp(k.n) >= 0 {
		return nil, fmt.Errorf("%w: private exponent of the RSA key is out of range", ErrKeyFormat)
	}
	n, err := bigmod.NewModulus(k.n.Bytes())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyFormat, err)
	}
	key := &rsaKey{
		public: &rsa.PublicKey{N: k.n, E: int(k.e)},
		n:      n,
		d:      k.d.FillBytes(make([]byte, modulusSize)),
	}
	key.crt = k.newCRT(n)
	if key.crt != nil && k.exponentFits() && key.prove() == nil {
		return key, nil
	}
	key.crt = nil
	if err := key.prove(); err != nil {
		return nil, err
	}
	return key, nil
}

// exponentFits says whether e*d is 1 modulo p-1 and modulo q-1.
func (k *rsaNumbers) exponentFits() bool {
	return isInverse(int64(k.e), k.d, minusOne(k.p)) && isInverse(int64(k.e), k.d, minusOne(k.q))
}

// newCRT is nil unless p*q = n and the exponents and the coefficient belong to
// p and q. Either prime may be the larger one.
func (k *rsaNumbers) newCRT(n *bigmod.Modulus) *crtKey {
	if new(big.Int).Mul(k.p, k.q).Cmp(k.n) != 0 || k.p.BitLen() != 8*primeSize || k.q.BitLen() != 8*primeSize ||
		!isInverse(int64(k.e), k.dP, minusOne(k.p)) || !isInverse(int64(k.e), k.dQ, minusOne(k.q)) ||
		k.qInv.Cmp(k.p) >= 0 ||
		new(big.Int).Mod(new(big.Int).Mul(k.q, k.qInv), k.p).Cmp(big.NewInt(1)) != 0 {
		return nil
	}
	p, errP := bigmod.NewModulus(k.p.Bytes())
	q, errQ := bigmod.NewModulus(k.q.Bytes())
	if errP != nil || errQ != nil {
		return nil
	}
	highP, errHighP := highHalf(k.p, p)
	highQ, errHighQ := highHalf(k.q, q)
	qInv, errInv := bigmod.NewNat().SetBytes(k.qInv.FillBytes(make([]byte, primeSize)), p)
	if errHighP != nil || errHighQ != nil || errInv != nil {
		return nil
	}
	return &crtKey{
		p: p, q: q,
		highP: highP, highQ: highQ,
		dP:    k.dP.FillBytes(make([]byte, primeSize)),
		dQ:    k.dQ.FillBytes(make([]byte, primeSize)),
		qInv:  qInv,
		qModN: bigmod.NewNat().Mod(q.Nat(), n),
	}
}

// highHalf is what the high half of a number of modulusSize octets is to be
// multiplied by to have it modulo a prime: 2^1024 modulo that prime.
func highHalf(prime *big.Int, m *bigmod.Modulus) (*bigmod.Nat, error) {
	r := new(big.Int).Lsh(big.NewInt(1), 8*primeSize)
	return bigmod.NewNat().SetBytes(r.Mod(r, prime).FillBytes(make([]byte, primeSize)), m)
}

func minusOne(x *big.Int) *big.Int { return new(big.Int).Sub(x, big.NewInt(1)) }

// isInverse says whether a*b is 1 modulo m, which is above 1.
func isInverse(a int64, b, m *big.Int) bool {
	r := new(big.Int).Mul(big.NewInt(a), b)
	return m.Cmp(big.NewInt(1)) > 0 && r.Mod(r, m).Cmp(big.NewInt(1)) == 0
}

// prove runs the private operation on a number that everybody knows; decrypt
// checks its result by the public one.
func (k *rsaKey) prove() error {
	probe := make([]byte, modulusSize)
	for i := range probe[1:] {
		probe[1+i] = byte(i)
	}
	if _, err := k.decrypt(probe); err != nil {
		return fmt.Errorf("%w: the numbers of the RSA key do not belong together", ErrKeyFormat)
	}
	return nil
}

// decrypt is the private operation, RSADP of RFC 8017 5.1.2: c^d mod n, both
// big-endian and as long as the modulus. The result is checked by the public
// operation, since a single fault in one half of the computation would give the
// key away to whoever sees the result.
func (k *rsaKey) decrypt(c []byte) ([]byte, error) {
	x, err := belowModulus(c, k.n)
	if err != nil {
		return nil, err
	}
	var m *bigmod.Nat
	if k.crt != nil {
		if m, err = k.crt.exp(c, k.n); err != nil {
			return nil, errFault
		}
	} else {
		m = bigmod.NewNat().Exp(x, k.d, k.n)
	}
	if bigmod.NewNat().ExpShortVarTime(m, uint(k.public.E), k.n).Equal(x) != 1 {
		return nil, errFault
	}
	return m.Bytes(k.n), nil
}

// exp is c^d mod n by the Chinese remainder theorem:
// m2 + q*((m1-m2)*qInv mod p) with m1 = c^dP mod p and m2 = c^dQ mod q.
func (k *crtKey) exp(c []byte, n *bigmod.Modulus) (*bigmod.Nat, error) {
	cP, errP := reduce(c, k.highP, k.p)
	cQ, errQ := reduce(c, k.highQ, k.q)
	if err := errors.Join(errP, errQ); err != nil {
		return nil, err
	}
	m := bigmod.NewNat().Exp(cP, k.dP, k.p)
	m2 := bigmod.NewNat().Exp(cQ, k.dQ, k.q)
	m.Sub(bigmod.NewNat().Mod(m2, k.p), k.p)
	m.Mul(k.qInv, k.p)
	m.ExpandFor(n).Mul(k.qModN, n)
	return m.Add(m2.ExpandFor(n), n), nil
}

// reduce is c modulo a prime of exactly primeSize octets, by its halves, each of
// which is below twice the prime. bigmod's own Mod goes bit by bit and would take
// a twentieth of the whole operation. It is constant-time; the errors, of a prime
// that is too short, cannot be, since newCRT looks at that.
func reduce(c []byte, high *bigmod.Nat, prime *bigmod.Modulus) (*bigmod.Nat, error) {
	h, errH := bigmod.NewNat().SetOverflowingBytes(c[:primeSize], prime)
	l, errL := bigmod.NewNat().SetOverflowingBytes(c[primeSize:], prime)
	if err := errors.Join(errH, errL); err != nil {
		return nil, err
	}
	return h.Mul(high, prime).Add(l, prime), nil
}

// clear overwrites what can be reached of the key; bigmod keeps p and q.
func (k *rsaKey) clear() {
	clear(k.d)
	if k.crt != nil {
		clear(k.crt.dP)
		clear(k.crt.dQ)
		clear(k.crt.qInv.Bits())
		clear(k.crt.qModN.Bits())
	}
}
