package ntlm

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/gss"
)

// guestRID is DOMAIN_USER_RID_GUEST ([MS-DTYP] 2.4.2.4).
const guestRID = 501

// Logon is one attempt, as a Source judges it. It has what NetrLogonSamLogonEx
// wants of a network logon ([MS-NRPC] 2.2.1.4.5).
type Logon struct {
	Domain      string  // as the client wrote it; may be empty
	User        string  // never empty; may be a user principal name
	Workstation string  // what the client says of itself; proves nothing
	Challenge   [8]byte // ServerChallenge
	NTResponse  []byte  // NTLMv2_RESPONSE, proof first; shares the message's memory
}

// Account is who a Logon proved to be.
type Account struct {
	SID            dtyp.SID
	Domain, Name   string
	Groups         []dtyp.SID
	SessionBaseKey [16]byte `json:"-"` // [MS-NLMP] 3.3.2
	// Expiry is when the context that is made of it ends; zero if it does not.
	Expiry time.Time
}

// Format writes who the account is, whatever the verb, and never its key.
func (a Account) Format(s fmt.State, _ rune) {
	fmt.Fprintf(s, `%s\%s (%s)`, a.Domain, a.Name, a.SID)
}

// Source decides about logons. Its error wraps gss.ErrLogon for a wrong name
// or proof, gss.ErrRefused for an account that proved itself and is not let
// in; any other error says that no decision could be made. It is called from
// many goroutines at once.
type Source func(ctx context.Context, l *Logon) (*Account, error)

// Config is the server's end of NTLM. Source has to be set; the names are what
// clients see in the challenge ([MS-NLMP] 2.2.2.1).
type Config struct {
	// Source knows the accounts.
	Source Source
	// NetBIOSDomain is the domain's short name, "BKRP".
	NetBIOSDomain string
	// DNSDomain is the domain's DNS name, "bkrp.example".
	DNSDomain string
	// NetBIOSComputer is this server's short name, "DC1".
	NetBIOSComputer string
	// DNSComputer is this server's DNS name, "dc1.bkrp.example".
	DNSComputer string

	// RequireMIC refuses clients that send no MIC over the three messages.
	// [MS-NLMP] 3.1.5.1.2 demands one of each client that sees the server's
	// time, as each client of this server does; Windows, Samba and the Go
	// clients comply, impacket up to 0.10 does not. Without it the flags and
	// the client's version are unprotected: sealing could be stripped, which
	// the protocols above notice and refuse. A MIC that a client announces is
	// always checked, and no one in the middle can take the announcement out,
	// because it is under the proof of the password.
	RequireMIC bool

	// Now is time.Now unless set.
	Now func() time.Time
	// Log gets one line for each logon, at level Info; nil for none.
	Log *slog.Logger
}

