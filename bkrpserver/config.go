package bkrpserver

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
)

// The pipes by which BackupKey may be reached (2.1).
const (
	PipeProtectedStorage = "protected_storage"
	PipeNTSvcs           = "ntsvcs"
)

// Dialect is an SMB dialect revision as it stands on the wire ([MS-SMB2]
// 2.2.3). The zero Dialect leaves the bound to the server.
type Dialect uint16

// The dialects that are served.
const (
	SMB202 Dialect = 0x0202
	SMB210 Dialect = 0x0210
	SMB300 Dialect = 0x0300
	SMB302 Dialect = 0x0302
	SMB311 Dialect = 0x0311
)

// Encryption says what the server does about SMB encryption. BackupKey's calls
// are sealed by RPC in either case.
type Encryption uint8

const (
	// EncryptionOffer encrypts for clients that ask for it.
	EncryptionOffer Encryption = iota
	// EncryptionRequire refuses clients that cannot encrypt.
	EncryptionRequire
)

// Limits bound what clients make the server hold and do. A zero field takes
// its default; nothing is unbounded but where a field says so.
type Limits struct {
	// Connections is the most connections at a time; 4096.
	Connections int
	// ConnectionsPerAddress is the same from one client address; 1024.
	ConnectionsPerAddress int
	// AuthTimeout is how long a client may take to log on; 15 s.
	AuthTimeout time.Duration
	// AuthBytes is what a client may send before it has logged on, in octets;
	// 256 KiB.
	AuthBytes int
	// Sessions is the most sessions of one connection; 8.
	Sessions int
	// Opens is the most open pipes of one connection; 64.
	Opens int
	// OpensPerUser is the most open pipes of one user over all connections;
	// 4096.
	OpensPerUser int
	// Outstanding is the most unanswered requests of one connection; 128.
	Outstanding int
	// IdleTimeout closes a connection that sends nothing for so long; 0 is
	// never.
	IdleTimeout time.Duration
	// StallTimeout is how long a client may take to send the rest of a message
	// or to read an answer; 30 s.
	StallTimeout time.Duration
}

// NTLM says who judges NTLM logons.
type NTLM uint8

const (
	// NTLMLocal judges them by the accounts of the store.
	NTLMLocal NTLM = iota
	// NTLMOff refuses them: callers need Kerberos.
	NTLMOff
	// NTLMNetlogon has a domain controller judge them, as Config.Netlogon says.
	NTLMNetlogon
)

// Netlogon has the NTLM logons of a domain's users judged by its domain
// controller, over the secure channel of a machine account ([MS-NRPC]). Server,
// Account and PasswordFile are required.
type Netlogon struct {
	// Server is a domain controller of the domain: a host, whose endpoint mapper
	// on TCP port 135 is asked for the port, or host:port of its Netlogon.
	Server string
	// Account is the machine account, the computer's NetBIOS name and "$".
	Account string
	// PasswordFile is the path of a file of mode 0600 whose first line is the
	// machine account's password. It is read again for each secure channel.
	PasswordFile string
	// Timeout bounds each logon, with the connecting it may need; 0 is 5 s.
	Timeout time.Duration
	// SessionLifetime is how long a caller may go on after a logon, until he has
	// to log on again: meanwhile nobody asks the domain whether the account is
	// still there. 0 is 10 hours, as for a Kerberos ticket.
	SessionLifetime time.Duration
}

// Kerberos lets in users of a realm by the tickets of its KDC.
type Kerberos struct {
	// Keytab is the path of a keytab file with the keys of this server's
	// service principals, cifs/HOST and host/HOST, of mode 0600; a group may
	// read it, with a warning. It is read again when it changes. One that has
	// the realm's own keys is refused, and keys of users in it are not used.
	Keytab string
	// AllowRC4 lets in rc4-hmac, in tickets and as session key.
	AllowRC4 bool
	// ClockSkew is how far a client's clock may be off; 0 is 5 minutes.
	ClockSkew time.Duration
	// PrincipalSIDs says who a principal, "alice@REALM", is where the KDC puts
	// no PAC into its tickets, or one without SIDs. Who is in neither is
	// refused, as is who has one SID here and another one in the PAC. It is not
	// for a realm of Active Directory, where users are renamed and names used
	// again while SIDs stay.
	PrincipalSIDs map[string]dtyp.SID
}

