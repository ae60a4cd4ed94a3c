package dcerpc

import (
	"context"
	"slices"
)

// Call calls a method with the stub of its parameters, in Encoding, and
// returns the stub of its result, which is the caller's to keep. The error is
// a Fault if the server answered by one; the client is fit for the next call
// then.
func (c *Client) Call(ctx context.Context, opnum uint16, stub []byte) ([]byte, error) {
	var result []byte
	err := c.until(ctx, func() error {
		if c.err != nil {
			return c.err
		}
		c.callID++
		if err := c.sendRequest(opnum, stub); err != nil {
			return err
		}
		var err error
		result, err = c.receiveResponse()
		return err
	})
	return result, err
}

// sendRequest sends the stub and its verification trailer in as many
// fragments as the server's size asks for.
func (c *Client) sendRequest(opnum uint16, stub []byte) error {
	q := requestPDU{contextID: c.contextID, opnum: opnum}
	if c.security.authLevel().signed() {
		protected := slices.Grow([]byte(nil), len(stub)+128)
		stub = c.verification(opnum).append(append(protected, stub...), 0)
		defer clear(stub)
	}
	loan := c.buffers.get(c.maxXmit)
	defer c.buffers.put(loan, c.maxXmit)
	chunk := c.security.chunk(c.maxXmit)
	for first := true; ; first = false {
		part := stub[:min(chunk, len(stub))]
		q.allocHint = uint32(len(stub))
		stub = stub[len(part):]
		flags := uint8(0)
		if first {
			flags |= flagFirst
		}
		if len(stub) == 0 {
			flags |= flagLast
		}
		pdu, err := c.security.protect(append(q.append((*loan)[:0], flags, c.callID), part...))
		if err != nil {
			return err
		}
		if err := c.stream.write(pdu); err != nil || flags&flagLast != 0 {
			return err
		}
	}
}

// verification says what the request is for (2.2.2.13). Its header needs no
// repeating where the signature covers it.
func (c *Client) verification(opnum uint16) verification {
	v := verification{context: &verifyContext{c.cfg.Interface, c.transfer}}
	if c.security.headerSign {
		bits := uint32(clientHeaderSigning)
		v.bitmask1 = &bits
	} else {
		v.header = &verifyHeader{
			ptype: pduRequest, drep: [4]byte{0x10}, callID: c.callID, contextID: c.contextID, opnum: opnum,
		}
	}
	return v
}

// receiveResponse gathers the fragments of the response.
func (c *Client) receiveResponse() (whole []byte, err error) {
	var result []byte
	defer func() {
		if err != nil {
			clear(result)
		}
	}()
	for first := true; ; first = false {
		h, pdu, err := c.receive()
		if err != nil {
			return nil, err
		}
		if h.ptype != pduResponse || h.bigEndian || (h.flags&flagFirst != 0) != first {
			return nil, violation("PDU of type %d, flags %#x, as a response", h.ptype, h.flags)
		}
		p, err := parseResponse(h, pdu)
		if err != nil {
			return nil, err
		}
		if p.contextID != c.contextID {
			return nil, violation("response of presentation context %d", p.contextID)
		}
		stub, err := c.security.unprotect(h, pdu, callHeaderSize)
		if err != nil {
			return nil, err
		}
		if len(stub) > c.cfg.MaxResponse-len(result) {
			return nil, violation("response of more than %d octets", c.cfg.MaxResponse)
		}
		if len(stub) == 0 && h.flags&flagLast == 0 {
			return nil, violation("empty fragment of a response")
		}
		if have := len(result) + len(stub); have > cap(result) {
			size := have
			if h.flags&flagLast == 0 {
				size = min(2*have, c.cfg.MaxResponse)
			}
			result = grown(result, size)
		}
		result = append(result, stub...)
		if h.flags&flagLast != 0 {
			return result, nil
		}
	}
}