// NewAcceptor gives the server's end of NTLM. cfg is not to be changed
// afterwards.
func NewAcceptor(cfg Config) gss.Acceptor {
	if cfg.Source == nil {
		cfg.Source = noSource
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &acceptor{cfg}
}

// noSource makes a missing Source a refusal rather than a panic on a peer's
// token.
func noSource(context.Context, *Logon) (*Account, error) {
	return nil, errors.New("ntlm: no account source is configured")
}

type acceptor struct{ Config }

// Accept implements gss.Acceptor.
func (a *acceptor) Accept(opts gss.AcceptOptions) gss.Exchange {
	return &acceptExchange{acceptor: a, opts: opts}
}

// acceptExchange keeps the first two messages for the MIC.
type acceptExchange struct {
	*acceptor
	opts      gss.AcceptOptions
	negotiate []byte
	challenge []byte // as sent
	sent      *challengeMessage
	done      bool
}

// Step implements gss.Exchange.
func (e *acceptExchange) Step(ctx context.Context, in []byte) (out []byte, sc gss.Context, err error) {
	switch {
	case e.done:
		return nil, nil, fmt.Errorf("ntlm: token after the end: %w", gss.ErrToken)
	case e.sent == nil:
		out, err = e.challengeFor(in)
		e.done = err != nil
		return out, nil, err
	default:
		e.done = true
		s, err := e.authenticate(ctx, in)
		e.negotiate, e.challenge, e.sent = nil, nil, nil
		if err != nil {
			return nil, nil, err
		}
		return nil, s, nil
	}
}

// challengeFor answers NEGOTIATE_MESSAGE ([MS-NLMP] 3.2.5.1.1).
func (e *acceptExchange) challengeFor(in []byte) ([]byte, error) {
	n, err := parseNegotiate(in)
	if err != nil {
		return nil, err
	}
	if err := n.flags.checkStrength(); err != nil {
		return nil, err
	}
	const offered = required | flagSign | flagSeal | flagAlwaysSign | flagRequestTarget | flagIdentify | flagVersion | flag56
	c := &challengeMessage{
		flags:      n.flags&offered | flagTargetInfo | flagTargetTypeDomain,
		targetName: e.NetBIOSDomain,
		targetInfo: e.targetInfo(),
	}
	rand.Read(c.serverChallenge[:])
	e.negotiate = append([]byte(nil), in...)
	e.sent, e.challenge = c, c.marshal()
	return e.challenge, nil
}

// targetInfo is what the challenge says of this server. A name that is not
// configured is left out.
func (a *acceptor) targetInfo() (t targetInfo) {
	for _, p := range []struct {
		id   avID
		name string
	}{
		{avNbDomainName, a.NetBIOSDomain},
		{avNbComputerName, a.NetBIOSComputer},
		{avDNSDomainName, a.DNSDomain},
		{avDNSComputerName, a.DNSComputer},
	} {
		if p.name != "" {
			t = append(t, avPair{p.id, appendUTF16(nil, p.name)})
		}
	}
	return append(t, avPair{avTimestamp, binary.LittleEndian.AppendUint64(nil, fileTime(a.Now()))})
}

// authenticate judges AUTHENTICATE_MESSAGE ([MS-NLMP] 3.2.5.1.2) and logs what
// came of it.
func (e *acceptExchange) authenticate(ctx context.Context, in []byte) (*session, error) {
	m, err := parseAuthenticate(in)
	if err != nil {
		return nil, err
	}
	var info targetInfo
	s, err := e.logOn(ctx, in, m, &info)
	log := e.Log.With(
		"peer", peerText(e.opts.Peer), "domain", m.domain, "user", m.user, "workstation", m.workstation,
		"target", info.text(avTargetName), "mic", info.hasMIC(), "bound", isBound(info))
	if err != nil {
		log.LogAttrs(ctx, slog.LevelInfo, "ntlm logon refused", slog.Any("reason", err))
		return nil, err
	}
	log.LogAttrs(ctx, slog.LevelInfo, "ntlm logon", slog.String("sid", s.identity.SID.String()))
	return s, nil
}

// logOn makes the context. It leaves in info what the client says of itself,
// for the log, even if it is refused.
func (e *acceptExchange) logOn(ctx context.Context, in []byte, m *authenticateMessage, info *targetInfo) (*session, error) {
	if m.flags&flagAnonymous != 0 || m.user == "" || len(m.ntResponse) == 0 && !m.hasLM {
		return nil, fmt.Errorf("ntlm: anonymous logon: %w", gss.ErrRefused)
	}
	if err := m.flags.checkStrength(); err != nil {
		return nil, err
	}
	if len(m.ntResponse) == 0 {
		return nil, fmt.Errorf("ntlm: LM response alone: %w", gss.ErrRefused)
	}
	r, err := parseNTLMv2Response(m.ntResponse)
	if err != nil {
		return nil, err
	}
	*info = r.targetInfo
	if len(m.sessionKey) != 16 {
		return nil, fmt.Errorf("ntlm: session key of %d octets: %w", len(m.sessionKey), gss.ErrToken)
	}
	acct, err := e.Source(ctx, &Logon{
		Domain: m.domain, User: m.user, Workstation: m.workstation,
		Challenge: e.sent.serverChallenge, NTResponse: m.ntResponse,
	})
	if err != nil {
		return nil, err
	}
	if _, rid, ok := acct.SID.Cut(); !ok || rid == guestRID {
		return nil, fmt.Errorf("ntlm: guest or nobody: %w", gss.ErrRefused)
	}
	key := exchangeKey(acct.SessionBaseKey, m.sessionKey)
	if err := e.checkBinding(in, r.targetInfo, key); err != nil {
		return nil, err
	}
	agreed := m.flags & e.sent.flags
	s := newSession(key, agreed, e.extraFlags(agreed), false)
	s.expiry = acct.Expiry
	s.identity = gss.Identity{SID: acct.SID, Domain: acct.Domain, Name: acct.Name, Groups: acct.Groups, Mechanism: "ntlm"}
	return s, nil
}

// checkBinding ties the proof to this exchange. The client's copy of the
// target information must be the one that was sent: someone in between who
// cuts the time out of the challenge makes a client leave out the MIC, and
// someone who relays another server's challenge leaves that server's names in.
func (e *acceptExchange) checkBinding(in []byte, info targetInfo, key [16]byte) error {
	if !info.echoes(e.sent.targetInfo) {
		return fmt.Errorf("ntlm: response to another challenge: %w", gss.ErrLogon)
	}
	if !info.hasMIC() {
		if e.RequireMIC {
			return fmt.Errorf("ntlm: client sends no MIC, and the configuration requires one: %w", gss.ErrRefused)
		}
		return nil
	}
	if len(in) < micOffset+micSize {
		return fmt.Errorf("ntlm: message too short for its MIC: %w", gss.ErrToken)
	}
	want := micOf(key, e.negotiate, e.challenge, in)
	if subtle.ConstantTimeCompare(want[:], in[micOffset:micOffset+micSize]) != 1 {
		return fmt.Errorf("ntlm: wrong MIC, messages were changed on the way: %w", gss.ErrLogon)
	}
	return nil
}

func (e *acceptExchange) extraFlags(agreed flags) (f gss.Flags) {
	if agreed&flagIdentify != 0 {
		f |= gss.Identify
	}
	if e.opts.DCEStyle {
		f |= gss.DCEStyle
	}
	return f
}

// isBound tells whether the client names a channel ([MS-NLMP] 2.2.2.1,
// MsvAvChannelBindings); zeros mean none.
func isBound(info targetInfo) bool {
	v := info.get(avChannelBindings)
	return v != nil && [16]byte(v) != [16]byte{}
}

func peerText(a net.Addr) string {
	if a == nil {
		return ""
	}
	return a.String()
}

// fileTime is t as a FILETIME ([MS-DTYP] 2.3.3): 100 ns since 1601.
func fileTime(t time.Time) uint64 {
	const epoch = 11644473600 // seconds from 1601 to 1970
	return uint64(t.Unix()+epoch)*1e7 + uint64(t.Nanosecond()/100)
}
