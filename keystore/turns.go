package keystore

import (
	"context"
	"sync"
)

// turns lets one goroutine at a time work on a name, while others wait their
// turn for as long as their context lasts. It holds no more than the names
// that are being worked on. The zero turns is ready.
type turns struct {
	mu   sync.Mutex
	busy map[string]chan struct{} // closed when the turn ends
}

// take waits for the turn on name; release ends it.
func (t *turns) take(ctx context.Context, name string) (release func(), err error) {
	for {
		t.mu.Lock()
		done, busy := t.busy[name]
		if !busy {
			if t.busy == nil {
				t.busy = make(map[string]chan struct{})
			}
			done = make(chan struct{})
			t.busy[name] = done
			t.mu.Unlock()
			return func() {
				t.mu.Lock()
				delete(t.busy, name)
				t.mu.Unlock()
				close(done)
			}, nil
		}
		t.mu.Unlock()
		select {
		case <-done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
