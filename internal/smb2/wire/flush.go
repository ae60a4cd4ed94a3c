package wire

// FlushRequest is [MS-SMB2] 2.2.17; its response is an empty body.
type FlushRequest struct {
	FileID FileID
}

// ParseFlushRequest reads a FLUSH request.
func ParseFlushRequest(msg []byte) (FlushRequest, error) {
	b, err := body(msg, 24)
	if err != nil {
		return FlushRequest{}, err
	}
	return FlushRequest{FileID: parseFileID(b[8:])}, nil
}

// Append appends the body of the request to dst.
func (r *FlushRequest) Append(dst []byte) []byte {
	dst = le.AppendUint16(dst, 24)
	dst = append(dst, 0, 0, 0, 0, 0, 0)
	return r.FileID.append(dst)
}
