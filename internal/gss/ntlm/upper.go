package ntlm

import (
	"bytes"
	"encoding/binary"
	"unicode"
	"unicode/utf16"
)

// NTOWFv2 counts the user's name in upper case ([MS-NLMP] 3.3.2), and what
// that is differs between clients: [MS-NLMP] names no table. All go one UTF-16
// unit for one unit, so that ß and characters beyond the basic plane stay, and
// turn nothing but a to z into a letter of ASCII. They part where Unicode grew:
// newer tables know the upper case of letters that older ones leave alone.

// upperForms gives the forms of name in UTF-16LE that clients may have meant,
// the newer table's first: two where the tables differ, otherwise one. How
// many there are depends on the name alone.
func upperForms(name string) [][]byte {
	newer, older := appendUpper(nil, name, upper), appendUpper(nil, name, upperOlder)
	if bytes.Equal(newer, older) {
		return [][]byte{newer}
	}
	return [][]byte{newer, older}
}

func appendUpper(b []byte, s string, upper func(uint16) uint16) []byte {
	for _, u := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, upper(u))
	}
	return b
}

// upper follows the Unicode of the Go release.
func upper(u uint16) uint16 {
	if u < 0x80 {
		if 'a' <= u && u <= 'z' {
			u -= 'a' - 'A'
		}
		return u
	}
	if r := unicode.ToUpper(rune(u)); r >= 0x80 && r <= 0xffff {
		return uint16(r)
	}
	return u
}

// upperOlder follows the table of Samba 4.17, as measured with its client.
func upperOlder(u uint16) uint16 {
	if unicode.Is(keptByOlder, rune(u)) {
		return u
	}
	return upper(u)
}

// keptByOlder covers the letters that have an upper case in Go's table and
// none in the older one: mostly those that came after Unicode 2, such as ș and
// ț of Romanian and all Georgian, and compatibility forms such as µ.
var keptByOlder = &unicode.RangeTable{
	R16: []unicode.Range16{
		{Lo: 0x00b5, Hi: 0x00b5, Stride: 1}, {Lo: 0x0180, Hi: 0x0180, Stride: 1},
		{Lo: 0x0195, Hi: 0x0195, Stride: 1}, {Lo: 0x019a, Hi: 0x019e, Stride: 1},
		{Lo: 0x01bf, Hi: 0x01c5, Stride: 1}, {Lo: 0x01c8, Hi: 0x01c8, Stride: 1},
		{Lo: 0x01cb, Hi: 0x01cb, Stride: 1}, {Lo: 0x01f2, Hi: 0x01f2, Stride: 1},
		{Lo: 0x01f9, Hi: 0x01f9, Stride: 1}, {Lo: 0x0219, Hi: 0x0252, Stride: 1},
		{Lo: 0x025c, Hi: 0x025c, Stride: 1}, {Lo: 0x0261, Hi: 0x0261, Stride: 1},
		{Lo: 0x0265, Hi: 0x0266, Stride: 1}, {Lo: 0x026a, Hi: 0x026c, Stride: 1},
		{Lo: 0x0271, Hi: 0x0271, Stride: 1}, {Lo: 0x027d, Hi: 0x0282, Stride: 1},
		{Lo: 0x0287, Hi: 0x0287, Stride: 1}, {Lo: 0x0289, Hi: 0x0289, Stride: 1},
		{Lo: 0x028c, Hi: 0x028c, Stride: 1}, {Lo: 0x029d, Hi: 0x037d, Stride: 1},
		{Lo: 0x03d0, Hi: 0x03e1, Stride: 1}, {Lo: 0x03f0, Hi: 0x03fb, Stride: 1},
		{Lo: 0x0450, Hi: 0x0450, Stride: 1}, {Lo: 0x045d, Hi: 0x045d, Stride: 1},
		{Lo: 0x048b, Hi: 0x048f, Stride: 1}, {Lo: 0x04c6, Hi: 0x04c6, Stride: 1},
		{Lo: 0x04ca, Hi: 0x04ca, Stride: 1}, {Lo: 0x04ce, Hi: 0x04cf, Stride: 1},
		{Lo: 0x04ed, Hi: 0x04ed, Stride: 1}, {Lo: 0x04f7, Hi: 0x04f7, Stride: 1},
		{Lo: 0x04fb, Hi: 0x052f, Stride: 1}, {Lo: 0x10d0, Hi: 0x1d8e, Stride: 1},
		{Lo: 0x1e9b, Hi: 0x1e9b, Stride: 1}, {Lo: 0x1efb, Hi: 0x1eff, Stride: 1},
		{Lo: 0x1f80, Hi: 0x1fa7, Stride: 1}, {Lo: 0x1fb3, Hi: 0x1fc3, Stride: 1},
		{Lo: 0x1ff3, Hi: 0x214e, Stride: 1}, {Lo: 0x2184, Hi: 0x2184, Stride: 1},
		{Lo: 0x2c30, Hi: 0xabbf, Stride: 1},
	},
}
