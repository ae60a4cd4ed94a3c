package keystore

import (
	"context"
	"runtime"
	"time"
)

// wipeAfter overwrites the octets of a key when nobody can reach the key any
// more: it was dropped from memory, and the last call that used it has ended.
// No call waits for that, and none finds its key gone.
func wipeAfter[K any, O interface{ Clear() }](key *K, octets O) {
	runtime.AddCleanup(key, func(o O) { o.Clear() }, octets)
}

// wipeDelay gathers the keys that are dropped at about the same time.
const wipeDelay = 200 * time.Millisecond

// dropped notes that a key has been dropped from memory. It does not block.
func (s *Store) dropped() {
	select {
	case s.drops <- struct{}{}:
	default:
	}
}

// wipe has the collector find the keys that were dropped, until ctx is done:
// left to itself it may take its time.
func (s *Store) wipe(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.drops:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wipeDelay):
			runtime.GC()
		}
	}
}
