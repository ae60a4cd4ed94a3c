package split

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/cloudflare/circl/group"
	"github.com/cloudflare/circl/secretsharing"
)

const (
	verifierVersion = 1
	verifierHeader  = 3 // version, k, n

	// idSize is the length of a split's name.
	idSize = 8
)

// Verifier proves shares of one split. It is public: it names the split and
// holds commitments to the secret and to the shares. It is not altered once it
// is made, and safe for concurrent use.
type Verifier struct {
	id          [idSize]byte
	n           int
	commitments secretsharing.SecretCommitment // k of them
	octets      []byte
}

func newVerifier(k, n int, c secretsharing.SecretCommitment) (*Verifier, error) {
	b := []byte{verifierVersion, byte(k), byte(n)}
	for _, e := range c {
		octets, err := e.MarshalBinaryCompress()
		if err != nil {
			return nil, fmt.Errorf("split: writing the verifier: %w", err)
		}
		b = append(b, octets...)
	}
	return ParseVerifier(b)
}

// ParseVerifier reads a verifier that fills b: version 1, k, n, and k elements
// of ristretto255 (RFC 9496) of 32 octets. Errors wrap ErrVerifier.
func ParseVerifier(b []byte) (*Verifier, error) {
	if len(b) < verifierHeader || b[0] != verifierVersion {
		return nil, fmt.Errorf("%w: no header of version %d", ErrVerifier, verifierVersion)
	}
	k, n := int(b[1]), int(b[2])
	if k < MinShares || n < k || n > MaxShares || len(b) != verifierHeader+k*scalarSize {
		return nil, fmt.Errorf("%w: %d octets for %d of %d shares", ErrVerifier, len(b), k, n)
	}
	v := &Verifier{n: n, octets: append([]byte(nil), b...)}
	for rest := b[verifierHeader:]; len(rest) > 0; rest = rest[scalarSize:] {
		e := group.Ristretto255.NewElement()
		// The identity commits to zero, which nobody draws.
		if err := e.UnmarshalBinary(rest[:scalarSize]); err != nil || e.IsIdentity() {
			return nil, fmt.Errorf("%w: commitment %d is no element of the group", ErrVerifier, len(v.commitments)+1)
		}
		v.commitments = append(v.commitments, e)
	}
	// The name is bound to all the rest, so that a share of the same name and
	// another k or n is a forgery and nothing else.
	h := sha256.New()
	h.Write([]byte("bkrp split id\x00"))
	h.Write(b)
	copy(v.id[:], h.Sum(nil))
	return v, nil
}

// AppendBinary appends what ParseVerifier reads, 3 + 32*K octets, to b.
func (v *Verifier) AppendBinary(b []byte) []byte { return append(b, v.octets...) }

// ID names the split, in 16 hexadecimal digits.
func (v *Verifier) ID() string { return hex.EncodeToString(v.id[:]) }

// K is how many shares are needed.
func (v *Verifier) K() int { return len(v.commitments) }

// N is how many shares were made.
func (v *Verifier) N() int { return v.n }
