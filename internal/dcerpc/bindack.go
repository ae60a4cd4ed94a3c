package dcerpc

import (
	"fmt"

	"github.com/seed05845750/bkrp/internal/ndr"
)

// 12.6.4.4 bind_ack, and 12.6.4.2 alter_context_resp, which has the same
// fields.
type bindAckPDU struct {
	maxXmit, maxRecv uint16
	group            uint32
	// secondary is the address for further connections; for a named pipe, its
	// name. Empty in alter_context_resp.
	secondary string
	results   []contextResult
}

// p_result_t: the answer to one proposed presentation context.
type contextResult struct {
	result contextVerdict
	// reason tells why a context is rejected; with negotiateAck it is the
	// features agreed on ([MS-RPCE] 2.2.2.4).
	reason   contextReason
	transfer SyntaxID
}

type contextVerdict uint16

const (
	contextAccepted  contextVerdict = 0
	userRejection    contextVerdict = 1
	providerRejected contextVerdict = 2
	negotiateAck     contextVerdict = 3
)

type contextReason uint16

const (
	reasonNotSpecified       contextReason = 0
	reasonAbstractSyntax     contextReason = 1
	reasonTransferSyntaxes   contextReason = 2
	reasonLocalLimitExceeded contextReason = 3
)

func (r contextReason) String() string {
	switch r {
	case reasonNotSpecified:
		return "reason not specified"
	case reasonAbstractSyntax:
		return "abstract syntax not supported"
	case reasonTransferSyntaxes:
		return "proposed transfer syntaxes not supported"
	case reasonLocalLimitExceeded:
		return "local limit exceeded"
	}
	return fmt.Sprintf("reason %d", uint16(r))
}

func (p bindAckPDU) append(b []byte, ptype pduType, flags uint8, callID uint32) []byte {
	w := ndr.NewWriter(appendHeader(b, ptype, flags, callID), ndr.Encoding{})
	w.U16(p.maxXmit)
	w.U16(p.maxRecv)
	w.U32(p.group)
	if p.secondary == "" {
		w.U16(0)
	} else {
		w.U16(uint16(len(p.secondary) + 1))
		w.Octets([]byte(p.secondary))
		w.U8(0)
	}
	w.Align(4)
	w.U8(uint8(len(p.results)))
	w.Align(4)
	for _, c := range p.results {
		w.U16(uint16(c.result))
		w.U16(uint16(c.reason))
		c.transfer.write(&w)
	}
	return w.Buffer()
}

// parseBindAck reads the body, up to the security trailer if there is one.
func parseBindAck(body []byte, bigEndian bool) (bindAckPDU, error) {
	r := ndr.NewReader(body, ndr.Encoding{BigEndian: bigEndian})
	p := bindAckPDU{maxXmit: r.U16(), maxRecv: r.U16(), group: r.U32()}
	if b := r.Octets(int(r.U16())); len(b) > 0 {
		if b[len(b)-1] == 0 {
			b = b[:len(b)-1]
		}
		p.secondary = string(b)
	}
	r.Align(4)
	n := int(r.U8())
	r.Align(4)
	if n*(4+syntaxSize) > r.Remaining() {
		r.Fail("%d results announced", n)
	}
	for range n {
		if r.Err() != nil {
			break
		}
		p.results = append(p.results, contextResult{
			result: contextVerdict(r.U16()), reason: contextReason(r.U16()), transfer: readSyntax(&r),
		})
	}
	if err := r.Err(); err != nil {
		return bindAckPDU{}, violation("bind_ack: %v", err)
	}
	return p, nil
}
