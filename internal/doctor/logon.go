package doctor

import (
	"context"
	"encoding/asn1"
	"errors"
	"fmt"

	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/internal/gss/krb5"
	"github.com/seed05845750/bkrp/internal/gss/ntlm"
	"github.com/seed05845750/bkrp/internal/gss/spnego"
	"github.com/seed05845750/bkrp/internal/smbclient"
)

// session is a log-on outside bkrpclient, for calls that this does not make.
type session struct {
	*smbclient.Session
	mech spnego.InitiatorMechanism
}

// judgeLogon logs on. The session is nil when that does not go well.
func (p *patient) judgeLogon(ctx context.Context) *session {
	// The turn first: waiting for it takes nothing of the time for the log-on.
	done, by := p.tries.take(p.host)
	if done == nil {
		p.report.add(CheckLogon, Note, "", "not tried: %s refused it, and each refusal counts against the account", by)
		return nil
	}
	s, err := p.logOn(ctx)
	done(errors.Is(err, smbclient.ErrLogon), err == nil)
	switch {
	case err == nil:
	case errors.Is(err, errMechanism):
		p.report.add(CheckLogon, Broken, "run kinit, see that the KDC knows the server by this name (service cifs), and that the clocks agree", "%v", err)
		return nil
	case errors.Is(err, smbclient.ErrLogon):
		p.report.add(CheckLogon, Broken, "see that the account is there and enabled, the password right, and that this server knows the account", "%s: %v", p.caller(), err)
		return nil
	default:
		p.report.add(CheckLogon, Broken, "read the server's log: the log-on was neither taken nor refused", "%s: %v", p.caller(), err)
		return nil
	}
	name := "NTLM"
	if !s.mech.OIDs[0].Equal(spnego.NTLM()) {
		name = "Kerberos"
	}
	p.report.add(CheckLogon, OK, "", "%s, %s", p.caller(), name)
	return s
}

// errMechanism marks an error that came before the server was asked.
var errMechanism = errors.New("no way to log on")

// logOn logs on to SMB.
func (p *patient) logOn(ctx context.Context) (*session, error) {
	ctx, cancel := p.step(ctx)
	defer cancel()
	mech, err := mechanism(ctx, &p.cfg, p.host)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errMechanism, err)
	}
	s, err := smbclient.Dial(ctx, smbclient.Config{
		Host: p.host, Address: p.address, Initiator: mech.Initiator, Mechanism: mech.OIDs[0],
	})
	if err != nil {
		return nil, err
	}
	return &session{s, mech}, nil
}

// caller is who logs on.
func (p *patient) caller() string {
	switch c := p.cfg.Credential; {
	case c.User != "":
		return fmt.Sprintf(`as %s\%s`, c.Domain, c.User)
	case c.Kerberos != nil && c.Kerberos.Principal != "":
		return "as " + c.Kerberos.Principal
	}
	return "by the tickets of kinit"
}

// mechanism is how to log on to host where bkrpclient, which takes nothing below
// packet privacy, cannot do it: by Kerberos if there is a ticket, and by NTLM
// where that will do.
func mechanism(ctx context.Context, cfg *bkrpclient.Config, host string) (spnego.InitiatorMechanism, error) {
	c := &cfg.Credential
	if k := c.Kerberos; k != nil {
		source := tickets(k)
		_, err := source(ctx, "cifs/"+host)
		switch {
		case err == nil:
			return spnego.InitiatorMechanism{
				OIDs:      []asn1.ObjectIdentifier{spnego.MSKerberos(), spnego.Kerberos()},
				Initiator: krb5.NewInitiator(source),
			}, nil
		case c.User == "" || c.Password == "" || cfg.RequireMutual:
			return spnego.InitiatorMechanism{}, fmt.Errorf("%w cifs/%s: %w", bkrpclient.ErrTicket, host, err)
		}
	}
	return spnego.InitiatorMechanism{
		OIDs: []asn1.ObjectIdentifier{spnego.NTLM()},
		Initiator: ntlm.NewInitiator(ntlm.Credential{
			Domain: c.Domain, User: c.User, Hash: ntlm.HashPassword(string(c.Password)),
		}),
	}, nil
}

func tickets(k *bkrpclient.Kerberos) krb5.TicketSource {
	conf := k.Conf
	if conf == "" {
		conf = krb5.DefaultConf()
	}
	if k.Keytab != "" {
		return krb5.KeytabTickets(k.Keytab, k.Principal, conf)
	}
	cache := k.CCache
	if cache == "" {
		cache = krb5.DefaultCCache()
	}
	return krb5.CCacheTickets(cache, conf)
}
