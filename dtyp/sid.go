package dtyp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

const (
	// MaxSubAuthorities is the most sub-authorities a SID has.
	MaxSubAuthorities = 15
	// MaxSIDSize is the length of the longest binary SID, in octets.
	MaxSIDSize = 8 + 4*MaxSubAuthorities
)

// ErrSID is what every error about a malformed SID wraps.
var ErrSID = errors.New("dtyp: malformed SID")

// SID is a security identifier ([MS-DTYP] 2.4.2) of revision 1. It is
// comparable: two SIDs are the same principal exactly when they are ==. The
// zero SID is no principal.
type SID struct {
	authority uint64 // 48 bits
	sub       [MaxSubAuthorities]uint32
	count     uint8
	valid     bool
}

// NewSID makes a SID of an identifier authority of at most 48 bits and up to
// 15 sub-authorities.
func NewSID(authority uint64, sub ...uint32) (SID, error) {
	if authority >= 1<<48 || len(sub) > MaxSubAuthorities {
		return SID{}, ErrSID
	}
	s := SID{authority: authority, count: uint8(len(sub)), valid: true}
	copy(s.sub[:], sub)
	return s, nil
}

// CutSID reads the binary form ([MS-DTYP] 2.4.2.2, no NDR conformance word)
// at the head of b and returns it with what follows.
func CutSID(b []byte) (s SID, rest []byte, err error) {
	if len(b) < 8 || b[0] != 1 || b[1] > MaxSubAuthorities || len(b) < 8+4*int(b[1]) {
		return SID{}, nil, ErrSID
	}
	s.valid = true
	s.count = b[1]
	s.authority = uint64(binary.BigEndian.Uint16(b[2:]))<<32 | uint64(binary.BigEndian.Uint32(b[4:]))
	for i := range int(s.count) {
		s.sub[i] = binary.LittleEndian.Uint32(b[8+4*i:])
	}
	return s, b[8+4*int(s.count):], nil
}

// SIDFromBytes reads a binary SID that fills b.
func SIDFromBytes(b []byte) (SID, error) {
	s, rest, err := CutSID(b)
	if err != nil {
		return SID{}, err
	}
	if len(rest) != 0 {
		return SID{}, fmt.Errorf("%w: %d octets follow it", ErrSID, len(rest))
	}
	return s, nil
}

// ParseSID reads the string form, "S-1-5-21-...", the authority in decimal or
// as 0x and hexadecimal digits ([MS-DTYP] 2.4.2.1).
func ParseSID(text string) (SID, error) {
	bad := fmt.Errorf("%w: %q", ErrSID, text)
	parts := strings.Split(text, "-")
	if len(parts) < 3 || len(parts) > 3+MaxSubAuthorities || !strings.EqualFold(parts[0], "S") || parts[1] != "1" {
		return SID{}, bad
	}
	digits, base := parts[2], 10
	if h, ok := strings.CutPrefix(strings.ToLower(digits), "0x"); ok {
		digits, base = h, 16
	}
	authority, err := strconv.ParseUint(digits, base, 48)
	if err != nil {
		return SID{}, bad
	}
	sub := make([]uint32, len(parts)-3)
	for i, p := range parts[3:] {
		v, err := strconv.ParseUint(p, 10, 32)
		if err != nil {
			return SID{}, bad
		}
		sub[i] = uint32(v)
	}
	return NewSID(authority, sub...)
}

// MustParseSID is ParseSID for constants of the source; it panics on error.
func MustParseSID(text string) SID {
	s, err := ParseSID(text)
	if err != nil {
		panic(err)
	}
	return s
}

// IsZero reports whether s is the zero SID, which names no principal.
func (s SID) IsZero() bool { return !s.valid }

// Size is the length of the binary form: 8 octets and 4 for each
// sub-authority; 0 for the zero SID.
func (s SID) Size() int {
	if !s.valid {
		return 0
	}
	return 8 + 4*int(s.count)
}

// AppendBinary appends the binary form to b. The zero SID is an error.
func (s SID) AppendBinary(b []byte) ([]byte, error) {
	if !s.valid {
		return b, fmt.Errorf("%w: the zero SID has no binary form", ErrSID)
	}
	b = append(b, 1, s.count)
	b = binary.BigEndian.AppendUint16(b, uint16(s.authority>>32))
	b = binary.BigEndian.AppendUint32(b, uint32(s.authority))
	for _, v := range s.sub[:s.count] {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return b, nil
}

// String gives the string form; "" for the zero SID.
func (s SID) String() string {
	if !s.valid {
		return ""
	}
	b := []byte("S-1-")
	if s.authority >= 1<<32 {
		b = append(b, "0x"...)
		b = append(b, fmt.Sprintf("%012X", s.authority)...)
	} else {
		b = strconv.AppendUint(b, s.authority, 10)
	}
	for _, v := range s.sub[:s.count] {
		b = append(b, '-')
		b = strconv.AppendUint(b, uint64(v), 10)
	}
	return string(b)
}

// MarshalText gives String.
func (s SID) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what ParseSID reads; empty text is the zero SID.
func (s *SID) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*s = SID{}
		return nil
	}
	v, err := ParseSID(string(text))
	if err != nil {
		return err
	}
	*s = v
	return nil
}

// Authority is the identifier authority, 48 bits.
func (s SID) Authority() uint64 { return s.authority }

// SubAuthorities is a copy of the sub-authorities.
func (s SID) SubAuthorities() []uint32 { return append([]uint32(nil), s.sub[:s.count]...) }

// Child is s with one more sub-authority: the SID of an account in the domain
// s, by its RID.
func (s SID) Child(rid uint32) (SID, error) {
	if !s.valid || s.count == MaxSubAuthorities {
		return SID{}, ErrSID
	}
	s.sub[s.count] = rid
	s.count++
	return s, nil
}

// Cut splits off the last sub-authority: the domain's SID and the RID.
func (s SID) Cut() (domain SID, rid uint32, ok bool) {
	if !s.valid || s.count == 0 {
		return SID{}, 0, false
	}
	s.count--
	rid = s.sub[s.count]
	s.sub[s.count] = 0
	return s, rid, true
}
