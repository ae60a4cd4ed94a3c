package dpapi

import (
	"bytes"
	"crypto/sha1"
	"fmt"
	"strings"
	"time"

	"github.com/seed05845750/bkrp/internal/le"
)

const (
	roamedNameSize = 93 // after "%", the kind and "\", zeros at the end

	// filetimeEpoch is the Unix time of FILETIME 0, 1601-01-01 UTC, in units
	// of 100 ns ([MS-DTYP] 2.3.3).
	filetimeEpoch = -116444736000000000
)

// RoamedCredential is one credential as credential roaming keeps it in the
// directory. Its layout is
//
//	  0    3  "%", the kind as a digit, "\"
//	  3   93  name, zeros at the end
//	 96    8  time of the last change, FILETIME
//	104    4  flags
//	108   20  SHA-1 of the data
//	128    4  length of the data
//	132    *  data
type RoamedCredential struct {
	// Kind is the digit; '0' is a master key file.
	Kind byte
	// Name is that of the file the data came from.
	Name string
	// Modified is when it last changed, UTC.
	Modified time.Time
	// Flags is the word at 104.
	Flags uint32
	// Data is the file.
	Data []byte
}

// RoamedMasterKey is the Kind of a credential whose data ParseMasterKeyFile
// reads.
const RoamedMasterKey = '0'

// ParseRoamedCredential reads the credential that fills b, and proves its hash.
// The result refers to b. Errors wrap ErrFormat.
func ParseRoamedCredential(b []byte) (*RoamedCredential, error) {
	c := le.NewCursor(b)
	head, name := c.Bytes(3), c.Bytes(roamedNameSize)
	modified := c.Uint64()
	r := &RoamedCredential{Flags: c.Uint32()}
	sum := c.Bytes(sha1.Size)
	r.Data = c.Bytes(uint64(c.Uint32()))
	if err := c.Done(); err != nil {
		return nil, fmt.Errorf("%w: roamed credential: %w", ErrFormat, err)
	}
	text, zeros, _ := bytes.Cut(name, []byte{0})
	if head[0] != '%' || head[1] < '0' || head[1] > '9' || head[2] != '\\' || len(bytes.Trim(zeros, "\x00")) != 0 ||
		strings.ContainsFunc(string(text), func(c rune) bool { return c < ' ' || c > '~' }) {
		return nil, fmt.Errorf("%w: no header of a roamed credential", ErrFormat)
	}
	if got := sha1.Sum(r.Data); !bytes.Equal(got[:], sum) {
		return nil, fmt.Errorf("%w: roamed credential: its hash does not fit its data", ErrFormat)
	}
	r.Kind, r.Name, r.Modified = head[1], string(text), fileTime(modified)
	return r, nil
}

// fileTime is a FILETIME as a time, UTC.
func fileTime(t uint64) time.Time {
	const perSecond = 10_000_000
	seconds, rest := int64(t/perSecond), int64(t%perSecond)
	return time.Unix(seconds+filetimeEpoch/perSecond, rest*100).UTC()
}
