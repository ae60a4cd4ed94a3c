package ntlm

import (
	"encoding/binary"
	"fmt"

	"github.com/seed05845750/bkrp/internal/gss"
)

// challengeMessage is CHALLENGE_MESSAGE ([MS-NLMP] 2.2.1.2), the server's
// only one.
type challengeMessage struct {
	flags           flags      // NegotiateFlags
	targetName      string     // TargetName
	serverChallenge [8]byte    // ServerChallenge
	targetInfo      targetInfo // TargetInfo
}

const (
	challengeMinSize = 48 // up to TargetInfoFields; old servers send no version
	challengeSize    = 56
)

// parseChallenge reads a CHALLENGE_MESSAGE in Unicode. One without target
// information is refused: there is no NTLMv2 response to it that protects
// anything.
func parseChallenge(m []byte) (*challengeMessage, error) {
	if err := checkHeader(m, typeChallenge, challengeMinSize, maxMessage); err != nil {
		return nil, err
	}
	c := &challengeMessage{
		flags:           flags(binary.LittleEndian.Uint32(m[20:])),
		serverChallenge: [8]byte(m[24:32]),
	}
	if err := c.flags.checkStrength(); err != nil {
		return nil, err
	}
	var err error
	if c.targetName, err = cutName(m, 12, challengeMinSize); err != nil {
		return nil, err
	}
	info, err := cutField(m, 40, challengeMinSize)
	if err != nil {
		return nil, err
	}
	if c.flags&flagTargetInfo == 0 || info == nil {
		return nil, fmt.Errorf("ntlm: challenge without target information: %w", gss.ErrRefused)
	}
	c.targetInfo, _, err = cutTargetInfo(info)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// marshal gives the message.
func (c *challengeMessage) marshal() []byte {
	m := appendHeader(make([]byte, 0, 256), typeChallenge)
	m = append(m, make([]byte, challengeSize-headerSize)...)
	binary.LittleEndian.PutUint32(m[20:], uint32(c.flags))
	copy(m[24:], c.serverChallenge[:])
	copy(m[48:], version[:])
	m = appendField(m, 12, appendUTF16(nil, c.targetName))
	return appendField(m, 40, c.targetInfo.append(nil))
}
