package dclocator

import (
	"context"
	"sync"
	"time"
)

// race runs try on the items, one after the other: each begins apart after the
// one before, or at once when all that began have failed. The first success
// wins and ends those that still run; race returns when they have.
func race[I, O any](ctx context.Context, items []I, apart time.Duration, try func(context.Context, I) (O, bool)) (won O, ok bool) {
	ctx, cancel := context.WithCancelCause(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel(errNotNeeded)
	type result struct {
		value O
		ok    bool
	}
	results := make(chan result, len(items))
	next := time.NewTimer(0)
	defer next.Stop()
	begun, ended := 0, 0
	for ended < len(items) {
		var begin <-chan time.Time
		if begun < len(items) {
			begin = next.C
		}
		select {
		case <-ctx.Done():
			return won, false
		case <-begin:
			item := items[begun]
			begun++
			running.Go(func() {
				value, ok := try(ctx, item)
				results <- result{value, ok}
			})
			next.Reset(apart)
		case r := <-results:
			ended++
			if r.ok {
				return r.value, true
			}
			if begun == ended {
				next.Reset(0)
			}
		}
	}
	return won, false
}
