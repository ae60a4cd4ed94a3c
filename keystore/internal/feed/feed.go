// Package feed tells the followers of an in-process backend which names have
// changed, without ever holding up the writer.
package feed

import (
	"context"
	"errors"
	"sync"
)

// ErrClosed is what Follow returns after Close.
var ErrClosed = errors.New("feed: closed")

// maxPending bounds what is kept for a follower that lags behind; beyond it
// the follower is told that anything may have changed.
const maxPending = 1024

// Feed passes names from writers to followers. The zero Feed is ready.
type Feed struct {
	mu        sync.Mutex
	followers map[*follower]struct{}
	closed    bool
}

// follower is what one call of Follow has still to report, guarded by Feed.mu.
type follower struct {
	wake    chan struct{} // holds one token when there is something to do
	pending map[string]struct{}
	all     bool
}

// Publish reports name to all followers. It does not wait for them.
func (f *Feed) Publish(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for w := range f.followers {
		if len(w.pending) < maxPending {
			w.pending[name] = struct{}{}
		} else {
			w.all = true
		}
		w.signal()
	}
}

// Follow calls changed with "" at once and wherever names were dropped for
// want of room, and with each name published since. It returns when ctx is
// done or the feed is closed.
func (f *Feed) Follow(ctx context.Context, changed func(name string)) error {
	w := &follower{wake: make(chan struct{}, 1), pending: make(map[string]struct{}), all: true}
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return ErrClosed
	}
	if f.followers == nil {
		f.followers = make(map[*follower]struct{})
	}
	f.followers[w] = struct{}{}
	w.signal()
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		delete(f.followers, w)
		f.mu.Unlock()
	}()

	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.wake:
		}
		names, all, closed := f.take(w)
		if closed {
			return ErrClosed
		}
		if all {
			changed("")
			continue
		}
		for name := range names {
			changed(name)
		}
	}
}

// take empties what is pending for w.
func (f *Feed) take(w *follower) (names map[string]struct{}, all, closed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	names, all = w.pending, w.all
	w.pending, w.all = make(map[string]struct{}), false
	return names, all, f.closed
}

// Close ends every Follow, now and later.
func (f *Feed) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	for w := range f.followers {
		w.signal()
	}
}

func (w *follower) signal() {
	select {
	case w.wake <- struct{}{}:
	default: // a token is there already
	}
}
