package dcerpc

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/seed05845750/bkrp/internal/ndr"
)

// ErrProtocol is a peer that does not keep to the protocol. It ends the
// connection.
var ErrProtocol = errors.New("dcerpc: protocol violation")

func violation(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrProtocol, fmt.Sprintf(format, args...))
}

// pduType is PTYPE ([C706] 12.6.4, [MS-RPCE] 2.2.2.1).
type pduType uint8

const (
	pduRequest          pduType = 0
	pduResponse         pduType = 2
	pduFault            pduType = 3
	pduBind             pduType = 11
	pduBindAck          pduType = 12
	pduBindNak          pduType = 13
	pduAlterContext     pduType = 14
	pduAlterContextResp pduType = 15
	pduAuth3            pduType = 16
	pduCancel           pduType = 18
	pduOrphaned         pduType = 19
)

// The flags, pfc_flags ([C706] 12.6.3.1). The third one is
// PFC_SUPPORT_HEADER_SIGN in the PDUs that bind, and PFC_PENDING_CANCEL
// elsewhere ([MS-RPCE] 2.2.2.3).
const (
	flagFirst         = 0x01
	flagLast          = 0x02
	flagHeaderSign    = 0x04
	flagDidNotExecute = 0x20
	flagObject        = 0x80

	flagWhole = flagFirst | flagLast
)

const (
	// headerSize is the length of the common header, in octets.
	headerSize = 16
	// callHeaderSize is the length of a request or response before its stub,
	// without an object UUID.
	callHeaderSize = 24
	// maxPDU is the longest PDU that frag_length can say.
	maxPDU = 0xFFFF
	// minFragment is what everyone has to be able to receive ([C706]
	// 12.6.3.1, MustRecvFragSize).
	minFragment = 1432
)

// 12.6.3.1 The fields that all PDUs begin with.
type header struct {
	minor      uint8
	ptype      pduType
	flags      uint8
	bigEndian  bool
	fragLength int // the whole PDU
	authLength int // the authentication token at its end
	callID     uint32
}

var errVersion = violation("another protocol version than 5")

// parseHeader reads the common header from the 16 octets of b. With
// errVersion it returns what it read all the same: a bind is answered.
func parseHeader(b []byte) (header, error) {
	h := header{minor: b[1], ptype: pduType(b[2]), flags: b[3], bigEndian: b[4]>>4 == 0}
	order := binary.ByteOrder(binary.LittleEndian)
	if h.bigEndian {
		order = binary.BigEndian
	}
	h.fragLength = int(order.Uint16(b[8:]))
	h.authLength = int(order.Uint16(b[10:]))
	h.callID = order.Uint32(b[12:])
	switch {
	case b[0] != 5 || h.minor > 1:
		return h, errVersion
	case b[4]>>4 > 1 || b[4]&0xf != 0:
		return header{}, violation("data representation %#x", b[4])
	case h.fragLength < headerSize:
		return header{}, violation("fragment of %d octets", h.fragLength)
	case h.authLength > 0 && h.authLength+trailerSize > h.fragLength-headerSize:
		return header{}, violation("token of %d octets in a fragment of %d", h.authLength, h.fragLength)
	}
	return h, nil
}

// appendHeader begins a little-endian PDU, its two lengths left to finish.
func appendHeader(b []byte, ptype pduType, flags uint8, callID uint32) []byte {
	b = append(b, 5, 0, byte(ptype), flags, 0x10, 0, 0, 0, 0, 0, 0, 0)
	return binary.LittleEndian.AppendUint32(b, callID)
}

// finish writes frag_length and auth_length into a PDU that fills b.
func finish(b []byte, authLength int) ([]byte, error) {
	if len(b) > maxPDU {
		return nil, fmt.Errorf("dcerpc: PDU of %d octets is too long", len(b))
	}
	binary.LittleEndian.PutUint16(b[8:], uint16(len(b)))
	binary.LittleEndian.PutUint16(b[10:], uint16(authLength))
	return b, nil
}

// body reads the PDU behind the header; the header's 16 octets leave the
// alignment as it is.
func (h header) body(pdu []byte) ndr.Reader {
	return ndr.NewReader(pdu[headerSize:], ndr.Encoding{BigEndian: h.bigEndian})
}
