package main

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
)

// config is the configuration of the daemon. The tags are its manual: toml is
// the key, doc the line that stands above it in the file which "bkrpd init"
// writes, oneof the values this build takes, separated by "|". As in the file,
// the keys of a table stand before its sub-tables.
//
// A value comes from the command line, else from the environment
// (BKRPD_SMB_ENCRYPTION for smb.encryption), else from the file, else from
// [defaultConfig]. Relative paths are relative to the file's directory.
type config struct {
	Listen           []string `toml:"listen" doc:"Where to serve: host:port for SMB of its own; samba:DIR for the pipes of the Samba whose ncalrpc dir is DIR."`
	Pipes            []string `toml:"pipes" oneof:"protected_storage|ntsvcs" doc:"Named pipes that answer BackuprKey; the second only for clients of Windows 2000."`
	ErrorCodes       string   `toml:"error_codes" oneof:"spec|windows" doc:"Codes of refusals: those of the specification, or those of Windows where it differs (unknown key 0xD for 0x2, wrong MAC 0x539 for 0xC)."`
	ServerWrap       string   `toml:"serverwrap" oneof:"on|unwrap-only|off" doc:"How much of ServerWrap is served, where the server wraps."`
	ClientWrap       string   `toml:"clientwrap" oneof:"on|unwrap-only|off" doc:"How much of ClientWrap is served, where the client wraps under the domain's public key."`
	ServerWrapSrvKey string   `toml:"serverwrap_srvkey" oneof:"full|leading64" doc:"How much of a server key wraps new secrets: all 256 bytes, as Windows does, or the leading 64 of the 2014 text."`
	MaxInput         size     `toml:"max_input" doc:"Largest input of one call; a longer one is refused before it is held."`
	Control          string   `toml:"control" doc:"Unix socket for the admin commands, made with mode 0600."`
	CanaryInterval   duration `toml:"canary_interval" doc:"How often a secret is wrapped and opened under the current keys, to see that they work; 0s is never."`
	ShutdownGrace    duration `toml:"shutdown_grace" doc:"How long calls in flight may take to end at shutdown."`

	Log    logConfig    `toml:"log"`
	Domain domainConfig `toml:"domain"`
	Store  storeConfig  `toml:"store"`
	Seal   sealConfig   `toml:"seal"`
	HSM    hsmConfig    `toml:"hsm"`
	Memory memoryConfig `toml:"memory"`
	Auth   authConfig   `toml:"auth"`
	LSA    lsaConfig    `toml:"lsa"`
	SMB    smbConfig    `toml:"smb"`

	Netlogon netlogonConfig `toml:"netlogon"`

	// Source is the file it was read from, "" if from none.
	Source string `toml:"-"`
}

// logConfig is [log]: what goes to standard error.
type logConfig struct {
	Level  string `toml:"level" oneof:"debug|info|warn|error" doc:"Least level that is logged; the audit trail is written at any level."`
	Format string `toml:"format" oneof:"text|json" doc:"Form of a log line."`
}

// domainConfig is [domain]: who the server says it is.
type domainConfig struct {
	Name    string   `toml:"name" doc:"DNS name of the domain."`
	NetBIOS string   `toml:"netbios" doc:"NetBIOS name of the domain, at most 15 characters."`
	SID     dtyp.SID `toml:"sid" doc:"SID of the domain; changing it orphans every wrapped secret."`
}

// sealConfig is [seal]: what seals the store.
type sealConfig struct {
	KEK kekURI `toml:"kek" doc:"Key-encryption key: file:PATH (mode 0600), passphrase-file:PATH, or in a hardware module kms:pkcs11:token=LABEL;object=NAME?module-path=/LIBRARY&pin-source=/FILE."`
}

// memoryConfig is [memory]: what becomes of keys in the process's memory.
type memoryConfig struct {
	Lock string `toml:"lock" oneof:"auto|require|off" doc:"Whether memory is kept out of the swap: if the system lets it, or else no start, or not tried. Core dumps are off in any case."`
}

// authConfig is [auth]: who may log on, and how.
type authConfig struct {
	NTLM          string         `toml:"ntlm" oneof:"local|netlogon|off" doc:"Who checks NTLM logons: the local accounts of bkrpd user; a domain controller, as [netlogon] says; or nobody, which leaves Kerberos. Off is right in a domain, and what is meant with a keytab where this line is left out: NTLM does not prove to the client whom it talks to, and a logon can be relayed and its password guessed from it."`
	NTLMMIC       string         `toml:"ntlm_mic" oneof:"checked|required" doc:"Whether an NTLM client's MIC is checked when it sends one, or one is required; impacket up to 0.10 sends none."`
	Keytab        string         `toml:"keytab" doc:"Kerberos keytab (mode 0600) with the keys of cifs/HOST and host/HOST; Kerberos is on when set."`
	KerberosRC4   string         `toml:"kerberos_rc4" oneof:"refused|allowed" doc:"Whether rc4-hmac is let in, in tickets and as session key; the keys of its tickets are the NT hashes of passwords."`
	ClockSkew     duration       `toml:"clock_skew" doc:"How far a Kerberos client's clock may be off."`
	PrincipalSIDs []principalSID `toml:"principal_sids" doc:"Who is who in a realm whose KDC says no SIDs, as NAME@REALM=SID; others without a PAC are refused. Not for Active Directory, where a name may become another user's."`
}

