package dcerpc

import (
	"context"
	"fmt"

	"github.com/seed05845750/bkrp/internal/gss"
)

// authError is a logon that did not succeed. It ends the connection; reason is
// what a bind_nak says of it. The peer is told that much and no more.
type authError struct {
	reason nakReason
	err    error
}

func (e *authError) Error() string { return fmt.Sprintf("dcerpc: authenticating: %v", e.err) }
func (e *authError) Unwrap() error { return e.err }

// authenticate takes one token of the client's logon and returns the one for
// the client, nil if there is none. It does nothing without a token.
func (c *serverConn) authenticate(ctx context.Context, t secTrailer, token []byte) ([]byte, error) {
	if token == nil {
		return nil, nil
	}
	if err := c.admitToken(t, token); err != nil {
		return nil, err
	}
	out, sc, err := c.logon.exchange.Step(ctx, token)
	if err == nil && sc == nil && out == nil {
		err = gss.ErrToken
	}
	if err == nil && sc != nil {
		err = granted(sc, t.level)
	}
	if err == nil && sc != nil && sc.Identity().SID.IsZero() {
		// who has no SID is nobody, whatever the mechanism makes of him.
		err = fmt.Errorf("%w: the caller has no SID", gss.ErrRefused)
	}
	if err != nil {
		c.logon.exchange = nil
		return nil, &authError{nakInvalidChecksum, err}
	}
	if sc != nil {
		c.logon.exchange = nil
		c.security.context = sc
		if c.transport.LoggedOn != nil {
			c.transport.LoggedOn()
		}
	}
	return out, nil
}

// admitToken checks a token's frame, and begins the logon with the first one.
func (c *serverConn) admitToken(t secTrailer, token []byte) error {
	if len(token) > c.limits.MaxToken {
		return &authError{nakLocalLimitExceeded, violation("token of %d octets", len(token))}
	}
	if c.logon.legs++; c.logon.legs > c.limits.MaxLegs {
		return &authError{nakLocalLimitExceeded, violation("logon of more than %d legs", c.limits.MaxLegs)}
	}
	if !c.logon.begun {
		acceptor := c.server.Acceptors[t.authType]
		if acceptor == nil {
			return &authError{nakAuthType, fmt.Errorf("%w: type %d", gss.ErrMechanism, t.authType)}
		}
		if t.level < LevelConnect || t.level > LevelPrivacy {
			return &authError{nakAuthType, violation("authentication %v", t.level)}
		}
		c.logon.begun = true
		c.logon.exchange = acceptor.Accept(gss.AcceptOptions{DCEStyle: true, Peer: c.transport.Remote})
		c.security.secTrailer = secTrailer{authType: t.authType, level: t.level, contextID: t.contextID}
		return nil
	}
	s := &c.security
	if c.logon.exchange == nil || t.authType != s.authType || t.level != s.level || t.contextID != s.contextID {
		// Another context beside the first would be the multiplexing that was
		// not agreed on.
		return &authError{nakNotSpecified, violation("token of another logon")}
	}
	return nil
}

// granted checks that a context can do what its level promises.
func granted(sc gss.Context, level AuthLevel) error {
	need := gss.Flags(0)
	if level.signed() {
		need |= gss.Integrity
	}
	if level == LevelPrivacy {
		need |= gss.Confidentiality
	}
	if sc.Flags()&need != need {
		return fmt.Errorf("%w: the context cannot do %v", gss.ErrRefused, level)
	}
	return nil
}
