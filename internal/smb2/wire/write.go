package wire

// WriteRequest is [MS-SMB2] 2.2.21. Channels (RDMA) are not kept.
type WriteRequest struct {
	Offset  uint64
	FileID  FileID
	Channel uint32
	Data    []byte
}

// ParseWriteRequest reads a WRITE request.
func ParseWriteRequest(msg []byte) (WriteRequest, error) {
	b, err := body(msg, 49)
	if err != nil {
		return WriteRequest{}, err
	}
	data, err := span(msg, uint32(le.Uint16(b[2:])), le.Uint32(b[4:]), 48)
	if err != nil {
		return WriteRequest{}, err
	}
	return WriteRequest{
		Offset:  le.Uint64(b[8:]),
		FileID:  parseFileID(b[16:]),
		Channel: le.Uint32(b[32:]),
		Data:    data,
	}, nil
}

// Append appends the body of the request to dst.
func (r *WriteRequest) Append(dst []byte) []byte {
	dst = le.AppendUint16(dst, 49)
	dst = le.AppendUint16(dst, HeaderSize+48)
	dst = le.AppendUint32(dst, uint32(len(r.Data)))
	dst = le.AppendUint64(dst, r.Offset)
	dst = r.FileID.append(dst)
	dst = le.AppendUint32(dst, r.Channel)
	dst = append(dst, make([]byte, 12)...)
	return append(dst, r.Data...)
}

// WriteResponse is [MS-SMB2] 2.2.22.
type WriteResponse struct {
	// Count is how much was taken, in octets.
	Count uint32
}

// ParseWriteResponse reads a WRITE response.
func ParseWriteResponse(msg []byte) (WriteResponse, error) {
	b, err := body(msg, 17)
	if err != nil {
		return WriteResponse{}, err
	}
	return WriteResponse{Count: le.Uint32(b[4:])}, nil
}

// Append appends the body of the response to dst.
func (r *WriteResponse) Append(dst []byte) []byte {
	dst = le.AppendUint16(dst, 17)
	dst = le.AppendUint16(dst, 0)
	dst = le.AppendUint32(dst, r.Count)
	return le.AppendUint64(dst, 0)
}
