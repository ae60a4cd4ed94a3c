package krb5

import (
	"crypto/aes"
	"crypto/hmac"
	"encoding/binary"
	"hash"
)

// What a derived key is for (RFC 3961 5.3, RFC 8009 5).
const (
	forChecksum   = 0x99
	forEncryption = 0xAA
	forIntegrity  = 0x55
)

// derive makes a key from k for one usage. k has been checked to be AES.
func derive(k Key, p profile, usage uint32, purpose byte) []byte {
	constant := append(binary.BigEndian.AppendUint32(nil, usage), purpose)
	if !p.etm {
		return deriveSHA1(k.Value, constant)
	}
	size := p.macSize
	if purpose == forEncryption {
		size = p.keySize
	}
	return deriveSHA2(p.hash, k.Value, constant, size)
}

// deriveSHA1 is DK of RFC 3961 5.1 for AES, whose random-to-key is the
// identity: the constant, folded to a block, encrypted again and again.
func deriveSHA1(key, constant []byte) []byte {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil // not with the lengths that check lets through
	}
	state := fold(constant, aes.BlockSize)
	var out []byte
	for len(out) < len(key) {
		block.Encrypt(state, state)
		out = append(out, state...)
	}
	return out[:len(key)]
}

// fold is n-fold of RFC 3961 5.1: copies of in, each rotated right by 13 bits
// more than the one before, up to the least common multiple of the lengths,
// added up in ones' complement in pieces of size octets.
func fold(in []byte, size int) []byte {
	bits := len(in) * 8
	bit := func(n int) int { return int(in[n/8]>>(7-n%8)) & 1 }
	total := len(in) * size / gcd(len(in), size)
	sums := make([]int, size)
	for i := range total {
		rotated := 13 * (i / len(in))
		octet := 0
		for b := range 8 {
			at := (i%len(in))*8 + b - rotated
			octet = octet<<1 | bit(((at%bits)+bits)%bits)
		}
		sums[i%size] += octet
	}
	out := make([]byte, size)
	carry := 0
	// Two rounds: the carry out of the first octet comes in again at the last.
	for range 2 {
		for i := size - 1; i >= 0; i-- {
			v := sums[i] + carry
			sums[i], carry = v&0xFF, v>>8
		}
	}
	for i, v := range sums {
		out[i] = byte(v)
	}
	return out
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// deriveSHA2 is KDF-HMAC-SHA2 of RFC 8009 3 without a context, for up to one
// hash of output: size octets.
func deriveSHA2(h func() hash.Hash, key, label []byte, size int) []byte {
	mac := hmac.New(h, key)
	mac.Write([]byte{0, 0, 0, 1})
	mac.Write(label)
	mac.Write([]byte{0})
	mac.Write(binary.BigEndian.AppendUint32(nil, uint32(size)*8))
	return mac.Sum(nil)[:size]
}
