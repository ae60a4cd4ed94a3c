package keystore

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

var (
	// ErrAccountName says that a name cannot be an account's.
	ErrAccountName = errors.New("keystore: account name is not usable")
	// ErrPassword says that a password is empty, too long or no text.
	ErrPassword = errors.New("keystore: password is not usable")
)

const (
	// maxAccountName is the longest name of an account, in characters.
	maxAccountName = 64
	// maxPassword is the longest password, in octets of UTF-8. Windows ends
	// at 256 UTF-16 units, of up to three octets each.
	maxPassword = 768
)

// foldAccount gives the form in which names are compared, since [MS-NLMP] and
// the SAM compare them without regard to case. The mapping is character by
// character, as theirs is.
func foldAccount(name string) string { return strings.ToUpper(name) }

// checkAccountName applies the rules of the SAM ([MS-SAMR] 3.1.1.6): none of
// the characters that separate names from domains and hosts or steer
// terminals, and not blanks and periods only.
func checkAccountName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: it is empty", ErrAccountName)
	case !utf8.ValidString(name):
		return fmt.Errorf("%w: it is no UTF-8", ErrAccountName)
	case utf8.RuneCountInString(name) > maxAccountName || len(accountEntry(name)) > MaxNameSize:
		return fmt.Errorf("%w: it is longer than %d characters", ErrAccountName, maxAccountName)
	case strings.Trim(name, ". ") == "":
		return fmt.Errorf("%w: it has no letter or digit", ErrAccountName)
	case name != strings.TrimSpace(name) || strings.HasSuffix(name, "."):
		return fmt.Errorf("%w: it begins or ends with a blank, or ends with a period", ErrAccountName)
	}
	for _, c := range name {
		if strings.ContainsRune(`"/\[]:;|=,+*?<>@`, c) || !unicode.IsPrint(c) {
			return fmt.Errorf("%w: character %q is not allowed", ErrAccountName, c)
		}
	}
	return nil
}

// checkPassword refuses what cannot be hashed as Windows hashes it, and the
// empty password, which would let anybody in.
func checkPassword(password string) error {
	switch {
	case password == "":
		return fmt.Errorf("%w: it is empty", ErrPassword)
	case len(password) > maxPassword:
		return fmt.Errorf("%w: it is longer than %d octets", ErrPassword, maxPassword)
	case !utf8.ValidString(password) || strings.ContainsRune(password, 0):
		return fmt.Errorf("%w: it is no UTF-8 text", ErrPassword)
	}
	return nil
}
