package ntlm

import (
	"encoding/binary"
	"fmt"

	"github.com/seed05845750/bkrp/internal/gss"
)

// Sizes of [MS-NLMP] 2.2.2.6 to 2.2.2.8, in octets.
const (
	proofSize        = 16
	clientHeaderSize = 28 // NTLMv2_CLIENT_CHALLENGE up to AvPairs
	ntlmv1Size       = 24 // NTLM_RESPONSE
)

// ntlmv2Response is NTLMv2_RESPONSE ([MS-NLMP] 2.2.2.8) with the
// NTLMv2_CLIENT_CHALLENGE (2.2.2.7) in it.
type ntlmv2Response struct {
	proof           [proofSize]byte // Response, NTProofStr in 3.3.2
	timestamp       [8]byte         // TimeStamp
	clientChallenge [8]byte         // ChallengeFromClient
	targetInfo      targetInfo      // AvPairs
}

// parseNTLMv2Response reads the NtChallengeResponse of an
// AUTHENTICATE_MESSAGE. The old forms are refused.
func parseNTLMv2Response(b []byte) (*ntlmv2Response, error) {
	if len(b) == ntlmv1Size {
		return nil, fmt.Errorf("ntlm: NTLMv1 response: %w", gss.ErrRefused)
	}
	if len(b) < proofSize+clientHeaderSize {
		return nil, fmt.Errorf("ntlm: NTLMv2 response of %d octets: %w", len(b), gss.ErrToken)
	}
	c := b[proofSize:]
	if c[0] != 1 || c[1] != 1 { // RespType, HiRespType
		return nil, fmt.Errorf("ntlm: NTLMv2 response of version %d, %d: %w", c[0], c[1], gss.ErrToken)
	}
	// What follows the pairs, mostly four zero octets, is under the proof and
	// means nothing.
	info, _, err := cutTargetInfo(c[clientHeaderSize:])
	if err != nil {
		return nil, err
	}
	return &ntlmv2Response{
		proof:           [proofSize]byte(b),
		timestamp:       [8]byte(c[8:]),
		clientChallenge: [8]byte(c[16:]),
		targetInfo:      info,
	}, nil
}

// marshal gives the wire form.
func (r *ntlmv2Response) marshal() []byte {
	b := append(make([]byte, 0, 512), r.proof[:]...)
	b = append(b, 1, 1, 0, 0, 0, 0, 0, 0)
	b = append(b, r.timestamp[:]...)
	b = append(b, r.clientChallenge[:]...)
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = r.targetInfo.append(b)
	return binary.LittleEndian.AppendUint32(b, 0)
}