// lsaConfig is [lsa]: the LSA calls beside BackuprKey.
type lsaConfig struct {
	Administrators   []dtyp.SID `toml:"administrators" doc:"SIDs that may read the domain's keys as LSA secrets; normally none."`
	SecretEncryption string     `toml:"secret_encryption" oneof:"offer|require" doc:"Whether they may do so over any connection, or over encrypted SMB or sealed RPC only."`
}

// smbConfig is [smb]: the transport and its limits.
type smbConfig struct {
	Encryption               string   `toml:"encryption" oneof:"offer|require" doc:"Whether SMB encryption is offered or demanded; calls are sealed by RPC in either case."`
	MinDialect               string   `toml:"min_dialect" oneof:"2.0.2|2.1|3.0|3.0.2|3.1.1" doc:"Oldest dialect spoken."`
	MaxDialect               string   `toml:"max_dialect" oneof:"2.0.2|2.1|3.0|3.0.2|3.1.1" doc:"Newest dialect spoken."`
	MaxConnections           int      `toml:"max_connections" doc:"Most connections at one time; further ones are closed at once."`
	MaxConnectionsPerAddress int      `toml:"max_connections_per_address" doc:"The same from one client address."`
	AuthenticationTimeout    duration `toml:"authentication_timeout" doc:"How long a client may take to log on."`
	MaxUnauthenticatedBytes  size     `toml:"max_unauthenticated_bytes" doc:"Most a client may send before it has logged on."`
	MaxSessions              int      `toml:"max_sessions" doc:"Most sessions of one connection."`
	MaxOpens                 int      `toml:"max_opens" doc:"Most open pipes of one connection."`
	MaxOpensPerUser          int      `toml:"max_opens_per_user" doc:"Most open pipes of one user on all connections."`
	MaxOutstanding           int      `toml:"max_outstanding" doc:"Most unanswered requests of one connection."`
	IdleTimeout              duration `toml:"idle_timeout" doc:"A connection that sends nothing for so long is closed; 0s is never."`
	WriteTimeout             duration `toml:"write_timeout" doc:"How long a client may take to send the rest of a message or to read an answer."`
}

// defaultConfig is what a key is when nothing sets it. The domain has no
// default.
func defaultConfig() config {
	return config{
		Listen:           []string{"127.0.0.1:4445"},
		Pipes:            []string{"protected_storage"},
		ErrorCodes:       "spec",
		ServerWrap:       "on",
		ClientWrap:       "on",
		ServerWrapSrvKey: "full",
		MaxInput:         4 << 20,
		Control:          "bkrpd.sock",
		CanaryInterval:   duration(5 * time.Minute),
		ShutdownGrace:    duration(10 * time.Second),
		Log:              logConfig{Level: "info", Format: "text"},
		Store:            defaultStoreConfig(),
		Seal:             sealConfig{KEK: kekURI{Scheme: kekFile, Path: "kek.bin"}},
		HSM:              defaultHSMConfig(),
		Memory:           memoryConfig{Lock: "auto"},
		Auth:             authConfig{NTLM: ntlmLocal, NTLMMIC: "checked", KerberosRC4: "refused", ClockSkew: duration(5 * time.Minute), PrincipalSIDs: []principalSID{}},
		LSA:              lsaConfig{Administrators: []dtyp.SID{}, SecretEncryption: "offer"},
		SMB: smbConfig{
			Encryption:               "offer",
			MinDialect:               "2.0.2",
			MaxDialect:               "3.1.1",
			MaxConnections:           4096,
			MaxConnectionsPerAddress: 1024,
			AuthenticationTimeout:    duration(15 * time.Second),
			MaxUnauthenticatedBytes:  256 << 10,
			MaxSessions:              8,
			MaxOpens:                 64,
			MaxOpensPerUser:          4096,
			MaxOutstanding:           128,
			IdleTimeout:              duration(15 * time.Minute),
			WriteTimeout:             duration(30 * time.Second),
		},
		Netlogon: netlogonConfig{Timeout: duration(5 * time.Second), SessionLifetime: duration(10 * time.Hour)},
	}
}

// fault is what is wrong with the value of one key.
type fault struct {
	key string
	err error
}

