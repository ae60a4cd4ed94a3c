package bkrpserver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/dcerpc"
	"github.com/seed05845750/bkrp/internal/gss"
	"github.com/seed05845750/bkrp/internal/lsarpc"
	"github.com/seed05845750/bkrp/internal/smb2"
	"github.com/seed05845750/bkrp/keystore"
)

// The pipe of the LSA and the name it gives itself in binds ([MS-LSAD] 2.1).
const (
	pipeLSA        = "lsarpc"
	pipeLSAAddress = `\PIPE\lsass`
	// lsaMaxRequest is more than any call that is served has to say.
	lsaMaxRequest = 64 << 10
)

// lsaPipe serves the LSA calls around BackupKey from the same store.
func lsaPipe(cfg *Config, logon *logon) smb2.PipeFunc {
	store := cfg.Service.Store
	domain := store.Domain()
	return servePipe(pipeLSAAddress, &dcerpc.Server{
		Interfaces: []dcerpc.Interface{lsarpc.New(lsarpc.Config{
			Domain: lsarpc.Domain{DNSName: domain.DNSName, NetBIOS: domain.NetBIOSName, SID: domain.SID},
			AccountByName: func(ctx context.Context, name string) (lsarpc.Account, error) {
				return lsaAccount(store.Account(ctx, name))
			},
			AccountBySID: func(ctx context.Context, sid dtyp.SID) (lsarpc.Account, error) {
				return lsaAccount(store.AccountBySID(ctx, sid))
			},
			Secret: func(ctx context.Context, name string) ([]byte, error) {
				value, err := store.SecretInUse(ctx, name)
				if errors.Is(err, keystore.ErrNotFound) || errors.Is(err, keystore.ErrNotExportable) || errors.Is(err, keystore.ErrKeyLocked) {
					return nil, fmt.Errorf("%w: %w", lsarpc.ErrNoSecret, err)
				}
				return value, err
			},
			Administrators:    cfg.Administrators,
			RequireEncryption: cfg.RequireSecretEncryption,
			Vouch:             lsaVouch(cfg.Service.vouch),
			Audit:             lsaAudit(cfg.Service),
			Log:               cfg.logger(),
		})},
		Acceptors: logon.rpc(),
		Limits:    dcerpc.Limits{MaxRequest: lsaMaxRequest},
		Log:       cfg.logger(),
	})
}

func lsaAccount(a keystore.Account, err error) (lsarpc.Account, error) {
	if errors.Is(err, keystore.ErrNoAccount) {
		return lsarpc.Account{}, fmt.Errorf("%w: %w", lsarpc.ErrNoAccount, err)
	}
	return lsarpc.Account{Name: a.Name, SID: a.SID}, err
}

// lsaVouch has the calls of those refused who are no longer vouched for.
func lsaVouch(vouch voucher) func(context.Context, gss.Identity) error {
	return func(ctx context.Context, caller gss.Identity) error {
		err := vouch(ctx, caller.Mechanism, caller.SID)
		if errors.Is(err, errRevoked) {
			return lsarpc.ErrRevoked
		}
		return err
	}
}

// lsaAudit puts each try to read a key as an LSA secret on the same trail as
// the calls of BackuprKey.
func lsaAudit(s *Service) func(context.Context, lsarpc.SecretEvent) error {
	return func(ctx context.Context, e lsarpc.SecretEvent) error {
		ev := &Event{
			Time:      time.Now(),
			Caller:    Caller{SID: e.Caller.SID, Domain: e.Caller.Domain, Name: e.Caller.Name, Mechanism: e.Caller.Mechanism},
			Operation: e.Operation,
			Secret:    e.Name,
		}
		if e.Remote != nil {
			ev.Caller.Address = e.Remote.String()
		}
		switch {
		case !e.Granted:
			ev.Status, ev.Reason = bkrp.StatusAccessDenied, e.Reason
		case !e.Found:
			ev.Status, ev.Reason = bkrp.StatusFileNotFound, "no such secret"
		}
		return s.audit(ctx, ev)
	}
}
