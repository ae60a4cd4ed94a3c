package keystore

import (
	"strings"

	"github.com/seed05845750/bkrp/dtyp"
)

// Names of the LSA secrets (L-13, [MS-BKRP] 3.1.4.1.1 and 3.1.4.1.3).
const (
	// SecretPrefix begins the names of all secrets of the protocol; what
	// follows is a GUID in lower case and without braces for a key, or
	// the rest of one of the two names below.
	SecretPrefix = "G$BCKUPKEY_"
	// CurrentServerSecret holds the GUID of the current ServerWrap key.
	CurrentServerSecret = SecretPrefix + "P"
	// CurrentClientSecret holds the GUID of the current ClientWrap key.
	CurrentClientSecret = SecretPrefix + "PREFERRED"
)

// keySecret is the name of the secret that holds a key.
func keySecret(guid dtyp.GUID) string { return SecretPrefix + guid.String() }

// canonicalSecret gives the one form of a secret's name under which it is
// stored, whatever its case. Other names than those of the protocol
// are not in the store.
func canonicalSecret(name string) (canonical string, ok bool) {
	if strings.EqualFold(name, CurrentServerSecret) {
		return CurrentServerSecret, true
	}
	if strings.EqualFold(name, CurrentClientSecret) {
		return CurrentClientSecret, true
	}
	guid, ok := secretGUID(name)
	if !ok {
		return "", false
	}
	return keySecret(guid), true
}

// secretGUID gives the GUID in the name of a key's secret.
func secretGUID(name string) (guid dtyp.GUID, ok bool) {
	const guidLength = 36 // without braces
	if len(name) != len(SecretPrefix)+guidLength || !strings.EqualFold(name[:len(SecretPrefix)], SecretPrefix) {
		return dtyp.GUID{}, false
	}
	guid, err := dtyp.ParseGUID(name[len(SecretPrefix):])
	return guid, err == nil
}
