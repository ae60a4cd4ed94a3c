// Package keyform reads and writes the forms in which a key of a domain travels
// between stores: the LSA secret ([MS-BKRP] 2.2.5, 2.2.7), the PVK file of
// recovery tools, PEM with PKCS#8 and the certificate, and the Bundle, which is
// encrypted by age. Parse tells them apart.
//
// A Key that comes out of this package has been checked: its numbers belong
// together, its certificate parses and holds its public key, and its GUID is the
// certificate's. Nothing here touches a store, a file or a terminal.
package keyform

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/dtyp"
)

var (
	// ErrFormat says that octets are no key in any form that is known here, or
	// a damaged one.
	ErrFormat = errors.New("keyform: not a usable key")
	// ErrNoGUID says that the form does not have the GUID of the key, and that
	// nobody has given it.
	ErrNoGUID = errors.New("keyform: this form does not name its key; the GUID has to be given")
	// ErrOtherKey says that what was given belongs to another key.
	ErrOtherKey = errors.New("keyform: GUID or certificate is another key's")
	// ErrUnsuited says that a form cannot hold keys of a kind.
	ErrUnsuited = errors.New("keyform: this form does not hold keys of this kind")
)

// Kind is a kind of key.
type Kind string

const (
	// ClientWrap is an RSA key pair with its certificate ([MS-BKRP] 2.2.5).
	ClientWrap Kind = "ClientWrap"
	// ServerWrap is a symmetric key (2.2.7).
	ServerWrap Kind = "ServerWrap"
)

// Key is a key with what a store knows of it. JSON has all of it; no other way of
// printing or logging it shows the secret.
type Key struct {
	// GUID names the key in wrapped secrets.
	GUID dtyp.GUID `json:"guid"`
	// Kind is what Secret holds.
	Kind Kind `json:"kind"`
	// Created is when the key was made, as far as its certificate tells, in
	// whole seconds, UTC; zero where nothing does.
	Created time.Time `json:"created,omitzero"`
	// Current says that new secrets are wrapped under the key.
	Current bool `json:"current,omitempty"`
	// Secret is the key as an LSA secret: 2.2.5 or 2.2.7.
	Secret []byte `json:"secret"`
}

// New checks a key in the form of an LSA secret, 2.2.5 or 2.2.7, and copies it.
// guid may be zero for the former, whose certificate has it; the latter is
// ErrNoGUID then. Another GUID than the certificate's is ErrOtherKey. Other
// errors wrap ErrFormat, also where the numbers for the Chinese remainder theorem
// do not fit: what comes as a file in the clear is then damaged.
func New(guid dtyp.GUID, secret []byte) (*Key, error) {
	k := &Key{GUID: guid, Secret: append([]byte(nil), secret...)}
	err := k.Check()
	if err == nil && k.Kind == ClientWrap {
		err = checkCRT(pairBlob(k.Secret))
	}
	if err != nil {
		k.Clear()
		return nil, err
	}
	return k, nil
}

// Check completes GUID, Kind and Created by what Secret holds. The errors are
// those of New, but it takes wrong numbers for the Chinese remainder theorem, as
// a store does, so that such a key can be exported too.
func (k *Key) Check() error {
	pair, pairErr := bkrp.ParseKeyPair(k.Secret)
	if pairErr == nil {
		defer pair.Clear()
		return k.checkPair(pair)
	}
	key, keyErr := bkrp.ParseServerKey(k.Secret)
	if keyErr != nil {
		return fmt.Errorf("%w: %w", ErrFormat, errors.Join(pairErr, keyErr))
	}
	key.Clear()
	if allZero(k.Secret[4:]) {
		return fmt.Errorf("%w: a ServerWrap key of zeros", ErrFormat)
	}
	if k.GUID.IsZero() {
		return ErrNoGUID
	}
	k.Kind, k.Created = ServerWrap, k.Created.UTC().Truncate(time.Second)
	return nil
}

func (k *Key) checkPair(pair *bkrp.KeyPair) error {
	if k.GUID.IsZero() {
		k.GUID = pair.GUID()
	}
	if pair.GUID() != k.GUID {
		return fmt.Errorf("%w: key %v was asked for, and the certificate names key %v", ErrOtherKey, k.GUID, pair.GUID())
	}
	if pair.GUID().IsZero() {
		return fmt.Errorf("%w: its certificate names it by zeros", ErrFormat)
	}
	k.Kind = ClientWrap
	if k.Created.IsZero() {
		k.Created = pair.Certificate().NotBefore
	}
	k.Created = k.Created.UTC().Truncate(time.Second)
	return nil
}

func allZero(b []byte) bool {
	var or byte
	for _, x := range b {
		or |= x
	}
	return or == 0
}

// Clear overwrites the secret; a nil Key has none.
func (k *Key) Clear() {
	if k != nil {
		clear(k.Secret)
	}
}

// String describes the key, without the secret.
func (k *Key) String() string { return string(k.Kind) + " key " + k.GUID.String() }

// Format writes String, whatever the verb.
func (k *Key) Format(f fmt.State, _ rune) { io.WriteString(f, k.String()) }

// LogValue is String.
func (k *Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// 2.2.5 ClientWrap RSA Key Pair: version, length of the key, length of the
// certificate, key, certificate.
const (
	pairVersion = 2
	pairHeader  = 12
)

// pairSecret is the LSA secret of an RSA key and a certificate.
func pairSecret(blob, certificate []byte) []byte {
	b := make([]byte, 0, pairHeader+len(blob)+len(certificate))
	b = binary.LittleEndian.AppendUint32(b, pairVersion)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(blob)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(certificate)))
	b = append(b, blob...)
	return append(b, certificate...)
}

// pairBlob is the RSA key of an LSA secret that bkrp.ParseKeyPair has read, and
// pairCertificate its certificate.
func pairBlob(secret []byte) []byte { return secret[pairHeader : pairHeader+blobSize] }

func pairCertificate(secret []byte) []byte { return secret[pairHeader+blobSize:] }
