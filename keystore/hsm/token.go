package hsm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// DefaultTimeout is how long the token may take for an operation.
const DefaultTimeout = 10 * time.Second

// Options are what a Token takes besides its URI. The zero Options are usable.
type Options struct {
	// Timeout is how long the token may take for an operation. Default:
	// DefaultTimeout. Making a key may take a minute in any case.
	Timeout time.Duration
	// Log is told when the token goes and comes back. Default: nothing is logged.
	Log *slog.Logger
}

// Token is a token of which one is logged in. It is safe for concurrent use. A
// token that goes away while the program runs makes errors that are
// ErrUnavailable, and is found again when it is back.
type Token struct {
	uri     URI
	timeout time.Duration
	log     *slog.Logger
	module  *module
	// permits has one element for each call under way, also for those that
	// nobody waits for any more.
	permits chan struct{}
	calls   sync.WaitGroup

	// opening is held while a session is opened, so that a wrong PIN is tried
	// once.
	opening sync.Mutex
	refused error // what the token said of the PIN

	mu     sync.Mutex
	closed bool
	idle   []session
	// objects are the handles of keys that have been found, which hold as long as
	// there are sessions.
	objects map[name]object
	away    bool // what the log has been told last
}

// session is one session of a token.
type session struct {
	handle     uint
	generation uint64 // of the module
}

// name is what a key is looked for by; "" is any.
type name struct{ label, id string }

// Open logs in to the token that a URI names. The error wraps ErrNotBuilt,
// ErrUnavailable or ErrPIN.
func Open(ctx context.Context, u URI, o Options) (*Token, error) {
	return open(ctx, u, o, loadLibrary)
}

func open(ctx context.Context, u URI, o Options, load func(path string) (library, error)) (*Token, error) {
	t := &Token{uri: u, timeout: o.Timeout, log: o.Log, objects: make(map[name]object)}
	if t.timeout <= 0 {
		t.timeout = DefaultTimeout
	}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	t.permits = make(chan struct{}, cmpOr(u.Sessions, DefaultSessions))
	waiting, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	m, err := bounded(waiting, func() (*module, error) { return acquireModule(u.Module, load) })
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", t.Name(), err)
	}
	t.module = m
	_, err = do(ctx, t, t.timeout, func(uint) (struct{}, error) { return struct{}{}, nil })
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening %w", err), t.Close())
	}
	return t, nil
}

func cmpOr(n, otherwise int) int {
	if n == 0 {
		return otherwise
	}
	return n
}

// Name names the token, as in pkcs11:token=bkrp.
func (t *Token) Name() string {
	return URI{Token: t.uri.Token, Serial: t.uri.Serial, Slot: t.uri.Slot}.Name()
}

// Close ends the sessions. It waits for calls under way as long as those may
// take.
func (t *Token) Close() error {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), t.timeout)
	defer cancel()
	_, err := bounded(ctx, func() (struct{}, error) {
		t.calls.Wait()
		if _, err := t.module.enter(ctx); err == nil {
			t.dropIdle()
			t.module.leave()
		}
		return struct{}{}, t.module.release()
	})
	if err != nil {
		return fmt.Errorf("closing %s: %w", t.Name(), err)
	}
	return nil
}

// bounded runs f and waits for it as long as ctx lasts. Past that f is left to
// itself.
func bounded[T any](ctx context.Context, f func() (T, error)) (T, error) {
	type outcome struct {
		value T
		err   error
	}
	done := make(chan outcome, 1)
	go func() {
		value, err := f()
		done <- outcome{value, err}
	}()
	select {
	case o := <-done:
		return o.value, o.err
	case <-ctx.Done():
		var none T
		return none, fmt.Errorf("%w: it does not answer: %w", ErrUnavailable, context.Cause(ctx))
	}
}

// do runs op with a session that is logged in, and waits for it as long as limit
// says. op is run again where the session or the token has gone; it does not
// write to anything that its caller reads, who may not be there any more.
func do[T any](ctx context.Context, t *Token, limit time.Duration, op func(session uint) (T, error)) (T, error) {
	var none T
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	select {
	case t.permits <- struct{}{}:
	case <-ctx.Done():
		return none, fmt.Errorf("%s: %w: all of its sessions are in use: %w", t.Name(), ErrUnavailable, ctx.Err())
	}
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		<-t.permits
		return none, fmt.Errorf("%s: %w: it was closed", t.Name(), ErrUnavailable)
	}
	t.calls.Add(1)
	t.mu.Unlock()
	value, err := bounded(ctx, func() (T, error) {
		defer t.calls.Done()
		defer func() { <-t.permits }()
		return attempts(ctx, t, op)
	})
	t.note(err)
	if err != nil && !definite(err) && !errors.Is(err, ErrUnavailable) {
		err = fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if err != nil {
		return none, fmt.Errorf("%s: %w", t.Name(), err)
	}
	return value, nil
}

