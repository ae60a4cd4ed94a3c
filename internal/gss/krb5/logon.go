package krb5

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/gss"
	"github.com/seed05845750/bkrp/internal/gss/pac"
)

// Reasons to refuse a logon. Each reads differently in the log; what the
// client is told is in refusal.
var (
	errTicketKey   = fmt.Errorf("krb5: the ticket is sealed with another key than the keytab's: %w", gss.ErrLogon)
	errRC4         = fmt.Errorf("krb5: rc4-hmac is not allowed by the configuration: %w", gss.ErrRefused)
	errRC4Session  = fmt.Errorf("krb5: the session key is of rc4-hmac, which is not allowed by the configuration: %w", gss.ErrRefused)
	errUserToUser  = fmt.Errorf("krb5: user-to-user ticket: %w", gss.ErrRefused)
	errSessionKey  = fmt.Errorf("krb5: the authenticator is sealed with another key than the ticket's: %w", gss.ErrLogon)
	errMatch       = fmt.Errorf("krb5: the authenticator names another client than the ticket: %w", gss.ErrLogon)
	errSkew        = fmt.Errorf("krb5: the clocks are too far apart: %w", gss.ErrLogon)
	errNotYet      = fmt.Errorf("krb5: the ticket is not valid yet: %w", gss.ErrLogon)
	errExpired     = fmt.Errorf("krb5: the ticket has expired: %w", gss.ErrExpired)
	errNoPAC       = fmt.Errorf("krb5: the ticket has no PAC, and auth.principal_sids no SID for its client: %w", gss.ErrRefused)
	errNoLogonInfo = fmt.Errorf("krb5: the PAC has no LOGON_INFO, and auth.principal_sids no SID for the client: %w", gss.ErrRefused)
	errTwoSIDs     = fmt.Errorf("krb5: the client has two SIDs: %w", gss.ErrRefused)
	errRestriction = fmt.Errorf("krb5: the ticket is restricted in a way that is not understood: %w", gss.ErrRefused)
	errTransited   = fmt.Errorf("krb5: the KDC has not checked the realms on the ticket's way: %w", gss.ErrRefused)
)

// logon is one AP-REQ as far as it has been understood.
type logon struct {
	*acceptor
	now time.Time

	req    *apReq
	opener *keytabEntry // whose key opened the ticket
	part   *ticketPart
	auth   *authenticator
}

// client, service and etype are for the log: what the ticket says, and nothing
// before it was opened.
func (l *logon) client() string {
	if l.part == nil {
		return ""
	}
	return l.part.client.String() + "@" + l.part.realm
}

func (l *logon) service() string {
	if l.req == nil {
		return ""
	}
	name := l.req.ticket.service.String() + "@" + l.req.ticket.realm
	return name[:min(len(name), maxLogged)]
}

// maxLogged bounds what of a name that nobody vouches for goes into the log, in
// octets: it may have 17 KiB.
const maxLogged = 256

func (l *logon) etype() string {
	if l.req == nil {
		return ""
	}
	return l.req.ticket.sealed.etype.String()
}

// verify goes through RFC 4120 3.2.3, up to the end, which is remember.
func (l *logon) verify(message []byte) (err error) {
	if l.req, err = parseAPReq(message); err != nil {
		return err
	}
	if l.req.options&optionUseSessionKey != 0 {
		return errUserToUser
	}
	if err := l.openTicket(); err != nil {
		return err
	}
	if err := l.openAuthenticator(); err != nil {
		return err
	}
	return l.checkTimes()
}

// remember is the end of RFC 4120 3.2.3: the request has not been there before.
// It comes last, so that nothing but whole and timely requests of those who are
// somebody fill the cache, and the share of each is his account's: one account has
// many names in tickets, of which the KDC may write any that it is asked for.
func (l *logon) remember(id gss.Identity) error {
	return l.replay.admit(id.SID.String(), l.req.authenticator.cipher, l.auth.ctime, l.now)
}

// openTicket finds the key of the ticket and opens it.
func (l *logon) openTicket() error {
	t := &l.req.ticket
	if t.sealed.etype == RC4HMAC && !l.AllowRC4 {
		return errRC4
	}
	entries, err := l.keytab.current(l.now).candidates(t.realm, t.service, t.sealed)
	if err != nil {
		return err
	}
	for _, e := range entries {
		plain, err := e.key.decrypt(usageTicket, t.sealed.cipher)
		if err != nil {
			continue
		}
		if l.part, err = parseTicketPart(plain); err != nil {
			return err
		}
		l.opener = e
		return l.checkKey(l.part.key)
	}
	return errTicketKey
}

// checkKey says whether a key that a peer brings can protect messages.
func (l *logon) checkKey(k Key) error {
	if k.Type == RC4HMAC && !l.AllowRC4 {
		return errRC4Session
	}
	return k.check()
}

// openAuthenticator opens it and holds it against the ticket. Who the client
// is says the ticket alone; the authenticator has to say the same.
func (l *logon) openAuthenticator() error {
	sealed := &l.req.authenticator
	if sealed.etype != l.part.key.Type {
		return errSessionKey
	}
	plain, err := l.part.key.decrypt(usageAuthenticator, sealed.cipher)
	if errors.Is(err, errDecrypt) {
		return errSessionKey
	}
	if err != nil {
		return err
	}
	if l.auth, err = parseAuthenticator(plain); err != nil {
		return err
	}
	if l.auth.realm != l.part.realm || !l.auth.client.equal(l.part.client) {
		return errMatch
	}
	if l.auth.subkey != nil {
		return l.checkKey(*l.auth.subkey)
	}
	return nil
}

