package lsastore

import (
	"context"
	"errors"
	"time"

	"github.com/seed05845750/bkrp/keystore"
)

// Watch implements keystore.Backend: it reads the two pointers at the interval
// of Config.Poll (S-3.1.6-01). Keys are written once, under names that are new,
// so that there is nothing to tell of them.
func (b *Backend) Watch(ctx context.Context, changed func(name string)) error {
	pointers := []string{keystore.CurrentClientSecret, keystore.CurrentServerSecret}
	seen := make(map[string]keystore.Revision, len(pointers))
	tick := time.NewTicker(b.poll)
	defer tick.Stop()
	for _, name := range pointers {
		rev, err := b.revisionOf(ctx, name)
		if err != nil {
			// Whoever watches tries again at once, and logs each time: not
			// more often than there would be something to see.
			select {
			case <-ctx.Done():
			case <-b.life.Done():
			case <-tick.C:
			}
			return err
		}
		seen[name] = rev
	}
	changed(keystore.AnyName)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-b.life.Done():
			return keystore.ErrClosed
		case <-tick.C:
		}
		for _, name := range pointers {
			rev, err := b.revisionOf(ctx, name)
			if err != nil {
				return err
			}
			if rev != seen[name] {
				seen[name] = rev
				changed(name)
			}
		}
	}
}

// revisionOf is the revision of an entry, 0 if it is absent. A pointer without
// a value counts as one of its own: who needs it is told so.
func (b *Backend) revisionOf(ctx context.Context, name string) (keystore.Revision, error) {
	const noValue = ^keystore.Revision(0)
	_, rev, err := b.Get(ctx, name)
	switch {
	case errors.Is(err, keystore.ErrNotFound):
		return 0, nil
	case errors.Is(err, ErrNoValue):
		return noValue, nil
	}
	return rev, err
}
