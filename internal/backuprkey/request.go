package backuprkey

import (
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/ndr"
)

// Request is the [in] parameters of BackuprKey, in the order of the wire.
type Request struct {
	// Action is pguidActionAgent, a [ref] pointer and so without a referent
	// on the wire.
	Action dtyp.GUID
	// Data is pDataIn, of cbDataIn octets. It too is [ref]: there is no NULL,
	// an absent input is an array of none.
	Data []byte
	// Param is dwParam, which a client sets to 0 and a server ignores.
	Param uint32
}

// ParseRequest reads a request that fills stub. Data is a part of stub. The
// error wraps ndr.ErrStub.
func ParseRequest(stub []byte, enc ndr.Encoding) (Request, error) {
	r := ndr.NewReader(stub, enc)
	var q Request
	q.Action = r.GUID()
	q.Data = r.ConformantOctets()
	r.CheckCount("cbDataIn", uint64(r.U32()), len(q.Data))
	q.Param = r.U32()
	if err := r.Done(); err != nil {
		return Request{}, err
	}
	return q, nil
}

// Append appends the stub of q to buf.
func (q Request) Append(buf []byte, enc ndr.Encoding) []byte {
	w := ndr.NewWriter(buf, enc)
	w.GUID(q.Action)
	w.ConformantOctets(q.Data)
	w.U32(uint32(len(q.Data)))
	w.U32(q.Param)
	return w.Buffer()
}
