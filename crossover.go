package bkrp

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"encoding/binary"
	"fmt"
)

const (
	crossoverVersion  = 1
	crossoverSaltSize = 16

	// unwrappedSecretHeader is the length of what stands before the
	// RecoveredSecret, recoveredHeader of what stands in that before the
	// secret.
	unwrappedSecretHeader = 4 + crossoverSaltSize
	recoveredHeader       = crossoverSaltSize + sha1.Size
)

// 2.2.6 UnwrappedSecret and 2.2.6.1 RecoveredSecret

// SealCrossover makes the UnwrappedSecret that answers a ClientWrap blob sent
// to ActionRestoreWin2K ([MS-BKRP] 3.1.4.1.2.2). Only who made the blob knows
// its nonce and thereby the key.
func SealCrossover(s *ClientSecret) ([]byte, error) {
	b := make([]byte, unwrappedSecretHeader+recoveredHeader, unwrappedSecretHeader+recoveredHeader+len(s.Secret))
	binary.LittleEndian.PutUint32(b, crossoverVersion)
	encSalt := b[4:unwrappedSecretHeader]
	macSalt := b[unwrappedSecretHeader:][:crossoverSaltSize]
	rand.Read(encSalt)
	rand.Read(macSalt)
	envKey := sha1.Sum(s.Nonce) // also for version 3
	mac := macOf(macOf(envKey, macSalt), s.Secret)
	copy(b[unwrappedSecretHeader+crossoverSaltSize:], mac[:])
	b = append(b, s.Secret...)
	recovered := b[unwrappedSecretHeader:]
	if err := rc4Apply(macOf(envKey, encSalt), recovered, recovered); err != nil {
		clear(b)
		return nil, err
	}
	return b, nil
}

// OpenCrossover opens an UnwrappedSecret with the nonce of the AccessCheck in
// the blob that was sent. The secret is copied out of b. The error wraps
// ErrFormat or is ErrCrossoverMAC.
func OpenCrossover(b, nonce []byte) ([]byte, error) {
	if len(b) < unwrappedSecretHeader+recoveredHeader || binary.LittleEndian.Uint32(b) != crossoverVersion {
		return nil, fmt.Errorf("%w: UnwrappedSecret of %d octets", ErrFormat, len(b))
	}
	envKey := sha1.Sum(nonce)
	plain := make([]byte, len(b)-unwrappedSecretHeader)
	if err := rc4Apply(macOf(envKey, b[4:unwrappedSecretHeader]), plain, b[unwrappedSecretHeader:]); err != nil {
		return nil, err
	}
	macSalt, mac, secret := plain[:crossoverSaltSize], plain[crossoverSaltSize:recoveredHeader], plain[recoveredHeader:]
	if want := macOf(macOf(envKey, macSalt), secret); !hmac.Equal(mac, want[:]) {
		clear(plain)
		return nil, ErrCrossoverMAC
	}
	return secret, nil
}
