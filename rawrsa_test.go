package bkrp

import (
	"bytes"
	"crypto/rsa"
	"errors"
	"math/big"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
)

func TestProveRaw(t *testing.T) {
	pair := generated(t)
	public := pair.PublicKey()
	probe := make([]byte, modulusSize)
	probe[modulusSize-1] = 2
	// A number whose result begins with zeros, as every right padding does.
	small := new(big.Int).Exp(big.NewInt(2), big.NewInt(int64(public.E)), public.N).FillBytes(make([]byte, modulusSize))
	var calls int
	broken := errors.New("token is away")
	for _, c := range []struct {
		name string
		in   []byte
		raw  RawRSA
		want error
	}{
		{"right", probe, pair.DecryptRaw, nil},
		{"leading zeros are left out", small, func(c []byte) ([]byte, error) {
			em, err := pair.DecryptRaw(c)
			return bytes.TrimLeft(em, "\x00"), err
		}, nil},
		{"a fault", probe, func(c []byte) ([]byte, error) {
			em, err := pair.DecryptRaw(c)
			em[200] ^= 1
			return em, err
		}, errFault},
		{"not below the modulus", probe, func([]byte) ([]byte, error) { return bytes.Repeat([]byte{0xff}, modulusSize), nil }, errFault},
		{"empty", probe, func([]byte) ([]byte, error) { return nil, nil }, errFault},
		{"too long", probe, func([]byte) ([]byte, error) { return make([]byte, modulusSize+1), nil }, errFault},
		{"an error", probe, func([]byte) ([]byte, error) { return nil, broken }, broken},
		{"ciphertext too long", append([]byte{0}, probe...), nil, ErrCiphertext},
		{"ciphertext too short", probe[1:], nil, ErrCiphertext},
		{"ciphertext is the modulus", public.N.Bytes(), nil, ErrCiphertext},
	} {
		t.Run(c.name, func(t *testing.T) {
			calls = 0
			proved, err := ProveRaw(public, func(b []byte) ([]byte, error) { calls++; return c.raw(b) })
			if err != nil {
				t.Fatal(err)
			}
			em, err := proved(c.in)
			if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) || calls == 0 != errors.Is(c.want, ErrCiphertext) {
				t.Fatalf("%x, %v after %d calls", em, err, calls)
			}
			if want, _ := pair.DecryptRaw(c.in); err == nil && !bytes.Equal(em, want) {
				t.Errorf("%x", em)
			}
		})
	}
	for _, bad := range []*rsa.PublicKey{
		{N: new(big.Int).Rsh(public.N, 1), E: 65537}, {N: new(big.Int).SetBit(public.N, 0, 0), E: 65537},
		{N: public.N, E: 1}, {N: public.N, E: 65536},
	} {
		if _, err := ProveRaw(bad, pair.DecryptRaw); !errors.Is(err, ErrKeyFormat) {
			t.Errorf("%d bits, e %d: %v", bad.N.BitLen(), bad.E, err)
		}
	}
}

func TestIssueCertificate(t *testing.T) {
	pair, guid, now := generated(t), NewKeyGUID(), time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	c, err := IssueCertificate(pair.PublicKey(), pair.DecryptRaw, guid, "bkrp.example", now)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.CheckSignature(); err != nil || c.GUID != guid || !c.NotBefore.Equal(now) || !c.PublicKey.Equal(pair.PublicKey()) {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := IssueCertificate(pair.PublicKey(), pair.DecryptRaw, dtyp.GUID{15: 0x80}, "bkrp.example", now); err == nil {
		t.Error("A-27: a GUID that makes a negative serial number is taken")
	}
	away := errors.New("token is away")
	if _, err := IssueCertificate(pair.PublicKey(), func([]byte) ([]byte, error) { return nil, away }, guid, "bkrp.example", now); !errors.Is(err, away) {
		t.Error(err)
	}
}
