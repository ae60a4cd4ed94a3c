package bkrptest

import (
	"context"
	"os"

	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/dtyp"
)

// User is somebody in a Domain.
type User struct {
	// Name is the account's, without the domain.
	Name string
	// SID is whom secrets that the user wraps belong to.
	SID dtyp.SID
	// Password is the password, random letters and digits.
	Password bkrpclient.Password

	d *Domain
}

// NTLM is how the user dials the domain's first server with a password.
func (u *User) NTLM() bkrpclient.Config {
	return bkrpclient.Config{Server: u.d.Addr(), Credential: u.password()}
}

func (u *User) password() bkrpclient.Credential {
	return bkrpclient.Credential{Domain: u.d.NetBIOSName, User: u.Name, Password: u.Password}
}

// Kerberos is how the user dials the domain's first server with tickets of the
// domain's KDC, as after kinit, and with nothing else.
func (u *User) Kerberos() bkrpclient.Config {
	u.d.t.Helper()
	return bkrpclient.Config{Server: u.d.Addr(), Credential: u.tickets(), RequireMutual: true}
}

func (u *User) tickets() bkrpclient.Credential {
	u.d.t.Helper()
	return bkrpclient.Credential{Kerberos: &bkrpclient.Kerberos{CCache: u.CCache(), Conf: u.d.krb5Conf}}
}

// CCache is the path of a new credential cache with a ticket-granting ticket of
// the user, good for ten hours: what kinit makes, for KRB5CCNAME.
func (u *User) CCache() string {
	u.d.t.Helper()
	content, err := u.d.kdc.CCache(u.Name)
	u.d.must(err)
	f, err := os.CreateTemp(u.d.dir, "ccache")
	u.d.must(err)
	defer f.Close()
	_, err = f.Write(content)
	u.d.must(err)
	return f.Name()
}

// InDomain is how the user opens the domain by its name, with a password. Domain
// controllers are found as everywhere, by a DNS server and by pings of the
// domain's own.
func (u *User) InDomain() bkrpclient.DomainConfig {
	return u.d.locate(bkrpclient.Config{Credential: u.password()})
}

// InDomainKerberos is InDomain with tickets of the domain's KDC.
func (u *User) InDomainKerberos() bkrpclient.DomainConfig {
	u.d.t.Helper()
	return u.d.locate(bkrpclient.Config{Credential: u.tickets(), RequireMutual: true})
}

// Disable keeps the user from logging on. Calls by NTLM on connections that are
// there already are refused.
func (u *User) Disable() {
	u.d.t.Helper()
	u.d.must(u.d.Store.SetDisabled(context.Background(), u.Name, true))
}
