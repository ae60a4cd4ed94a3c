package dpapi

import (
	"crypto/rand"
	"crypto/sha1"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/seed05845750/bkrp/dtyp"
)

// MasterKeySize is the length of a master key, in octets.
const MasterKeySize = 64

// ErrMasterKey says that octets are no master key.
var ErrMasterKey = errors.New("dpapi: not a master key")

// MasterKey is a master key in the clear. However it is printed or logged, only
// its name shows.
type MasterKey struct {
	// GUID names the key; blobs that are encrypted under it have it.
	GUID dtyp.GUID
	key  [MasterKeySize]byte
}

// GenerateMasterKey draws a master key and its GUID, which is of version 4.
func GenerateMasterKey() *MasterKey {
	k := new(MasterKey)
	rand.Read(k.GUID[:])
	k.GUID[7] = k.GUID[7]&0x0f | 0x40
	k.GUID[8] = k.GUID[8]&0x3f | 0x80
	rand.Read(k.key[:])
	return k
}

// NewMasterKey is the master key of that name, whose octets it copies. The error
// is ErrMasterKey when they are not MasterKeySize.
func NewMasterKey(guid dtyp.GUID, octets []byte) (*MasterKey, error) {
	if len(octets) != MasterKeySize {
		return nil, fmt.Errorf("%w: it has %d octets, and a master key has %d", ErrMasterKey, len(octets), MasterKeySize)
	}
	k := &MasterKey{GUID: guid}
	copy(k.key[:], octets)
	return k, nil
}

// Octets is the key itself, which Clear overwrites.
func (k *MasterKey) Octets() []byte { return k.key[:] }

// SHA1 is what blobs are encrypted with, and what tools list as the key. It is no
// fingerprint to be shown: it opens whatever the master key opens.
func (k *MasterKey) SHA1() [sha1.Size]byte { return sha1.Sum(k.key[:]) }

// Clear overwrites the key.
func (k *MasterKey) Clear() { clear(k.key[:]) }

// String names the key.
func (k MasterKey) String() string { return "master key " + k.GUID.String() }

// Format writes String, whatever the verb.
func (k MasterKey) Format(s fmt.State, _ rune) { io.WriteString(s, k.String()) }

// LogValue is String.
func (k MasterKey) LogValue() slog.Value { return slog.StringValue(k.String()) }
