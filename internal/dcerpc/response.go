package dcerpc

import "encoding/binary"

// 12.6.4.10 response.
type responsePDU struct {
	allocHint uint32
	contextID uint16
}

func parseResponse(h header, pdu []byte) (responsePDU, error) {
	r := h.body(pdu)
	p := responsePDU{allocHint: r.U32(), contextID: r.U16()}
	r.U16() // cancel_count and an octet of padding
	if err := r.Err(); err != nil {
		return responsePDU{}, violation("response: %v", err)
	}
	return p, nil
}

func (p responsePDU) append(b []byte, flags uint8, callID uint32) []byte {
	b = appendHeader(b, pduResponse, flags, callID)
	b = binary.LittleEndian.AppendUint32(b, p.allocHint)
	b = binary.LittleEndian.AppendUint16(b, p.contextID)
	return append(b, 0, 0)
}
