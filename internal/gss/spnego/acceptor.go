package spnego

import (
	"bytes"
	"context"
	"encoding/asn1"
	"fmt"

	"github.com/seed05845750/bkrp/internal/gss"
)

// Mechanism is one mechanism of a server.
type Mechanism struct {
	// OIDs are what it is called: MSKerberos and Kerberos are one mechanism.
	OIDs []asn1.ObjectIdentifier
	// Acceptor makes its contexts.
	Acceptor gss.Acceptor
}

// Acceptor is the server's end of the negotiation.
type Acceptor struct {
	mechs []Mechanism
	hint  []byte
}

// NewAcceptor makes an acceptor of mechs, the preferred one first: their order
// is what Hint shows, while the choice follows the client's order. It fails
// when there is no mechanism or an identifier is none.
func NewAcceptor(mechs ...Mechanism) (*Acceptor, error) {
	a := &Acceptor{mechs: append([]Mechanism(nil), mechs...)}
	var oids []asn1.ObjectIdentifier
	for _, m := range mechs {
		oids = append(oids, m.OIDs...)
	}
	if len(oids) == 0 {
		return nil, fmt.Errorf("spnego: no mechanism is configured: %w", gss.ErrMechanism)
	}
	var err error
	a.hint, err = (&negTokenInit{mechTypes: oids, hints: true}).marshal()
	return a, err
}

// Hint is the token by which an SMB server speaks first, NegTokenInit2 with
// its mechanisms ([MS-SMB2] 2.2.4, [MS-SPNG] 3.2.5.2). It is not to be changed.
func (a *Acceptor) Hint() []byte { return a.hint }

// Accept implements gss.Acceptor.
func (a *Acceptor) Accept(opts gss.AcceptOptions) gss.Exchange {
	return &acceptExchange{acceptor: a, opts: opts}
}

// AcceptBare is Accept, and besides lets NTLM come without a SPNEGO wrapper,
// as SMB servers do ([MS-SMB2] 3.3.5.5.3 leaves it to the package). The whole
// exchange is then bare.
func (a *Acceptor) AcceptBare(opts gss.AcceptOptions) gss.Exchange {
	return &acceptExchange{acceptor: a, opts: opts, bare: true}
}

// find gives the mechanism called oid, nil if there is none.
func (a *Acceptor) find(oid asn1.ObjectIdentifier) gss.Acceptor {
	for _, m := range a.mechs {
		for _, o := range m.OIDs {
			if o.Equal(oid) {
				return m.Acceptor
			}
		}
	}
	return nil
}

// ntlmSignature is what every NTLM message begins with ([MS-NLMP] 2.2.1).
const ntlmSignature = "NTLMSSP\x00"

type acceptExchange struct {
	acceptor *Acceptor
	opts     gss.AcceptOptions
	bare     bool

	legs   int
	done   bool
	mech   gss.Exchange // nil before the first token
	list   []byte       // the client's MechTypeList; nil in a bare exchange
	wasNot bool         // the choice is not the client's first
	sc     gss.Context  // when the mechanism is done and the MIC is awaited
}

// Step implements gss.Exchange.
func (e *acceptExchange) Step(ctx context.Context, in []byte) (out []byte, sc gss.Context, err error) {
	e.legs++
	if e.done || e.legs > MaxLegs || len(in) > MaxToken {
		e.done = true
		return nil, nil, fmt.Errorf("spnego: too many tokens or too long a one: %w", gss.ErrToken)
	}
	switch {
	case e.mech == nil && e.bare && bytes.HasPrefix(in, []byte(ntlmSignature)):
		out, sc, err = e.startBare(ctx, in)
	case e.mech == nil:
		out, sc, err = e.start(ctx, in)
	case e.list == nil:
		out, sc, err = e.mech.Step(ctx, in)
	default:
		out, sc, err = e.advance(ctx, in)
	}
	e.done = err != nil || sc != nil
	return out, sc, err
}

