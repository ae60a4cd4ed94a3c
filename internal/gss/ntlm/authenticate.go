package ntlm

import (
	"encoding/binary"
	"fmt"

	"github.com/seed05845750/bkrp/internal/gss"
)

// authenticateMessage is AUTHENTICATE_MESSAGE ([MS-NLMP] 2.2.1.3), the
// client's second one. LmChallengeResponse is read over.
type authenticateMessage struct {
	flags       flags  // NegotiateFlags
	domain      string // DomainName
	user        string // UserName
	workstation string // Workstation
	ntResponse  []byte // NtChallengeResponse
	sessionKey  []byte // EncryptedRandomSessionKey
	hasLM       bool   // LmChallengeResponse is longer than the one zero octet of an anonymous client
}

const (
	authenticateMinSize = 64 // no version and no MIC: impacket 0.10
	authenticateSize    = micOffset + micSize
	micOffset           = 72
	micSize             = 16
)

// parseAuthenticate reads an AUTHENTICATE_MESSAGE in Unicode. Its byte slices
// share m's memory.
func parseAuthenticate(m []byte) (*authenticateMessage, error) {
	if err := checkHeader(m, typeAuthenticate, authenticateMinSize, maxMessage); err != nil {
		return nil, err
	}
	a := &authenticateMessage{flags: flags(binary.LittleEndian.Uint32(m[60:]))}
	if a.flags&flagUnicode == 0 {
		return nil, fmt.Errorf("ntlm: message in an OEM character set: %w", gss.ErrRefused)
	}
	lm, err := cutField(m, 12, authenticateMinSize)
	if err != nil {
		return nil, err
	}
	a.hasLM = len(lm) > 1
	if a.ntResponse, err = cutField(m, 20, authenticateMinSize); err != nil {
		return nil, err
	}
	if a.domain, err = cutName(m, 28, authenticateMinSize); err != nil {
		return nil, err
	}
	if a.user, err = cutName(m, 36, authenticateMinSize); err != nil {
		return nil, err
	}
	if a.workstation, err = cutName(m, 44, authenticateMinSize); err != nil {
		return nil, err
	}
	if a.sessionKey, err = cutField(m, 52, authenticateMinSize); err != nil {
		return nil, err
	}
	return a, nil
}

// marshal gives the message with a zero MIC, and 24 zero octets for the LM
// response (3.1.5.1.2).
func (a *authenticateMessage) marshal() []byte {
	m := appendHeader(make([]byte, 0, 1024), typeAuthenticate)
	m = append(m, make([]byte, authenticateSize-headerSize)...)
	binary.LittleEndian.PutUint32(m[60:], uint32(a.flags))
	copy(m[64:], version[:])
	m = appendField(m, 28, appendUTF16(nil, a.domain))
	m = appendField(m, 36, appendUTF16(nil, a.user))
	m = appendField(m, 44, appendUTF16(nil, a.workstation))
	m = appendField(m, 12, make([]byte, ntlmv1Size))
	m = appendField(m, 20, a.ntResponse)
	return appendField(m, 52, a.sessionKey)
}
