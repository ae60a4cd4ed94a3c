package wire

// BindingFlag of a SESSION_SETUP request asks to add this connection to a
// session of another one ([MS-SMB2] 2.2.5).
const BindingFlag = 0x01

// EncryptDataFlag of a SESSION_SETUP response says that the client has to
// encrypt everything ([MS-SMB2] 2.2.6).
const EncryptDataFlag = 0x0004

// SessionSetupRequest is [MS-SMB2] 2.2.5.
type SessionSetupRequest struct {
	Flags             uint8
	SecurityMode      uint8
	Capabilities      uint32
	PreviousSessionID uint64
	// Token is the security mechanism's, at most 65535 octets.
	Token []byte
}

// ParseSessionSetupRequest reads a SESSION_SETUP request.
func ParseSessionSetupRequest(msg []byte) (SessionSetupRequest, error) {
	b, err := body(msg, 25)
	if err != nil {
		return SessionSetupRequest{}, err
	}
	token, err := span(msg, uint32(le.Uint16(b[12:])), uint32(le.Uint16(b[14:])), 24)
	if err != nil {
		return SessionSetupRequest{}, err
	}
	return SessionSetupRequest{
		Flags:             b[2],
		SecurityMode:      b[3],
		Capabilities:      le.Uint32(b[4:]),
		PreviousSessionID: le.Uint64(b[16:]),
		Token:             token,
	}, nil
}

// Append appends the body of the request to dst.
func (r *SessionSetupRequest) Append(dst []byte) []byte {
	dst = le.AppendUint16(dst, 25)
	dst = append(dst, r.Flags, r.SecurityMode)
	dst = le.AppendUint32(dst, r.Capabilities)
	dst = le.AppendUint32(dst, 0)
	dst = le.AppendUint16(dst, HeaderSize+24)
	dst = le.AppendUint16(dst, uint16(len(r.Token)))
	dst = le.AppendUint64(dst, r.PreviousSessionID)
	return append(dst, r.Token...)
}

// SessionSetupResponse is [MS-SMB2] 2.2.6.
type SessionSetupResponse struct {
	Flags uint16
	Token []byte
}

// ParseSessionSetupResponse reads a SESSION_SETUP response.
func ParseSessionSetupResponse(msg []byte) (SessionSetupResponse, error) {
	b, err := body(msg, 9)
	if err != nil {
		return SessionSetupResponse{}, err
	}
	token, err := span(msg, uint32(le.Uint16(b[4:])), uint32(le.Uint16(b[6:])), 8)
	if err != nil {
		return SessionSetupResponse{}, err
	}
	return SessionSetupResponse{Flags: le.Uint16(b[2:]), Token: token}, nil
}

// Append appends the body of the response to dst.
func (r *SessionSetupResponse) Append(dst []byte) []byte {
	dst = le.AppendUint16(dst, 9)
	dst = le.AppendUint16(dst, r.Flags)
	dst = le.AppendUint16(dst, HeaderSize+8)
	dst = le.AppendUint16(dst, uint16(len(r.Token)))
	return append(dst, r.Token...)
}
