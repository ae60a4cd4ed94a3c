package krb5

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/gss"
)

// DefaultClockSkew is how far the clocks may be apart (RFC 4120 8.2).
const DefaultClockSkew = 5 * time.Minute

// Config is the server's end of Kerberos. Keytab has to be set.
type Config struct {
	// Keytab is the path of a keytab file of mode 0600, which a group may read
	// too. It is read again when it is replaced or changed; while it is not in
	// order, the keys of the last one serve on.
	Keytab string
	// AllowRC4 lets in rc4-hmac, in whose name the keys of accounts are the NT
	// hashes of their passwords: tickets sealed with it, for a service whose
	// account has no AES keys yet, and session keys, for clients that know no
	// better.
	AllowRC4 bool
	// ClockSkew is how far a client's clock may be off, DefaultClockSkew
	// unless set.
	ClockSkew time.Duration
	// PrincipalSIDs says who a principal, "alice@REALM", is where the KDC puts
	// no PAC into its tickets, or one without LOGON_INFO, which has to be in
	// order. Who is in neither is refused, and who is in both with two SIDs.
	PrincipalSIDs map[string]dtyp.SID
	// DomainSID is the SID of the server's own domain. With it a client of
	// another realm is refused whose PAC gives him a SID of this domain, which
	// an account that is mapped to a principal of a foreign realm has as well.
	DomainSID dtyp.SID

	// Now is time.Now unless set.
	Now func() time.Time
	// Log gets one line for each logon, at level Info, and one when the keytab
	// is read again; nil for none.
	Log *slog.Logger
}

