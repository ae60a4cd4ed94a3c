package ntlm

import "encoding/binary"

// negotiateMessage is NEGOTIATE_MESSAGE ([MS-NLMP] 2.2.1.1), the client's
// first. The OEM names of domain and workstation, which it may carry, are of
// no use to anyone and not read.
type negotiateMessage struct {
	flags flags // NegotiateFlags
}

// negotiateMinSize is up to the flags: the names and the version are left out
// by some clients. negotiateSize is what this package sends.
const (
	negotiateMinSize = headerSize + 4
	negotiateSize    = 40
)

// parseNegotiate reads a NEGOTIATE_MESSAGE.
func parseNegotiate(m []byte) (negotiateMessage, error) {
	if err := checkHeader(m, typeNegotiate, negotiateMinSize, maxNegotiate); err != nil {
		return negotiateMessage{}, err
	}
	return negotiateMessage{flags: flags(binary.LittleEndian.Uint32(m[12:]))}, nil
}

// marshal gives the message without names.
func (n negotiateMessage) marshal() []byte {
	m := appendHeader(make([]byte, 0, negotiateSize), typeNegotiate)
	m = binary.LittleEndian.AppendUint32(m, uint32(n.flags))
	m = append(m, make([]byte, 16)...) // DomainNameFields, WorkstationFields
	return append(m, version[:]...)
}
