package dcerpc

import (
	"context"
	"slices"

	"github.com/seed05845750/bkrp/internal/gss"
)

// logon is a security context in the making. Each connection has one at most.
type logon struct {
	exchange gss.Exchange // nil when there is none under way
	begun    bool
	legs     int
	// refused is why an auth3, which has no answer that could say so, did not
	// succeed.
	refused error
}

// bind answers the first PDU of a connection ([MS-RPCE] 3.3.1.5.2, [C706] 12.6.4.3).
func (c *serverConn) bind(ctx context.Context, h header, pdu []byte) error {
	if c.bound {
		return violation("second bind")
	}
	p, t, token, err := c.parseBinding(h, pdu)
	if err != nil {
		return err
	}
	c.maxXmit = clampFragment(int(p.maxRecv), c.limits.MaxFragment)
	c.maxRecv = clampFragment(int(p.maxXmit), c.limits.MaxFragment)
	// The number of a group that another connection was given is taken as
	// well: nothing is shared in a group here, so nothing is gained by it.
	if c.group = p.group; c.group == 0 {
		if c.group, err = newGroup(); err != nil {
			return err
		}
	}
	out, err := c.authenticate(ctx, t, token)
	if err != nil {
		return err
	}
	c.bound = true
	c.security.headerSign = h.flags&flagHeaderSign != 0
	return c.acknowledge(pduBindAck, h, p, out)
}

// alterContext adds presentation contexts, carries the third leg of a logon,
// or both ([MS-RPCE] 3.3.1.5.2, [C706] 12.6.4.1).
func (c *serverConn) alterContext(ctx context.Context, h header, pdu []byte) error {
	if c.request != nil {
		return violation("alter_context between the fragments of a request")
	}
	p, t, token, err := c.parseBinding(h, pdu)
	if err != nil {
		return err
	}
	out, err := c.authenticate(ctx, t, token)
	if err != nil {
		return err
	}
	return c.acknowledge(pduAlterContextResp, h, p, out)
}

// auth3 takes the third leg of a logon that needs no answer ([MS-RPCE]
// 2.2.2.10). A logon that fails here is told to the first request.
func (c *serverConn) auth3(ctx context.Context, h header, pdu []byte) error {
	if h.authLength == 0 {
		return violation("auth3 without a token")
	}
	_, t, token, err := cutTrailer(h, pdu, headerSize)
	if err != nil {
		return err
	}
	if c.logon.exchange == nil || c.request != nil {
		return violation("auth3 without a logon under way")
	}
	if _, err := c.authenticate(ctx, t, token); err != nil {
		c.logon.refused = err
		return nil
	}
	if c.security.context == nil {
		return violation("auth3 that does not end the logon")
	}
	return nil
}

// parseBinding reads what bind and alter_context have in common. token is nil
// without authentication.
func (c *serverConn) parseBinding(h header, pdu []byte) (bindPDU, secTrailer, []byte, error) {
	if h.flags&flagWhole != flagWhole {
		return bindPDU{}, secTrailer{}, nil, violation("bind in fragments")
	}
	body, t, token := pdu[headerSize:], secTrailer{}, []byte(nil)
	if h.authLength > 0 {
		var err error
		if body, t, token, err = cutTrailer(h, pdu, headerSize); err != nil {
			return bindPDU{}, secTrailer{}, nil, err
		}
	}
	p, err := parseBind(body, h.bigEndian)
	return p, t, token, err
}

// clampFragment brings a size that the client named between what everyone has
// to take and what we do.
func clampFragment(size, most int) int { return min(max(size, minFragment), most) }

// acknowledge answers a bind or alter_context, with the logon's token if there
// is one.
func (c *serverConn) acknowledge(ptype pduType, h header, p bindPDU, token []byte) error {
	a := bindAckPDU{maxXmit: uint16(c.maxXmit), maxRecv: uint16(c.maxRecv), group: c.group, results: c.negotiate(p.contexts)}
	flags := uint8(flagWhole)
	if ptype == pduBindAck {
		a.secondary = c.transport.PipeName
	}
	if c.security.headerSign {
		// In an alter_context_resp too ([MS-RPCE] 2.2.2.3): there are clients
		// that believe the last answer.
		flags |= flagHeaderSign
	}
	return c.reply(func(b []byte) ([]byte, error) {
		return c.security.appendToken(a.append(b, ptype, flags, h.callID), token)
	})
}

// negotiate answers the proposed presentation contexts, in their order.
func (c *serverConn) negotiate(elements []contextElement) []contextResult {
	// A client that offers both encodings of an interface does so in a context
	// for each, of which one may be accepted (3.3.1.5.6).
	var wide []SyntaxID
	for _, e := range elements {
		if offers(e, syntaxNDR64) && !slices.Contains(wide, e.abstract) {
			wide = append(wide, e.abstract)
		}
	}
	results := make([]contextResult, len(elements))
	for i, e := range elements {
		results[i] = c.negotiateOne(e, slices.Contains(wide, e.abstract))
	}
	return results
}

// negotiateOne answers one context; wide says that NDR64 is offered for its
// interface, in this context or beside it.
func (c *serverConn) negotiateOne(e contextElement, wide bool) contextResult {
	if bits, ok := e.transfer[0].features(); ok && len(e.transfer) == 1 {
		return contextResult{result: negotiateAck, reason: contextReason(bits & keepConnectionOnOrphan)}
	}
	iface := c.server.lookup(e.abstract)
	if iface == nil {
		return contextResult{result: providerRejected, reason: reasonAbstractSyntax}
	}
	transfer, ok := choose(e, wide)
	if !ok {
		return contextResult{result: providerRejected, reason: reasonTransferSyntaxes}
	}
	if old := c.contexts[e.id]; old != nil {
		// The third leg of a logon names the context of the bind once more.
		if old.iface != iface || old.transfer != transfer {
			return contextResult{result: providerRejected, reason: reasonNotSpecified}
		}
		return contextResult{result: contextAccepted, transfer: transfer}
	}
	if len(c.contexts) >= c.limits.MaxContexts {
		return contextResult{result: providerRejected, reason: reasonLocalLimitExceeded}
	}
	if c.contexts == nil {
		c.contexts = make(map[uint16]*boundContext, 1)
	}
	c.contexts[e.id] = &boundContext{iface: iface, transfer: transfer}
	return contextResult{result: contextAccepted, transfer: transfer}
}

// choose picks the transfer syntax of a context: NDR64 before NDR, which gives
// way where NDR64 is offered beside it.
func choose(e contextElement, wide bool) (SyntaxID, bool) {
	switch {
	case offers(e, syntaxNDR64):
		return syntaxNDR64, true
	case offers(e, syntaxNDR) && !wide:
		return syntaxNDR, true
	}
	return SyntaxID{}, false
}

func offers(e contextElement, s SyntaxID) bool { return slices.Contains(e.transfer, s) }

// lookup finds the interface that a client may call as it asks: of the same
// major version and, as [C706] 13 has it, at least its minor version.
func (s *Server) lookup(want SyntaxID) *Interface {
	for i := range s.Interfaces {
		have := &s.Interfaces[i]
		if have.UUID == want.UUID && have.Major == want.Major && have.Minor >= want.Minor {
			return have
		}
	}
	return nil
}
