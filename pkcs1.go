package bkrp

// pkcs1Overhead is how much longer an encoded message is than the message, at
// least: 00 02, eight octets of padding, 00 (RFC 8017 7.2.1).
const pkcs1Overhead = 11

// unpad looks for the message at the end of an encoded message, 00 02 PS 00 M
// (RFC 8017 7.2.2, RSAES-PKCS1-v1_5), without a branch or an index that
// depends on em. It says whether the padding is right, and how long M is; the
// length is of no meaning when the padding is wrong.
func unpad(em []byte) (ok mask, n uint64) {
	ok = isZero(uint64(em[0])) & equal(uint64(em[1]), 2)
	looking := yes
	var zero uint64
	for i := 2; i < len(em); i++ {
		here := isZero(uint64(em[i]))
		zero = (looking & here).pick(uint64(i), zero)
		looking &^= here
	}
	ok &= ^looking &^ less(zero, pkcs1Overhead-1)
	return ok, uint64(len(em)) - 1 - zero
}

// shiftLeft moves b by that many octets towards its head, zeros following,
// in the same steps whatever the distance: for each bit of it, a move by that
// power of two which is made or is not.
func shiftLeft(b []byte, distance uint64) {
	for bit := 0; 1<<bit <= len(b); bit++ {
		move := -mask(distance >> bit & 1)
		step := 1 << bit
		for i := range b {
			var from byte
			if i+step < len(b) {
				from = b[i+step]
			}
			b[i] = move.pickByte(from, b[i])
		}
	}
}
