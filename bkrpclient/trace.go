package bkrpclient

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/seed05845750/bkrp/internal/dclocator"
)

// Step is one thing that a Domain tried.
type Step struct {
	// Server is the name of a domain controller, or the name in DNS that was
	// asked for.
	Server string
	// Address is where it was tried, host:port; "" where that does not apply.
	Address string
	// Doing is what was tried: "find", "connect", or a call.
	Doing string
	// Found is what it came to, where there is more to say than that it was done.
	Found string
	// Err says why nothing came of it.
	Err error
	// Took is how long it took.
	Took time.Duration
}

// The steps that are no calls.
const (
	doingFind    = "find"
	doingConnect = "connect"
)

// String is the step on one line.
func (s Step) String() string {
	var b strings.Builder
	b.WriteString(s.Server)
	b.WriteString(": ")
	if s.Doing != doingFind {
		b.WriteString(s.Doing)
		b.WriteString(": ")
	}
	var refused *ServerError
	switch {
	case errors.As(s.Err, &refused):
		b.WriteString("server answered " + strings.TrimPrefix(refused.Status.Error(), "bkrp: "))
	case errors.Is(s.Err, ErrLogon):
		b.WriteString("logon refused")
	case s.Err != nil:
		b.WriteString(strings.TrimPrefix(oneLine(s.Err), "bkrpclient: "))
	case s.Found != "":
		b.WriteString(s.Found)
	default:
		b.WriteString(milliseconds(s.Took))
	}
	return b.String()
}

// milliseconds is a time to look at: "0.4 ms", "12 ms".
func milliseconds(d time.Duration) string {
	if ms := float64(d) / float64(time.Millisecond); ms < 10 {
		return fmt.Sprintf("%.1f ms", ms)
	}
	return fmt.Sprintf("%d ms", d.Milliseconds())
}

// oneLine is the text of an error that may be several. Some of it may be what a
// server or a KDC has sent: nothing of it gets at a terminal or breaks a log.
func oneLine(err error) string {
	return strings.Map(func(c rune) rune {
		if unicode.IsPrint(c) {
			return c
		}
		return unicode.ReplacementChar
	}, strings.ReplaceAll(err.Error(), "\n", ", "))
}

// Trace is what was tried, in the order in which it was begun.
type Trace []Step

// maxSteps is how many steps of a trace String shows: DNS may have named hundreds
// of servers that are not there.
const maxSteps = 40

// String is the trace on one line: "dc1: read-only, skipped; dc2: 12 ms;
// dc2: connect: 31 ms; dc2: RETRIEVE: 4.1 ms". Of a long one it shows both ends.
func (t Trace) String() string {
	var steps []string
	for i, s := range t {
		switch left := len(t) - i; {
		case len(t) <= maxSteps || i < maxSteps/2 || left <= maxSteps/2:
			steps = append(steps, s.String())
		case i == maxSteps/2:
			steps = append(steps, fmt.Sprintf("(%d more)", len(t)-maxSteps))
		}
	}
	return strings.Join(steps, "; ")
}

// traceKey is the key of a *collector in a context.
type traceKey struct{}

// collector puts steps where WithTrace was told to.
type collector struct {
	mu sync.Mutex
	to *Trace
}

// WithTrace has the calls on a Domain under the context it returns append what
// they try to t. Read t when they have returned.
func WithTrace(ctx context.Context, t *Trace) context.Context {
	return context.WithValue(ctx, traceKey{}, &collector{to: t})
}

// record is the trace of one call on a Domain.
type record struct {
	steps Trace
	out   *collector // nil if nobody asked
}

func newRecord(ctx context.Context) *record {
	out, _ := ctx.Value(traceKey{}).(*collector)
	return &record{out: out}
}

func (r *record) add(s Step) {
	r.steps = append(r.steps, s)
	if r.out != nil {
		r.out.mu.Lock()
		defer r.out.mu.Unlock()
		*r.out.to = append(*r.out.to, s)
	}
}

// timed adds the step that began then and has ended now.
func (r *record) timed(began time.Time, s Step) {
	s.Took = time.Since(began)
	r.add(s)
}

// located adds what it took to find a domain controller.
func (r *record) located(t dclocator.Trace) {
	for _, s := range t {
		step := Step{Server: s.Server, Doing: doingFind, Found: s.Found, Err: s.Err, Took: s.Took}
		if s.Addr.IsValid() {
			step.Address = s.Addr.String()
		}
		r.add(step)
	}
}

// DomainError is a call on a Domain that failed, with all that was tried for
// it. errors.Is and errors.As find what ended each attempt: ErrLogon, a
// *ServerError, and so on.
type DomainError struct {
	// Domain is the DNS name of the domain.
	Domain string
	// Trace is what was tried.
	Trace Trace
	// Errs are what ended the attempts, the last one first.
	Errs []error
}

// Error says what ended the last attempt, and all that was tried.
func (e *DomainError) Error() string {
	s := "no attempt was made"
	if len(e.Errs) > 0 {
		s = strings.TrimPrefix(oneLine(e.Errs[0]), "bkrpclient: ")
	}
	s = "bkrpclient: " + s + " (domain " + e.Domain
	if len(e.Trace) > 0 {
		s += "; tried " + e.Trace.String()
	}
	return s + ")"
}

// Unwrap gives Errs.
func (e *DomainError) Unwrap() []error { return e.Errs }
