package keyform

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/dtyp"
)

// Form is one of the forms in which a key travels.
type Form string

const (
	// LSA is the value of the LSA secret, 2.2.5 or 2.2.7, in the clear.
	LSA Form = "lsa"
	// PVK is the file of recovery tools: an RSA key in the clear, without its
	// certificate and its GUID.
	PVK Form = "pvk"
	// PEM is a PKCS#8 private key in the clear and, as a rule, the certificate.
	PEM Form = "pem"
	// Age is a Bundle, encrypted.
	Age Form = "age"
)

// Plaintext says whether the form holds keys in the clear.
func (f Form) Plaintext() bool { return f != Age }

const pvkMagic = 0xb0b5f11e

// Detect tells by their head which form octets have. The error is ErrFormat.
func Detect(b []byte) (Form, error) {
	switch {
	case isAge(b):
		return Age, nil
	case bytes.Contains(b, []byte("-----BEGIN ")):
		return PEM, nil
	case len(b) >= 4 && binary.LittleEndian.Uint32(b) == pvkMagic:
		return PVK, nil
	case len(b) == bkrp.ServerKeySize || len(b) >= pairHeader && binary.LittleEndian.Uint32(b) == pairVersion:
		return LSA, nil
	}
	return "", fmt.Errorf("%w: it is no LSA secret, PVK file, PEM file or age file", ErrFormat)
}

// Given is what comes with a key in the clear from elsewhere, where its form does
// not have it.
type Given struct {
	// GUID names the key. Where the form has a GUID too, it has to be the same.
	GUID dtyp.GUID
	// Certificate is the key's, DER. Without one, a new certificate is issued.
	Certificate []byte
	// Domain is the DNS name of the domain, and Now the time, for a new
	// certificate.
	Domain string
	Now    time.Time
}

// Parse reads a key in the clear: LSA, PVK or PEM, as form says. The errors are
// ErrFormat, ErrNoGUID and ErrOtherKey. The caller clears b and the key.
func Parse(form Form, b []byte, given Given) (*Key, error) {
	switch form {
	case LSA:
		if given.Certificate != nil {
			return nil, fmt.Errorf("%w: an LSA secret takes no other certificate than its own", ErrOtherKey)
		}
		return New(given.GUID, b)
	case PVK:
		blob, err := bkrp.ParsePVK(b)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrFormat, err)
		}
		return bareKey(blob, given)
	case PEM:
		return parsePEM(b, given)
	}
	return nil, fmt.Errorf("%w: %q is no form of a key in the clear", ErrFormat, form)
}

// bareKey is an RSA key with the certificate and the GUID that were given, or
// with a new certificate.
func bareKey(blob []byte, given Given) (*Key, error) {
	if given.Certificate != nil {
		secret := pairSecret(blob, given.Certificate)
		defer clear(secret)
		return New(given.GUID, secret)
	}
	if given.GUID.IsZero() {
		return nil, ErrNoGUID
	}
	pvk := appendPVK(nil, blob)
	defer clear(pvk)
	pair, err := bkrp.KeyPairFromPVK(pvk, given.GUID, given.Domain, given.Now)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	defer pair.Clear()
	secret, err := pair.AppendBinary(nil)
	if err != nil {
		return nil, err
	}
	defer clear(secret)
	return New(given.GUID, secret)
}

func appendPVK(b, blob []byte) []byte {
	const keyExchange = 1 // AT_KEYEXCHANGE
	for _, word := range []uint32{pvkMagic, 0, keyExchange, 0, 0, uint32(len(blob))} {
		b = binary.LittleEndian.AppendUint32(b, word)
	}
	return append(b, blob...)
}

// Marshal writes the key in the clear, in the form LSA, PVK or PEM. A ServerWrap
// key is an LSA secret only; the others are ErrUnsuited. The caller clears the
// result.
func (k *Key) Marshal(form Form) ([]byte, error) {
	if err := k.Check(); err != nil {
		return nil, err
	}
	if form != LSA && k.Kind != ClientWrap {
		return nil, fmt.Errorf("%w: a %s key goes as %s or %s", ErrUnsuited, k.Kind, LSA, Age)
	}
	if form == LSA {
		return append([]byte(nil), k.Secret...), nil
	}
	if err := checkCRT(pairBlob(k.Secret)); err != nil {
		return nil, fmt.Errorf("%w: other programs would not read it (%w); it goes as %s", ErrUnsuited, err, Age)
	}
	switch form {
	case PVK:
		return appendPVK(nil, pairBlob(k.Secret)), nil
	case PEM:
		return marshalPEM(pairBlob(k.Secret), pairCertificate(k.Secret))
	}
	return nil, fmt.Errorf("%w: %q is no form of a key in the clear", ErrUnsuited, form)
}

// GUIDInName finds the GUID in the name of a file, as tools that export a
// domain's keys put it there. A name with none, or with two different ones, does
// not tell.
func GUIDInName(name string) (guid dtyp.GUID, ok bool) {
	const length = 36 // without braces
	for i := 0; i+length <= len(name); i++ {
		g, err := dtyp.ParseGUID(name[i : i+length])
		if err != nil {
			continue
		}
		if ok && g != guid {
			return dtyp.GUID{}, false
		}
		guid, ok = g, true
	}
	return guid, ok
}
