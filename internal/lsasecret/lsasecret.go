// Package lsasecret encrypts the values of LSA secrets for the wire, as
// [MS-LSAD] 5.1.2 has it. Both ends of the LSA interface use it.
//
// It is as weak as it looks, DES without a mode: that the transport encrypts
// is what protects the value.
package lsasecret

import (
	"crypto/des"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
)

const (
	// desWindow is how many octets of the session key make one DES key.
	desWindow = 7
	// headerSize is the value's length and the number 1, four octets each.
	headerSize = 8
	version    = 1
)

var (
	// ErrSessionKey is a session key of less than 7 octets.
	ErrSessionKey = errors.New("lsasecret: session key too short")
	// ErrValue is an encrypted value that does not open under the session
	// key: another key was used, or what came is damaged.
	ErrValue = errors.New("lsasecret: encrypted value does not open under the session key")
)

// Seal encrypts a secret's value under the transport's session key: its length
// and version, the value, zeros up to a multiple of eight, each block under a
// DES key of its own.
func Seal(sessionKey, value []byte) ([]byte, error) {
	size := (headerSize + len(value) + des.BlockSize - 1) / des.BlockSize * des.BlockSize
	b := make([]byte, 0, size)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(value)))
	b = binary.LittleEndian.AppendUint32(b, version)
	b = append(b, value...)[:size]
	err := eachBlock(sessionKey, b, func(key, block []byte) error {
		c, err := des.NewCipher(key)
		if err == nil {
			c.Encrypt(block, block)
		}
		return err
	})
	if err != nil {
		clear(b)
		return nil, err
	}
	return b, nil
}

// Open is the inverse of Seal. It leaves sealed alone.
func Open(sessionKey, sealed []byte) ([]byte, error) {
	if len(sealed) < headerSize || len(sealed)%des.BlockSize != 0 {
		return nil, fmt.Errorf("%w: it has %d octets", ErrValue, len(sealed))
	}
	b := append([]byte(nil), sealed...)
	err := eachBlock(sessionKey, b, func(key, block []byte) error {
		c, err := des.NewCipher(key)
		if err == nil {
			c.Decrypt(block, block)
		}
		return err
	})
	length := uint64(binary.LittleEndian.Uint32(b))
	pad := uint64(len(b)) - headerSize - length
	switch {
	case err != nil:
	case length > uint64(len(b)-headerSize), pad >= des.BlockSize, binary.LittleEndian.Uint32(b[4:]) != version:
		err = ErrValue
	}
	if err != nil {
		clear(b)
		return nil, err
	}
	return b[headerSize : headerSize+length : headerSize+length], nil
}

// eachBlock does a block at a time, with the key of its place.
func eachBlock(sessionKey, b []byte, do func(key, block []byte) error) error {
	if len(sessionKey) < desWindow {
		return ErrSessionKey
	}
	at := 0
	for i := 0; i < len(b); i += des.BlockSize {
		// What is left of the key at its end is not used: the windows go on
		// at that distance from its beginning.
		if at+desWindow > len(sessionKey) {
			at = len(sessionKey) - at
		}
		key := desKey([desWindow]byte(sessionKey[at:]))
		if err := do(key[:], b[i:i+des.BlockSize]); err != nil {
			return err
		}
		at += desWindow
	}
	return nil
}

// desKey spreads 56 bits over eight octets of seven, with odd parity below.
func desKey(k [desWindow]byte) (key [8]byte) {
	var v uint64
	for _, o := range k {
		v = v<<8 | uint64(o)
	}
	for i := range key {
		b := byte(v>>(49-7*i)) << 1
		if bits.OnesCount8(b)%2 == 0 {
			b |= 1
		}
		key[i] = b
	}
	return key
}
