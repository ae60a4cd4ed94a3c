package dclocator

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// Step is one thing that was tried.
type Step struct {
	// Server is the name of a domain controller, or of the records that were
	// looked up.
	Server string
	// Addr is where the ping went; it is zero where no address was known, and
	// for records.
	Addr netip.AddrPort
	// Found says what came of it when that was something to use.
	Found string
	// Err says why nothing came of it.
	Err error
	// Took is how long it took.
	Took time.Duration
	// DC is the domain controller that answered, usable or not; nil if none did.
	DC *DC
}

// String is what the step came to, on one line.
func (s Step) String() string {
	switch {
	case s.Err != nil:
		return fmt.Sprintf("%s: %v", s.Server, s.Err)
	case s.Found != "":
		return fmt.Sprintf("%s: %s", s.Server, s.Found)
	}
	if s.Took < 10*time.Millisecond {
		return fmt.Sprintf("%s: %.1f ms", s.Server, float64(s.Took)/float64(time.Millisecond))
	}
	return fmt.Sprintf("%s: %d ms", s.Server, s.Took.Milliseconds())
}

// Trace is what was tried, in the order in which it was begun.
type Trace []Step

// String is the trace on one line: "dc1: read-only, skipped; dc2: 12 ms".
func (t Trace) String() string {
	steps := make([]string, len(t))
	for i, s := range t {
		steps[i] = s.String()
	}
	return strings.Join(steps, "; ")
}

// ErrNone is a search that found no domain controller to use; errors.Is finds
// it in an *Error.
var ErrNone = errors.New("dclocator: no writable domain controller found")

// Error is a search that found nothing.
type Error struct {
	// Domain is what was asked for.
	Domain string
	// Trace is what was tried.
	Trace Trace
	// Cause is the end of the context, where that ended the search.
	Cause error
}

// Error tells the whole trace.
func (e *Error) Error() string {
	s := fmt.Sprintf("%v for %s", ErrNone, e.Domain)
	if e.Cause != nil {
		s += fmt.Sprintf(" (%v)", e.Cause)
	}
	if len(e.Trace) > 0 {
		s += ": " + e.Trace.String()
	}
	return s
}

// Unwrap gives ErrNone, and the cause if there is one.
func (e *Error) Unwrap() []error {
	if e.Cause == nil {
		return []error{ErrNone}
	}
	return []error{ErrNone, e.Cause}
}

// recorder takes down what several goroutines try.
type recorder struct {
	mu    sync.Mutex
	steps []*Step
}

// begin notes a step that begins now. What it returns is called once, with what
// the step came to.
func (r *recorder) begin(server string, addr netip.AddrPort) (end func(s Step)) {
	return r.beginAt(time.Now(), server, addr)
}

func (r *recorder) beginAt(began time.Time, server string, addr netip.AddrPort) (end func(s Step)) {
	step := &Step{Server: server, Addr: addr}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.steps = append(r.steps, step)
	return func(s Step) {
		r.mu.Lock()
		defer r.mu.Unlock()
		step.Found, step.Err, step.DC, step.Took = s.Found, s.Err, s.DC, time.Since(began)
	}
}

// trace is what was recorded, once all steps have ended.
func (r *recorder) trace() Trace {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := make(Trace, len(r.steps))
	for i, s := range r.steps {
		t[i] = *s
	}
	return slices.Clip(t)
}
