package spnego

import (
	"context"
	"encoding/asn1"
	"errors"
	"fmt"

	"github.com/seed05845750/bkrp/internal/gss"
)

// InitiatorMechanism is one mechanism of a client.
type InitiatorMechanism struct {
	// OIDs are what it is offered as, the preferred name first.
	OIDs []asn1.ObjectIdentifier
	// Initiator makes its contexts.
	Initiator gss.Initiator
}

// NewInitiator gives the client's end over mechs, the preferred one first. A
// mechanism whose first token cannot be made, for want of a ticket say, is not
// offered.
func NewInitiator(mechs ...InitiatorMechanism) gss.Initiator {
	return initiator(append([]InitiatorMechanism(nil), mechs...))
}

type initiator []InitiatorMechanism

// Initiate implements gss.Initiator.
func (i initiator) Initiate(opts gss.InitiateOptions) gss.Exchange {
	return &initiateExchange{mechs: i, opts: opts}
}

type initiateExchange struct {
	mechs []InitiatorMechanism // offered ones, after the first leg
	opts  gss.InitiateOptions

	legs   int
	done   bool
	list   []byte       // our MechTypeList
	mech   gss.Exchange // of the optimistic mechanism, then of the chosen one
	chosen bool         // the server has said which

	sc      gss.Context // when the mechanism is done
	needMIC bool        // RFC 4178 5: the checksums have to be exchanged
	sentMIC bool
	gotMIC  bool
}

// Step implements gss.Exchange.
func (e *initiateExchange) Step(ctx context.Context, in []byte) (out []byte, sc gss.Context, err error) {
	e.legs++
	if e.done || e.legs > MaxLegs {
		e.done = true
		return nil, nil, fmt.Errorf("spnego: too many tokens: %w", gss.ErrToken)
	}
	if e.mech == nil {
		out, err = e.start(ctx, in)
	} else {
		out, sc, err = e.advance(ctx, in)
	}
	e.done = err != nil || sc != nil
	return out, sc, err
}

// start makes the NegTokenInit, with the token of the first mechanism that has
// one (RFC 4178 4.2.1).
func (e *initiateExchange) start(ctx context.Context, in []byte) ([]byte, error) {
	if len(in) != 0 {
		return nil, fmt.Errorf("spnego: token before the first: %w", gss.ErrToken)
	}
	var token []byte
	var reasons error
	for len(e.mechs) > 0 {
		x := e.mechs[0].Initiator.Initiate(e.opts)
		t, _, err := x.Step(ctx, nil)
		if err == nil {
			e.mech, token = x, t
			break
		}
		reasons = errors.Join(reasons, err)
		e.mechs = e.mechs[1:]
	}
	if e.mech == nil {
		return nil, fmt.Errorf("spnego: no mechanism to offer: %w", errors.Join(gss.ErrMechanism, reasons))
	}
	t := &negTokenInit{mechToken: token}
	for _, m := range e.mechs {
		t.mechTypes = append(t.mechTypes, m.OIDs...)
	}
	var err error
	if e.list, err = marshalMechList(t.mechTypes); err != nil {
		return nil, err
	}
	return t.marshal()
}

// advance takes every token of the server.
func (e *initiateExchange) advance(ctx context.Context, in []byte) ([]byte, gss.Context, error) {
	t := &negTokenResp{state: acceptCompleted}
	if len(in) != 0 || e.sc == nil {
		// An empty token is what some SMB servers end with.
		var err error
		if t, err = parseResp(in); err != nil {
			return nil, nil, err
		}
	}
	if t.state == reject {
		return nil, nil, e.rejected(ctx, t)
	}
	if t.state == requestMIC {
		e.needMIC = true
	}
	out := &negTokenResp{state: noState}
	switched, err := e.choose(ctx, t, out)
	if err != nil {
		return nil, nil, err
	}
	if !switched {
		if err := e.step(ctx, t, out); err != nil {
			return nil, nil, err
		}
	}
	return e.conclude(t, out)
}

// rejected is the reason of a reject, from the mechanism's error token if it
// came with one.
func (e *initiateExchange) rejected(ctx context.Context, t *negTokenResp) error {
	refused := fmt.Errorf("spnego: server rejects the negotiation: %w", gss.ErrRefused)
	if len(t.responseToken) == 0 || e.sc != nil {
		return refused
	}
	if _, _, err := e.mech.Step(ctx, t.responseToken); err != nil {
		return errors.Join(refused, err)
	}
	return refused
}

