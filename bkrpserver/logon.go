package bkrpserver

import (
	"context"
	"encoding/asn1"
	"errors"
	"fmt"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/dcerpc"
	"github.com/seed05845750/bkrp/internal/gss"
	"github.com/seed05845750/bkrp/internal/gss/ntlm"
	"github.com/seed05845750/bkrp/internal/gss/spnego"
	"github.com/seed05845750/bkrp/keystore"
)

// logon is how callers prove who they are, to SMB and to RPC.
type logon struct {
	ntlm   gss.Acceptor
	spnego *spnego.Acceptor
}

func newLogon(cfg *Config) (*logon, error) {
	store := cfg.Service.Store
	domain := store.Domain()
	computer := cfg.computerName()
	l := &logon{ntlm: ntlm.NewAcceptor(ntlm.Config{
		Source:          ntlm.LocalSource(lookupAccount(store), domain.NetBIOSName, domain.DNSName),
		NetBIOSDomain:   domain.NetBIOSName,
		DNSDomain:       domain.DNSName,
		NetBIOSComputer: computer,
		DNSComputer:     computer + "." + domain.DNSName,
		RequireMIC:      cfg.RequireMIC,
		Log:             cfg.logger(),
	})}
	var err error
	l.spnego, err = spnego.NewAcceptor(spnego.Mechanism{
		OIDs:     []asn1.ObjectIdentifier{spnego.NTLM()},
		Acceptor: l.ntlm,
	})
	return l, err
}

// rpc is the acceptors by the authentication type of a bind.
func (l *logon) rpc() map[dcerpc.AuthType]gss.Acceptor {
	return map[dcerpc.AuthType]gss.Acceptor{
		dcerpc.AuthSPNEGO: l.spnego,
		dcerpc.AuthNTLM:   l.ntlm,
	}
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

// vouchFor tells of a SID that logged on by an account of the store whether
// that account may still do so: a connection can outlive it. The store answers
// from memory. A changed password does not end what was logged on before.
func vouchFor(store *keystore.Store) func(context.Context, dtyp.SID) error {
	return func(ctx context.Context, sid dtyp.SID) error {
		a, err := store.AccountBySID(ctx, sid)
		if errors.Is(err, keystore.ErrNoAccount) || err == nil && a.Disabled {
			return errRevoked
		}
		return err
	}
}

// vouched has every call of an interface refused whose caller is no longer
// vouched for.
func vouched(i dcerpc.Interface, vouch func(context.Context, dtyp.SID) error) dcerpc.Interface {
	handle := i.Handle
	i.Handle = func(ctx context.Context, c *dcerpc.Call) ([]byte, error) {
		if err := vouch(ctx, c.Identity.SID); errors.Is(err, errRevoked) {
			return nil, dcerpc.FaultAccessDenied
		} else if err != nil {
			return nil, err
		}
		return handle(ctx, c)
	}
	return i
}
