package main

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/keyform"
	"github.com/seed05845750/bkrp/keystore"
)

// keyAudit writes the audit trail of what administrators do.
type keyAudit struct {
	// Log keeps every record, whatever its level.
	Log *slog.Logger
	// UID is whose request it is: the user id of the control socket's peer, or of
	// this process; -1 if the system does not tell.
	UID int
}

// record puts one key on the trail. An error means that nothing may be done, or
// handed out, that would not be accounted for.
func (a *keyAudit) record(ctx context.Context, req *adminRequest, guid dtyp.GUID, current bool, failure error) error {
	level, status, reason := slog.LevelInfo, "ok", ""
	if failure != nil {
		level, status, reason = slog.LevelWarn, "refused", failure.Error()
	}
	r := slog.NewRecord(time.Now(), level, "audit", 0)
	r.AddAttrs(slog.String("action", string(req.Verb)), slog.Int("uid", a.UID), slog.String("key", guid.String()),
		slog.String("format", req.Form), slog.Bool("current", current), slog.String("status", status))
	if reason != "" {
		r.AddAttrs(slog.String("reason", reason))
	}
	if err := a.Log.Handler().Handle(context.WithoutCancel(ctx), r); err != nil {
		return fmt.Errorf("the audit trail could not be written: %w", err)
	}
	return nil
}

// administerImport puts keys into the store, and reads each again before it says
// that it did. No key is written before all have been checked.
func administerImport(ctx context.Context, store *keystore.Store, req *adminRequest, audit *keyAudit) ([]*keyform.Key, error) {
	if len(req.Keys) == 0 {
		return nil, errors.New("no key in the request")
	}
	for _, k := range req.Keys {
		if k == nil {
			return nil, errors.New("no key in the request")
		}
		if err := k.Check(); err != nil {
			return nil, fmt.Errorf("key %v: %w", k.GUID, errors.Join(err, audit.record(ctx, req, k.GUID, k.Current, err)))
		}
	}
	var done []*keyform.Key
	for _, k := range req.Keys {
		err := importKey(ctx, store, k)
		if err = errors.Join(err, audit.record(ctx, req, k.GUID, k.Current, err)); err != nil {
			return nil, fmt.Errorf("key %v: %w (%d of %d keys are in the store)", k.GUID, err, len(done), len(req.Keys))
		}
		done = append(done, &keyform.Key{GUID: k.GUID, Kind: k.Kind, Current: k.Current})
	}
	return done, nil
}

func importKey(ctx context.Context, store *keystore.Store, k *keyform.Key) error {
	var err error
	if k.Kind == keyform.ClientWrap {
		err = importKeyPair(ctx, store, k)
	} else {
		err = importServerKey(ctx, store, k)
	}
	if errors.Is(err, keystore.ErrKeyLocked) {
		err = fmt.Errorf("%w: it is in the store already (bkrpd keys activate)", err)
	}
	if err != nil {
		return err
	}
	got, err := store.Secret(ctx, keystore.SecretPrefix+k.GUID.String())
	if err != nil {
		return fmt.Errorf("reading the key again: %w", err)
	}
	defer clear(got)
	if subtle.ConstantTimeCompare(got, k.Secret) != 1 && !samePublicKey(got, k.Secret) {
		return errors.New("the store does not give back the key that was put into it")
	}
	return nil
}

// samePublicKey says whether two secrets are of one RSA key, whose private halves
// bkrp.ParseKeyPair proves. The certificates may differ: the store keeps the one
// that it had.
func samePublicKey(a, b []byte) bool {
	one, errA := bkrp.ParseKeyPair(a)
	other, errB := bkrp.ParseKeyPair(b)
	if errA == nil {
		defer one.Clear()
	}
	if errB == nil {
		defer other.Clear()
	}
	return errA == nil && errB == nil && one.GUID() == other.GUID() && one.PublicKey().Equal(other.PublicKey())
}

func importKeyPair(ctx context.Context, store *keystore.Store, k *keyform.Key) error {
	pair, err := bkrp.ParseKeyPair(k.Secret)
	if err != nil {
		return err
	}
	defer pair.Clear()
	_, err = store.ImportKeyPair(ctx, pair, k.Current)
	return err
}

func importServerKey(ctx context.Context, store *keystore.Store, k *keyform.Key) error {
	key, err := bkrp.ParseServerKey(k.Secret)
	if err != nil {
		return err
	}
	defer key.Clear()
	_, err = store.ImportServerKey(ctx, k.GUID, key, k.Current)
	return err
}

// administerExport reads keys out of the store: those named, or all. Each is on
// the audit trail before any is handed out. Of all of them, those in a token,
// which nobody can export, are left; they do not keep the others in.
func administerExport(ctx context.Context, store *keystore.Store, req *adminRequest, audit *keyAudit) (keys []*keyform.Key, left []dtyp.GUID, err error) {
	defer func() {
		if err != nil {
			clearKeys(keys)
			keys, left = nil, nil
		}
	}()
	guids, all := req.GUIDs, len(req.GUIDs) == 0
	if all {
		if guids, err = storedKeys(ctx, store); err != nil {
			return nil, nil, err
		}
	}
	current, err := currentKeys(ctx, store)
	if err != nil {
		return nil, nil, err
	}
	for _, guid := range guids {
		k, err := exportKey(ctx, store, guid)
		auditErr := audit.record(ctx, req, guid, current[guid], err)
		if all && auditErr == nil && errors.Is(err, keystore.ErrNotExportable) {
			left = append(left, guid)
			continue
		}
		if err != nil || auditErr != nil {
			k.Clear()
			return keys, left, fmt.Errorf("key %v: %w", guid, errors.Join(err, auditErr))
		}
		k.Current = current[guid]
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, nil, fmt.Errorf("%w: every key of the store is in a token", keystore.ErrNotExportable)
	}
	return keys, left, nil
}

func exportKey(ctx context.Context, store *keystore.Store, guid dtyp.GUID) (*keyform.Key, error) {
	secret, err := store.Secret(ctx, keystore.SecretPrefix+guid.String())
	if errors.Is(err, keystore.ErrNotFound) {
		return nil, keystore.ErrNoKey
	}
	if err != nil {
		return nil, err
	}
	k := &keyform.Key{GUID: guid, Secret: secret}
	if err := k.Check(); err != nil {
		k.Clear()
		return nil, err
	}
	return k, nil
}

// storedKeys are the GUIDs of all keys.
func storedKeys(ctx context.Context, store *keystore.Store) (guids []dtyp.GUID, err error) {
	names, err := store.SecretNames(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if guid, err := dtyp.ParseGUID(name[len(keystore.SecretPrefix):]); err == nil {
			guids = append(guids, guid)
		}
	}
	if len(guids) == 0 {
		return nil, errors.New("the store has no keys yet")
	}
	return guids, nil
}

// currentKeys are those that the pointers name, whether or not they are there.
func currentKeys(ctx context.Context, store *keystore.Store) (map[dtyp.GUID]bool, error) {
	current := make(map[dtyp.GUID]bool)
	for _, pointer := range []string{keystore.CurrentClientSecret, keystore.CurrentServerSecret} {
		value, err := store.Secret(ctx, pointer)
		if errors.Is(err, keystore.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if len(value) == dtyp.GUIDSize {
			current[dtyp.GUID(value)] = true
		}
	}
	return current, nil
}
