package keystoretest

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/seed05845750/bkrp/keystore"
)

// ErrFault is the error of a storage that cannot tell.
var ErrFault = errors.New("keystoretest: storage does not answer")

// Operation is a method of a Backend that can be made to fail.
type Operation int

// The operations.
const (
	Get Operation = iota
	Swap
	List
)

// Call is one call of a backend.
type Call struct {
	Operation Operation
	Name      string // or the prefix of List
	Value     []byte // of Swap; nil deletes
}

// Faults is a Backend that stands before another one and fails where it is told
// to.
type Faults struct {
	keystore.Backend
	// After has a fault strike after a Swap instead of before it: the change has
	// then been made, and the caller does not learn of it.
	After bool

	mu    sync.Mutex
	fail  func(n int, call Call) error
	n     int
	calls []Call
}

// NewFaults returns a Faults before b. fail is asked at each call, which n
// counts from 0, and its error is returned in place of the call; nil is never
// to fail.
func NewFaults(b keystore.Backend, fail func(n int, call Call) error) *Faults {
	return &Faults{Backend: b, fail: fail}
}

// SetFail changes what is asked at each call.
func (f *Faults) SetFail(fail func(n int, call Call) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = fail
}

// Calls returns the calls so far, in order.
func (f *Faults) Calls() []Call {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]Call(nil), f.calls...)
}

// Count returns how many calls there were of one operation.
func (f *Faults) Count(o Operation) int {
	n := 0
	for _, c := range f.Calls() {
		if c.Operation == o {
			n++
		}
	}
	return n
}

// fault counts the call and asks whether it fails.
func (f *Faults) fault(c Call) error {
	f.mu.Lock()
	n := f.n
	f.n++
	f.calls = append(f.calls, c)
	fail := f.fail
	f.mu.Unlock()
	if fail == nil {
		return nil
	}
	return fail(n, c)
}

// Get implements keystore.Backend.
func (f *Faults) Get(ctx context.Context, name string) ([]byte, keystore.Revision, error) {
	if err := f.fault(Call{Operation: Get, Name: name}); err != nil {
		return nil, 0, err
	}
	return f.Backend.Get(ctx, name)
}

// CompareAndSwap implements keystore.Backend.
func (f *Faults) CompareAndSwap(ctx context.Context, name string, old keystore.Revision, value []byte) (keystore.Revision, error) {
	fault := f.fault(Call{Operation: Swap, Name: name, Value: value})
	if fault != nil && !f.After {
		return 0, fault
	}
	rev, err := f.Backend.CompareAndSwap(ctx, name, old, value)
	if fault != nil {
		return 0, fault
	}
	return rev, err
}

// List implements keystore.Backend.
func (f *Faults) List(ctx context.Context, prefix string) ([]keystore.Entry, error) {
	if err := f.fault(Call{Operation: List, Name: prefix}); err != nil {
		return nil, err
	}
	return f.Backend.List(ctx, prefix)
}

// AtStep fails call number n, counted from 0 over all operations, with err.
func AtStep(n int, err error) func(int, Call) error {
	return func(i int, _ Call) error {
		if i == n {
			return err
		}
		return nil
	}
}

// ConflictStorm lets the first n swaps of one name fail with ErrConflict, as
// if somebody else had always been first.
func ConflictStorm(name string, n int) func(int, Call) error {
	var left atomic.Int64
	left.Store(int64(n))
	return func(_ int, c Call) error {
		if c.Operation == Swap && c.Name == name && left.Add(-1) >= 0 {
			return keystore.ErrConflict
		}
		return nil
	}
}
