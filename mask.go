package bkrp

// A mask is all ones for yes and zero for no. Decisions about the inside of a
// ClientWrap blob are kept as masks and joined with & until one of them is
// acted upon, since a branch on any single one would show in the time it takes.
type mask uint64

const yes = ^mask(0)

// isZero says whether x is 0.
func isZero(x uint64) mask { return mask((x|-x)>>63) - 1 }

// equal says whether a and b are the same.
func equal(a, b uint64) mask { return isZero(a ^ b) }

// less says whether a < b; both are below 1<<63.
func less(a, b uint64) mask { return -mask((a - b) >> 63) }

// pick is a if m, else b.
func (m mask) pick(a, b uint64) uint64 { return b ^ uint64(m)&(a^b) }

// pickByte is a if m, else b.
func (m mask) pickByte(a, b byte) byte { return b ^ byte(m)&(a^b) }