// NewAcceptor gives the server's end of Kerberos. cfg is not to be changed
// afterwards. It fails if the keytab cannot be read or has no key of use.
func NewAcceptor(cfg Config) (gss.Acceptor, error) {
	if cfg.ClockSkew <= 0 {
		cfg.ClockSkew = DefaultClockSkew
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	keys, err := openKeytab(cfg.Keytab, cfg.Log)
	if err != nil {
		return nil, err
	}
	return &acceptor{Config: cfg, keytab: keys, replay: newReplayCache(cfg.ClockSkew, maxReplay), scratch: newScratch()}, nil
}

type acceptor struct {
	Config
	keytab  *keytabFile
	replay  *replayCache
	scratch *scratch
}

// Accept implements gss.Acceptor.
func (a *acceptor) Accept(opts gss.AcceptOptions) gss.Exchange {
	return &acceptExchange{acceptor: a, opts: opts}
}

// acceptExchange takes the AP-REQ and, in DCE style, the client's AP-REP.
type acceptExchange struct {
	*acceptor
	opts gss.AcceptOptions
	done bool

	// Between the second leg and the third:
	waiting *session
	ticket  Key    // the session key of the ticket
	nonce   uint32 // the sequence number that the third leg has to give back
	sent    []byte // the ciphertext of our AP-REP, which has that number in it too
}

// Step implements gss.Exchange.
func (e *acceptExchange) Step(ctx context.Context, in []byte) (out []byte, sc gss.Context, err error) {
	switch {
	case e.done:
		return nil, nil, fmt.Errorf("krb5: token after the end: %w", gss.ErrToken)
	case e.waiting != nil:
		e.done = true
		s, err := e.conclude(ctx, in)
		e.waiting, e.ticket, e.sent = nil, Key{}, nil
		if err != nil {
			return nil, nil, err
		}
		return nil, s.context(), nil
	}
	out, s, err := e.begin(ctx, in)
	if err != nil {
		e.done = true
		return out, nil, err
	}
	if e.waiting == nil {
		e.done = true
		return out, s.context(), nil
	}
	return out, nil, nil
}

// begin judges the AP-REQ, logs what came of it and answers.
func (e *acceptExchange) begin(ctx context.Context, in []byte) ([]byte, *session, error) {
	id, message, framed, err := unframe(in)
	if err == nil && id != tokenAPReq {
		err = malformed("token: not an AP-REQ")
	}
	if err != nil {
		return nil, nil, err
	}
	l := &logon{acceptor: e.acceptor, now: e.Now()}
	out, s, err := e.accept(l, message)
	log := e.Log.With("peer", peerText(e.opts.Peer), "client", l.client(), "service", l.service(), "type", l.etype())
	if err != nil {
		log.LogAttrs(ctx, slog.LevelInfo, "kerberos logon refused", slog.Any("reason", err))
		return l.refusal(err, framed), nil, err
	}
	log.LogAttrs(ctx, slog.LevelInfo, "kerberos logon", slog.String("sid", s.identity.SID.String()))
	return out, s, nil
}

// accept makes the context and the answer, nil if the client wants none.
func (e *acceptExchange) accept(l *logon, message []byte) ([]byte, *session, error) {
	if err := l.verify(message); err != nil {
		return nil, nil, err
	}
	flags, err := parseChannel(l.auth.checksum, l.req.options)
	if err != nil {
		return nil, nil, err
	}
	identity, err := l.identity()
	if err != nil {
		return nil, nil, err
	}
	if err := l.remember(identity); err != nil {
		return nil, nil, err
	}
	s := &session{
		identity: identity, flags: flags, expiry: l.expiry(), scratch: e.scratch,
		key: l.part.key, acceptor: true,
	}
	if l.auth.subkey != nil {
		s.key = *l.auth.subkey
	}
	s.receive.next, s.send.next = uint64(l.auth.seq), uint64(l.auth.seq)
	if flags&gss.Mutual == 0 {
		return nil, s, nil
	}
	out, err := e.answer(l, s)
	return out, s, err
}

// answer is the AP-REP (RFC 4120 3.2.4), with a key of the acceptor's own
// (RFC 4121 2), which from now on is the context's.
func (e *acceptExchange) answer(l *logon, s *session) ([]byte, error) {
	reply := &apRepPart{ctime: l.auth.ctime, cusec: l.auth.cusec, seq: newSequence()}
	if s.key.Type == RC4HMAC {
		reply.seq = rc4Sequence(l.auth.seq)
	}
	s.send.next = uint64(reply.seq)
	if err := chooseKey(reply, l.auth.subkey, s); err != nil {
		return nil, err
	}
	out, err := sealAPRep(l.part.key, reply)
	if err != nil {
		return nil, err
	}
	if s.flags&gss.DCEStyle != 0 {
		ours, err := parseAPRep(out)
		if err != nil {
			return nil, err
		}
		e.waiting, e.ticket, e.nonce, e.sent = s, l.part.key, reply.seq, ours.cipher
		return out, nil
	}
	return frame(tokenAPRep, out)
}

// chooseKey draws the acceptor's key. With rc4-hmac it is the client's once
// more, as Windows does it: some clients go by what it says and some by their
// own, since before RFC 4121 acceptors had none. A client in DCE style that has
// none goes by ours, impacket for one.
func chooseKey(reply *apRepPart, theirs *Key, s *session) error {
	if s.key.Type == RC4HMAC && (theirs != nil || s.flags&gss.DCEStyle == 0) {
		reply.subkey = theirs
		return nil
	}
	subkey, err := newKey(s.key.Type)
	if err != nil {
		return err
	}
	reply.subkey, s.key, s.ownKey = &subkey, subkey, true
	return nil
}

// conclude takes the third leg ([MS-KILE] 3.4.5.1): an AP-REP by which the
// client shows that it is there now, giving back our sequence number.
func (e *acceptExchange) conclude(ctx context.Context, in []byte) (*session, error) {
	s, err := e.waiting, e.checkThird(in)
	if err != nil {
		e.Log.LogAttrs(ctx, slog.LevelInfo, "kerberos logon refused", slog.String("peer", peerText(e.opts.Peer)),
			slog.String("client", s.identity.Name), slog.Any("reason", err))
		return nil, err
	}
	return s, nil
}

var errThirdLeg = fmt.Errorf("krb5: the client's AP-REP is not an answer to ours: %w", gss.ErrLogon)

func (e *acceptExchange) checkThird(in []byte) error {
	id, message, _, err := unframe(in)
	if err != nil {
		return err
	}
	if id != tokenAPRep {
		return malformed("token: not an AP-REP")
	}
	// Both AP-REPs are sealed with the same key for the same usage: ours, sent
	// back, would pass for the client's.
	if theirs, err := parseAPRep(message); err == nil && bytes.Equal(theirs.cipher, e.sent) {
		return errThirdLeg
	}
	part, err := openAPRep(e.ticket, message)
	if errors.Is(err, errDecrypt) || err == nil && part.seq != e.nonce {
		return errThirdLeg
	}
	return err
}

func peerText(a net.Addr) string {
	if a == nil {
		return ""
	}
	return a.String()
}
