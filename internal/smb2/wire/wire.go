// Package wire has the messages of [MS-SMB2] 2.2 that a server for IPC$ and
// its named pipes sends and understands: the headers, and for each command its
// request and its response, with a parser and its inverse.
//
// A parser takes one whole message, from the first octet of its header up to
// its end or to the next message of the same compound: the offsets inside a
// message count from there. It returns a whole value or ErrMalformed. Slices
// in the value alias the message.
//
// An Append method appends the body to dst. It assumes that the 64 octets of
// the header stand before it, as everything on the wire has it; it fills in
// structure sizes, offsets and lengths itself.
//
// The package does no I/O, keeps no state and knows no policy.
package wire

import (
	"encoding/binary"
	"errors"
	"unicode/utf16"
)

// ErrMalformed is what every parser of this package returns for a message
// that is too short, or whose structure size, offsets or lengths lie.
var ErrMalformed = errors.New("wire: malformed SMB2 message")

var le = binary.LittleEndian

// body checks that msg holds a header and a body that begins with the given
// structure size and fills at least its fixed part, size with the lowest bit
// cleared (an odd size counts one octet of a variable part that may be
// absent). It returns the body.
func body(msg []byte, size int) ([]byte, error) {
	if len(msg) < HeaderSize+size&^1 {
		return nil, ErrMalformed
	}
	b := msg[HeaderSize:]
	if int(le.Uint16(b)) != size {
		return nil, ErrMalformed
	}
	return b, nil
}

// span cuts the variable part of length octets at offset out of msg. Offsets
// into the header or into the first fixed octets of the body are refused; an
// empty part may stand anywhere, as clients leave its offset at will.
func span(msg []byte, offset, length uint32, fixed int) ([]byte, error) {
	if length == 0 {
		return nil, nil
	}
	end := uint64(offset) + uint64(length)
	if uint64(offset) < uint64(HeaderSize+fixed) || end > uint64(len(msg)) {
		return nil, ErrMalformed
	}
	return msg[offset:end:end], nil
}

// pad8 appends zeros until dst is a multiple of eight longer than start.
func pad8(dst []byte, start int) []byte {
	for (len(dst)-start)%8 != 0 {
		dst = append(dst, 0)
	}
	return dst
}

// DecodeUTF16 gives the string of a UTF-16LE text. An odd length is an error;
// unpaired surrogates become U+FFFD.
func DecodeUTF16(b []byte) (string, error) {
	if len(b)%2 != 0 {
		return "", ErrMalformed
	}
	units := make([]uint16, len(b)/2)
	for i := range units {
		units[i] = le.Uint16(b[2*i:])
	}
	return string(utf16.Decode(units)), nil
}

// AppendUTF16 appends s as UTF-16LE, without a terminator.
func AppendUTF16(dst []byte, s string) []byte {
	for _, r := range s {
		if r < 0x10000 {
			dst = le.AppendUint16(dst, uint16(r))
			continue
		}
		hi, lo := utf16.EncodeRune(r)
		dst = le.AppendUint16(dst, uint16(hi))
		dst = le.AppendUint16(dst, uint16(lo))
	}
	return dst
}
