package dcerpc

import (
	"context"
	"errors"
	"fmt"

	"github.com/seed05845750/bkrp/internal/gss"
)

// Bind agrees with the server on the interface, the encoding and the security
// context. An error that wraps ErrBind says why the server refused; a wrong
// password shows as that too, as a Fault, or as the Initiator's own error.
func (c *Client) Bind(ctx context.Context) error {
	return c.until(ctx, func() error {
		if c.err != errNotBound {
			return errors.New("dcerpc: second bind of a connection")
		}
		c.callID = 1
		// Whatever goes wrong in it, a fault too, leaves nothing to go on with.
		if c.err = c.bind(ctx); c.err != nil {
			c.err = fmt.Errorf("dcerpc: binding to %v: %w", c.cfg.Interface, c.err)
		}
		return c.err
	})
}

func (c *Client) bind(ctx context.Context) error {
	var exchange gss.Exchange
	var token []byte
	flags := uint8(flagWhole)
	if c.cfg.Initiator != nil {
		exchange = c.cfg.Initiator.Initiate(gss.InitiateOptions{Target: c.cfg.Target, Flags: c.wanted()})
		c.security.secTrailer = secTrailer{authType: c.cfg.AuthType, level: c.cfg.Level, contextID: 1}
		var err error
		if token, c.security.context, err = exchange.Step(ctx, nil); err != nil {
			return err
		}
		if c.signsHeaders() {
			flags |= flagHeaderSign
		}
	}
	elements := c.proposal()
	if err := c.sendBind(pduBind, flags, elements, token); err != nil {
		return err
	}
	h, answer, err := c.receiveBindAck(pduBindAck, elements)
	if err != nil {
		return err
	}
	c.security.headerSign = flags&flagHeaderSign != 0 && h.flags&flagHeaderSign != 0
	if exchange == nil {
		return nil
	}
	if c.signsHeaders() && !c.security.headerSign {
		// Every server of this century can; someone may have cleared the flag.
		return fmt.Errorf("%w: the server does not sign headers", ErrBind)
	}
	if err := c.authenticate(ctx, exchange, answer); err != nil {
		return err
	}
	return granted(c.security.context, c.cfg.Level)
}

// signsHeaders reports whether signatures have to cover the headers. Netlogon's
// own provider signs stubs only ([MS-NRPC] 3.3.4.2).
func (c *Client) signsHeaders() bool {
	return c.cfg.Level.signed() && c.cfg.AuthType != AuthNetlogon
}

// wanted are the flags asked of the Initiator.
func (c *Client) wanted() gss.Flags {
	f := gss.Mutual | gss.DCEStyle
	if c.cfg.Level.signed() {
		f |= gss.Integrity | gss.Sequence
	}
	if c.cfg.Level == LevelPrivacy {
		f |= gss.Confidentiality
	}
	return f
}

// proposal is the presentation contexts of the bind: one for each transfer
// syntax (3.3.1.5.6), and one for the bind-time features.
func (c *Client) proposal() []contextElement {
	syntaxes := []SyntaxID{syntaxNDR}
	if c.cfg.NDR64 {
		syntaxes = append(syntaxes, syntaxNDR64)
	}
	syntaxes = append(syntaxes, featureSyntax(keepConnectionOnOrphan))
	var elements []contextElement
	for i, s := range syntaxes {
		elements = append(elements, contextElement{id: uint16(i), abstract: c.cfg.Interface, transfer: []SyntaxID{s}})
	}
	return elements
}

// authenticate goes through the legs of the logon that follow the bind_ack,
// of which answer is the token.
func (c *Client) authenticate(ctx context.Context, exchange gss.Exchange, answer []byte) error {
	// The context that was accepted is named once more in each leg.
	elements := []contextElement{{id: c.contextID, abstract: c.cfg.Interface, transfer: []SyntaxID{c.transfer}}}
	for range (Limits{}).withDefaults().MaxLegs {
		if c.security.context != nil && answer == nil {
			return nil
		}
		token, sc, err := exchange.Step(ctx, answer)
		if err != nil {
			return err
		}
		c.security.context = sc
		switch {
		case sc != nil && token == nil:
			return nil
		case sc != nil:
			return c.sendAuth3(token)
		case token == nil:
			return gss.ErrToken
		}
		if err := c.sendBind(pduAlterContext, flagWhole, elements, token); err != nil {
			return err
		}
		if _, answer, err = c.receiveBindAck(pduAlterContextResp, elements); err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: the logon does not end", gss.ErrToken)
}

func (c *Client) sendBind(ptype pduType, flags uint8, elements []contextElement, token []byte) error {
	p := bindPDU{maxXmit: uint16(c.maxXmit), maxRecv: uint16(c.maxRecv), group: c.group, contexts: elements}
	pdu, err := c.security.appendToken(p.append(nil, ptype, flags, c.callID), token)
	if err != nil {
		return err
	}
	return c.stream.write(pdu)
}

// sendAuth3 sends the last token of a logon that needs no answer ([MS-RPCE]
// 2.2.2.10: four octets of padding are all its body).
func (c *Client) sendAuth3(token []byte) error {
	b := append(appendHeader(nil, pduAuth3, flagWhole, c.callID), 0, 0, 0, 0)
	pdu, err := c.security.appendToken(b, token)
	if err != nil {
		return err
	}
	return c.stream.write(pdu)
}

// receiveBindAck reads the answer to a bind or alter_context: its token, nil
// if there is none, which outlives the PDU.
func (c *Client) receiveBindAck(want pduType, elements []contextElement) (header, []byte, error) {
	h, pdu, err := c.receive()
	if err != nil {
		return header{}, nil, err
	}
	if h.ptype == pduBindNak {
		reason, err := parseBindNak(pdu[headerSize:], h.bigEndian)
		if err == nil {
			err = fmt.Errorf("%w: %v", ErrBind, reason)
		}
		return header{}, nil, err
	}
	if h.ptype != want {
		return header{}, nil, violation("PDU of type %d as the answer to a bind", h.ptype)
	}
	body, token := pdu[headerSize:], []byte(nil)
	if h.authLength > 0 {
		var t secTrailer
		if body, t, token, err = cutTrailer(h, pdu, headerSize); err != nil {
			return header{}, nil, err
		}
		if t.authType != c.security.authType || t.level != c.security.level || t.contextID != c.security.contextID {
			return header{}, nil, violation("token of another security context")
		}
		token = append([]byte(nil), token...)
	}
	a, err := parseBindAck(body, h.bigEndian)
	if err != nil {
		return header{}, nil, err
	}
	return h, token, c.settle(want, a, elements)
}

// settle takes over what the server accepted.
func (c *Client) settle(ptype pduType, a bindAckPDU, elements []contextElement) error {
	if len(a.results) != len(elements) {
		return violation("%d results for %d presentation contexts", len(a.results), len(elements))
	}
	if ptype == pduBindAck {
		c.maxXmit = clampFragment(int(a.maxRecv), c.maxXmit)
		c.maxRecv = clampFragment(int(a.maxXmit), c.maxRecv)
		c.group = a.group
	}
	refusal := reasonTransferSyntaxes
	for i, r := range a.results {
		switch {
		case r.result == contextAccepted && r.transfer == elements[i].transfer[0]:
			c.contextID, c.transfer = elements[i].id, r.transfer
			return nil
		case r.result == contextAccepted:
			return violation("a transfer syntax that was not offered")
		case r.result == providerRejected && i == 0:
			refusal = r.reason
		case r.result == userRejection:
			refusal = reasonNotSpecified
		}
	}
	return fmt.Errorf("%w: %v", ErrBind, refusal)
}
