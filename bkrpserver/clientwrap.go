package bkrpserver

import (
	"context"
	"fmt"
	"runtime"

	"github.com/seed05845750/bkrp"
)

// unwrapClient opens a Client-Side-Wrapped-Secret for its owner (3.1.4.1.4).
// From the key look-up to the comparison of the SIDs there is one error and
// one path; bkrp.ClientWrapped.Open keeps that promise.
func (s *Service) unwrapClient(ctx context.Context, ev *Event, in []byte) (*bkrp.ClientSecret, error) {
	if s.ClientWrap == Off {
		return nil, errDisabled
	}
	blob, err := bkrp.ParseClientWrapped(in)
	if err != nil {
		return nil, err
	}
	ev.Key = blob.KeyGUID
	key, err := s.Store.ClientWrapKey(ctx, blob.KeyGUID)
	if err != nil {
		return nil, fmt.Errorf("opening ClientWrap key %v: %w", blob.KeyGUID, err)
	}
	defer runtime.KeepAlive(key) // and with it the rejection key
	ev.KeyState = key.State()
	secret, err := blob.Open(key.DecryptRaw, key.RejectionKey())
	if err != nil {
		return nil, err
	}
	ev.Owner = secret.SID
	if secret.SID != ev.Caller.SID {
		secret.Clear()
		return nil, errOtherOwner
	}
	s.unwrapped(ctx, ev, key)
	return secret, nil
}
