package keystore

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"unicode/utf16"

	//lint:ignore SA1019 NTLM requires MD4; no other file uses it
	"golang.org/x/crypto/md4"
)

// NTHash is MD4 of a password in UTF-16LE ([MS-NLMP] 3.3.1, NTOWFv1), which is
// as good as the password on the network. No way of printing or logging it
// shows its octets.
type NTHash [16]byte

// newNTHash hashes a password.
func newNTHash(password string) (hash NTHash) {
	var b []byte
	for _, unit := range utf16.Encode([]rune(password)) {
		b = binary.LittleEndian.AppendUint16(b, unit)
	}
	h := md4.New()
	h.Write(b)
	clear(b)
	h.Sum(hash[:0])
	return hash
}

const redacted = "[redacted]"

// Format writes the same for every verb.
func (NTHash) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted) }

// String does not show the hash.
func (NTHash) String() string { return redacted }

// LogValue does not show the hash.
func (NTHash) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText does not show the hash, so that no JSON does.
func (NTHash) MarshalText() ([]byte, error) { return []byte(redacted), nil }