// choose takes up the server's choice. When it is not the first mechanism of
// the list, that one starts anew, into out.
func (e *initiateExchange) choose(ctx context.Context, t, out *negTokenResp) (switched bool, err error) {
	if e.chosen {
		if t.supportedMech != nil && !e.offers(0, t.supportedMech) {
			return false, fmt.Errorf("spnego: server changes its choice: %w", gss.ErrToken)
		}
		return false, nil
	}
	e.chosen = true
	if t.supportedMech == nil || e.offers(0, t.supportedMech) {
		// By another name of the same mechanism nothing is weakened.
		return false, nil
	}
	for i := range e.mechs {
		if !e.offers(i, t.supportedMech) {
			continue
		}
		if t.responseToken != nil || t.mechListMIC != nil || t.state == acceptCompleted {
			return false, fmt.Errorf("spnego: token before its mechanism began: %w", gss.ErrToken)
		}
		e.mechs, e.needMIC = e.mechs[i:], true
		e.mech = e.mechs[0].Initiator.Initiate(e.opts)
		out.responseToken, e.sc, err = e.mech.Step(ctx, nil)
		return true, err
	}
	return false, fmt.Errorf("spnego: server chooses %v, which was not offered: %w", t.supportedMech, gss.ErrMechanism)
}

// offers tells whether oid is a name of the mechanism i.
func (e *initiateExchange) offers(i int, oid asn1.ObjectIdentifier) bool {
	for _, o := range e.mechs[i].OIDs {
		if o.Equal(oid) {
			return true
		}
	}
	return false
}

// step feeds the mechanism, unless it is done.
func (e *initiateExchange) step(ctx context.Context, t, out *negTokenResp) (err error) {
	if e.sc == nil {
		out.responseToken, e.sc, err = e.mech.Step(ctx, t.responseToken)
		return err
	}
	if len(t.responseToken) != 0 {
		return fmt.Errorf("spnego: token after its mechanism ended: %w", gss.ErrToken)
	}
	return nil
}

// conclude verifies and makes the checksums, and tells whether the context
// stands (RFC 4178 5). The last message of NTLM, which has a MIC, and that of
// Kerberos in three legs come with one over the list whether it is needed or
// not ([MS-SPNG] 3.1.5.1): with AES keys Samba waits for it.
func (e *initiateExchange) conclude(t, out *negTokenResp) ([]byte, gss.Context, error) {
	if e.sc == nil {
		if t.state == acceptCompleted || t.mechListMIC != nil {
			return nil, nil, fmt.Errorf("spnego: server ends before its mechanism does: %w", gss.ErrToken)
		}
		return e.send(out, nil)
	}
	if t.mechListMIC != nil {
		if e.gotMIC {
			return nil, nil, fmt.Errorf("spnego: two checksums: %w", gss.ErrToken)
		}
		if err := verifyList(e.sc, e.list, t.mechListMIC); err != nil {
			return nil, nil, err
		}
		e.gotMIC = true
	}
	if t.state == acceptCompleted {
		return e.complete(out)
	}
	if !e.sentMIC && (e.needMIC || e.gotMIC || out.responseToken != nil) {
		mic, err := signList(e.sc, e.list)
		if err != nil {
			return nil, nil, err
		}
		out.mechListMIC, e.sentMIC = mic, true
	}
	switch {
	case out.responseToken == nil && out.mechListMIC == nil:
		return nil, nil, fmt.Errorf("spnego: server waits for nothing: %w", gss.ErrToken)
	case e.gotMIC && e.sentMIC:
		out.state = acceptCompleted
		return e.send(out, e.sc)
	default:
		return e.send(out, nil)
	}
}

// complete ends what the server has ended.
func (e *initiateExchange) complete(out *negTokenResp) ([]byte, gss.Context, error) {
	switch {
	case out.responseToken != nil:
		return nil, nil, fmt.Errorf("spnego: server ends before its mechanism does: %w", gss.ErrToken)
	case e.needMIC && !e.gotMIC:
		return nil, nil, fmt.Errorf("spnego: server does not sign the mechanism list, which may have been changed on the way: %w", gss.ErrSignature)
	}
	return nil, e.sc, nil
}

func (e *initiateExchange) send(t *negTokenResp, sc gss.Context) ([]byte, gss.Context, error) {
	out, err := t.marshal()
	if err != nil {
		return nil, nil, err
	}
	return out, sc, nil
}
