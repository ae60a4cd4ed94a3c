package smb2

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/seed05845750/bkrp/internal/smb2/wire"
)

// ClientSession is what the client's end of an SMB 3.0.2 session has to know
// where the SMB library that it goes through does not tell: the application
// key, and how to encrypt though the server does not demand it. 3.0.2 because
// its keys come from the security context alone; those of 3.1.1 are bound to a
// hash over the messages of the logon, which the library keeps to itself. What
// that hash guards, the choice of the dialect and of encryption, a client
// decides here that offers this one dialect and encrypts whatever is answered.
type ClientSession struct {
	sealer      *sealer
	application []byte
}

// NewClientSession derives the keys from that of the security context
// ([MS-SMB2] 3.2.5.3.3), which has to have 16 octets at least.
func NewClientSession(contextKey []byte) (*ClientSession, error) {
	if len(contextKey) < sessionKeySize {
		return nil, fmt.Errorf("smb2: session key of %d octets", len(contextKey))
	}
	keys := deriveKeys(wire.Dialect302, wire.AES128CCM, contextKey, nil)
	// What the server decrypts with is what the client encrypts with.
	s, err := newSealer(wire.AES128CCM, keys.decryption)
	if err != nil {
		return nil, err
	}
	return &ClientSession{sealer: s, application: keys.application}, nil
}

// ApplicationKey is the session key that protocols above SMB see, 16 octets
// ([MS-SMB2] 3.2.1.3, Session.ApplicationKey).
func (s *ClientSession) ApplicationKey() []byte { return s.application }

// errNotSealable is a message that is none of a session.
var errNotSealable = errors.New("smb2: not a message of a session")

// Seal encrypts one message of the session, without its frame ([MS-SMB2]
// 3.2.4.1.8), and takes off its signature, which an encrypted message does not
// have. It leaves msg alone. One goroutine at a time calls it.
func (s *ClientSession) Seal(msg []byte) ([]byte, error) {
	const flags, session, signature, signed = 16, 40, 48, 0x8
	if len(msg) < wire.HeaderSize || string(msg[:4]) != "\xfeSMB" {
		return nil, errNotSealable
	}
	id := binary.LittleEndian.Uint64(msg[session:])
	if id == 0 {
		return nil, errNotSealable
	}
	sealed := make([]byte, wire.TransformSize+len(msg), wire.TransformSize+len(msg)+ccmTagSize)
	copy(sealed[wire.TransformSize:], msg)
	text := sealed[wire.TransformSize:]
	text[flags] &^= signed
	clear(text[signature:wire.HeaderSize])
	s.sealer.seal(sealed, id)
	return sealed, nil
}

// IsEncrypted reports whether a message, without its frame, is one that its
// sender has encrypted ([MS-SMB2] 2.2.41).
func IsEncrypted(msg []byte) bool { return len(msg) >= 4 && string(msg[:4]) == "\xfdSMB" }
