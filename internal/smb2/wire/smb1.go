package wire

import "bytes"

// smb1Negotiate is SMB_COM_NEGOTIATE ([MS-CIFS] 2.2.4.52).
const smb1Negotiate = 0x72

// The names of SMB2 in an SMB1 negotiate ([MS-SMB2] 3.3.5.3.1).
const (
	SMB1Name202      = "SMB 2.002"
	SMB1NameWildcard = "SMB 2.???"
)

// SMB1NegotiateRequest is what is left of SMB1: the dialect names of the
// multi-protocol negotiate ([MS-CIFS] 2.2.4.52.1, [MS-SMB2] 3.3.5.3).
type SMB1NegotiateRequest struct {
	Dialects []string
}

// ParseSMB1Negotiate reads an SMB1 negotiate request: a header of 32 octets,
// no words, and a list of names, each after an octet 2 and ended by a zero.
func ParseSMB1Negotiate(msg []byte) (*SMB1NegotiateRequest, error) {
	const fixed = 32 + 1 + 2
	if len(msg) < fixed || le.Uint32(msg) != ProtocolSMB1 || msg[4] != smb1Negotiate || msg[32] != 0 {
		return nil, ErrMalformed
	}
	names := msg[fixed:]
	if int(le.Uint16(msg[33:])) != len(names) {
		return nil, ErrMalformed
	}
	r := &SMB1NegotiateRequest{}
	for len(names) > 0 {
		end := bytes.IndexByte(names, 0)
		if names[0] != 2 || end < 0 || len(r.Dialects) == maxDialects {
			return nil, ErrMalformed
		}
		r.Dialects = append(r.Dialects, string(names[1:end]))
		names = names[end+1:]
	}
	return r, nil
}

// Append appends the whole message, header included, to dst.
func (r *SMB1NegotiateRequest) Append(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, 35)...)
	h := dst[start:]
	le.PutUint32(h, ProtocolSMB1)
	h[4] = smb1Negotiate
	for _, name := range r.Dialects {
		dst = append(dst, 2)
		dst = append(dst, name...)
		dst = append(dst, 0)
	}
	le.PutUint16(dst[start+33:], uint16(len(dst)-start-35))
	return dst
}
