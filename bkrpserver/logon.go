package bkrpserver

import (
	"context"
	"encoding/asn1"
	"errors"
	"fmt"
	"strings"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/dcerpc"
	"github.com/seed05845750/bkrp/internal/gss"
	"github.com/seed05845750/bkrp/internal/gss/krb5"
	"github.com/seed05845750/bkrp/internal/gss/ntlm"
	"github.com/seed05845750/bkrp/internal/gss/spnego"
	"github.com/seed05845750/bkrp/internal/netlogon"
	"github.com/seed05845750/bkrp/keystore"
)

// logon is how callers prove who they are, to SMB and to RPC. A mechanism that
// is not on is nil.
type logon struct {
	krb5, ntlm gss.Acceptor
	spnego     *spnego.Acceptor
	netlogon   *netlogon.Client // nil unless it judges NTLM logons
}

// close ends what is asked of a domain controller, and waits for it.
func (l *logon) close() {
	if l.netlogon != nil {
		l.netlogon.Close()
	}
}

func newLogon(cfg *Config) (l *logon, err error) {
	l = new(logon)
	var mechs []spnego.Mechanism // in the order in which they are offered
	if k := cfg.Kerberos; k.Keytab != "" {
		l.krb5, err = krb5.NewAcceptor(krb5.Config{
			Keytab:        k.Keytab,
			AllowRC4:      k.AllowRC4,
			ClockSkew:     k.ClockSkew,
			PrincipalSIDs: k.PrincipalSIDs,
			DomainSID:     cfg.Service.Store.Domain().SID,
			Log:           cfg.logger(),
		})
		if err != nil {
			return nil, err
		}
		mechs = append(mechs, spnego.Mechanism{
			OIDs:     []asn1.ObjectIdentifier{spnego.MSKerberos(), spnego.Kerberos()},
			Acceptor: l.krb5,
		})
	}
	if cfg.NTLM != NTLMOff {
		source, err := l.accounts(cfg)
		if err != nil {
			return nil, err
		}
		l.ntlm = newNTLM(cfg, source)
		mechs = append(mechs, spnego.Mechanism{
			OIDs:     []asn1.ObjectIdentifier{spnego.NTLM()},
			Acceptor: l.ntlm,
		})
	}
	l.spnego, err = spnego.NewAcceptor(mechs...)
	return l, err
}

// accounts is who judges NTLM logons.
func (l *logon) accounts(cfg *Config) (source ntlm.Source, err error) {
	store := cfg.Service.Store
	domain := store.Domain()
	if cfg.NTLM == NTLMLocal {
		return ntlm.LocalSource(lookupAccount(store), domain.NetBIOSName, domain.DNSName), nil
	}
	l.netlogon, err = netlogon.New(netlogon.Config{
		Server:        cfg.Netlogon.Server,
		Account:       cfg.Netlogon.Account,
		PasswordFile:  cfg.Netlogon.PasswordFile,
		NetBIOSDomain: domain.NetBIOSName,
		DNSDomain:     domain.DNSName,
		DomainSID:     domain.SID,
		Timeout:       cfg.Netlogon.Timeout,
		Lifetime:      cfg.Netlogon.SessionLifetime,
		Log:           cfg.logger(),
	})
	if err != nil {
		return nil, err
	}
	return l.netlogon.LogOn, nil
}

func newNTLM(cfg *Config, source ntlm.Source) gss.Acceptor {
	domain := cfg.Service.Store.Domain()
	computer := cfg.computerName()
	if cfg.NTLM == NTLMNetlogon {
		// Domain controllers refuse to judge a response to the challenge of
		// another computer than asks them (CVE-2015-0005).
		computer = strings.ToUpper(strings.TrimSuffix(cfg.Netlogon.Account, "$"))
	}
	return ntlm.NewAcceptor(ntlm.Config{
		Source:          source,
		NetBIOSDomain:   domain.NetBIOSName,
		DNSDomain:       domain.DNSName,
		NetBIOSComputer: computer,
		DNSComputer:     computer + "." + domain.DNSName,
		RequireMIC:      cfg.RequireMIC,
		Log:             cfg.logger(),
	})
}

// rpc is the acceptors by the authentication type of a bind.
func (l *logon) rpc() map[dcerpc.AuthType]gss.Acceptor {
	acceptors := map[dcerpc.AuthType]gss.Acceptor{dcerpc.AuthSPNEGO: l.spnego}
	if l.krb5 != nil {
		acceptors[dcerpc.AuthKerberos] = l.krb5
	}
	if l.ntlm != nil {
		acceptors[dcerpc.AuthNTLM] = l.ntlm
	}
	return acceptors
}

// smb is the acceptor of SMB session setup, where NTLM may also come without
// SPNEGO around it.
func (l *logon) smb() gss.Acceptor { return bareAcceptor{l.spnego} }

type bareAcceptor struct{ *spnego.Acceptor }

func (a bareAcceptor) Accept(o gss.AcceptOptions) gss.Exchange { return a.AcceptBare(o) }

// lookupAccount finds the account of a logon in the store.
func lookupAccount(store *keystore.Store) ntlm.Lookup {
	return func(ctx context.Context, user string) (ntlm.LocalAccount, error) {
		a, err := store.Account(ctx, user)
		if errors.Is(err, keystore.ErrNoAccount) {
			return ntlm.LocalAccount{}, fmt.Errorf("%w: %w", gss.ErrLogon, err)
		}
		if err != nil {
			return ntlm.LocalAccount{}, err
		}
		found := ntlm.LocalAccount{Hash: ntlm.Hash(a.NTHash), SID: a.SID, Name: a.Name}
		if a.Disabled {
			return found, fmt.Errorf("account is disabled: %w", gss.ErrRefused)
		}
		return found, nil
	}
}

// voucher tells of a caller who was let in whether he may still go on.
type voucher func(ctx context.Context, mechanism string, sid dtyp.SID) error

// vouchFor tells of a caller who logged on by an account of the store whether
// that account may still do so: a connection can outlive it. The store answers
// from memory. A changed password does not end what was logged on before. Whom
// the domain let in stays until the ticket ends, or the lifetime of the logon.
func vouchFor(cfg *Config) voucher {
	store := cfg.Service.Store
	return func(ctx context.Context, mechanism string, sid dtyp.SID) error {
		if mechanism != "ntlm" || cfg.NTLM != NTLMLocal {
			return nil
		}
		a, err := store.AccountBySID(ctx, sid)
		if errors.Is(err, keystore.ErrNoAccount) || err == nil && a.Disabled {
			return errRevoked
		}
		return err
	}
}
