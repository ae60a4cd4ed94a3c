package hsm

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	// renewEvery is the least time between two set-ups of a library, which
	// interrupt all who use it.
	renewEvery = 5 * time.Second
	// drainTime is how long a set-up waits for the calls under way.
	drainTime = 2 * time.Second
)

// modules are the libraries in use, by their paths. They are global because
// PKCS#11 is: a library is initialised once in a process (C_Initialize), for
// all of its users, and whoever finalises it takes it from all of them.
var modules = struct {
	sync.Mutex
	byPath map[string]*module
}{byPath: make(map[string]*module)}

// module is one library in this process. A library finds tokens that were not
// there before, or have been away, for certain only when it is initialised anew,
// and nobody may be inside it then.
type module struct {
	path  string
	lib   library
	users int // under the lock of modules

	renewEvery, drainTime time.Duration

	mu    sync.Mutex
	calls int // into the library now
	// drained is closed when the last of the calls has come back; nil unless
	// somebody waits for that.
	drained chan struct{}
	// renewed is closed when the library has been set up again; nil unless it is
	// being so.
	renewed    chan struct{}
	generation uint64 // grows with each set-up, after which sessions are void
	last       time.Time
}

// acquireModule loads and initialises a library, unless this process has done so.
func acquireModule(path string, load func(path string) (library, error)) (*module, error) {
	modules.Lock()
	defer modules.Unlock()
	if m := modules.byPath[path]; m != nil {
		m.users++
		return m, nil
	}
	lib, err := load(path)
	if err != nil {
		return nil, err
	}
	if err := lib.initialize(); err != nil {
		return nil, fmt.Errorf("%w: initialising %s: %w", ErrUnavailable, path, err)
	}
	m := &module{path: path, lib: lib, users: 1, renewEvery: renewEvery, drainTime: drainTime}
	modules.byPath[path] = m
	return m, nil
}

// release finalises the library if nobody else uses it. A library that calls
// have not come back from is left as it is.
func (m *module) release() error {
	modules.Lock()
	defer modules.Unlock()
	m.users--
	if m.users > 0 {
		return nil
	}
	m.mu.Lock()
	calls := m.calls
	m.mu.Unlock()
	if calls > 0 {
		return fmt.Errorf("%w: %d calls into %s have not come back", ErrUnavailable, calls, m.path)
	}
	delete(modules.byPath, m.path)
	return m.lib.finalize()
}

// enter begins a call into the library, which leave ends.
func (m *module) enter(ctx context.Context) (generation uint64, err error) {
	for {
		m.mu.Lock()
		renewed := m.renewed
		if renewed == nil {
			m.calls++
			generation = m.generation
			m.mu.Unlock()
			return generation, nil
		}
		m.mu.Unlock()
		select {
		case <-renewed:
		case <-ctx.Done():
			return 0, fmt.Errorf("waiting for %s to be set up again: %w", m.path, ctx.Err())
		}
	}
}

func (m *module) leave() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls--
	if m.calls == 0 && m.drained != nil {
		close(m.drained)
		m.drained = nil
	}
}

// errNotRenewed says that a library has not been set up again.
var errNotRenewed = errors.New("hsm: library is not set up again now")

// renew sets the library up again, unless that has been done since the given
// generation. It is errNotRenewed where it has been tried a moment ago, or calls
// do not come back.
func (m *module) renew(ctx context.Context, seen uint64) error {
	m.mu.Lock()
	if m.generation != seen || m.renewed != nil {
		m.mu.Unlock()
		return nil // whoever enters next waits for it
	}
	if !m.last.IsZero() && time.Since(m.last) < m.renewEvery {
		m.mu.Unlock()
		return errNotRenewed
	}
	m.last = time.Now()
	renewed := make(chan struct{})
	m.renewed = renewed
	var drained chan struct{}
	if m.calls > 0 {
		drained = make(chan struct{})
		m.drained = drained
	}
	m.mu.Unlock()

	err := m.drain(ctx, drained)
	set := err == nil
	if set {
		m.lib.finalize() // an error means that it is not initialised
		err = m.lib.initialize()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if set {
		m.generation++
	}
	m.renewed, m.drained = nil, nil
	close(renewed)
	return err
}

func (m *module) drain(ctx context.Context, drained <-chan struct{}) error {
	if drained == nil {
		return nil
	}
	limit := time.NewTimer(m.drainTime)
	defer limit.Stop()
	select {
	case <-drained:
		return nil
	case <-limit.C:
	case <-ctx.Done():
	}
	return errNotRenewed
}
