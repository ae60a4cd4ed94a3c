package bkrp

import (
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"math"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/le"
)

// The values of dwVersion, the first word of a ClientWrap blob.
const (
	ClientWrappedVersion2 = 2 // 3DES and SHA-1
	ClientWrappedVersion3 = 3 // AES-256 and SHA-512
)

// clientWrappedHeader is the length of what stands before EncryptedSecret.
const clientWrappedHeader = 12 + dtyp.GUIDSize

// 2.2.2 Client-Side-Wrapped-Secret

// ClientWrapped is a secret wrapped by the client under the public key of the
// domain ([MS-BKRP] 2.2.2).
type ClientWrapped struct {
	// Version is dwVersion, 2 or 3.
	Version uint32
	// KeyGUID is guidKey, which names the key pair.
	KeyGUID dtyp.GUID
	// EncryptedSecret is the RSA ciphertext, least significant octet first, as
	// long as the modulus.
	EncryptedSecret []byte
	// AccessCheck is the ciphertext of the AccessCheck structure.
	AccessCheck []byte
}

// ParseClientWrapped reads a ClientWrap blob that fills b. The result
// refers to b. Errors wrap ErrFormat.
func ParseClientWrapped(b []byte) (*ClientWrapped, error) {
	c := le.NewCursor(b)
	w := &ClientWrapped{Version: c.Uint32()}
	encrypted, access := c.Uint32(), c.Uint32()
	c.Fill(w.KeyGUID[:])
	w.EncryptedSecret = c.Bytes(uint64(encrypted))
	w.AccessCheck = c.Bytes(uint64(access))
	if c.Err() == nil && formatOf(w.Version) == nil {
		return nil, fmt.Errorf("%w: Client-Side-Wrapped Secret of version %d", ErrFormat, w.Version)
	}
	if err := c.Done(); err != nil {
		return nil, fmt.Errorf("%w: Client-Side-Wrapped Secret: %w", ErrFormat, err)
	}
	return w, nil
}

// AppendBinary appends the blob to b. Errors wrap ErrFormat.
func (w *ClientWrapped) AppendBinary(b []byte) ([]byte, error) {
	if formatOf(w.Version) == nil {
		return b, fmt.Errorf("%w: Client-Side-Wrapped Secret of version %d", ErrFormat, w.Version)
	}
	if uint64(len(w.EncryptedSecret)) > math.MaxUint32 || uint64(len(w.AccessCheck)) > math.MaxUint32 {
		return b, fmt.Errorf("%w: Client-Side-Wrapped Secret: field longer than 4 GiB", ErrFormat)
	}
	b = binary.LittleEndian.AppendUint32(b, w.Version)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(w.EncryptedSecret)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(w.AccessCheck)))
	b = append(b, w.KeyGUID[:]...)
	b = append(b, w.EncryptedSecret...)
	return append(b, w.AccessCheck...), nil
}

// ClientSecret is what a ClientWrap blob holds.
type ClientSecret struct {
	// SID is the one caller the secret may be given to.
	SID dtyp.SID
	// Secret is what was wrapped.
	Secret []byte
	// Nonce is that of the AccessCheck, from which SealCrossover and
	// OpenCrossover derive their key.
	Nonce []byte
}

// String is the SID; the secret is not shown.
func (s ClientSecret) String() string { return "secret of " + s.SID.String() + " " + redacted }

// Format writes String, whatever the verb.
func (s ClientSecret) Format(f fmt.State, _ rune) { io.WriteString(f, s.String()) }

// LogValue is String.
func (s ClientSecret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Clear overwrites the secret and the nonce.
func (s *ClientSecret) Clear() {
	clear(s.Secret)
	clear(s.Nonce)
	*s = ClientSecret{}
}
