package split

import "strings"

// The text of a share is Bech32m (BIP 350), whose checksum of six characters
// finds every change of up to four characters in texts as long as these, and
// whose alphabet leaves out what a hand writes alike: 1, b, i and o.

const (
	alphabet         = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
	checksumSize     = 6
	checksumConstant = 0x2bc830a3
)

// polymod is the remainder of BCH division, by the generator of BIP 173.
func polymod(sum uint32, symbols ...byte) uint32 {
	generator := [5]uint32{0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3}
	for _, s := range symbols {
		top := sum >> 25
		sum = sum&0x1ffffff<<5 ^ uint32(s)
		for i, g := range generator {
			if top>>i&1 == 1 {
				sum ^= g
			}
		}
	}
	return sum
}

// prefixSum is the state after the human-readable part, which is lower case.
func prefixSum(prefix string) uint32 {
	sum := uint32(1)
	for i := range len(prefix) {
		sum = polymod(sum, prefix[i]>>5)
	}
	sum = polymod(sum, 0)
	for i := range len(prefix) {
		sum = polymod(sum, prefix[i]&31)
	}
	return sum
}

// appendChecksum appends the checksum to symbols of five bits each.
func appendChecksum(prefix string, symbols []byte) []byte {
	sum := polymod(polymod(prefixSum(prefix), symbols...), make([]byte, checksumSize)...) ^ checksumConstant
	for i := range checksumSize {
		symbols = append(symbols, byte(sum>>(5*(checksumSize-1-i)))&31)
	}
	return symbols
}

// checksumFits says whether symbols end in their checksum.
func checksumFits(prefix string, symbols []byte) bool {
	return polymod(prefixSum(prefix), symbols...) == checksumConstant
}

// symbolOf is the value of a lower-case character, -1 if it has none.
func symbolOf(c byte) int { return strings.IndexByte(alphabet, c) }

// toSymbols splits octets into symbols of five bits, high bits first. Their
// number of bits is a multiple of five here.
func toSymbols(symbols, octets []byte) []byte {
	var bits, have uint
	for _, o := range octets {
		bits = bits<<8 | uint(o)
		for have += 8; have >= 5; {
			have -= 5
			symbols = append(symbols, byte(bits>>have)&31)
		}
	}
	return symbols
}

// toOctets is the inverse of toSymbols; it fills octets.
func toOctets(octets, symbols []byte) {
	var bits, have uint
	octets = octets[:0]
	for _, s := range symbols {
		bits = bits<<5 | uint(s)
		if have += 5; have >= 8 {
			have -= 8
			octets = append(octets, byte(bits>>have))
		}
	}
}
