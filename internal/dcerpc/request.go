package dcerpc

import "encoding/binary"

// 12.6.4.9 request.
type requestPDU struct {
	allocHint uint32
	contextID uint16
	opnum     uint16
	// stubOffset is where the stub begins in the PDU: behind the object UUID
	// if there is one.
	stubOffset int
}

func parseRequest(h header, pdu []byte) (requestPDU, error) {
	r := h.body(pdu)
	q := requestPDU{allocHint: r.U32(), contextID: r.U16(), opnum: r.U16(), stubOffset: callHeaderSize}
	if h.flags&flagObject != 0 {
		r.GUID()
		q.stubOffset += 16
	}
	if err := r.Err(); err != nil {
		return requestPDU{}, violation("request: %v", err)
	}
	return q, nil
}

func (q requestPDU) append(b []byte, flags uint8, callID uint32) []byte {
	b = appendHeader(b, pduRequest, flags, callID)
	b = binary.LittleEndian.AppendUint32(b, q.allocHint)
	b = binary.LittleEndian.AppendUint16(b, q.contextID)
	return binary.LittleEndian.AppendUint16(b, q.opnum)
}