func (l *logon) checkTimes() error {
	made := l.auth.ctime.Add(time.Duration(l.auth.cusec) * time.Microsecond)
	switch off := l.now.Sub(made); {
	case off > l.ClockSkew || off < -l.ClockSkew:
		// Rounded, because it is for a human being.
		return fmt.Errorf("%w: the client's is %v off", errSkew, -off.Round(time.Second))
	case l.part.flags&ticketInvalid != 0 || l.part.start.After(l.now.Add(l.ClockSkew)):
		return errNotYet
	case l.part.end.Add(l.ClockSkew).Before(l.now):
		return errExpired
	}
	return nil
}

// expiry is when the context ends: with the ticket, or, for one that was let
// in because clocks are not exact, when it would no longer be let in.
func (l *logon) expiry() time.Time {
	if l.part.end.After(l.now) {
		return l.part.end
	}
	return l.part.end.Add(l.ClockSkew)
}

// identity is who the client is, by the PAC or by the configuration.
func (l *logon) identity() (gss.Identity, error) {
	raw, unknown, err := findPAC(l.part.authData)
	switch {
	case err != nil:
		return gss.Identity{}, err
	case unknown != 0:
		return gss.Identity{}, fmt.Errorf("%w: authorization data of type %d", errRestriction, unknown)
	case raw == nil:
		return l.configured(errNoPAC)
	}
	p, sid, err := l.checkPAC(raw)
	if err != nil {
		return gss.Identity{}, fmt.Errorf("krb5: %w: %w", err, gss.ErrRefused)
	}
	if p.NoLogon {
		return l.configured(errNoLogonInfo)
	}
	if other, ok := l.PrincipalSIDs[l.client()]; ok && other != sid {
		return gss.Identity{}, fmt.Errorf("%w: the PAC says %v, auth.principal_sids %v", errTwoSIDs, sid, other)
	}
	return l.filterForeign(gss.Identity{
		SID: sid, Domain: p.Logon.LogonDomainName, Name: p.Logon.EffectiveName,
		Groups: p.Groups(), Mechanism: "krb5",
	})
}

// checkPAC believes the PAC or says why not ([MS-KILE] 3.4.5.3).
func (l *logon) checkPAC(raw []byte) (*pac.PAC, dtyp.SID, error) {
	p, err := pac.Parse(raw)
	if err != nil {
		return nil, dtyp.SID{}, err
	}
	err = p.VerifyServer(l.opener.key.checksumType(), func(data []byte) ([]byte, error) {
		return l.opener.key.checksum(usagePAC, data)
	})
	if err != nil {
		return nil, dtyp.SID{}, err
	}
	// Domain controllers join the parts of a name without marks.
	if err := p.CheckClient(strings.Join(l.part.client.parts, "/"), l.part.realm, l.part.authTime); err != nil {
		return nil, dtyp.SID{}, err
	}
	if p.NoLogon {
		// MIT's KDC makes such ones since 1.20, to sign the ticket with.
		return p, dtyp.SID{}, nil
	}
	sid, err := p.SID()
	return p, sid, err
}

// configured is the identity of a client of a KDC that makes no PACs; unnamed
// is the reason to refuse one that the configuration does not have. Where a PAC
// passes the domain controllers of the realm on its way and is filtered there,
// all that speaks for a name of another realm is that the KDC has checked the
// way.
func (l *logon) configured(unnamed error) (gss.Identity, error) {
	if l.foreign() && l.part.flags&ticketTransitedChecked == 0 {
		return gss.Identity{}, errTransited
	}
	name := l.part.client.String()
	sid, ok := l.PrincipalSIDs[name+"@"+l.part.realm]
	if !ok || sid.IsZero() {
		return gss.Identity{}, unnamed
	}
	return gss.Identity{SID: sid, Domain: l.part.realm, Name: name, Mechanism: "krb5"}, nil
}

// refusal is the KRB-ERROR for the client (RFC 4120 3.2.3), in a frame if its
// token had one. It says what the client can do something about.
func (l *logon) refusal(reason error, framed bool) []byte {
	if l.req == nil {
		return nil
	}
	e := krbError{
		stime: l.now.UTC().Truncate(time.Second), susec: int32(l.now.Nanosecond() / 1000),
		code: codeGeneric, realm: l.req.ticket.realm, service: l.req.ticket.service,
	}
	for _, c := range []struct {
		reason error
		code   int32
	}{
		{errSkew, codeSkew}, {errExpired, codeTicketExpired}, {errNotYet, codeTicketNotYet},
		{errReplay, codeRepeat}, {errMatch, codeBadMatch}, {errService, codeNotUs},
		{errKeyVersion, codeBadKeyVersion}, {errTicketKey, codeModified}, {errSessionKey, codeModified},
	} {
		if errors.Is(reason, c.reason) {
			e.code = c.code
		}
	}
	out, err := e.marshal()
	if err != nil {
		return nil
	}
	if framed {
		if out, err = frame(tokenError, out); err != nil {
			return nil
		}
	}
	return out
}
