package ntlm

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"unicode/utf16"

	"github.com/seed05845750/bkrp/internal/gss"
)

// Signature is what each NTLM message begins with ([MS-NLMP] 2.2.1): a token
// that starts so is NTLM without a SPNEGO wrapper.
const Signature = "NTLMSSP\x00"

// MessageType of [MS-NLMP] 2.2.1.
const (
	typeNegotiate    = 1
	typeChallenge    = 2
	typeAuthenticate = 3
)

const (
	headerSize = 12 // signature and type
	// maxNegotiate and maxMessage bound what is read and what is kept of a
	// peer, in octets. Real messages stay under 1 KiB.
	maxNegotiate = 1 << 10
	maxMessage   = 16 << 10
	// maxName bounds a user, domain or workstation name, in UTF-16 units: the
	// longest DNS domain name is 255, the longest user name 256.
	maxName = 256
)

// flags are NEGOTIATE flags ([MS-NLMP] 2.2.2.5).
type flags uint32

const (
	flagUnicode          flags = 1 << 0  // A
	flagOEM              flags = 1 << 1  // B
	flagRequestTarget    flags = 1 << 2  // C
	flagSign             flags = 1 << 4  // D
	flagSeal             flags = 1 << 5  // E
	flagDatagram         flags = 1 << 6  // F
	flagNTLM             flags = 1 << 9  // H
	flagAnonymous        flags = 1 << 11 // J
	flagAlwaysSign       flags = 1 << 15 // M
	flagTargetTypeDomain flags = 1 << 16 // N
	flagExtendedSecurity flags = 1 << 19 // P
	flagIdentify         flags = 1 << 20 // Q
	flagTargetInfo       flags = 1 << 23 // S
	flagVersion          flags = 1 << 25 // T
	flag128              flags = 1 << 29 // U
	flagKeyExchange      flags = 1 << 30 // V
	flag56               flags = 1 << 31 // W
)

// required are the flags without which neither end goes on.
const required = flagUnicode | flagNTLM | flagExtendedSecurity | flag128 | flagKeyExchange

// checkStrength refuses what is weaker than this package speaks.
func (f flags) checkStrength() error {
	if f&flagDatagram != 0 {
		return fmt.Errorf("ntlm: datagram mode: %w", gss.ErrRefused)
	}
	if missing := required &^ f; missing != 0 {
		return fmt.Errorf("ntlm: peer lacks flags %#08x (wanted: Unicode, extended session security, 128-bit keys, key exchange): %w",
			uint32(missing), gss.ErrRefused)
	}
	return nil
}

// version is the VERSION structure ([MS-NLMP] 2.2.2.10), for debugging only:
// 6.1 with NTLMSSP revision 15, the oldest that has all this package speaks.
var version = [8]byte{6, 1, 0, 0, 0, 0, 0, 15}

// checkHeader says whether m is a message of the type given.
func checkHeader(m []byte, messageType uint32, minSize, maxSize int) error {
	switch {
	case len(m) < headerSize || !bytes.HasPrefix(m, []byte(Signature)):
		return fmt.Errorf("ntlm: no NTLM message: %w", gss.ErrToken)
	case binary.LittleEndian.Uint32(m[8:]) != messageType:
		return fmt.Errorf("ntlm: message of type %d where %d belongs: %w", binary.LittleEndian.Uint32(m[8:]), messageType, gss.ErrToken)
	case len(m) < minSize || len(m) > maxSize:
		return fmt.Errorf("ntlm: message of type %d is %d octets long: %w", messageType, len(m), gss.ErrToken)
	}
	return nil
}

// cutField gives the payload that the length, allocated length and offset at
// m[at:] point to ([MS-NLMP] 2.2.1.1 DomainNameFields and the like). It lies
// behind the fixed part, which is fixed octets long. An empty field may have
// any offset. The result shares m's memory.
func cutField(m []byte, at, fixed int) ([]byte, error) {
	size := int(binary.LittleEndian.Uint16(m[at:]))
	offset := uint64(binary.LittleEndian.Uint32(m[at+4:]))
	if size == 0 {
		return nil, nil
	}
	if offset < uint64(fixed) || offset+uint64(size) > uint64(len(m)) {
		return nil, fmt.Errorf("ntlm: field at %d lies outside of its message: %w", at, gss.ErrToken)
	}
	return m[offset : offset+uint64(size) : offset+uint64(size)], nil
}

// appendField appends payload to m and lets the field at m[at:] point to it.
func appendField(m []byte, at int, payload []byte) []byte {
	binary.LittleEndian.PutUint16(m[at:], uint16(len(payload)))
	binary.LittleEndian.PutUint16(m[at+2:], uint16(len(payload)))
	binary.LittleEndian.PutUint32(m[at+4:], uint32(len(m)))
	return append(m, payload...)
}

// appendHeader appends signature and type.
func appendHeader(m []byte, messageType uint32) []byte {
	return binary.LittleEndian.AppendUint32(append(m, Signature...), messageType)
}

// cutName is cutField for a name in UTF-16LE. Unpaired surrogates are refused,
// so that a name has one form only.
func cutName(m []byte, at, fixed int) (string, error) {
	b, err := cutField(m, at, fixed)
	if err != nil {
		return "", err
	}
	s, ok := decodeUTF16(b)
	if !ok || len(b) > 2*maxName {
		return "", fmt.Errorf("ntlm: field at %d is no name: %w", at, gss.ErrToken)
	}
	return s, nil
}

// decodeUTF16 reads UTF-16LE.
func decodeUTF16(b []byte) (s string, ok bool) {
	if len(b)%2 != 0 {
		return "", false
	}
	units := make([]uint16, len(b)/2)
	for i := range units {
		units[i] = binary.LittleEndian.Uint16(b[2*i:])
	}
	for i := 0; i < len(units); i++ {
		switch u := units[i]; {
		case u >= 0xdc00 && u < 0xe000:
			return "", false
		case u >= 0xd800 && u < 0xdc00:
			i++
			if i == len(units) || units[i] < 0xdc00 || units[i] >= 0xe000 {
				return "", false
			}
		}
	}
	return string(utf16.Decode(units)), true
}

// appendUTF16 appends s as UTF-16LE.
func appendUTF16(b []byte, s string) []byte {
	for _, r := range s {
		if hi, lo := utf16.EncodeRune(r); hi != 0xfffd {
			b = binary.LittleEndian.AppendUint16(b, uint16(hi))
			r = lo
		}
		b = binary.LittleEndian.AppendUint16(b, uint16(r))
	}
	return b
}