// check says what is wrong with c beyond the form of each single value, which
// its reading has checked.
func (c *config) check() []fault {
	var faults []fault
	need := func(ok bool, key, format string, args ...any) {
		if !ok {
			faults = append(faults, fault{key, fmt.Errorf(format, args...)})
		}
	}
	need(len(c.Listen) > 0, "listen", "must name at least one address")
	for _, addr := range c.Listen {
		need(checkAddress(addr) == nil, "listen", "%q: %w", addr, checkAddress(addr))
	}
	need(len(c.Pipes) > 0, "pipes", "must name at least one pipe")
	need(c.MaxInput >= 1<<10 && c.MaxInput <= 64<<20, "max_input", "must be between 1KiB and 64MiB")
	need(c.Control != "", "control", "must be a path")
	need(c.CanaryInterval == 0 || c.CanaryInterval >= duration(time.Second), "canary_interval", "must be 0s, or 1s or more")
	need(c.ShutdownGrace >= 0, "shutdown_grace", "must not be negative")
	need(isDomainName(c.Domain.Name), "domain.name", "must be a DNS name such as corp.example")
	need(isNetBIOSName(c.Domain.NetBIOS), "domain.netbios", `must be 1 to 15 characters, none of them one of . \ / : * ? " < > |`)
	need(!c.Domain.SID.IsZero(), "domain.sid", "must be the SID that bkrpd init gave the domain")
	c.Store.check(need)
	need(c.Seal.KEK.Path != "", "seal.kek", "must be file:PATH, passphrase-file:PATH or kms:pkcs11:URI")
	c.HSM.check(need)
	need(c.Auth.NTLM != ntlmOff || c.Auth.Keytab != "", "auth.ntlm", `must not be "off" without a keytab: nobody could log on`)
	need(c.Auth.ClockSkew > 0 && c.Auth.ClockSkew <= duration(time.Hour), "auth.clock_skew", "must be more than 0s and at most 1h")
	if c.Auth.NTLM == ntlmNetlogon {
		c.Netlogon.check(need)
	}
	c.SMB.check(need)
	return faults
}

func (c *smbConfig) check(need func(ok bool, key, format string, args ...any)) {
	for _, limit := range []struct {
		key   string
		value int
		most  int
	}{
		{"smb.max_connections", c.MaxConnections, 1 << 20},
		{"smb.max_connections_per_address", c.MaxConnectionsPerAddress, 1 << 20},
		{"smb.max_sessions", c.MaxSessions, 1 << 10},
		{"smb.max_opens", c.MaxOpens, 1 << 12},
		{"smb.max_opens_per_user", c.MaxOpensPerUser, 1 << 20},
		{"smb.max_outstanding", c.MaxOutstanding, 1 << 12},
	} {
		need(limit.value >= 1 && limit.value <= limit.most, limit.key, "must be between 1 and %d", limit.most)
	}
	need(c.MaxUnauthenticatedBytes >= 16<<10 && c.MaxUnauthenticatedBytes <= 16<<20,
		"smb.max_unauthenticated_bytes", "must be between 16KiB and 16MiB")
	need(c.AuthenticationTimeout > 0, "smb.authentication_timeout", "must be more than 0s")
	need(c.WriteTimeout > 0, "smb.write_timeout", "must be more than 0s")
	need(c.IdleTimeout >= 0, "smb.idle_timeout", "must not be negative")
	// In the order of their age the dialects' names sort as text.
	need(c.MinDialect <= c.MaxDialect, "smb.min_dialect", "must not be newer than smb.max_dialect, %s", c.MaxDialect)
	need(c.Encryption != "require" || c.MaxDialect >= "3.0", "smb.encryption",
		"cannot be required when smb.max_dialect is %s, which has none", c.MaxDialect)
}

// sambaPrefix marks an address that is the "ncalrpc dir" of a Samba server.
const sambaPrefix = "samba:"

func checkAddress(addr string) error {
	if dir, ok := strings.CutPrefix(addr, sambaPrefix); ok {
		if !filepath.IsAbs(dir) {
			return errors.New("must be samba: and the whole path of Samba's ncalrpc dir, which testparm shows, such as samba:/var/run/samba/ncalrpc")
		}
		return nil
	}
	if _, port, err := net.SplitHostPort(addr); err != nil || port == "" {
		return errors.New("must be host:port, such as 127.0.0.1:4445 or [::]:445, or samba:DIR")
	}
	return nil
}

func isDomainName(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		odd := strings.ContainsFunc(label, func(r rune) bool {
			return !(r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z')
		})
		if odd || label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
	}
	return true
}

func isNetBIOSName(s string) bool {
	return len(s) >= 1 && len(s) <= 15 && !strings.ContainsAny(s, `.\/:*?"<>|`) &&
		!strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}

// resolve makes the paths independent of the working directory.
func (c *config) resolve(dir string) {
	for _, path := range append(c.Store.paths(), &c.Control, c.Seal.KEK.path(), &c.Auth.Keytab, &c.Netlogon.PasswordFile) {
		if path != nil && *path != "" && !filepath.IsAbs(*path) {
			*path = filepath.Join(dir, *path)
		}
	}
}
