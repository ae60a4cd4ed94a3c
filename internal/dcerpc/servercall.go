package dcerpc

import (
	"context"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/gss"
	"github.com/seed05845750/bkrp/internal/ndr"
)

// request is one call whose fragments are being gathered.
type request struct {
	callID    uint32
	contextID uint16
	opnum     uint16
	bigEndian bool
	// fault is why the call will not be executed, 0 if it will. Its stub is
	// dropped as it comes.
	fault Fault
	// stub is what came so far. That of a single fragment is a part of the
	// PDU.
	stub []byte
	// reserved is how much of Limits.MaxPending it holds for its caller: the
	// capacity of stub where that is memory of its own.
	reserved int
	caller   dtyp.SID
	// deadline closes the connection if the call is not over in time; nil for
	// a single fragment.
	deadline *time.Timer
}

// dropRequest forgets a request and clears what it held.
func (c *serverConn) dropRequest() {
	if r := c.request; r != nil {
		c.dropStub(r)
		if r.deadline != nil {
			r.deadline.Stop()
		}
	}
	c.request = nil
}

// dropStub clears the stub that was gathered and gives its room back.
func (c *serverConn) dropStub(r *request) {
	if r.reserved > 0 {
		clear(r.stub)
		c.server.pending.give(r.caller, int64(r.reserved))
	}
	r.stub, r.reserved = nil, 0
}

// handleRequest takes one fragment of a call, and executes the call when it
// was the last one.
func (c *serverConn) handleRequest(ctx context.Context, h header, pdu []byte) error {
	if c.logon.refused != nil {
		return c.logon.refused
	}
	if c.logon.exchange != nil {
		return violation("request before the end of the logon")
	}
	q, err := parseRequest(h, pdu)
	if err != nil {
		return err
	}
	stub, err := c.security.unprotect(h, pdu, q.stubOffset)
	if err != nil {
		return err
	}
	if err := c.gather(h, q, stub); err != nil {
		return err
	}
	if h.flags&flagLast == 0 {
		return nil
	}
	r := c.request
	defer c.dropRequest()
	if r.fault != 0 {
		return c.sendFault(r.fault, r.contextID, r.callID)
	}
	out, err := c.execute(ctx, r)
	if err != nil {
		fault := faultOf(err)
		if fault == FaultUnspecified {
			c.server.log().ErrorContext(ctx, "rpc call", "error", err, "opnum", r.opnum, "pipe", c.transport.PipeName)
		}
		return c.sendFault(fault, r.contextID, r.callID)
	}
	defer clear(out)
	return c.respond(r, out)
}

// gather adds a fragment's stub to the request, of which it may be the first.
func (c *serverConn) gather(h header, q requestPDU, stub []byte) error {
	if h.flags&flagFirst != 0 {
		if c.request != nil {
			return violation("call %d begins in the midst of call %d", h.callID, c.request.callID)
		}
		c.request = &request{
			callID: h.callID, contextID: q.contextID, opnum: q.opnum, bigEndian: h.bigEndian,
			fault: c.admit(q), caller: c.identity().SID,
		}
		if c.request.fault == 0 && h.flags&flagLast != 0 {
			if len(stub) > c.limits.MaxRequest {
				c.request.fault = FaultNoMemory
			}
			c.request.stub = stub
			return nil
		}
		c.request.deadline = time.AfterFunc(c.limits.CallTime, func() {
			c.overdue.Store(true)
			c.stream.conn.Close()
		})
	}
	r := c.request
	switch {
	case r == nil:
		return violation("call %d without its first fragment", h.callID)
	case r.callID != h.callID || r.contextID != q.contextID || r.opnum != q.opnum || r.bigEndian != h.bigEndian:
		return violation("fragment of call %d differs from its first", r.callID)
	case len(stub) == 0 && h.flags&flagLast == 0:
		return violation("empty fragment of call %d", r.callID)
	case r.fault != 0:
		return nil
	case len(stub) > c.limits.MaxRequest-len(r.stub):
		c.dropStub(r)
		r.fault = FaultNoMemory
		return nil
	case !c.makeRoom(r, len(stub), int64(q.allocHint)):
		c.dropStub(r)
		r.fault = FaultServerTooBusy
		return nil
	}
	r.stub = append(r.stub, stub...)
	return nil
}

