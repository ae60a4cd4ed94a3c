package keystore

import (
	"fmt"
	"log/slog"

	"github.com/seed05845750/bkrp/internal/nthash"
)

// NTHash is MD4 of a password in UTF-16LE ([MS-NLMP] 3.3.1, NTOWFv1), which is
// as good as the password on the network. No way of printing or logging it
// shows its octets.
type NTHash [16]byte

// newNTHash hashes a password.
func newNTHash(password string) NTHash { return nthash.Sum(password) }

const redacted = "[redacted]"

// Format writes the same for every verb.
func (NTHash) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted) }

// String does not show the hash.
func (NTHash) String() string { return redacted }

// LogValue does not show the hash.
func (NTHash) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText does not show the hash, so that no JSON does.
func (NTHash) MarshalText() ([]byte, error) { return []byte(redacted), nil }
