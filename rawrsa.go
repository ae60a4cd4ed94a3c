package bkrp

import (
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"
	"time"

	"filippo.io/bigmod"
	"github.com/seed05845750/bkrp/dtyp"
)

// RawRSA is the private operation of an RSA key without taking any padding off:
// ciphertext in, encoded message out, both big-endian and as long as the modulus.
type RawRSA func(ciphertext []byte) (em []byte, err error)

// ProveRaw makes what [ClientWrapped.Open] takes out of the private operation
// of a key that is kept elsewhere, as in a hardware module: of 2048 bits, with
// this public half. It is handed numbers below the modulus only; others are
// ErrCiphertext. What it gives may lack leading zeros. Its result is proved by the
// public operation, since a faulty one could give the key away to whoever sees
// it.
//
// The error wraps ErrKeyFormat if the public key is not usable.
func ProveRaw(public *rsa.PublicKey, raw RawRSA) (RawRSA, error) {
	if public.N.BitLen() != modulusBits || public.N.Bit(0) == 0 || public.E < 3 || public.E&1 == 0 || public.E > 1<<31-1 {
		return nil, fmt.Errorf("%w: modulus or public exponent of the RSA key is out of range", ErrKeyFormat)
	}
	n, err := bigmod.NewModulus(public.N.Bytes())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyFormat, err)
	}
	e := uint(public.E)
	return func(c []byte) ([]byte, error) {
		x, err := belowModulus(c, n)
		if err != nil {
			return nil, err
		}
		short, err := raw(c)
		if err != nil {
			// Whatever it is, it is not the ciphertext: that was in range.
			return nil, fmt.Errorf("bkrp: RSA operation: %w", err)
		}
		defer clear(short)
		if len(short) > modulusSize {
			return nil, errFault
		}
		em := make([]byte, modulusSize)
		copy(em[modulusSize-len(short):], short)
		m, err := bigmod.NewNat().SetBytes(em, n)
		if err != nil || bigmod.NewNat().ExpShortVarTime(m, e, n).Equal(x) != 1 {
			clear(em)
			return nil, errFault
		}
		return em, nil
	}, nil
}

// belowModulus reads a ciphertext as a number, or is ErrCiphertext.
func belowModulus(c []byte, n *bigmod.Modulus) (*bigmod.Nat, error) {
	if len(c) != n.Size() {
		return nil, fmt.Errorf("%w: %d octets for a modulus of %d", ErrCiphertext, len(c), n.Size())
	}
	x, err := bigmod.NewNat().SetBytes(c, n)
	if err != nil {
		return nil, fmt.Errorf("%w: not below the modulus", ErrCiphertext)
	}
	return x, nil
}

// IssueCertificate issues the certificate of a key that is kept elsewhere
// (2.2.1), for the domain of that DNS name and valid from now. guid is from
// [NewKeyGUID]; raw is the private operation, as for [ProveRaw], and signs it.
func IssueCertificate(public *rsa.PublicKey, raw RawRSA, guid dtyp.GUID, domain string, now time.Time) (*Certificate, error) {
	if last := guid[dtyp.GUIDSize-1]; last < 0x01 || last > 0x7f {
		return nil, errors.New("bkrp: GUID of a new key cannot be a serial number; NewKeyGUID draws one that can")
	}
	public = &rsa.PublicKey{N: new(big.Int).Set(public.N), E: public.E}
	proved, err := ProveRaw(public, raw)
	if err != nil {
		return nil, err
	}
	der, err := issueCertificate(public, proved, guid, domain, now)
	if err != nil {
		return nil, err
	}
	return ParseCertificate(der)
}
