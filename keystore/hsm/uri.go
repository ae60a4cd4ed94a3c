package hsm

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
)

// ErrURI is what every error about a URI wraps.
var ErrURI = errors.New("hsm: PKCS#11 URI is not usable")

const scheme = "pkcs11:"

const (
	// DefaultSessions is how many sessions a Token has at most, and so how many
	// calls it makes at a time.
	DefaultSessions = 8
	maxSessions     = 64
	// maxURI bounds a URI, in octets.
	maxURI = 4096
)

// URI says where a token or a key is (RFC 7512), as in
//
//	pkcs11:token=bkrp;object=kek?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=/etc/bkrpd/pin
//
// Of its attributes token, serial, slot-id, object, id, module-path, pin-source
// and max-sessions are known, each of them before or behind the question mark;
// any other is an error. So is pin-value: a PIN does not stand in a
// configuration.
type URI struct {
	// Module is the whole path of the library.
	Module string
	// Token and Serial are the label and the serial number of the token, and Slot
	// its slot; "" and nil where they do not matter. At least one of them does.
	Token, Serial string
	Slot          *uint
	// Object and ID are the label and the identity of a key (CKA_LABEL, CKA_ID);
	// both are "" where the URI names a token only.
	Object, ID string
	// PINSource is the whole path of a file, of mode 0600, whose first line is the
	// PIN. "" is a token that asks for none.
	PINSource string
	// Sessions is how many sessions are used at most, 1 to 64; 0 is
	// DefaultSessions.
	Sessions int
}

// ParseURI reads a URI. Errors wrap ErrURI.
func ParseURI(text string) (u URI, err error) {
	if len(text) > maxURI {
		return URI{}, fmt.Errorf("%w: it has more than %d octets", ErrURI, maxURI)
	}
	rest, ok := strings.CutPrefix(text, scheme)
	if !ok {
		return URI{}, fmt.Errorf("%w: it does not begin with %s", ErrURI, scheme)
	}
	seen := make(map[string]bool)
	path, query, _ := strings.Cut(rest, "?")
	for _, part := range append(strings.Split(path, ";"), strings.Split(query, "&")...) {
		if part == "" {
			continue
		}
		name, escaped, ok := strings.Cut(part, "=")
		value, escapeErr := url.PathUnescape(escaped)
		if !ok || escapeErr != nil || value == "" || strings.ContainsRune(value, 0) && name != "id" {
			// Not the value itself: it may be a PIN.
			return URI{}, fmt.Errorf("%w: its attribute %q has no proper value", ErrURI, name)
		}
		if seen[name] {
			return URI{}, fmt.Errorf("%w: %s stands there twice", ErrURI, name)
		}
		seen[name] = true
		if err := u.set(name, value); err != nil {
			return URI{}, fmt.Errorf("%w: %w", ErrURI, err)
		}
	}
	if u.Module == "" {
		return URI{}, fmt.Errorf("%w: it lacks module-path, the library of the token", ErrURI)
	}
	if u.Token == "" && u.Serial == "" && u.Slot == nil {
		return URI{}, fmt.Errorf("%w: it lacks the token: token, serial or slot-id", ErrURI)
	}
	return u, nil
}

// set takes one attribute.
func (u *URI) set(name, value string) error {
	switch name {
	case "module-path":
		u.Module = value
		return wholePath(name, value)
	case "token":
		u.Token = value
	case "serial":
		u.Serial = value
	case "slot-id":
		n, err := strconv.ParseUint(value, 10, 32)
		if err != nil {
			return errors.New("slot-id is not a number")
		}
		slot := uint(n)
		u.Slot = &slot
	case "object":
		u.Object = value
	case "id":
		u.ID = value
	case "pin-source":
		if path, ok := strings.CutPrefix(value, "file:"); ok {
			value = strings.TrimPrefix(path, "//")
		}
		u.PINSource = value
		return wholePath(name, value)
	case "pin-value":
		return errors.New("a PIN does not belong here: write it into a file of mode 0600, and name that by pin-source=/PATH")
	case "max-sessions":
		n, err := strconv.ParseUint(value, 10, 8)
		if err != nil || n < 1 || n > maxSessions {
			return fmt.Errorf("max-sessions is not a number from 1 to %d", maxSessions)
		}
		u.Sessions = int(n)
	default:
		return fmt.Errorf("attribute %q is not known", name)
	}
	return nil
}

func wholePath(name, path string) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("%s is not the whole path of a file", name)
	}
	return nil
}

// String is the URI, which holds no secret; ParseURI reads it.
func (u URI) String() string {
	path := u.names()
	query := attribute(nil, "module-path", u.Module)
	query = attribute(query, "pin-source", u.PINSource)
	if u.Sessions != 0 {
		query = attribute(query, "max-sessions", strconv.Itoa(u.Sessions))
	}
	return scheme + strings.Join(path, ";") + "?" + strings.Join(query, "&")
}

// Name is what the URI says of token and key, for messages.
func (u URI) Name() string { return scheme + strings.Join(u.names(), ";") }

func (u URI) names() []string {
	path := attribute(nil, "token", u.Token)
	path = attribute(path, "serial", u.Serial)
	if u.Slot != nil {
		path = attribute(path, "slot-id", strconv.FormatUint(uint64(*u.Slot), 10))
	}
	path = attribute(path, "object", u.Object)
	return attribute(path, "id", u.ID)
}

// attribute appends NAME=VALUE, if there is a value.
func attribute(list []string, name, value string) []string {
	if value == "" {
		return list
	}
	return append(list, name+"="+strings.NewReplacer("&", "%26", ";", "%3B", "=", "%3D").Replace(url.PathEscape(value)))
}
