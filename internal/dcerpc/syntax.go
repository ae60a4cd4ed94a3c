package dcerpc

import (
	"fmt"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/ndr"
)

// SyntaxID names an interface or a transfer syntax, with its version
// ([C706] 12.6.3.1, p_syntax_id_t).
type SyntaxID struct {
	UUID         dtyp.GUID
	Major, Minor uint16
}

// syntaxSize is the length of a SyntaxID, in octets.
const syntaxSize = 20

// String is the UUID and the version, as in "… v1.0".
func (s SyntaxID) String() string { return fmt.Sprintf("%v v%d.%d", s.UUID, s.Major, s.Minor) }

// The transfer syntaxes: NDR ([C706] 14), NDR64 ([MS-RPCE] 2.2.4.12), and the
// one that is none, whose UUID says in its last half which bind-time features
// a client understands ([MS-RPCE] 2.2.2.14, 3.3.1.5.3).
var (
	syntaxNDR = SyntaxID{UUID: dtyp.GUID{
		0x04, 0x5d, 0x88, 0x8a, 0xeb, 0x1c, 0xc9, 0x11, 0x9f, 0xe8, 0x08, 0x00, 0x2b, 0x10, 0x48, 0x60}, Major: 2}
	syntaxNDR64 = SyntaxID{UUID: dtyp.GUID{
		0x33, 0x05, 0x71, 0x71, 0xba, 0xbe, 0x37, 0x49, 0x83, 0x19, 0xb5, 0xdb, 0xef, 0x9c, 0xcc, 0x36}, Major: 1}
	featurePrefix = [8]byte{0x2c, 0x1c, 0xb7, 0x6c, 0x12, 0x98, 0x40, 0x45}
)

// keepConnectionOnOrphan is the one bind-time feature there is to agree on:
// an orphaned call does not end the connection ([MS-RPCE] 2.2.2.14).
const keepConnectionOnOrphan = 0x0002

// features gives the bind-time features that a transfer syntax asks for; ok
// is false if it is a transfer syntax proper.
func (s SyntaxID) features() (bits uint16, ok bool) {
	if [8]byte(s.UUID[:8]) != featurePrefix || s.Major != 1 || s.Minor != 0 {
		return 0, false
	}
	return uint16(s.UUID[8]) | uint16(s.UUID[9])<<8, true
}

func featureSyntax(bits uint16) SyntaxID {
	s := SyntaxID{Major: 1}
	copy(s.UUID[:], featurePrefix[:])
	s.UUID[8], s.UUID[9] = byte(bits), byte(bits>>8)
	return s
}

// readSyntax reads the version as what it is: one integer, the major version in
// its lower half.
func readSyntax(r *ndr.Reader) SyntaxID {
	s := SyntaxID{UUID: r.GUID()}
	version := r.U32()
	s.Major, s.Minor = uint16(version), uint16(version>>16)
	return s
}

func (s SyntaxID) write(w *ndr.Writer) {
	w.GUID(s.UUID)
	w.U32(uint32(s.Minor)<<16 | uint32(s.Major))
}
