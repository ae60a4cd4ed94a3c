package ndr

import "unicode/utf16"

// UTF16 reads a conformant and varying array of UTF-16 code units as text and
// returns it with the array's maximum count. An unpaired surrogate is an
// error: no two names on the wire may become the same text.
func (r *Reader) UTF16() (text string, maximum uint64, units int) {
	maximum, units = r.ConformantVarying(2)
	u := make([]uint16, units)
	for i := range u {
		u[i] = r.U16()
	}
	text, ok := decodeUTF16(u)
	if !ok {
		r.Fail("unpaired surrogate in a string")
	}
	if r.err != nil {
		return "", 0, 0
	}
	return text, maximum, units
}

// String reads a [string] array of wide characters ([C706] 14.3.4): UTF16 of
// which the last unit, and no other, is zero.
func (r *Reader) String() string {
	text, _, _ := r.UTF16()
	if r.err != nil {
		return ""
	}
	for i := range len(text) {
		if text[i] == 0 {
			if i == len(text)-1 {
				return text[:i]
			}
			break
		}
	}
	r.Fail("string without a terminator at its end")
	return ""
}

// UTF16 writes text as a conformant and varying array of UTF-16 code units
// with neither terminator nor room to spare.
func (w *Writer) UTF16(text string) { w.utf16(utf16.Encode([]rune(text))) }

// String writes text as a [string] array of wide characters, with its
// terminator.
func (w *Writer) String(text string) { w.utf16(append(utf16.Encode([]rune(text)), 0)) }

func (w *Writer) utf16(units []uint16) {
	w.ConformantVarying(len(units), len(units))
	for _, u := range units {
		w.U16(u)
	}
}

// UTF16Len is the number of code units that UTF16 writes for text.
func UTF16Len(text string) int {
	n := 0
	for _, c := range text {
		n++
		if c > 0xFFFF {
			n++
		}
	}
	return n
}

func decodeUTF16(units []uint16) (text string, ok bool) {
	runes := make([]rune, 0, len(units))
	for i := 0; i < len(units); i++ {
		c := rune(units[i])
		if utf16.IsSurrogate(c) {
			if i+1 == len(units) {
				return "", false
			}
			if c = utf16.DecodeRune(c, rune(units[i+1])); c == 0xFFFD {
				return "", false
			}
			i++
		}
		runes = append(runes, c)
	}
	return string(runes), true
}