func (e *acceptExchange) startBare(ctx context.Context, in []byte) ([]byte, gss.Context, error) {
	ntlm := e.acceptor.find(NTLM())
	if ntlm == nil {
		return nil, nil, fmt.Errorf("spnego: NTLM is not configured: %w", gss.ErrMechanism)
	}
	e.mech = ntlm.Accept(e.opts)
	return e.mech.Step(ctx, in)
}

// start chooses (RFC 4178 4.2.1, [MS-SPNG] 3.2.5.2).
func (e *acceptExchange) start(ctx context.Context, in []byte) ([]byte, gss.Context, error) {
	t, err := parseInit(in)
	if err != nil {
		return nil, nil, err
	}
	for i, oid := range t.mechTypes {
		mech := e.acceptor.find(oid)
		if mech == nil {
			continue
		}
		e.mech, e.list, e.wasNot = mech.Accept(e.opts), t.list, i > 0
		reply := &negTokenResp{state: acceptIncomplete, supportedMech: oid}
		if e.wasNot {
			// The token that came along is for a mechanism that is not ours.
			reply.state = requestMIC
			return e.send(reply, nil)
		}
		if t.mechToken == nil {
			return e.send(reply, nil)
		}
		return e.step(ctx, reply, t.mechToken, t.mechListMIC)
	}
	return e.refuse(nil, fmt.Errorf("spnego: client offers %v: %w", t.mechTypes, gss.ErrMechanism))
}

// advance takes every token but the first.
func (e *acceptExchange) advance(ctx context.Context, in []byte) ([]byte, gss.Context, error) {
	t, err := parseResp(in)
	if err != nil {
		return nil, nil, err
	}
	if t.state == reject {
		return nil, nil, fmt.Errorf("spnego: client gave up: %w", gss.ErrToken)
	}
	reply := &negTokenResp{state: acceptIncomplete}
	if e.sc == nil {
		return e.step(ctx, reply, t.responseToken, t.mechListMIC)
	}
	if len(t.responseToken) != 0 || t.mechListMIC == nil {
		return e.refuse(nil, fmt.Errorf("spnego: mechanism list not signed: %w", gss.ErrSignature))
	}
	if err := verifyList(e.sc, e.list, t.mechListMIC); err != nil {
		return e.refuse(nil, err)
	}
	reply.state = acceptCompleted
	return e.send(reply, e.sc)
}

// step feeds the mechanism, and when it is done sees to the checksums
// (RFC 4178 5).
func (e *acceptExchange) step(ctx context.Context, reply *negTokenResp, token, mic []byte) ([]byte, gss.Context, error) {
	var sc gss.Context
	var err error
	reply.responseToken, sc, err = e.mech.Step(ctx, token)
	switch {
	case err != nil:
		return e.refuse(reply.responseToken, err)
	case sc == nil && mic != nil:
		return e.refuse(nil, fmt.Errorf("spnego: checksum before its key: %w", gss.ErrToken))
	case sc == nil:
		return e.send(reply, nil)
	case mic == nil && !e.wasNot:
		reply.state = acceptCompleted
		return e.send(reply, sc)
	case mic == nil && reply.responseToken == nil:
		// The client had its context and should have signed with it.
		return e.refuse(nil, fmt.Errorf("spnego: mechanism list not signed: %w", gss.ErrSignature))
	}
	done := sc
	if mic == nil {
		e.sc, done = sc, nil
	} else {
		if err := verifyList(sc, e.list, mic); err != nil {
			return e.refuse(nil, err)
		}
		reply.state = acceptCompleted
	}
	if reply.mechListMIC, err = signList(sc, e.list); err != nil {
		return e.refuse(nil, err)
	}
	return e.send(reply, done)
}

func (e *acceptExchange) send(reply *negTokenResp, sc gss.Context) ([]byte, gss.Context, error) {
	out, err := reply.marshal()
	if err != nil {
		return nil, nil, err
	}
	return out, sc, nil
}

// refuse tells the client so, with the mechanism's own error token if it has
// one.
func (e *acceptExchange) refuse(token []byte, reason error) ([]byte, gss.Context, error) {
	out, err := (&negTokenResp{state: reject, responseToken: token}).marshal()
	if err != nil {
		return nil, nil, reason
	}
	return out, nil, reason
}
