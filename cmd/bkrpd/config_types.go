package main

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
)

// size is a number of octets; as text with a binary unit, such as 4MiB.
type size int64

var sizeUnits = []struct {
	suffix string
	octets size
}{
	{"GiB", 1 << 30},
	{"MiB", 1 << 20},
	{"KiB", 1 << 10},
	{"B", 1},
}

// String gives the largest unit that leaves no fraction.
func (s size) String() string {
	for _, u := range sizeUnits {
		if s%u.octets == 0 && (s != 0 || u.octets == 1) {
			return strconv.FormatInt(int64(s/u.octets), 10) + u.suffix
		}
	}
	return strconv.FormatInt(int64(s), 10) + "B"
}

// MarshalText gives String.
func (s size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads digits and a unit.
func (s *size) UnmarshalText(text []byte) error {
	for _, u := range sizeUnits {
		digits, ok := strings.CutSuffix(string(text), u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(digits, 10, 63)
		if err != nil || size(n) > math.MaxInt64/u.octets {
			break
		}
		*s = size(n) * u.octets
		return nil
	}
	return fmt.Errorf("%q is not a size such as 64KiB or 4MiB", text)
}

// duration is a time.Duration; as text such as 90s or 1h30m.
type duration time.Duration

// String writes whole minutes and hours without the zeros of time.Duration.
func (d duration) String() string {
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// MarshalText gives String.
func (d duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what time.ParseDuration reads.
func (d *duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is not a duration such as 15s or 10m", text)
	}
	*d = duration(v)
	return nil
}

// The kinds of key-encryption keys this build has.
const (
	kekFile           = "file"
	kekPassphraseFile = "passphrase-file"
)

// kekURI says where the key-encryption key is.
type kekURI struct {
	// Scheme is kekFile for 32 random octets, kekPassphraseFile for a passphrase
	// from which the key is derived, or kekKMS for a key in a token.
	Scheme string
	// Path is the file, or the URI of the key in the token.
	Path string
}

// path is the file, or nil where there is none.
func (k *kekURI) path() *string {
	if k.Scheme == kekKMS {
		return nil
	}
	return &k.Path
}

// String gives SCHEME:PATH.
func (k kekURI) String() string {
	if k == (kekURI{}) {
		return ""
	}
	return k.Scheme + ":" + k.Path
}

// MarshalText gives String.
func (k kekURI) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads what String writes.
func (k *kekURI) UnmarshalText(text []byte) error {
	scheme, path, ok := strings.Cut(string(text), ":")
	switch {
	case !ok || path == "":
		return errors.New("is neither file:PATH nor passphrase-file:PATH nor kms:pkcs11:URI")
	case scheme == kekKMS:
		if err := checkKEK(kekURI{scheme, path}); err != nil {
			return err
		}
	case scheme != kekFile && scheme != kekPassphraseFile:
		return fmt.Errorf("a key-encryption key by %q is not known, only file:, passphrase-file: and kms: are", scheme)
	}
	*k = kekURI{scheme, path}
	return nil
}

// principalSID says who a Kerberos principal is.
type principalSID struct {
	// Principal is NAME@REALM.
	Principal string
	// SID is the user's.
	SID dtyp.SID
}

// MarshalText gives NAME@REALM=SID.
func (p principalSID) MarshalText() ([]byte, error) {
	return []byte(p.Principal + "=" + p.SID.String()), nil
}

// UnmarshalText reads what MarshalText gives.
func (p *principalSID) UnmarshalText(text []byte) error {
	principal, sid, ok := strings.Cut(string(text), "=")
	name, realm, qualified := strings.Cut(principal, "@")
	if !ok || !qualified || name == "" || realm == "" {
		return fmt.Errorf("%q is not NAME@REALM=SID", text)
	}
	p.Principal = principal
	var err error
	p.SID, err = dtyp.ParseSID(sid)
	return err
}
