package backup

import (
	"errors"
	"fmt"
	"strings"

	"filippo.io/age"

	"github.com/seed05845750/bkrp/internal/split"
)

// splitStanza is the type of the stanza with the verifier.
const splitStanza = "bkrp-split"

// Split draws a key and splits it into n shares, any k of which open what is
// encrypted to recipient and VerifierRecipient. The caller clears the shares. The error is
// split.ErrThreshold, or the key cannot be had.
func Split(k, n int) (recipient string, shares []*split.Share, v *split.Verifier, err error) {
	secret, shares, v, err := split.New(k, n)
	if err != nil {
		return "", nil, nil, err
	}
	defer clear(secret)
	id, err := age.ParseX25519Identity(Identity(secret))
	if err != nil {
		return "", nil, nil, fmt.Errorf("backup: making an identity of the secret: %w", err)
	}
	return id.Recipient().String(), shares, v, nil
}

// VerifierRecipient puts a verifier into the header of a file. It lets nobody
// open the file.
func VerifierRecipient(v *split.Verifier) age.Recipient { return verifierRecipient{v} }

type verifierRecipient struct{ v *split.Verifier }

// Wrap implements age.Recipient.
func (r verifierRecipient) Wrap([]byte) ([]*age.Stanza, error) {
	return []*age.Stanza{{Type: splitStanza, Body: r.v.AppendBinary(nil)}}, nil
}

// SharesError says why shares do not open a file.
type SharesError struct{ Err error }

// Error is that of Err.
func (e *SharesError) Error() string { return e.Err.Error() }

// Unwrap is Err.
func (e *SharesError) Unwrap() error { return e.Err }

// SharesIdentity is an identity of shares. combine is given the verifier of the
// file and brings the secret of the split, as split.Verifier.Combine does; its
// error is returned by Open in a SharesError.
func SharesIdentity(combine func(*split.Verifier) (secret []byte, err error)) age.Identity {
	return sharesIdentity(combine)
}

type sharesIdentity func(*split.Verifier) ([]byte, error)

// Unwrap implements age.Identity.
func (combine sharesIdentity) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	v, err := verifierOf(stanzas)
	if err != nil {
		return nil, &SharesError{err}
	}
	secret, err := combine(v)
	if err != nil {
		return nil, &SharesError{err}
	}
	defer clear(secret)
	id, err := age.ParseX25519Identity(Identity(secret))
	if err != nil {
		return nil, &SharesError{fmt.Errorf("backup: making an identity of the secret: %w", err)}
	}
	key, err := id.Unwrap(stanzas)
	if errors.Is(err, age.ErrIncorrectIdentity) {
		err = &SharesError{fmt.Errorf("%w: in its header: the shares are good, and do not open it", ErrDamaged)}
	}
	return key, err
}

func verifierOf(stanzas []*age.Stanza) (*split.Verifier, error) {
	var v *split.Verifier
	for _, s := range stanzas {
		if s.Type != splitStanza {
			continue
		}
		if v != nil {
			return nil, fmt.Errorf("%w: in its header: it has two verifiers", ErrDamaged)
		}
		var err error
		if v, err = split.ParseVerifier(s.Body); err != nil || len(s.Args) != 0 {
			return nil, fmt.Errorf("%w: in its header: its verifier is not readable", ErrDamaged)
		}
	}
	if v == nil {
		return nil, ErrNoShares
	}
	return v, nil
}

// Identity is the secret of a split as an age identity, AGE-SECRET-KEY-1...: the
// 32 octets of an X25519 key in Bech32 (BIP 173). It is a secret.
func Identity(secret []byte) string {
	const prefix, alphabet = "age-secret-key-", "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
	var symbols []byte
	var bits, have uint
	for _, o := range secret {
		bits = bits<<8 | uint(o)
		for have += 8; have >= 5; {
			have -= 5
			symbols = append(symbols, byte(bits>>have)&31)
		}
	}
	if have > 0 {
		symbols = append(symbols, byte(bits<<(5-have))&31)
	}
	defer clear(symbols)
	sum := uint32(1)
	for i := range len(prefix) {
		sum = bech32Step(sum, prefix[i]>>5)
	}
	sum = bech32Step(sum, 0)
	for i := range len(prefix) {
		sum = bech32Step(sum, prefix[i]&31)
	}
	for _, s := range append(symbols, 0, 0, 0, 0, 0, 0) {
		sum = bech32Step(sum, s)
	}
	sum ^= 1
	var b strings.Builder
	b.WriteString(prefix + "1")
	for _, s := range symbols {
		b.WriteByte(alphabet[s])
	}
	for i := range 6 {
		b.WriteByte(alphabet[sum>>(5*(5-i))&31])
	}
	return strings.ToUpper(b.String())
}

// bech32Step is one step of BCH division, by the generator of BIP 173.
func bech32Step(sum uint32, symbol byte) uint32 {
	top := sum >> 25
	sum = sum&0x1ffffff<<5 ^ uint32(symbol)
	for i, g := range [5]uint32{0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3} {
		if top>>i&1 == 1 {
			sum ^= g
		}
	}
	return sum
}
