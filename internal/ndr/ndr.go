// Package ndr reads and writes the stub data of remote procedure calls in the
// two transfer syntaxes of [MS-RPCE]: NDR ([C706] 14) and NDR64 ([MS-RPCE]
// 2.2.5), the first in either byte order.
//
// A Reader walks a stub from its first octet. Its error is sticky: the first
// thing that does not fit is remembered, everything after it reads as zero,
// and Done gives the verdict once at the end, so that a caller decodes a whole
// parameter list without a check on each line. The consistency checks are
// those of [MS-RPCE] 3.1.1.5.3.3, target level 6.0: lengths that repeat each
// other have to agree, a NULL pointer has no length, octets after the last
// parameter are refused.
//
// The package knows no interface and generates nothing. What an interface's
// parameters look like is written out by hand, in the order of the wire, in
// the package of that interface.
package ndr

import (
	"errors"
	"fmt"
)

// Encoding says in which form a stub stands on the wire. The zero Encoding is
// little-endian NDR.
type Encoding struct {
	// NDR64 widens pointers and counts to 8 octets and enumerations to 4.
	NDR64 bool
	// BigEndian is the integer representation of the data representation
	// label ([C706] 14.1).
	BigEndian bool
}

// ErrStub is what every error of a Reader wraps: the stub is not what the
// interface definition says. On the wire it is RPC_X_BAD_STUB_DATA, 0x6F7.
var ErrStub = errors.New("ndr: malformed stub")

// pointerSize is the size and the alignment of referent identifiers and of
// array counts, in octets: [C706] 14.3.3.2 and [MS-RPCE] 2.2.5.
func (e Encoding) pointerSize() int {
	if e.NDR64 {
		return 8
	}
	return 4
}

// padding is how many octets are missing from off to a multiple of n, a power
// of two.
func padding(off, n int) int { return -off & (n - 1) }

func stubError(off int, format string, args ...any) error {
	return fmt.Errorf("%w: octet %d: %s", ErrStub, off, fmt.Sprintf(format, args...))
}