// makeRoom makes room for n more octets, which MaxRequest allows; ok is false
// if the server has too much to hold already, of all or of this caller. The client's hint is believed
// only as far as it has sent a quarter of it.
func (c *serverConn) makeRoom(r *request, n int, hint int64) (ok bool) {
	have := len(r.stub) + n
	if have <= r.reserved {
		return true
	}
	most := int64(c.limits.MaxRequest)
	size := int(min(max(2*int64(have), min(hint, 4*int64(have))), most))
	if !c.server.pending.take(r.caller, int64(size-r.reserved), &c.limits) {
		return false
	}
	r.stub, r.reserved = grown(r.stub, size), size
	return true
}

// admit says by a fault if a call cannot be executed whatever its stub says.
// The level is looked at first, so that who is not let in learns nothing of
// what there is, and has nothing kept.
func (c *serverConn) admit(q requestPDU) Fault {
	b := c.contexts[q.contextID]
	switch {
	case b == nil:
		return FaultUnknownIf
	case c.security.authLevel() < b.iface.minLevel():
		return FaultAccessDenied
	case c.expired():
		return FaultAccessDenied
	case q.opnum >= b.iface.Opnums:
		return FaultOpRange
	case int64(q.allocHint) > int64(c.limits.MaxRequest)+verificationReach:
		return FaultNoMemory
	}
	return 0
}

func (c *serverConn) expired() bool {
	sc := c.security.context
	if sc == nil {
		return false
	}
	end := sc.Expiry()
	return !end.IsZero() && time.Now().After(end)
}

// execute checks the verification trailer and hands the call to its interface.
func (c *serverConn) execute(ctx context.Context, r *request) ([]byte, error) {
	b := c.contexts[r.contextID]
	stub, v, ok := cutVerification(r.stub)
	if !ok || v != nil && !c.verified(v, r, b) {
		return nil, FaultAccessDenied
	}
	call := Call{
		Opnum:     r.opnum,
		Stub:      stub,
		Encoding:  ndr.Encoding{NDR64: b.transfer == syntaxNDR64, BigEndian: r.bigEndian},
		Identity:  c.identity(),
		AuthLevel: c.security.authLevel(),
		Transport: &c.transport,
		State:     c.state(b.iface),
	}
	return b.iface.Handle(ctx, &call)
}

// verified compares what the client protected with what arrived (2.2.2.13).
func (c *serverConn) verified(v *verification, r *request, b *boundContext) bool {
	if v.bitmask1 != nil && *v.bitmask1&clientHeaderSigning != 0 && c.security.authLevel().signed() && !c.security.headerSign {
		// The client can sign headers, yet its bind did not say so when it
		// came here: someone cleared the flag.
		return false
	}
	if v.context != nil {
		// The client may have asked for an older minor version than ours.
		want := b.iface.syntax()
		got := v.context.abstract
		if got.UUID != want.UUID || got.Major != want.Major || got.Minor > want.Minor || v.context.transfer != b.transfer {
			return false
		}
	}
	if p := v.header; p != nil {
		big := p.drep[0]>>4 == 0
		if p.ptype != pduRequest || big != r.bigEndian || p.callID != r.callID || p.contextID != r.contextID || p.opnum != r.opnum {
			return false
		}
	}
	return true
}

func (c *serverConn) identity() gss.Identity {
	if c.security.context != nil {
		return c.security.context.Identity()
	}
	return c.transport.Identity
}

func (c *serverConn) state(i *Interface) any {
	if i.NewState == nil {
		return nil
	}
	s, ok := c.states[i]
	if !ok {
		if c.states == nil {
			c.states = make(map[*Interface]any, 1)
		}
		s = i.NewState()
		c.states[i] = s
	}
	return s
}

// respond sends the response's stub, in as many fragments as the client's
// size asks for.
func (c *serverConn) respond(r *request, stub []byte) error {
	chunk := c.security.chunk(c.maxXmit)
	for first := true; ; first = false {
		part := stub[:min(chunk, len(stub))]
		p := responsePDU{allocHint: uint32(len(stub)), contextID: r.contextID}
		stub = stub[len(part):]
		flags := uint8(0)
		if first {
			flags |= flagFirst
		}
		if len(stub) == 0 {
			flags |= flagLast
		}
		err := c.reply(func(b []byte) ([]byte, error) {
			return c.security.protect(append(p.append(b, flags, r.callID), part...))
		})
		if err != nil || len(stub) == 0 {
			return err
		}
	}
}
