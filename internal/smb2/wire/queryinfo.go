package wire

// InfoFile is the info type of a query for or a change of file information
// ([MS-SMB2] 2.2.37).
const InfoFile = 0x01

// File information classes of pipes ([MS-FSCC] 2.4).
const (
	FileBasicInformation       = 4
	FileStandardInformation    = 5
	FileInternalInformation    = 6
	FileEAInformation          = 7
	FileAccessInformation      = 8
	FilePositionInformation    = 14
	FileModeInformation        = 16
	FileAlignmentInformation   = 17
	FileAllInformation         = 18
	FilePipeInformation        = 23
	FilePipeLocalInformation   = 24
	FileNetworkOpenInformation = 34
)

// QueryInfoRequest is [MS-SMB2] 2.2.37. Its input, of use for quotas and
// extended attributes only, is not kept.
type QueryInfoRequest struct {
	InfoType uint8
	Class    uint8
	// MaxOutput is the most the client takes back, in octets.
	MaxOutput  uint32
	Additional uint32
	Flags      uint32
	FileID     FileID
}

// ParseQueryInfoRequest reads a QUERY_INFO request.
func ParseQueryInfoRequest(msg []byte) (QueryInfoRequest, error) {
	b, err := body(msg, 41)
	if err != nil {
		return QueryInfoRequest{}, err
	}
	return QueryInfoRequest{
		InfoType:   b[2],
		Class:      b[3],
		MaxOutput:  le.Uint32(b[4:]),
		Additional: le.Uint32(b[16:]),
		Flags:      le.Uint32(b[20:]),
		FileID:     parseFileID(b[24:]),
	}, nil
}

// Append appends the body of the request to dst.
func (r *QueryInfoRequest) Append(dst []byte) []byte {
	dst = le.AppendUint16(dst, 41)
	dst = append(dst, r.InfoType, r.Class)
	for _, v := range [...]uint32{r.MaxOutput, 0, 0, r.Additional, r.Flags} {
		dst = le.AppendUint32(dst, v)
	}
	return r.FileID.append(dst)
}

// QueryInfoResponse is [MS-SMB2] 2.2.38.
type QueryInfoResponse struct {
	Data []byte
}

// ParseQueryInfoResponse reads a QUERY_INFO response.
func ParseQueryInfoResponse(msg []byte) (QueryInfoResponse, error) {
	b, err := body(msg, 9)
	if err != nil {
		return QueryInfoResponse{}, err
	}
	data, err := span(msg, uint32(le.Uint16(b[2:])), le.Uint32(b[4:]), 8)
	if err != nil {
		return QueryInfoResponse{}, err
	}
	return QueryInfoResponse{Data: data}, nil
}

// Append appends the body of the response to dst.
func (r *QueryInfoResponse) Append(dst []byte) []byte {
	dst = le.AppendUint16(dst, 9)
	dst = le.AppendUint16(dst, HeaderSize+8)
	dst = le.AppendUint32(dst, uint32(len(r.Data)))
	return append(dst, r.Data...)
}
