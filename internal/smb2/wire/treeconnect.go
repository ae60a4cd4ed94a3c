package wire

// ShareTypePipe is the share type of IPC$ ([MS-SMB2] 2.2.10).
const ShareTypePipe = 0x02

// Share flags ([MS-SMB2] 2.2.10): nothing is cached, everything encrypted.
const (
	ShareNoCaching   = 0x0030
	ShareEncryptData = 0x8000
)

// TreeConnectRequest is [MS-SMB2] 2.2.9. The extension of 3.1.1 is not kept:
// the path stands where its offset says with and without it.
type TreeConnectRequest struct {
	// Path is \\server\share in UTF-16LE.
	Path []byte
}

// ParseTreeConnectRequest reads a TREE_CONNECT request.
func ParseTreeConnectRequest(msg []byte) (TreeConnectRequest, error) {
	b, err := body(msg, 9)
	if err != nil {
		return TreeConnectRequest{}, err
	}
	path, err := span(msg, uint32(le.Uint16(b[4:])), uint32(le.Uint16(b[6:])), 8)
	if err != nil {
		return TreeConnectRequest{}, err
	}
	return TreeConnectRequest{Path: path}, nil
}

// Append appends the body of the request to dst.
func (r *TreeConnectRequest) Append(dst []byte) []byte {
	dst = le.AppendUint16(dst, 9)
	dst = le.AppendUint16(dst, 0)
	dst = le.AppendUint16(dst, HeaderSize+8)
	dst = le.AppendUint16(dst, uint16(len(r.Path)))
	return append(dst, r.Path...)
}

// TreeConnectResponse is [MS-SMB2] 2.2.10.
type TreeConnectResponse struct {
	ShareType    uint8
	ShareFlags   uint32
	Capabilities uint32
	// MaximalAccess is an access mask ([MS-SMB2] 2.2.13.1).
	MaximalAccess uint32
}

// ParseTreeConnectResponse reads a TREE_CONNECT response.
func ParseTreeConnectResponse(msg []byte) (TreeConnectResponse, error) {
	b, err := body(msg, 16)
	if err != nil {
		return TreeConnectResponse{}, err
	}
	return TreeConnectResponse{
		ShareType:     b[2],
		ShareFlags:    le.Uint32(b[4:]),
		Capabilities:  le.Uint32(b[8:]),
		MaximalAccess: le.Uint32(b[12:]),
	}, nil
}

// Append appends the body of the response to dst.
func (r *TreeConnectResponse) Append(dst []byte) []byte {
	dst = le.AppendUint16(dst, 16)
	dst = append(dst, r.ShareType, 0)
	dst = le.AppendUint32(dst, r.ShareFlags)
	dst = le.AppendUint32(dst, r.Capabilities)
	return le.AppendUint32(dst, r.MaximalAccess)
}
