package main

import (
	"net"
	"strings"
	"time"

	"github.com/seed05845750/bkrp/bkrpserver"
)

// The values of auth.ntlm.
const (
	ntlmLocal    = "local"
	ntlmNetlogon = "netlogon"
	ntlmOff      = "off"
)

// netlogonConfig is [netlogon]: the domain controller that checks NTLM logons.
type netlogonConfig struct {
	Server          string   `toml:"server" doc:"Domain controller, its name or host:port of its Netlogon over TCP; with auth.ntlm \"netlogon\" only, as all of this table."`
	Account         string   `toml:"account" doc:"Machine account of this server in the domain, its NetBIOS name and $, such as SRV1$."`
	PasswordFile    string   `toml:"password_file" doc:"File (mode 0600) whose first line is the machine account's password; read again for each new connection."`
	Timeout         duration `toml:"timeout" doc:"How long the domain controller may take for one logon, connecting included."`
	SessionLifetime duration `toml:"session_lifetime" doc:"How long a caller may go on until he has to log on again; meanwhile a disabled account is not noticed."`
}

func (c *netlogonConfig) check(need func(ok bool, key, format string, args ...any)) {
	need(isServer(c.Server), "netlogon.server", "must name a domain controller, such as dc1.corp.example")
	name, machine := strings.CutSuffix(c.Account, "$")
	need(machine && isNetBIOSName(name), "netlogon.account", "must be the NetBIOS name of this server and $, such as SRV1$")
	need(c.PasswordFile != "", "netlogon.password_file", "must be a path")
	need(c.Timeout > 0 && c.Timeout <= duration(time.Minute), "netlogon.timeout", "must be more than 0s and at most 1m")
	need(c.SessionLifetime >= duration(time.Second) && c.SessionLifetime <= duration(7*24*time.Hour),
		"netlogon.session_lifetime", "must be between 1s and 168h")
}

// isServer reports whether s is a host or host:port.
func isServer(s string) bool {
	if host, port, err := net.SplitHostPort(s); err == nil {
		return host != "" && port != ""
	}
	return net.ParseIP(s) != nil || isDomainName(s)
}

// ntlmOf sets who judges NTLM logons.
func ntlmOf(c *bkrpserver.Config, cfg *config) {
	switch cfg.Auth.NTLM {
	case ntlmOff:
		c.NTLM = bkrpserver.NTLMOff
	case ntlmNetlogon:
		c.NTLM = bkrpserver.NTLMNetlogon
		c.Netlogon = bkrpserver.Netlogon{
			Server:          cfg.Netlogon.Server,
			Account:         cfg.Netlogon.Account,
			PasswordFile:    cfg.Netlogon.PasswordFile,
			Timeout:         time.Duration(cfg.Netlogon.Timeout),
			SessionLifetime: time.Duration(cfg.Netlogon.SessionLifetime),
		}
	}
}
