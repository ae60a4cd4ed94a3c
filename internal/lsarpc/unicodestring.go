package lsarpc

import "github.com/seed05845750/bkrp/internal/ndr"

// unicodeString is the fixed part of an RPC_UNICODE_STRING ([MS-DTYP] 2.3.10)
// that was read: the text follows where its pointer's turn comes.
type unicodeString struct {
	length, maximum uint16 // in octets
	present         bool
}

func readUnicodeString(r *ndr.Reader) unicodeString {
	r.AlignPointer()
	u := unicodeString{length: r.U16(), maximum: r.U16()}
	u.present = r.Referent()
	if u.length%2 != 0 || u.maximum%2 != 0 || u.length > u.maximum {
		r.Fail("string of %d octets in %d", u.length, u.maximum)
	}
	if !u.present && u.maximum != 0 {
		// [MS-RPCE] 3.1.1.5.3.3.1.2: what is not there has no length.
		r.Fail("string of %d octets without a buffer", u.maximum)
	}
	return u
}

// text reads the buffer.
func (u unicodeString) text(r *ndr.Reader) string {
	if !u.present {
		return ""
	}
	text, maximum, units := r.UTF16()
	if r.Err() == nil && (maximum != uint64(u.maximum/2) || units != int(u.length/2)) {
		r.Fail("string of %d octets in %d has %d units in %d", u.length, u.maximum, units, maximum)
	}
	if r.Err() != nil {
		return ""
	}
	return text
}

// writeUnicodeString writes the fixed part; writeText, where the pointer's
// turn comes, the text. Names here are of accounts and domains, far below the
// 32767 code units that the lengths can say.
func writeUnicodeString(w *ndr.Writer, text string) {
	n := ndr.UTF16Len(text)
	w.AlignPointer()
	w.U16(uint16(2 * n))
	w.U16(uint16(2 * n))
	w.Referent(n > 0)
}

func writeText(w *ndr.Writer, text string) {
	if text != "" {
		w.UTF16(text)
	}
}
