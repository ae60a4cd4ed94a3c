package wire

// PostQueryAttributes of a CLOSE asks for the file's attributes ([MS-SMB2]
// 2.2.15).
const PostQueryAttributes = 0x0001

// CloseRequest is [MS-SMB2] 2.2.15.
type CloseRequest struct {
	Flags  uint16
	FileID FileID
}

// ParseCloseRequest reads a CLOSE request.
func ParseCloseRequest(msg []byte) (CloseRequest, error) {
	b, err := body(msg, 24)
	if err != nil {
		return CloseRequest{}, err
	}
	return CloseRequest{Flags: le.Uint16(b[2:]), FileID: parseFileID(b[8:])}, nil
}

// Append appends the body of the request to dst.
func (r *CloseRequest) Append(dst []byte) []byte {
	dst = le.AppendUint16(dst, 24)
	dst = le.AppendUint16(dst, r.Flags)
	dst = le.AppendUint32(dst, 0)
	return r.FileID.append(dst)
}

// CloseResponse is [MS-SMB2] 2.2.16. The attributes are zero unless Flags
// says that they are there.
type CloseResponse struct {
	Flags uint16
	FileAttributes
}

// ParseCloseResponse reads a CLOSE response.
func ParseCloseResponse(msg []byte) (CloseResponse, error) {
	b, err := body(msg, 60)
	if err != nil {
		return CloseResponse{}, err
	}
	return CloseResponse{Flags: le.Uint16(b[2:]), FileAttributes: parseFileAttributes(b[8:])}, nil
}

// Append appends the body of the response to dst.
func (r *CloseResponse) Append(dst []byte) []byte {
	dst = le.AppendUint16(dst, 60)
	dst = le.AppendUint16(dst, r.Flags)
	dst = le.AppendUint32(dst, 0)
	return r.FileAttributes.append(dst)
}
