package wire

import "github.com/seed05845750/bkrp/dtyp"

// Control codes ([MS-SMB2] 2.2.31).
const (
	FSCTLDFSGetReferrals     = 0x00060194
	FSCTLDFSGetReferralsEx   = 0x000601B0
	FSCTLPipePeek            = 0x0011400C
	FSCTLPipeWait            = 0x00110018
	FSCTLPipeTransceive      = 0x0011C017
	FSCTLValidateNegotiation = 0x00140204
)

// IsFSCTL of an IOCTL request says that the code is an FSCTL; there is
// nothing else ([MS-SMB2] 2.2.31).
const IsFSCTL = 0x00000001

// IoctlRequest is [MS-SMB2] 2.2.31. Output data of a request is not kept.
type IoctlRequest struct {
	Code   uint32
	FileID FileID
	Input  []byte
	// MaxInput and MaxOutput are the most the client takes back, in octets.
	MaxInput, MaxOutput uint32
	Flags               uint32
}

// ParseIoctlRequest reads an IOCTL request.
func ParseIoctlRequest(msg []byte) (IoctlRequest, error) {
	b, err := body(msg, 57)
	if err != nil {
		return IoctlRequest{}, err
	}
	input, err := span(msg, le.Uint32(b[24:]), le.Uint32(b[28:]), 56)
	if err != nil {
		return IoctlRequest{}, err
	}
	return IoctlRequest{
		Code:      le.Uint32(b[4:]),
		FileID:    parseFileID(b[8:]),
		Input:     input,
		MaxInput:  le.Uint32(b[32:]),
		MaxOutput: le.Uint32(b[44:]),
		Flags:     le.Uint32(b[48:]),
	}, nil
}

// Append appends the body of the request to dst.
func (r *IoctlRequest) Append(dst []byte) []byte {
	dst = le.AppendUint16(dst, 57)
	dst = le.AppendUint16(dst, 0)
	dst = le.AppendUint32(dst, r.Code)
	dst = r.FileID.append(dst)
	for _, v := range [...]uint32{HeaderSize + 56, uint32(len(r.Input)), r.MaxInput, 0, 0, r.MaxOutput, r.Flags, 0} {
		dst = le.AppendUint32(dst, v)
	}
	return append(dst, r.Input...)
}

// IoctlResponse is [MS-SMB2] 2.2.32, without input data.
type IoctlResponse struct {
	Code   uint32
	FileID FileID
	Output []byte
}

// ParseIoctlResponse reads an IOCTL response.
func ParseIoctlResponse(msg []byte) (IoctlResponse, error) {
	b, err := body(msg, 49)
	if err != nil {
		return IoctlResponse{}, err
	}
	output, err := span(msg, le.Uint32(b[32:]), le.Uint32(b[36:]), 48)
	if err != nil {
		return IoctlResponse{}, err
	}
	return IoctlResponse{Code: le.Uint32(b[4:]), FileID: parseFileID(b[8:]), Output: output}, nil
}

// Append appends the body of the response to dst.
func (r *IoctlResponse) Append(dst []byte) []byte {
	dst = le.AppendUint16(dst, 49)
	dst = le.AppendUint16(dst, 0)
	dst = le.AppendUint32(dst, r.Code)
	dst = r.FileID.append(dst)
	const end = HeaderSize + 48
	for _, v := range [...]uint32{end, 0, end, uint32(len(r.Output)), 0, 0} {
		dst = le.AppendUint32(dst, v)
	}
	return append(dst, r.Output...)
}

// PipeWait is the input of FSCTL_PIPE_WAIT ([MS-FSCC] 2.3.49).
type PipeWait struct {
	// Name is the name of the pipe, in UTF-16LE.
	Name []byte
}

// ParsePipeWait reads it.
func ParsePipeWait(b []byte) (PipeWait, error) {
	if len(b) < 14 || uint64(le.Uint32(b[8:])) > uint64(len(b)-14) {
		return PipeWait{}, ErrMalformed
	}
	return PipeWait{Name: b[14 : 14+le.Uint32(b[8:])]}, nil
}

// ValidateNegotiation is the input of FSCTL_VALIDATE_NEGOTIATE_INFO
// ([MS-SMB2] 2.2.31.4): what the client says that it sent in NEGOTIATE.
type ValidateNegotiation struct {
	Capabilities uint32
	ClientGUID   dtyp.GUID
	SecurityMode uint16
	Dialects     []Dialect
}

// ParseValidateNegotiation reads it.
func ParseValidateNegotiation(b []byte) (ValidateNegotiation, error) {
	if len(b) < 24 {
		return ValidateNegotiation{}, ErrMalformed
	}
	n := int(le.Uint16(b[22:]))
	if n > maxDialects || len(b) < 24+2*n {
		return ValidateNegotiation{}, ErrMalformed
	}
	v := ValidateNegotiation{
		Capabilities: le.Uint32(b),
		ClientGUID:   dtyp.GUID(b[4:20]),
		SecurityMode: le.Uint16(b[20:]),
		Dialects:     make([]Dialect, n),
	}
	for i := range v.Dialects {
		v.Dialects[i] = Dialect(le.Uint16(b[24+2*i:]))
	}
	return v, nil
}

// Append appends it to dst.
func (v *ValidateNegotiation) Append(dst []byte) []byte {
	dst = le.AppendUint32(dst, v.Capabilities)
	dst = append(dst, v.ClientGUID[:]...)
	dst = le.AppendUint16(dst, v.SecurityMode)
	dst = le.AppendUint16(dst, uint16(len(v.Dialects)))
	for _, d := range v.Dialects {
		dst = le.AppendUint16(dst, uint16(d))
	}
	return dst
}

// AppendValidatedNegotiation appends the answer to it ([MS-SMB2] 2.2.32.6):
// what the server sent in its NEGOTIATE response, 24 octets.
func AppendValidatedNegotiation(dst []byte, capabilities uint32, server dtyp.GUID, mode uint16, d Dialect) []byte {
	dst = le.AppendUint32(dst, capabilities)
	dst = append(dst, server[:]...)
	dst = le.AppendUint16(dst, mode)
	return le.AppendUint16(dst, uint16(d))
}
