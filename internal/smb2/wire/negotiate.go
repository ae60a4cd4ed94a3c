package wire

import "github.com/seed05845750/bkrp/dtyp"

// Dialect is an SMB2 dialect revision ([MS-SMB2] 2.2.3).
type Dialect uint16

// The dialects of [MS-SMB2] 1.7, and the wildcard revision that answers an
// SMB1 negotiate of "SMB 2.???" and is not a dialect ([MS-SMB2] 2.2.4).
const (
	Dialect202      Dialect = 0x0202
	Dialect210      Dialect = 0x0210
	Dialect300      Dialect = 0x0300
	Dialect302      Dialect = 0x0302
	Dialect311      Dialect = 0x0311
	DialectWildcard Dialect = 0x02FF
)

// String is the dialect as people write it.
func (d Dialect) String() string {
	switch d {
	case Dialect202:
		return "2.0.2"
	case Dialect210:
		return "2.1"
	case Dialect300:
		return "3.0"
	case Dialect302:
		return "3.0.2"
	case Dialect311:
		return "3.1.1"
	}
	return "2.???"
}

// Security modes ([MS-SMB2] 2.2.3).
const (
	SigningEnabled  = 0x1
	SigningRequired = 0x2
)

// Capabilities ([MS-SMB2] 2.2.3, 2.2.4) that this server gives.
const (
	CapLargeMTU   = 0x04
	CapEncryption = 0x40
)

// maxDialects bounds the dialects of one request; five exist.
const maxDialects = 64

// NegotiateRequest is [MS-SMB2] 2.2.3.
type NegotiateRequest struct {
	SecurityMode uint16
	Capabilities uint32
	ClientGUID   dtyp.GUID
	Dialects     []Dialect
	// Contexts are there when Dialects has 3.1.1. ClientStartTime, which
	// stands in their place otherwise, means nothing and is not kept.
	Contexts []NegotiateContext
}

// Has reports whether the client offers d.
func (r *NegotiateRequest) Has(d Dialect) bool {
	for _, v := range r.Dialects {
		if v == d {
			return true
		}
	}
	return false
}

// ParseNegotiateRequest reads a NEGOTIATE request.
func ParseNegotiateRequest(msg []byte) (*NegotiateRequest, error) {
	b, err := body(msg, 36)
	if err != nil {
		return nil, err
	}
	n := int(le.Uint16(b[2:]))
	if n == 0 || n > maxDialects || len(b) < 36+2*n {
		return nil, ErrMalformed
	}
	r := &NegotiateRequest{
		SecurityMode: le.Uint16(b[4:]),
		Capabilities: le.Uint32(b[8:]),
		ClientGUID:   dtyp.GUID(b[12:28]),
		Dialects:     make([]Dialect, n),
	}
	for i := range r.Dialects {
		r.Dialects[i] = Dialect(le.Uint16(b[36+2*i:]))
	}
	if r.Has(Dialect311) {
		r.Contexts, err = parseContexts(msg, le.Uint32(b[28:]), int(le.Uint16(b[32:])), 36+2*n)
		if err != nil {
			return nil, err
		}
	}
	return r, nil
}

// Append appends the body of the request to dst.
func (r *NegotiateRequest) Append(dst []byte) []byte {
	start := len(dst)
	dst = le.AppendUint16(dst, 36)
	dst = le.AppendUint16(dst, uint16(len(r.Dialects)))
	dst = le.AppendUint16(dst, r.SecurityMode)
	dst = le.AppendUint16(dst, 0)
	dst = le.AppendUint32(dst, r.Capabilities)
	dst = append(dst, r.ClientGUID[:]...)
	dst = le.AppendUint64(dst, 0)
	for _, d := range r.Dialects {
		dst = le.AppendUint16(dst, uint16(d))
	}
	if r.Has(Dialect311) && len(r.Contexts) > 0 {
		dst = pad8(dst, start)
		le.PutUint32(dst[start+28:], uint32(HeaderSize+len(dst)-start))
		le.PutUint16(dst[start+32:], uint16(len(r.Contexts)))
		dst = appendContexts(dst, r.Contexts)
	}
	return dst
}

// NegotiateResponse is [MS-SMB2] 2.2.4.
type NegotiateResponse struct {
	SecurityMode uint16
	Dialect      Dialect
	ServerGUID   dtyp.GUID
	Capabilities uint32
	// MaxTransact, MaxRead and MaxWrite are the largest transfers, in octets.
	MaxTransact, MaxRead, MaxWrite uint32
	// SystemTime and StartTime are FILETIMEs ([MS-DTYP] 2.3.3).
	SystemTime, StartTime uint64
	// Token is the hint of the security mechanism, at most 65535 octets.
	Token []byte
	// Contexts are there with dialect 3.1.1.
	Contexts []NegotiateContext
}

// ParseNegotiateResponse reads a NEGOTIATE response.
func ParseNegotiateResponse(msg []byte) (*NegotiateResponse, error) {
	b, err := body(msg, 65)
	if err != nil {
		return nil, err
	}
	r := &NegotiateResponse{
		SecurityMode: le.Uint16(b[2:]),
		Dialect:      Dialect(le.Uint16(b[4:])),
		ServerGUID:   dtyp.GUID(b[8:24]),
		Capabilities: le.Uint32(b[24:]),
		MaxTransact:  le.Uint32(b[28:]),
		MaxRead:      le.Uint32(b[32:]),
		MaxWrite:     le.Uint32(b[36:]),
		SystemTime:   le.Uint64(b[40:]),
		StartTime:    le.Uint64(b[48:]),
	}
	if r.Token, err = span(msg, uint32(le.Uint16(b[56:])), uint32(le.Uint16(b[58:])), 64); err != nil {
		return nil, err
	}
	if r.Dialect == Dialect311 {
		r.Contexts, err = parseContexts(msg, le.Uint32(b[60:]), int(le.Uint16(b[6:])), 64)
		if err != nil {
			return nil, err
		}
	}
	return r, nil
}

// Append appends the body of the response to dst.
func (r *NegotiateResponse) Append(dst []byte) []byte {
	start := len(dst)
	dst = le.AppendUint16(dst, 65)
	dst = le.AppendUint16(dst, r.SecurityMode)
	dst = le.AppendUint16(dst, uint16(r.Dialect))
	dst = le.AppendUint16(dst, 0)
	dst = append(dst, r.ServerGUID[:]...)
	dst = le.AppendUint32(dst, r.Capabilities)
	dst = le.AppendUint32(dst, r.MaxTransact)
	dst = le.AppendUint32(dst, r.MaxRead)
	dst = le.AppendUint32(dst, r.MaxWrite)
	dst = le.AppendUint64(dst, r.SystemTime)
	dst = le.AppendUint64(dst, r.StartTime)
	dst = le.AppendUint16(dst, HeaderSize+64)
	dst = le.AppendUint16(dst, uint16(len(r.Token)))
	dst = le.AppendUint32(dst, 0)
	dst = append(dst, r.Token...)
	if r.Dialect == Dialect311 && len(r.Contexts) > 0 {
		dst = pad8(dst, start)
		le.PutUint16(dst[start+6:], uint16(len(r.Contexts)))
		le.PutUint32(dst[start+60:], uint32(HeaderSize+len(dst)-start))
		dst = appendContexts(dst, r.Contexts)
	}
	return dst
}
