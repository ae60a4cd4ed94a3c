// Package split shares a fresh secret of 32 octets among n people, so that any
// k of them bring it back and fewer learn nothing: Shamir's scheme over the
// group ristretto255, with Feldman's commitments, by which each share is proved
// on its own. A damaged share, one of another split, and one that somebody made
// up are therefore told apart and named.
//
// A Share is printed and typed as text (Share.Text, ParseShares). The Verifier
// is not secret and is kept with what the secret encrypts.
//
// The commitments hide the secret as far as discrete logarithms are hard: who
// has a Verifier and a large quantum computer needs no share.
package split

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/cloudflare/circl/group"
	"github.com/cloudflare/circl/secretsharing"
)

const (
	// MinShares is the least k.
	MinShares = 2
	// MaxShares is the largest n.
	MaxShares = 32
	// SecretSize is the length of the secret, in octets.
	SecretSize = 32
)

var (
	// ErrThreshold says that k and n are out of range.
	ErrThreshold = fmt.Errorf("split: k of n shares need %d <= k <= n <= %d", MinShares, MaxShares)
	// ErrTooFew says that fewer than k good shares were given.
	ErrTooFew = errors.New("split: too few good shares")
	// ErrVerifier says that octets are no verifier.
	ErrVerifier = errors.New("split: verifier is damaged")
)

// scalarSize is the length of a scalar and of an element of the group.
const scalarSize = 32

// secretInfo tells the secret from anything else that may ever be derived of
// the shared scalar; the verifier follows it.
const secretInfo = "bkrp split secret 1\x00"

// New draws a secret and splits it into n shares, any k of which bring it back.
// The error is ErrThreshold, or the secret cannot be had. The caller clears the
// secret and the shares.
func New(k, n int) (secret []byte, shares []*Share, v *Verifier, err error) {
	if k < MinShares || n < k || n > MaxShares {
		return nil, nil, nil, fmt.Errorf("%w: %d of %d", ErrThreshold, k, n)
	}
	g := group.Ristretto255
	scalar := g.RandomNonZeroScalar(rand.Reader)
	defer scalar.SetUint64(0)
	scheme := secretsharing.New(rand.Reader, uint(k-1), scalar)
	if v, err = newVerifier(k, n, scheme.CommitSecret()); err != nil {
		return nil, nil, nil, err
	}
	for i, s := range scheme.Share(uint(n)) {
		value, err := s.Value.MarshalBinary()
		s.Value.SetUint64(0)
		if err != nil {
			return nil, nil, nil, fmt.Errorf("split: writing share %d: %w", i+1, err)
		}
		shares = append(shares, &Share{
			split: v.id, k: uint8(k), n: uint8(n), index: uint8(i + 1), value: [scalarSize]byte(value),
		})
		clear(value)
	}
	if secret, err = v.derive(scalar); err != nil {
		return nil, nil, nil, err
	}
	return secret, shares, v, nil
}

// derive makes the secret of the scalar that was shared.
func (v *Verifier) derive(scalar group.Scalar) ([]byte, error) {
	b, err := scalar.MarshalBinary()
	defer clear(b)
	if err != nil {
		return nil, fmt.Errorf("split: deriving the secret: %w", err)
	}
	secret, err := hkdf.Key(sha256.New, b, nil, secretInfo+string(v.AppendBinary(nil)), SecretSize)
	if err != nil {
		return nil, fmt.Errorf("split: deriving the secret: %w", err)
	}
	return secret, nil
}

// Combine brings the secret back. Each share is proved by itself; those that are
// not good are named in bad, also where enough others are left. Without k good
// ones of different indices the error is ErrTooFew and holds those of bad too.
// The caller clears the secret.
func (v *Verifier) Combine(shares []*Share) (secret []byte, bad []*ShareError, err error) {
	good := make(map[uint8]bool, len(shares))
	var points []secretsharing.Share
	defer func() {
		for _, p := range points {
			p.Value.SetUint64(0)
		}
	}()
	for _, s := range shares {
		point, err := v.check(s)
		if err == nil && good[s.index] {
			err = ErrDuplicate
		}
		if err != nil {
			bad = append(bad, &ShareError{Position: s.position, Index: int(s.index), Err: err})
			continue
		}
		good[s.index] = true
		points = append(points, point)
	}
	if len(points) < v.K() {
		return nil, bad, tooFew(len(points), v.K(), bad)
	}
	scalar, err := secretsharing.Recover(uint(v.K()-1), points)
	if err != nil {
		return nil, bad, fmt.Errorf("split: combining the shares: %w", err)
	}
	defer scalar.SetUint64(0)
	if !group.Ristretto255.NewElement().MulGen(scalar).IsEqual(v.commitments[0]) {
		return nil, bad, fmt.Errorf("%w: its commitments do not belong together", ErrVerifier)
	}
	secret, err = v.derive(scalar)
	return secret, bad, err
}

// tooFew says how many shares are missing, and what is wrong with those that
// were given.
func tooFew(have, need int, bad []*ShareError) error {
	errs := []error{fmt.Errorf("%w: %d, and %d are needed", ErrTooFew, have, need)}
	for _, b := range bad {
		errs = append(errs, b)
	}
	return errors.Join(errs...)
}

// check proves one share.
func (v *Verifier) check(s *Share) (point secretsharing.Share, err error) {
	if s.split != v.id {
		return point, fmt.Errorf("%w: it is of %s, and %s is needed", ErrOtherSplit, s.SplitID(), v.ID())
	}
	if s.K() != v.K() || s.N() != v.N() || s.index < 1 || s.Index() > v.N() {
		return point, ErrForged
	}
	point.ID = group.Ristretto255.NewScalar().SetUint64(uint64(s.index))
	point.Value = group.Ristretto255.NewScalar()
	if err := point.Value.UnmarshalBinary(s.value[:]); err != nil {
		return point, ErrForged
	}
	if !secretsharing.Verify(uint(v.K()-1), point, v.commitments) {
		point.Value.SetUint64(0)
		return point, ErrForged
	}
	return point, nil
}
