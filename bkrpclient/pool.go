package bkrpclient

import (
	"context"
	"errors"
	"sync"
	"time"
)

// pool keeps the connections of a Domain between calls: those to one domain
// controller, the one that was used last.
type pool struct {
	calls chan struct{} // holds a token for each call that may run
	idle  time.Duration // how long a connection is kept

	mu      sync.Mutex // guards what follows
	closed  bool
	dc      string // whose connections are kept
	kept    []*kept
	closing sync.WaitGroup // of connections that are kept no longer
}

// kept is a connection that waits for its next call.
type kept struct {
	client *Client
	dc     string
	timer  *time.Timer
}

func newPool(most int, idle time.Duration) *pool {
	return &pool{calls: make(chan struct{}, most), idle: idle}
}

// enter waits until one more call may run; leave says that it has ended.
func (p *pool) enter(ctx context.Context) error {
	select {
	case p.calls <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (p *pool) leave() { <-p.calls }

// take gives a kept connection to dc, or to whichever is used if dc is "", nil
// if there is none.
func (p *pool) take(dc string) *kept {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.kept) == 0 || dc != "" && p.dc != dc {
		return nil
	}
	k := p.kept[len(p.kept)-1]
	p.kept = p.kept[:len(p.kept)-1]
	k.timer.Stop()
	return k
}

// use has connections to dc kept from now on, and closes those to others. It does
// not wait for that: the server that they lead to may be the one that failed.
func (p *pool) use(dc string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dc == dc {
		return
	}
	for _, k := range p.kept {
		k.timer.Stop()
		p.closing.Go(func() { k.client.Close() })
	}
	p.kept, p.dc = nil, dc
}

// put keeps a connection for the next call, if there is to be one.
func (p *pool) put(k *kept) {
	p.mu.Lock()
	keep := !p.closed && k.dc == p.dc && len(p.kept) < cap(p.calls)
	if keep {
		k.timer = time.AfterFunc(p.idle, func() { p.expire(k) })
		p.kept = append(p.kept, k)
	}
	p.mu.Unlock()
	if !keep {
		k.client.Close()
	}
}

// expire closes a connection that nobody has taken in time.
func (p *pool) expire(k *kept) {
	p.mu.Lock()
	for i := range p.kept {
		if p.kept[i] == k {
			p.kept = append(p.kept[:i], p.kept[i+1:]...)
			p.closing.Add(1)
			p.mu.Unlock()
			k.client.Close()
			p.closing.Done()
			return
		}
	}
	p.mu.Unlock()
}

// close closes what is kept, and keeps nothing more.
func (p *pool) close() error {
	p.mu.Lock()
	all := p.kept
	p.kept, p.closed = nil, true
	p.mu.Unlock()
	err := closeAll(all)
	p.closing.Wait()
	return err
}

func (p *pool) isClosed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}

func closeAll(all []*kept) error {
	var errs []error
	for _, k := range all {
		k.timer.Stop()
		errs = append(errs, k.client.Close())
	}
	return errors.Join(errs...)
}
