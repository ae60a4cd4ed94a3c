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
	p, q := k.p.FillBytes(offStack(primeSize)), k.q.FillBytes(offStack(primeSize))
	defer clear(p)
	defer clear(q)
	key.crt = k.newCRT(n, p, q)
	if key.crt != nil && k.exponentFits(n, p, q) && key.prove() == nil {
		return key, nil
	}
	if key.crt != nil {
		key.crt.clear()
		key.crt = nil
	}
	if err := key.prove(); err != nil {
		return nil, err
	}
	return key, nil
}

// exponentFits says whether e*d is 1 modulo p-1 and modulo q-1, for a key whose
// primes newCRT has taken.
func (k *rsaNumbers) exponentFits(n *bigmod.Modulus, primes ...[]byte) bool {
	octets := k.d.FillBytes(offStack(modulusSize))
	defer clear(octets)
	d, err := bigmod.NewNat().SetBytes(octets, n)
	if err != nil {
		return false
	}
	defer clear(d.Bits())
	for _, prime := range primes {
		m, err := minusOne(prime)
		if err != nil {
			return false
		}
		fits := isInverse(uint(k.e), bigmod.NewNat().Mod(d, m), m)
		wipeModulus(m)
		if !fits {
			return false
		}
	}
	return true
}

// newCRT is nil unless p*q = n and the exponents and the coefficient belong to
// p and q. Either prime may be the larger one. math/big divides on copies of its
// own, and is therefore not asked to divide by a secret number.
func (k *rsaNumbers) newCRT(n *bigmod.Modulus, pOctets, qOctets []byte) *crtKey {
	if k.p.BitLen() != 8*primeSize || k.q.BitLen() != 8*primeSize || k.p.Bit(0) == 0 || k.q.Bit(0) == 0 ||
		new(big.Int).Mul(k.p, k.q).Cmp(k.n) != 0 {
		return nil
	}
	p, errP := bigmod.NewModulus(pOctets)
	q, errQ := bigmod.NewModulus(qOctets)
	if errP != nil || errQ != nil {
		return nil
	}
	key := &crtKey{
		p: p, q: q,
		highP: highHalf(pOctets, p), highQ: highHalf(qOctets, q),
		dP: k.dP.FillBytes(make([]byte, primeSize)),
		dQ: k.dQ.FillBytes(make([]byte, primeSize)),
	}
	qInv := k.qInv.FillBytes(offStack(primeSize))
	qNat := q.Nat()
	defer clear(qInv)
	defer clear(qNat.Bits())
	var err error
	if key.qInv, err = bigmod.NewNat().SetBytes(qInv, p); err != nil {
		key.qInv = bigmod.NewNat() // is no inverse of anything
	}
	key.qModN = bigmod.NewNat().Mod(qNat, n)
	qModP := bigmod.NewNat().Mod(qNat, p)
	defer clear(qModP.Bits())
	if err != nil || qModP.Mul(key.qInv, p).IsOne() != 1 ||
		!exponentIs(key.dP, uint(k.e), pOctets) || !exponentIs(key.dQ, uint(k.e), qOctets) {
		key.clear()
		return nil
	}
	return key
}

// exponentIs says whether e*d is 1 modulo prime-1.
func exponentIs(d []byte, e uint, prime []byte) bool {
	m, err := minusOne(prime)
	if err != nil {
		return false
	}
	defer wipeModulus(m)
	x, err := bigmod.NewNat().SetBytes(d, m)
	return err == nil && isInverse(e, x, m)
}

// isInverse says whether e*x is 1 modulo m, and overwrites x.
func isInverse(e uint, x *bigmod.Nat, m *bigmod.Modulus) bool {
	defer clear(x.Bits())
	product := bigmod.NewNat().SetUint(e).ExpandFor(m)
	return product.Mul(x, m).IsOne() == 1
}

// minusOne is prime-1, for a prime that is odd.
func minusOne(prime []byte) (*bigmod.Modulus, error) {
	octets := slices.Clone(prime)
	defer clear(octets)
	octets[len(octets)-1]--
	return bigmod.NewModulus(octets)
}

// highHalf is what the high half of a number of modulusSize octets is to be
// multiplied by to have it modulo a prime of primeSize octets: 2^1024 modulo
// that prime, which is 2^1024-prime since the prime's highest bit is set.
func highHalf(prime []byte, m *bigmod.Modulus) *bigmod.Nat {
	octets := make([]byte, len(prime))
	defer clear(octets)
	for i, b := range prime {
		octets[i] = ^b
	}
	octets[len(octets)-1]++ // the prime is odd: nothing is carried
	r, err := bigmod.NewNat().SetBytes(octets, m)
	if err != nil {
		return bigmod.NewNat().ExpandFor(m) // not for a prime of that size
	}
	return r
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

// clear overwrites the key. What arithmetic has left behind in memory that is
// free again is out of reach.
func (k *rsaKey) clear() {
	clear(k.d)
	if k.crt != nil {
		k.crt.clear()
	}
}

func (k *crtKey) clear() {
	clear(k.dP)
	clear(k.dQ)
	for _, x := range []*bigmod.Nat{k.qInv, k.qModN, k.highP, k.highQ} {
		clear(x.Bits())
	}
	wipeModulus(k.p)
	wipeModulus(k.q)
}

// clear overwrites the secret numbers.
func (k *rsaNumbers) clear() {
	for _, x := range []*big.Int{k.p, k.q, k.dP, k.dQ, k.qInv, k.d} {
		wipeNumber(x)
	}
}