// attempts runs op with the session at hand, with a new one, and with one of a
// library that was set up again. Nobody who sends ciphertexts can bring that
// about: every number below the modulus has a result.
func attempts[T any](ctx context.Context, t *Token, op func(session uint) (T, error)) (T, error) {
	for try := 1; ; try++ {
		value, generation, err := once(ctx, t, op)
		if err == nil || try == 3 || ctx.Err() != nil || definite(err) && !errors.Is(err, ErrNoKey) {
			return value, err
		}
		if try == 2 && t.module.renew(ctx, generation) != nil {
			return value, err
		}
	}
}

// definite says whether err is an answer of a token that is there.
func definite(err error) bool {
	return errors.Is(err, ErrPIN) || errors.Is(err, ErrKey) || errors.Is(err, ErrNoKey)
}

func once[T any](ctx context.Context, t *Token, op func(session uint) (T, error)) (value T, generation uint64, err error) {
	if generation, err = t.module.enter(ctx); err != nil {
		return value, generation, err
	}
	defer t.module.leave()
	s, err := t.session(generation)
	if err != nil {
		return value, generation, err
	}
	if value, err = op(s.handle); err != nil {
		// The others may be as void as this one. An error of closing means that
		// it is so already.
		t.module.lib.close(s.handle)
		t.dropIdle()
		return value, generation, err
	}
	t.mu.Lock()
	t.idle = append(t.idle, s)
	t.mu.Unlock()
	return value, generation, nil
}

// note logs that the token has gone or come back.
func (t *Token) note(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if errors.Is(err, ErrKey) || errors.Is(err, context.Canceled) {
		return // which says nothing of the token
	}
	switch away := err != nil; {
	case away == t.away:
		return
	case away:
		t.log.Error("token does not do its work; keys in it cannot be used until it does", "token", t.Name(), "err", err)
	default:
		t.log.Info("token does its work again", "token", t.Name())
	}
	t.away = err != nil
}

// dropIdle closes the sessions that nobody uses, and forgets the keys that were
// found.
func (t *Token) dropIdle() {
	t.mu.Lock()
	idle := t.idle
	t.idle = nil
	clear(t.objects)
	t.mu.Unlock()
	for _, s := range idle {
		t.module.lib.close(s.handle)
	}
}

// session takes a session that nobody uses, or opens one and logs in.
func (t *Token) session(generation uint64) (session, error) {
	if s, ok := t.takeIdle(generation); ok {
		return s, nil
	}
	t.opening.Lock()
	defer t.opening.Unlock()
	if t.refused != nil {
		return session{}, t.refused
	}
	lib := t.module.lib
	slot, err := lib.slot(t.uri)
	if err != nil {
		return session{}, err
	}
	handle, err := lib.open(slot)
	if err != nil {
		return session{}, fmt.Errorf("opening a session: %w", err)
	}
	if err := t.login(handle); err != nil {
		lib.close(handle)
		return session{}, err
	}
	return session{handle, generation}, nil
}

// takeIdle takes an idle session of the generation, and forgets what there is of
// earlier ones.
func (t *Token) takeIdle(generation uint64) (session, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.idle) > 0 {
		last := len(t.idle) - 1
		s := t.idle[last]
		t.idle = t.idle[:last]
		if s.generation == generation {
			return s, true
		}
		clear(t.objects)
	}
	return session{}, false
}

// login logs in by the PIN, which is read each time and not kept.
func (t *Token) login(handle uint) error {
	if t.uri.PINSource == "" {
		return nil
	}
	pin, file, err := readPIN(t.uri.PINSource)
	if err != nil {
		return err
	}
	defer clear(pin)
	try := pinTry{t.uri.Module, t.Name(), file}
	if t.refused = try.refused(); t.refused != nil {
		return t.refused
	}
	err = t.module.lib.login(handle, string(pin))
	if errors.Is(err, ErrPIN) {
		t.refused = fmt.Errorf("%w; it is not tried again before the next start", err)
		try.refuse(t.refused)
		return t.refused
	}
	if err != nil {
		return fmt.Errorf("logging in: %w", err)
	}
	return nil
}
