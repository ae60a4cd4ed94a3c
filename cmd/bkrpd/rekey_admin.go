package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed05845750/bkrp/keystore"
)

// resealTime is how long one request moves values, so that the command can say
// how far it has come, and the daemon can end. The command asks again.
const resealTime = 3 * time.Second

// kekEntry is how far a rekey has come.
type kekEntry struct {
	// KEKs open the store: one, or during a rekey the old and the next one.
	KEKs []string `json:"keks"`
	// Configured is which of them the configuration names now, -1 for none.
	Configured int `json:"configured"`
	// Moved is how many values one request moved to the newest data key, and
	// Left says that there are more.
	Moved int  `json:"moved,omitempty"`
	Left  bool `json:"left,omitempty"`
}

func rekeyStatus(ctx context.Context, store *keystore.Store, _ *lifeRequest) (*lifeResponse, error) {
	sealer, err := store.ConfiguredSealer(ctx)
	if err != nil {
		return nil, err
	}
	keks, err := store.KEKs(ctx)
	if err != nil {
		return nil, err
	}
	i, err := store.KEKIndex(ctx, sealer)
	if err != nil && !errors.Is(err, keystore.ErrWrongKEK) {
		return nil, err
	}
	return &lifeResponse{KEK: &kekEntry{KEKs: keks, Configured: i}}, nil
}

func beginRekey(ctx context.Context, store *keystore.Store, req *lifeRequest) (*lifeResponse, error) {
	var uri kekURI
	if err := uri.UnmarshalText([]byte(req.KEK)); err != nil {
		return nil, err
	}
	open := openKEK
	if req.Create {
		open = createKEK
	}
	next, err := open(ctx, &config{Seal: sealConfig{KEK: uri}, HSM: defaultHSMConfig()})
	if err != nil {
		return nil, err
	}
	// The store goes on with the old one until the configuration names this one.
	defer closeKEK(next)
	if err := store.BeginRekey(ctx, next); err != nil {
		return nil, err
	}
	return rekeyStatus(ctx, store, req)
}

// reseal moves values for a while.
func reseal(ctx context.Context, store *keystore.Store, req *lifeRequest) (*lifeResponse, error) {
	limited, cancel := context.WithTimeout(ctx, resealTime)
	defer cancel()
	moved, err := store.Reseal(limited)
	left := err != nil && limited.Err() != nil && ctx.Err() == nil
	if err != nil && !left {
		return nil, fmt.Errorf("after %d values: %w", moved, err)
	}
	resp, err := rekeyStatus(ctx, store, req)
	if err != nil {
		return nil, err
	}
	resp.KEK.Moved, resp.KEK.Left = moved, left
	return resp, nil
}

func finishRekey(ctx context.Context, store *keystore.Store, req *lifeRequest) (*lifeResponse, error) {
	return endRekey(ctx, store, req, 1, "seal.kek of the configuration is still the old one, %s: set it to the new one on every server first, or give the change up by bkrpd rekey --abandon")
}

func abandonRekey(ctx context.Context, store *keystore.Store, req *lifeRequest) (*lifeResponse, error) {
	return endRekey(ctx, store, req, 0, "seal.kek of the configuration is already the new one, %s: set it back to the old one on every server first, or finish the change by bkrpd rekey --finish")
}

// endRekey has the KEK that the configuration names alone open the store. Of the
// two it has to be the one numbered want.
func endRekey(ctx context.Context, store *keystore.Store, req *lifeRequest, want int, other string) (*lifeResponse, error) {
	keep, err := store.ConfiguredSealer(ctx)
	if err != nil {
		return nil, err
	}
	keks, err := store.KEKs(ctx)
	if err != nil {
		return nil, err
	}
	i, err := store.KEKIndex(ctx, keep)
	switch {
	case err != nil:
		return nil, fmt.Errorf("seal.kek of the configuration: %w", err)
	case len(keks) == 1:
		return nil, fmt.Errorf("no change of the key-encryption key is under way: the store opens by %s alone", keks[0])
	case i != want:
		return nil, fmt.Errorf(other, keep.KeyID())
	}
	if err := store.FinishRekey(ctx, keep); err != nil {
		return nil, err
	}
	return rekeyStatus(ctx, store, req)
}
