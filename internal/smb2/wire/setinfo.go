package wire

// SetInfoRequest is [MS-SMB2] 2.2.39.
type SetInfoRequest struct {
	InfoType   uint8
	Class      uint8
	Data       []byte
	Additional uint32
	FileID     FileID
}

// ParseSetInfoRequest reads a SET_INFO request.
func ParseSetInfoRequest(msg []byte) (SetInfoRequest, error) {
	b, err := body(msg, 33)
	if err != nil {
		return SetInfoRequest{}, err
	}
	data, err := span(msg, uint32(le.Uint16(b[8:])), le.Uint32(b[4:]), 32)
	if err != nil {
		return SetInfoRequest{}, err
	}
	return SetInfoRequest{
		InfoType:   b[2],
		Class:      b[3],
		Data:       data,
		Additional: le.Uint32(b[12:]),
		FileID:     parseFileID(b[16:]),
	}, nil
}

// Append appends the body of the request to dst.
func (r *SetInfoRequest) Append(dst []byte) []byte {
	dst = le.AppendUint16(dst, 33)
	dst = append(dst, r.InfoType, r.Class)
	dst = le.AppendUint32(dst, uint32(len(r.Data)))
	dst = le.AppendUint16(dst, HeaderSize+32)
	dst = le.AppendUint16(dst, 0)
	dst = le.AppendUint32(dst, r.Additional)
	dst = r.FileID.append(dst)
	return append(dst, r.Data...)
}

// AppendSetInfoResponse appends the body of [MS-SMB2] 2.2.40, two octets.
func AppendSetInfoResponse(dst []byte) []byte { return append(dst, 2, 0) }
