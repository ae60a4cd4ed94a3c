package doctor

import (
	"context"
	"encoding/asn1"
	"net"

	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/internal/gss/krb5"
	"github.com/seed05845750/bkrp/internal/gss/ntlm"
	"github.com/seed05845750/bkrp/internal/gss/spnego"
)

// mechanism is how to log on to host where bkrpclient, which takes nothing below
// packet privacy, cannot do it: by Kerberos if there is a ticket, and by NTLM.
func mechanism(ctx context.Context, c *bkrpclient.Credential, host string) (spnego.InitiatorMechanism, error) {
	if k := c.Kerberos; k != nil {
		source := tickets(k)
		_, err := source(ctx, "cifs/"+host)
		if err == nil || c.Password == "" {
			return spnego.InitiatorMechanism{
				OIDs:      []asn1.ObjectIdentifier{spnego.MSKerberos(), spnego.Kerberos()},
				Initiator: krb5.NewInitiator(source),
			}, err
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

// hostOf is the name in HOST or HOST:PORT, and the address with the port.
func hostOf(server string) (host, address string) {
	host, port, err := net.SplitHostPort(server)
	if err != nil || port == "" {
		if err != nil {
			host = server
		}
		if n := len(host); n > 1 && host[0] == '[' && host[n-1] == ']' {
			host = host[1 : n-1]
		}
		port = bkrpclient.DefaultPort
	}
	return host, net.JoinHostPort(host, port)
}
