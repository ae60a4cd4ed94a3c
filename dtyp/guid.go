package dtyp

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
)

// GUIDSize is the length of a GUID in its packet form, in octets.
const GUIDSize = 16

// GUID is a GUID in its packet form ([MS-DTYP] 2.3.4.2): Data1, Data2 and
// Data3 are little-endian, Data4 stands as it is. The array holds those 16
// octets in wire order.
type GUID [GUIDSize]byte

// ParseGUID reads the string form without braces, "01234567-89ab-...", in
// either case; the braced form of [MS-DTYP] 2.3.4.3 is understood as well.
func ParseGUID(s string) (GUID, error) {
	t := s
	if len(t) == 38 && t[0] == '{' && t[37] == '}' {
		t = t[1:37]
	}
	if len(t) != 36 || t[8] != '-' || t[13] != '-' || t[18] != '-' || t[23] != '-' {
		return GUID{}, fmt.Errorf("dtyp: %q is not a GUID", s)
	}
	var b GUID
	digits := t[:8] + t[9:13] + t[14:18] + t[19:23] + t[24:]
	if _, err := hex.Decode(b[:], []byte(digits)); err != nil {
		return GUID{}, fmt.Errorf("dtyp: %q is not a GUID", s)
	}
	return b.swapped(), nil
}

// MustParseGUID is ParseGUID for constants of the source; it panics on error.
func MustParseGUID(s string) GUID {
	g, err := ParseGUID(s)
	if err != nil {
		panic(err)
	}
	return g
}

// String gives the string form in lower case and without braces, as the names
// of the LSA secrets carry it.
func (g GUID) String() string {
	h := hex.EncodeToString(g.bytesBE())
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// MarshalText gives String.
func (g GUID) MarshalText() ([]byte, error) { return []byte(g.String()), nil }

// UnmarshalText reads what ParseGUID reads.
func (g *GUID) UnmarshalText(text []byte) error {
	v, err := ParseGUID(string(text))
	if err != nil {
		return err
	}
	*g = v
	return nil
}

// IsZero reports whether g is the nil GUID.
func (g GUID) IsZero() bool { return g == GUID{} }

func (g GUID) bytesBE() []byte {
	b := g.swapped()
	return b[:]
}

// swapped exchanges the little-endian and the big-endian form of Data1, Data2
// and Data3; it is its own inverse.
func (g GUID) swapped() GUID {
	binary.BigEndian.PutUint32(g[0:], binary.LittleEndian.Uint32(g[0:]))
	binary.BigEndian.PutUint16(g[4:], binary.LittleEndian.Uint16(g[4:]))
	binary.BigEndian.PutUint16(g[6:], binary.LittleEndian.Uint16(g[6:]))
	return g
}
