package bkrpclient

import (
	"context"
	"encoding/asn1"
	"fmt"

	"github.com/seed05845750/bkrp/internal/gss/krb5"
	"github.com/seed05845750/bkrp/internal/gss/ntlm"
	"github.com/seed05845750/bkrp/internal/gss/spnego"
)

// mechanism chooses how to log on: Kerberos where it is configured and has a
// ticket for the server, NTLM where there is a password and a server that
// cannot prove itself will do.
func mechanism(ctx context.Context, cfg *Config, host string) (spnego.InitiatorMechanism, error) {
	k := cfg.Credential.Kerberos
	if k == nil {
		return ntlmMechanism(&cfg.Credential), nil
	}
	source := k.source()
	_, err := source(ctx, "cifs/"+host)
	if err == nil {
		return spnego.InitiatorMechanism{
			OIDs:      []asn1.ObjectIdentifier{spnego.MSKerberos(), spnego.Kerberos()},
			Initiator: krb5.NewInitiator(source),
		}, nil
	}
	if cfg.Credential.Password == "" || cfg.Credential.User == "" || cfg.RequireMutual || ctx.Err() != nil {
		return spnego.InitiatorMechanism{}, fmt.Errorf("%w cifs/%s: %w", ErrTicket, host, err)
	}
	cfg.logger().InfoContext(ctx, "no Kerberos ticket; using NTLM", "server", host, "error", err)
	return ntlmMechanism(&cfg.Credential), nil
}

// controller asks the KDC whether host is a domain controller of the domain: it
// alone has a service of three parts ([MS-ADTS] 5.1.1.4, 3.1.1.5.3.1.1.4), which
// no other machine can give itself. The ticket is of no further use.
func (c *Config) controller(ctx context.Context, host, domain string) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout())
	defer cancel()
	if _, err := c.Credential.Kerberos.source()(ctx, "ldap/"+host+"/"+domain); err != nil {
		return fmt.Errorf("%w ldap/%s/%s, which each domain controller has and no other server: %w", ErrTicket, host, domain, err)
	}
	return nil
}

func ntlmMechanism(c *Credential) spnego.InitiatorMechanism {
	return spnego.InitiatorMechanism{
		OIDs: []asn1.ObjectIdentifier{spnego.NTLM()},
		Initiator: ntlm.NewInitiator(ntlm.Credential{
			Domain: c.Domain, User: c.User, Hash: ntlm.HashPassword(string(c.Password)),
		}),
	}
}

// source is where the tickets come from.
func (k *Kerberos) source() krb5.TicketSource {
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
