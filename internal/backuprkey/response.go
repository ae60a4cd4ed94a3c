package backuprkey

import "github.com/seed05845750/bkrp/internal/ndr"

// Response is the [out] parameters of BackuprKey and its return value.
type Response struct {
	// Data is *ppDataOut, of *pcbDataOut octets. nil is a NULL pointer, as a
	// server sends with an error; empty and not nil is a pointer to nothing.
	Data []byte
	// Status is the return value, a Win32 code.
	Status uint32
}

// ParseResponse reads a response that fills stub. Data is a part of stub. The
// error wraps ndr.ErrStub.
func ParseResponse(stub []byte, enc ndr.Encoding) (Response, error) {
	r := ndr.NewReader(stub, enc)
	var p Response
	if r.Referent() {
		p.Data = r.ConformantOctets()
	}
	// A NULL pointer with a length is refused by the same comparison
	// ([MS-RPCE] 3.1.1.5.3.3.1.2).
	r.CheckCount("pcbDataOut", uint64(r.U32()), len(p.Data))
	p.Status = r.U32()
	if err := r.Done(); err != nil {
		return Response{}, err
	}
	return p, nil
}

// Append appends the stub of p to buf.
func (p Response) Append(buf []byte, enc ndr.Encoding) []byte {
	w := ndr.NewWriter(buf, enc)
	w.Referent(p.Data != nil)
	if p.Data != nil {
		w.ConformantOctets(p.Data)
	}
	w.U32(uint32(len(p.Data)))
	w.U32(p.Status)
	return w.Buffer()
}

// ResponseSize is an upper bound of the octets that Append appends for data
// of n octets, in any encoding: what to allocate.
func ResponseSize(n int) int { return n + 8 + 8 + 3 + 4 + 4 }
