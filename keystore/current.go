package keystore

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
)

const (
	// creationTime bounds the making and writing of a key, which goes on when
	// the caller who needed it first has gone: otherwise impatient callers
	// would leave a key behind each and never get a current one.
	creationTime = 2 * time.Minute
	// pointerAttempts bounds how often a pointer is read and swapped again
	// when others change it at the same time.
	pointerAttempts = 16
)

// settle reads the current key, or creates one where there is definitely none
// ([MS-BKRP] 3.1.4.1.1 and 3.1.4.1.3, A-36 to A-38). The caller has the turn
// on the pointer.
func (r *ring[K]) settle(ctx context.Context) (K, error) {
	k, rev, err := r.readCurrent(ctx)
	if !definitelyNone(err) {
		return k, err
	}
	if rev != 0 {
		r.store.log.Error("current key is not usable; making a new one and keeping the old objects",
			"pointer", r.pointer, "err", err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), creationTime)
	defer cancel()
	return r.replace(ctx, rev)
}

// definitelyNone reports whether err means that there is no usable key, and
// not just that the store cannot tell.
func definitelyNone(err error) bool {
	return errors.Is(err, ErrNoKey) || errors.Is(err, ErrMalformedKey)
}

// replace makes a key and points to it, if the pointer is still at rev.
//
// The key is durable before the pointer to it is written, and both are before
// the key is returned. Of several stores that do this at the same moment one
// swaps the pointer; the others find its key when they look again, and the
// keys they made stay behind unused. So does one whose own swap was not answered.
func (r *ring[K]) replace(ctx context.Context, rev Revision) (K, error) {
	var none K
	fresh, err := r.add(ctx)
	if err != nil {
		return none, err
	}
	guid := fresh.GUID()
	for range pointerAttempts {
		_, err = r.store.vault.swap(ctx, r.pointer, rev, guid[:])
		if err == nil {
			r.store.log.Info("made a new current key", "pointer", r.pointer, "key", guid)
			r.forget(r.pointer)
			return fresh, nil
		}
		// Also where nobody can say whether it was swapped, the key that it leads
		// to is the current one.
		theirs, now, readErr := r.readCurrent(ctx)
		switch {
		case readErr == nil:
			return theirs, nil
		case !errors.Is(err, ErrConflict):
			return none, err
		case !definitelyNone(readErr):
			return none, readErr
		}
		rev = now
	}
	return none, fmt.Errorf("settling %s: %w", r.pointer, ErrConflict)
}

// add makes a new key and writes it, without making it the current one.
func (r *ring[K]) add(ctx context.Context) (K, error) {
	var none K
	k, secret, err := r.create(ctx)
	if err != nil {
		return none, fmt.Errorf("making a key: %w", err)
	}
	defer clear(secret)
	if err := ctx.Err(); err != nil {
		return none, err
	}
	if _, err := r.store.vault.swap(ctx, keySecret(k.GUID()), 0, secret); err != nil {
		return none, err
	}
	return r.dress(k.GUID(), k, KeyActive), r.store.born(ctx, k.GUID())
}

// rotate makes a new key and makes it the current one.
func (r *ring[K]) rotate(ctx context.Context) (K, error) {
	var none K
	release, err := r.turns.take(ctx, r.pointer)
	if err != nil {
		return none, err
	}
	defer release()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), creationTime)
	defer cancel()
	k, err := r.add(ctx)
	if err != nil {
		return none, err
	}
	if err := r.point(ctx, k.GUID(), always); err != nil {
		return none, err
	}
	return k, nil
}

// always lets a pointer be written in any case.
func always(context.Context) error { return nil }

// setCurrent makes an existing key the current one, while holds gives no error.
func (r *ring[K]) setCurrent(ctx context.Context, guid dtyp.GUID, holds func(context.Context) error) error {
	if _, err := r.key(ctx, guid); err != nil {
		return err
	}
	release, err := r.turns.take(ctx, r.pointer)
	if err != nil {
		return err
	}
	defer release()
	if err := r.store.checkActive(ctx, guid); err != nil {
		return err
	}
	before, _, err := r.store.vault.get(ctx, r.pointer)
	if err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrCorrupt) {
		return err
	}
	if err := r.point(ctx, guid, holds); err != nil {
		return err
	}
	// See SetKeyState: of the two that cross each other one sees it.
	err = r.store.checkActive(ctx, guid)
	if errors.Is(err, ErrKeyState) && len(before) == dtyp.GUIDSize {
		return errors.Join(err, r.point(ctx, dtyp.GUID(before), always))
	}
	return err
}

// point writes the pointer, whatever it was, while holds gives no error; of two
// who do so at the same time the later one wins. The caller has the turn on the
// pointer, and the key is durable.
func (r *ring[K]) point(ctx context.Context, guid dtyp.GUID, holds func(context.Context) error) error {
	err := r.store.vault.putWhile(ctx, r.pointer, guid[:], holds)
	r.forget(r.pointer) // also after an error: the pointer may have been written
	if err != nil {
		return err
	}
	r.store.log.Info("changed the current key", "pointer", r.pointer, "key", guid)
	return nil
}

// insert writes a key that comes from elsewhere. The same key again is no
// error; another one of the same GUID is ErrKeyExists. What is damaged in its place
// is replaced: it is no key any more, and this is the way to have it back.
func (r *ring[K]) insert(ctx context.Context, guid dtyp.GUID, secret []byte, makeCurrent bool) (K, error) {
	var none K
	name := keySecret(guid)
	_, err := r.store.vault.swap(ctx, name, 0, secret)
	if errors.Is(err, ErrConflict) {
		err = r.compare(ctx, guid, secret)
	}
	if err != nil {
		return none, err
	}
	if makeCurrent {
		if err := r.setCurrent(ctx, guid, always); err != nil {
			return none, err
		}
	}
	return r.key(ctx, guid)
}

// compare says whether a key that is there is the one given, and puts that in the
// place of one that is damaged.
func (r *ring[K]) compare(ctx context.Context, guid dtyp.GUID, secret []byte) error {
	name := keySecret(guid)
	var old []byte
	sealed, rev, err := r.store.vault.backend.Get(ctx, name)
	damaged := errors.Is(err, ErrCorrupt)
	if err == nil {
		old, err = r.store.vault.openNewer(ctx, name, sealed)
		defer clear(old)
		// A restore leaves nothing of what was damaged in the backup.
		damaged = errors.Is(err, errDamaged) || err == nil && len(old) == 0
	}
	switch {
	case damaged && rev != 0:
	case err != nil:
		return fmt.Errorf("looking at %s, which is there: %w", name, err)
	case subtle.ConstantTimeCompare(old, secret) != 1:
		return fmt.Errorf("%w: %v", ErrKeyExists, guid)
	default:
		return nil
	}
	_, err = r.store.vault.swap(ctx, name, rev, secret)
	r.forget(name)
	if err == nil {
		r.store.log.Warn("a key that was damaged has been replaced by an imported one", "key", guid)
	}
	return err
}
