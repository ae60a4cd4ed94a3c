package bkrp

import (
	"encoding/binary"
	"fmt"
)

// unwrappedHeader is the length of the fixed word before an unwrapped secret.
const unwrappedHeader = 4

// 2.2.3 Unwrapped Secret

// AppendUnwrapped appends the answer to the unwrapping of a ClientWrap blob:
// four zero octets and the secret ([MS-BKRP] 2.2.3). The unwrapping of a
// ServerWrap blob is answered with the bare secret instead.
func AppendUnwrapped(b, secret []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, 0)
	return append(b, secret...)
}

// ParseUnwrapped takes the four zero octets off and gives the secret, which
// refers to b. Errors wrap ErrFormat.
func ParseUnwrapped(b []byte) (secret []byte, err error) {
	if len(b) < unwrappedHeader || binary.LittleEndian.Uint32(b) != 0 {
		return nil, fmt.Errorf("%w: unwrapped secret does not begin with four zero octets", ErrFormat)
	}
	return b[unwrappedHeader:], nil
}
