package dcerpc

import (
	"github.com/seed05845750/bkrp/internal/ndr"
)

// 12.6.4.3 bind, and 12.6.4.1 alter_context, which has the same fields.
type bindPDU struct {
	maxXmit, maxRecv uint16
	group            uint32
	contexts         []contextElement
}

// p_cont_elem_t: one presentation context that the client proposes.
type contextElement struct {
	id       uint16
	abstract SyntaxID
	transfer []SyntaxID
}

// parseBind reads the body, up to the security trailer if there is one.
func parseBind(body []byte, bigEndian bool) (bindPDU, error) {
	r := ndr.NewReader(body, ndr.Encoding{BigEndian: bigEndian})
	p := bindPDU{maxXmit: r.U16(), maxRecv: r.U16(), group: r.U32()}
	n := int(r.U8())
	r.Align(4)
	if n*(4+2*syntaxSize) > r.Remaining() {
		r.Fail("%d presentation contexts announced", n)
	}
	for range n {
		if r.Err() != nil {
			break
		}
		p.contexts = append(p.contexts, readContextElement(&r))
	}
	if err := r.Err(); err != nil {
		return bindPDU{}, violation("bind: %v", err)
	}
	return p, nil
}

func readContextElement(r *ndr.Reader) contextElement {
	r.Align(4)
	e := contextElement{id: r.U16()}
	n := int(r.U8())
	r.Align(4)
	e.abstract = readSyntax(r)
	if n == 0 || n*syntaxSize > r.Remaining() {
		r.Fail("%d transfer syntaxes announced", n)
		return contextElement{}
	}
	e.transfer = make([]SyntaxID, n)
	for i := range e.transfer {
		e.transfer[i] = readSyntax(r)
	}
	return e
}

func (p bindPDU) append(b []byte, ptype pduType, flags uint8, callID uint32) []byte {
	w := ndr.NewWriter(appendHeader(b, ptype, flags, callID), ndr.Encoding{})
	w.U16(p.maxXmit)
	w.U16(p.maxRecv)
	w.U32(p.group)
	w.U8(uint8(len(p.contexts)))
	w.Align(4)
	for _, e := range p.contexts {
		w.U16(e.id)
		w.U8(uint8(len(e.transfer)))
		w.Align(4)
		e.abstract.write(&w)
		for _, s := range e.transfer {
			s.write(&w)
		}
	}
	return w.Buffer()
}
