package wire

// ReadRequest is [MS-SMB2] 2.2.19. Channels (RDMA) are not kept.
type ReadRequest struct {
	// Length is the most the client takes, in octets.
	Length       uint32
	Offset       uint64
	FileID       FileID
	MinimumCount uint32
	Channel      uint32
}

// ParseReadRequest reads a READ request.
func ParseReadRequest(msg []byte) (ReadRequest, error) {
	b, err := body(msg, 49)
	if err != nil {
		return ReadRequest{}, err
	}
	return ReadRequest{
		Length:       le.Uint32(b[4:]),
		Offset:       le.Uint64(b[8:]),
		FileID:       parseFileID(b[16:]),
		MinimumCount: le.Uint32(b[32:]),
		Channel:      le.Uint32(b[36:]),
	}, nil
}

// Append appends the body of the request to dst.
func (r *ReadRequest) Append(dst []byte) []byte {
	dst = le.AppendUint16(dst, 49)
	dst = append(dst, HeaderSize+16, 0)
	dst = le.AppendUint32(dst, r.Length)
	dst = le.AppendUint64(dst, r.Offset)
	dst = r.FileID.append(dst)
	dst = le.AppendUint32(dst, r.MinimumCount)
	dst = le.AppendUint32(dst, r.Channel)
	dst = le.AppendUint64(dst, 0)
	return append(dst, 0)
}

// ReadResponse is [MS-SMB2] 2.2.20.
type ReadResponse struct {
	Data []byte
}

// ParseReadResponse reads a READ response.
func ParseReadResponse(msg []byte) (ReadResponse, error) {
	b, err := body(msg, 17)
	if err != nil {
		return ReadResponse{}, err
	}
	data, err := span(msg, uint32(b[2]), le.Uint32(b[4:]), 16)
	if err != nil {
		return ReadResponse{}, err
	}
	return ReadResponse{Data: data}, nil
}

// Append appends the body of the response to dst.
func (r *ReadResponse) Append(dst []byte) []byte {
	dst = le.AppendUint16(dst, 17)
	dst = append(dst, HeaderSize+16, 0)
	dst = le.AppendUint32(dst, uint32(len(r.Data)))
	dst = le.AppendUint64(dst, 0)
	return append(dst, r.Data...)
}
