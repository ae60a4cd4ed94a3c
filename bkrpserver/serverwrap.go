package bkrpserver

import (
	"context"
	"errors"
	"fmt"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/keystore"
)

// 3.1.4.1.1 BACKUPKEY_BACKUP_GUID
func (s *Service) backup(ctx context.Context, ev *Event, in []byte) ([]byte, error) {
	if s.ServerWrap != On {
		return nil, errDisabled
	}
	if len(in) == 0 {
		return nil, errEmptySecret
	}
	key, err := s.Store.CurrentServerWrapKey(ctx)
	if err != nil {
		return nil, fmt.Errorf("taking the current ServerWrap key: %w", err)
	}
	ev.Key, ev.Owner = key.GUID(), ev.Caller.SID
	blob, err := bkrp.WrapServer(derive(key, s.SrvKey), key.GUID(), ev.Caller.SID, in)
	if err != nil {
		return nil, err
	}
	key.Used(ev.Caller.SID, keystore.UseWrap)
	return blob, nil
}

// unwrapServer opens a ServerWrap secret for its owner (3.1.4.1.2.1). The
// secret may have been wrapped under either form of SrvKey: the
// configured one is tried first, and the MAC decides.
func (s *Service) unwrapServer(ctx context.Context, ev *Event, in []byte) ([]byte, error) {
	if s.ServerWrap == Off {
		return nil, errDisabled
	}
	blob, err := bkrp.ParseServerWrapped(in)
	if err != nil {
		return nil, err
	}
	ev.Key = blob.KeyGUID
	key, err := s.Store.ServerWrapKey(ctx, blob.KeyGUID)
	if err != nil {
		return nil, fmt.Errorf("opening ServerWrap key %v: %w", blob.KeyGUID, err)
	}
	ev.KeyState = key.State()
	owner, secret, err := blob.Open(derive(key, s.SrvKey))
	if errors.Is(err, bkrp.ErrServerMAC) {
		owner, secret, err = blob.Open(derive(key, s.SrvKey.Other()))
	}
	if err != nil {
		return nil, err
	}
	ev.Owner = owner
	if owner != ev.Caller.SID {
		clear(secret)
		return nil, errOtherOwner
	}
	s.unwrapped(ctx, ev, key)
	return secret, nil
}

// derive is the key's operation, HMAC-SHA1 of a salt under SrvKey in one form.
func derive(key *keystore.ServerWrapKey, form bkrp.SrvKeyForm) func(salt []byte) [20]byte {
	return func(salt []byte) [20]byte { return key.Derive(form, salt) }
}
