package bkrpclient

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/seed05845750/bkrp/internal/dclocator"
)

// Pipes of the protocol in the order a client tries them (2.1, 3.2.4).
const (
	ProtectedStorage = "protected_storage"
	NTSvcs           = "ntsvcs"
)

// DefaultPort is where SMB over TCP is served.
const DefaultPort = "445"

// DefaultTimeout bounds Dial, and each call whose context has no deadline.
const DefaultTimeout = 30 * time.Second

// Config says which server to use, and as whom. Server and Credential are
// required; the zero value of everything else is the protocol's default.
type Config struct {
	// Server is HOST or HOST:PORT; the port is 445 if none is given. HOST is a name
	// or an address; one of IPv6 stands in brackets where a port follows.
	Server string
	// Address is HOST:PORT to connect to where that is not what Server says; the
	// name that tickets are for stays Server's.
	Address string
	// Credential is who calls.
	Credential Credential
	// RequireMutual refuses servers that do not prove themselves. NTLM has no
	// such proof: with it only Kerberos is used (C-3.2.4-11). In a domain, where
	// the server's name comes from DNS, it has to be that of a domain controller
	// by the word of the KDC.
	RequireMutual bool
	// Pipes are tried in this order, each once; nil is protected_storage and
	// then ntsvcs (W-2.1-06, C-3.2.4-04, C-3.2.4-05).
	Pipes []string
	// NDR64 offers the 64-bit transfer syntax instead of the 32-bit one.
	NDR64 bool
	// Timeout bounds Dial and each call; 0 is DefaultTimeout.
	Timeout time.Duration
	// Logger gets, at level Debug, what was tried; nil logs nothing.
	Logger *slog.Logger
}

// Credential is who calls: a name and a password for NTLM, or Kerberos, or both.
// With both, Kerberos is tried, and NTLM is used when no ticket for the server
// is to be had.
type Credential struct {
	// Domain is the NetBIOS or DNS name of the user's domain.
	Domain string
	// User is the account's name.
	User string
	// Password is the user's, for NTLM.
	Password Password
	// Kerberos is where tickets come from; nil uses none.
	Kerberos *Kerberos
}

// Kerberos is where tickets come from: a keytab if one is named, and a
// credential cache otherwise. Config.Server has to be the server's name then,
// and not its address, since tickets are for names.
type Kerberos struct {
	// CCache is a file that kinit made; "" is what KRB5CCNAME names, or the
	// usual one of this user.
	CCache string
	// Keytab is a file with the keys of Principal, NAME@REALM.
	Keytab, Principal string
	// Conf is a krb5.conf; "" is what KRB5_CONFIG names, or the system's.
	Conf string
}

// Password is a password that does not print itself.
type Password string

// String hides the password.
func (Password) String() string { return "[redacted]" }

// GoString hides the password from %#v.
func (Password) GoString() string { return "[redacted]" }

// LogValue hides the password from structured logs.
func (Password) LogValue() slog.Value { return slog.StringValue("[redacted]") }

// MarshalText refuses, so that no encoder writes a password.
func (Password) MarshalText() ([]byte, error) {
	return nil, errors.New("bkrpclient: a password is not marshalled")
}

// Check looks at the configuration as Dial does before it connects.
func (c *Config) Check() error {
	if _, _, err := c.address(); err != nil {
		return err
	}
	return c.checkCaller(c.Server)
}

// checkCaller looks at what says who calls; server is for the error.
func (c *Config) checkCaller(server string) error {
	switch {
	case c.RequireMutual && c.Credential.Kerberos == nil:
		return errors.New("bkrpclient: mutual authentication is required, and only Kerberos has it: no Credential.Kerberos is given")
	case c.Credential.Kerberos != nil:
		return nil
	case c.Credential.User == "":
		return fmt.Errorf("bkrpclient: no user name for %s; anonymous callers are refused by the protocol", server)
	}
	return nil
}

// address is the host, without the root's dot, and host:port.
func (c *Config) address() (host, hostport string, err error) {
	host, port, ok := splitServer(c.Server)
	switch {
	case c.Server == "":
		return "", "", errors.New("bkrpclient: Config.Server is empty")
	case !ok:
		return "", "", fmt.Errorf("bkrpclient: server %q: it is HOST, HOST:PORT, or an address, one of IPv6 in brackets where a port follows", c.Server)
	case c.Address != "":
		return host, c.Address, nil
	}
	return host, net.JoinHostPort(host, port), nil
}

// splitServer takes HOST or HOST:PORT apart; the port is DefaultPort if there is none.
func splitServer(server string) (host, port string, ok bool) {
	if host, port, ok = dclocator.SplitServer(server); port == "" {
		port = DefaultPort
	}
	return host, port, ok
}

func (c *Config) pipes() []string {
	if len(c.Pipes) > 0 {
		return c.Pipes
	}
	return []string{ProtectedStorage, NTSvcs}
}

func (c *Config) timeout() time.Duration {
	if c.Timeout > 0 {
		return c.Timeout
	}
	return DefaultTimeout
}

func (c *Config) logger() *slog.Logger {
	if c.Logger != nil {
		return c.Logger
	}
	return slog.New(slog.DiscardHandler)
}
