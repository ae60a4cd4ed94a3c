package smb2

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"fmt"

	"github.com/seed05845750/bkrp/internal/smb2/wire"
)

// sealer encrypts or decrypts the messages of one direction of a session
// ([MS-SMB2] 3.1.4.3, 3.3.4.1.4, 3.3.5.2.1.1). One goroutine uses it at a
// time; it does not allocate.
type sealer struct {
	aead cipher.AEAD
	// next is the counter that nonces are made of, and rest what stands behind
	// it in them. Each direction has a key of its own, and a session lives on
	// one connection; but before 3.1.1 the keys come from that of the security
	// context alone, which for a Kerberos client that draws none is that of its
	// ticket, the same in each of its sessions. Hence both begin at random.
	next  uint64
	rest  [8]byte
	nonce [16]byte
	data  [wire.TransformSize - wire.TransformSignedFrom]byte
}

func newSealer(c wire.Cipher, key []byte) (*sealer, error) {
	if c == wire.AES128CCM || c == wire.AES256CCM {
		aead, err := newCCM(key)
		if err != nil {
			return nil, err
		}
		return drawSealer(aead)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("smb2: GCM key: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("smb2: GCM: %w", err)
	}
	return drawSealer(aead)
}

// drawSealer draws where the nonces begin.
func drawSealer(aead cipher.AEAD) (*sealer, error) {
	s := &sealer{aead: aead}
	var next [8]byte
	if _, err := rand.Read(next[:]); err != nil {
		return nil, fmt.Errorf("smb2: drawing a nonce: %w", err)
	}
	if _, err := rand.Read(s.rest[:aead.NonceSize()-len(next)]); err != nil {
		return nil, fmt.Errorf("smb2: drawing a nonce: %w", err)
	}
	s.next = binary.LittleEndian.Uint64(next[:])
	return s, nil
}

// seal encrypts msg in place. Its first 52 octets are room for the transform
// header, which it writes; the capacity of msg must hold 16 octets more for
// the tag on its way there.
func (s *sealer) seal(msg []byte, session uint64) {
	text := msg[wire.TransformSize:]
	s.next++
	t := wire.Transform{OriginalSize: uint32(len(text)), Flags: 1, SessionID: session}
	binary.LittleEndian.PutUint64(t.Nonce[:], s.next)
	copy(t.Nonce[8:], s.rest[:])
	s.nonce = t.Nonce
	t.Append(msg[:0])
	sealed := s.aead.Seal(text[:0], s.nonce[:s.aead.NonceSize()], text,
		msg[wire.TransformSignedFrom:wire.TransformSize])
	copy(msg[4:20], sealed[len(text):])
}

// open decrypts an encrypted message in place. msg begins with its transform
// header; the result lies inside msg.
func (s *sealer) open(msg []byte, t *wire.Transform) ([]byte, error) {
	s.nonce = t.Nonce
	copy(s.data[:], msg[wire.TransformSignedFrom:wire.TransformSize])
	// The AEADs have the tag behind the text, and what is behind msg may be
	// the next message: the text moves up into the header.
	sealed := msg[wire.TransformSize-len(t.Signature):]
	n := copy(sealed, msg[wire.TransformSize:])
	copy(sealed[n:], t.Signature[:])
	text, err := s.aead.Open(sealed[:0], s.nonce[:s.aead.NonceSize()], sealed, s.data[:])
	if err != nil {
		return nil, fmt.Errorf("smb2: opening an encrypted message: %w", err)
	}
	return text, nil
}
