package ntlm

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/seed05845750/bkrp/internal/gss"
)

// avID is the AvId of an AV_PAIR ([MS-NLMP] 2.2.2.1).
type avID uint16

const (
	avEOL             avID = 0
	avNbComputerName  avID = 1
	avNbDomainName    avID = 2
	avDNSComputerName avID = 3
	avDNSDomainName   avID = 4
	avDNSTreeName     avID = 5
	avFlags           avID = 6 // 4 octets
	avTimestamp       avID = 7 // FILETIME, 8 octets
	avSingleHost      avID = 8
	avTargetName      avID = 9  // the SPN, UTF-16LE
	avChannelBindings avID = 10 // MD5, 16 octets; zero for none
)

// avFlagMIC in MsvAvFlags says that AUTHENTICATE_MESSAGE has a MIC.
const avFlagMIC = 0x2

// maxPairs bounds the pairs of one list; there are eleven kinds.
const maxPairs = 32

// avPair is an AV_PAIR ([MS-NLMP] 2.2.2.1).
type avPair struct {
	id    avID
	value []byte
}

// targetInfo is a list of AV_PAIRs in wire order, without the MsvAvEOL that
// ends it. No identifier occurs twice.
type targetInfo []avPair

// cutTargetInfo reads a list and gives what follows its MsvAvEOL. The values
// share b's memory.
func cutTargetInfo(b []byte) (t targetInfo, rest []byte, err error) {
	bad := func(what string) (targetInfo, []byte, error) {
		return nil, nil, fmt.Errorf("ntlm: AV_PAIR list %s: %w", what, gss.ErrToken)
	}
	for {
		if len(b) < 4 {
			return bad("without end")
		}
		id, size := avID(binary.LittleEndian.Uint16(b)), int(binary.LittleEndian.Uint16(b[2:]))
		b = b[4:]
		switch {
		case size > len(b):
			return bad("cut short")
		case id == avEOL && size != 0:
			return bad("with an end that has a value")
		case id == avEOL:
			return t, b, nil
		case id == avFlags && size != 4, id == avTimestamp && size != 8, id == avChannelBindings && size != 16:
			return bad("with a value of the wrong size")
		case t.get(id) != nil:
			return bad("with a pair that occurs twice")
		case len(t) == maxPairs:
			return bad("too long")
		}
		t = append(t, avPair{id, b[:size:size]})
		b = b[size:]
	}
}

// append appends the wire form, MsvAvEOL included.
func (t targetInfo) append(b []byte) []byte {
	for _, p := range t {
		b = binary.LittleEndian.AppendUint16(b, uint16(p.id))
		b = binary.LittleEndian.AppendUint16(b, uint16(len(p.value)))
		b = append(b, p.value...)
	}
	return append(b, 0, 0, 0, 0)
}

// get is the value of the pair id, nil if there is none; a pair with an empty
// value gives an empty slice that is not nil.
func (t targetInfo) get(id avID) []byte {
	for _, p := range t {
		if p.id == id {
			if p.value == nil {
				return []byte{}
			}
			return p.value
		}
	}
	return nil
}

// hasMIC tells whether MsvAvFlags announces a MIC.
func (t targetInfo) hasMIC() bool {
	v := t.get(avFlags)
	return len(v) == 4 && binary.LittleEndian.Uint32(v)&avFlagMIC != 0
}

// echoes tells whether t has each pair of sent, unchanged.
func (t targetInfo) echoes(sent targetInfo) bool {
	for _, p := range sent {
		if v := t.get(p.id); v == nil || !bytes.Equal(v, p.value) {
			return false
		}
	}
	return true
}

// text is the value of a pair that is a name, for logs; "" if it is not there
// or not text.
func (t targetInfo) text(id avID) string {
	s, ok := decodeUTF16(t.get(id))
	if !ok || len(s) > 4*maxName {
		return ""
	}
	return s
}