// Config is what a Server is made of. Service is required; the zero value of
// everything else is the safe default.
type Config struct {
	// Service answers the calls. Its Store also has the accounts that may log
	// on and the name and SID of the domain.
	Service *Service
	// ComputerName is the server's own NetBIOS name, which clients see when
	// they log on; the first label of the host's name if empty. With NTLMNetlogon
	// it is that of Netlogon.Account.
	ComputerName string
	// Pipes are the pipes that answer BackupKey: PipeProtectedStorage,
	// PipeNTSvcs or both; nil is PipeProtectedStorage (2.1).
	Pipes []string
	// MinDialect and MaxDialect bound the SMB dialects; 2.0.2 and 3.1.1.
	MinDialect, MaxDialect Dialect
	// Encryption is EncryptionOffer by default.
	Encryption Encryption
	// Limits have safe defaults.
	Limits Limits
	// Administrators may read the domain's keys as LSA secrets: users' SIDs,
	// or those of groups that the domain vouches for. Normally none.
	Administrators []dtyp.SID
	// RequireSecretEncryption has Administrators read secrets over encrypted SMB
	// or sealed RPC only. Otherwise a listener is kept from them by nothing but
	// the single DES of [MS-LSAD] 5.1.2.
	RequireSecretEncryption bool
	// NTLM is where NTLM logons are judged: NTLMLocal by default.
	NTLM NTLM
	// Netlogon is for NTLMNetlogon.
	Netlogon Netlogon
	// Kerberos is on when its Keytab is set.
	Kerberos Kerberos
	// RequireMIC refuses NTLM clients that do not protect the negotiation by a
	// MIC. Windows, Samba and Go clients do; impacket up to 0.10 does not.
	RequireMIC bool
	// CanaryInterval is how often a secret is wrapped and opened under the current
	// keys, to see that they work, from New on; see Server.Health. 0 is never.
	CanaryInterval time.Duration
	// Logger gets what an operator may want to know; nil is slog.Default().
	Logger *slog.Logger
}

func (c *Config) check() error {
	if c.Service == nil || c.Service.Store == nil {
		return errors.New("bkrpserver: Config.Service and its Store are required")
	}
	if c.Encryption > EncryptionRequire {
		return fmt.Errorf("bkrpserver: Config.Encryption is %d, which has no meaning", c.Encryption)
	}
	if slices.ContainsFunc(c.Administrators, dtyp.SID.IsZero) {
		return errors.New("bkrpserver: Config.Administrators has a zero SID")
	}
	if c.NTLM > NTLMNetlogon {
		return fmt.Errorf("bkrpserver: Config.NTLM is %d, which is none of NTLMLocal, NTLMOff and NTLMNetlogon", c.NTLM)
	}
	if c.NTLM == NTLMOff && c.Kerberos.Keytab == "" {
		return errors.New("bkrpserver: nobody could log on: NTLM is off, and there is no keytab for Kerberos")
	}
	for _, p := range c.Pipes {
		if p != PipeProtectedStorage && p != PipeNTSvcs {
			return fmt.Errorf("bkrpserver: pipe %q: BackupKey is served on %s and %s only (2.1)", p, PipeProtectedStorage, PipeNTSvcs)
		}
	}
	return nil
}

func (c *Config) pipes() []string {
	if len(c.Pipes) > 0 {
		return c.Pipes
	}
	return []string{PipeProtectedStorage}
}

// computerName is a NetBIOS name: at most 15 characters in upper case.
func (c *Config) computerName() string {
	name := c.ComputerName
	if name == "" {
		name, _ = os.Hostname()
		name, _, _ = strings.Cut(name, ".")
	}
	if name == "" {
		name = "BKRPD"
	}
	if len(name) > 15 {
		name = name[:15]
	}
	return strings.ToUpper(name)
}

func (c *Config) logger() *slog.Logger {
	if c.Logger != nil {
		return c.Logger
	}
	return slog.Default()
}
