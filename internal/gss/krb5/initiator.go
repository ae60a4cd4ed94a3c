package krb5

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed05845750/bkrp/internal/gss"
)

// ServiceTicket is a ticket for a service and what the KDC gave to go with it.
type ServiceTicket struct {
	// Ticket is the ticket in DER, as the KDC made it.
	Ticket []byte
	// SessionKey is the key within it.
	SessionKey Key
	// Client are the parts of the client's name in it, and Realm the client's
	// realm: what the authenticator has to say.
	Client []string
	Realm  string
	// End is when the ticket expires; zero if that is not known.
	End time.Time
}

// TicketSource gets a ticket for a service principal name such as
// "cifs/dc1.example", with a realm behind an @ or, as a rule, without. Its
// error wraps gss.ErrLogon for a wrong password or name, and gss.ErrExpired or
// ErrNoTicket where there are no credentials to get it with. It is called from
// many goroutines at once.
type TicketSource func(ctx context.Context, spn string) (*ServiceTicket, error)

// NewInitiator gives the client's end of Kerberos. It always has the server
// prove itself, so that gss.Mutual is granted to all its contexts.
func NewInitiator(source TicketSource) gss.Initiator {
	return &initiator{source: source, now: time.Now, scratch: newScratch()}
}

type initiator struct {
	source  TicketSource
	now     func() time.Time
	scratch *scratch
}

// Initiate implements gss.Initiator.
func (i *initiator) Initiate(opts gss.InitiateOptions) gss.Exchange {
	opts.Flags |= gss.Mutual | gss.Integrity | gss.Sequence
	return &initiateExchange{initiator: i, opts: opts}
}

type initiateExchange struct {
	*initiator
	opts gss.InitiateOptions
	done bool

	ticket *ServiceTicket // nil before the first leg
	auth   *authenticator
}

// Step implements gss.Exchange.
func (e *initiateExchange) Step(ctx context.Context, in []byte) (out []byte, sc gss.Context, err error) {
	switch {
	case e.done:
		return nil, nil, fmt.Errorf("krb5: token after the end: %w", gss.ErrToken)
	case e.ticket == nil && len(in) != 0:
		e.done = true
		return nil, nil, fmt.Errorf("krb5: token before the first: %w", gss.ErrToken)
	case e.ticket == nil:
		out, err = e.request(ctx)
		e.done = err != nil
		return out, nil, err
	}
	e.done = true
	out, s, err := e.conclude(in)
	e.ticket, e.auth = nil, nil
	if err != nil {
		return nil, nil, err
	}
	return out, s, nil
}

// request makes the AP-REQ (RFC 4120 3.2.2), which stands in no frame in DCE
// style ([MS-KILE] 3.4.5.1).
func (e *initiateExchange) request(ctx context.Context) ([]byte, error) {
	t, err := e.source(ctx, e.opts.Target)
	if err != nil {
		return nil, fmt.Errorf("krb5: getting a ticket for %s: %w", e.opts.Target, err)
	}
	if _, ok := t.SessionKey.Type.profile(); !ok {
		return nil, fmt.Errorf("krb5: the KDC gives a session key of %v, and not of AES: %w", t.SessionKey.Type, gss.ErrRefused)
	}
	subkey, err := newKey(t.SessionKey.Type)
	if err != nil {
		return nil, err
	}
	now := e.now().UTC()
	e.auth = &authenticator{
		realm: t.Realm, client: principal{kind: namePrincipal, parts: t.Client},
		checksum: marshalChannel(e.opts.Flags),
		ctime:    now.Truncate(time.Second), cusec: int32(now.Nanosecond() / 1000),
		subkey: &subkey, seq: newSequence(),
	}
	plain, err := e.auth.marshal()
	if err != nil {
		return nil, err
	}
	sealed := encrypted{etype: t.SessionKey.Type}
	if sealed.cipher, err = t.SessionKey.encrypt(usageAuthenticator, plain); err != nil {
		return nil, err
	}
	out, err := marshalAPReq(optionMutualRequired, t.Ticket, sealed)
	if err != nil {
		return nil, err
	}
	e.ticket = t
	if e.opts.Flags&gss.DCEStyle != 0 {
		return out, nil
	}
	return frame(tokenAPReq, out)
}

// namePrincipal is NT-PRINCIPAL (RFC 4120 6.2).
const namePrincipal = 1

var errServer = fmt.Errorf("krb5: the server does not prove that it has the key of the service: %w", gss.ErrLogon)

// conclude takes the server's AP-REP and, in DCE style, answers it.
func (e *initiateExchange) conclude(in []byte) ([]byte, *session, error) {
	id, message, _, err := unframe(in)
	if err != nil {
		return nil, nil, err
	}
	switch id {
	case tokenAPRep:
	case tokenError:
		return nil, nil, refusedBy(message)
	default:
		return nil, nil, malformed("token: not an AP-REP")
	}
	reply, err := openAPRep(e.ticket.SessionKey, message)
	if errors.Is(err, errDecrypt) {
		return nil, nil, errServer
	}
	if err != nil {
		return nil, nil, err
	}
	if !reply.ctime.Equal(e.auth.ctime) || reply.cusec != e.auth.cusec {
		return nil, nil, errServer
	}
	s := &session{
		flags: e.opts.Flags, expiry: e.ticket.End, scratch: e.scratch, key: *e.auth.subkey,
	}
	if reply.subkey != nil {
		s.key, s.ownKey = *reply.subkey, true
	}
	s.send.next, s.receive.next = uint64(e.auth.seq), uint64(reply.seq)
	if _, ok := s.key.Type.profile(); !ok {
		return nil, nil, fmt.Errorf("krb5: the server's key is of %v, and not of AES: %w", s.key.Type, gss.ErrRefused)
	}
	if err := s.key.check(); err != nil {
		return nil, nil, err
	}
	if s.flags&gss.DCEStyle == 0 {
		return nil, s, nil
	}
	// The third leg gives the server's sequence number back.
	out, err := sealAPRep(e.ticket.SessionKey, &apRepPart{ctime: reply.ctime, cusec: reply.cusec, seq: reply.seq})
	return out, s, err
}

// refusedBy is the error of a KRB-ERROR from the server. Nobody vouches for
// it, but all it does is end the logon.
func refusedBy(message []byte) error {
	e, err := parseKrbError(message)
	if err != nil {
		return err
	}
	return fmt.Errorf("%w: %w", e, gss.ErrRefused)
}
