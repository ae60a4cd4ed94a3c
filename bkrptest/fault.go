package bkrptest

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/bkrpserver"
	"github.com/seed05845750/bkrp/internal/interpose"
)

// Fault is something that goes wrong with the domain's servers. It happens
// whenever there is occasion, unless Times says how often.
type Fault struct {
	kind   faultKind
	status bkrp.Status
	step   Step
	times  int    // 0 is without end
	on     string // "" is every server
}

type faultKind uint8

const (
	faultAnswer faultKind = iota + 1
	faultUnknownKey
	faultWrongCertificate
	faultWrongResult
	faultGarbage
	faultHold
	faultDrop
)

// Refuse answers each call of BackuprKey with ERROR_ACCESS_DENIED.
func Refuse() Fault { return Answer(bkrp.StatusAccessDenied) }

// Answer answers each call of BackuprKey with a code.
func Answer(status bkrp.Status) Fault { return Fault{kind: faultAnswer, status: status} }

// UnknownKey has the server know none of the keys that blobs were wrapped under.
func UnknownKey() Fault { return Fault{kind: faultUnknownKey} }

// WrongCertificate hands out a well-formed certificate of a key that the server
// does not have: what is wrapped under it, nobody opens.
func WrongCertificate() Fault { return Fault{kind: faultWrongCertificate} }

// WrongResult changes an octet in what the server wraps and unwraps. The form of
// the answers is right.
func WrongResult() Fault { return Fault{kind: faultWrongResult} }

// Garbage answers calls of BackuprKey that would have succeeded with octets that
// are nothing in particular, and success.
func Garbage() Fault { return Fault{kind: faultGarbage} }

// Hold makes calls of BackuprKey, and keeps their answers back until
// Injection.Mend, or until the client gives its connection up. What was made is on
// the audit trail by the time of Injection.Hit.
func Hold() Fault { return Fault{kind: faultHold} }

// Drop ends connections at a step.
func Drop(at Step) Fault { return Fault{kind: faultDrop, step: at} }

// Times is the fault as it happens n times, and no more.
func (f Fault) Times(n int) Fault {
	f.times = max(n, 1)
	return f
}

// On is the fault as it happens on one server, "dc2" for instance, and not on all.
func (f Fault) On(controller string) Fault {
	f.on = controller
	return f
}

// Injection is a fault in a domain.
type Injection struct {
	fault  Fault
	mended chan struct{}
	hit    chan struct{}
	of     *faults

	hits  int // guarded by of.mu
	known sync.Once
}

// happened tells who waits for Hit.
func (i *Injection) happened() { i.known.Do(func() { close(i.hit) }) }

// Hit is closed when the fault has happened for the first time.
func (i *Injection) Hit() <-chan struct{} { return i.hit }

// Hits is how often it has happened.
func (i *Injection) Hits() int {
	i.of.mu.Lock()
	defer i.of.mu.Unlock()
	return i.hits
}

// Mend ends the fault. To do it again is no error.
func (i *Injection) Mend() {
	i.of.mu.Lock()
	defer i.of.mu.Unlock()
	if at := slices.Index(i.of.all, i); at >= 0 {
		i.of.all = slices.Delete(i.of.all, at, at+1)
		close(i.mended)
	}
}

// Inject has a fault happen until it is mended. Where there are several for one
// occasion, the one that was injected first and is not used up happens.
func (d *Domain) Inject(f Fault) *Injection {
	i := &Injection{fault: f, mended: make(chan struct{}), hit: make(chan struct{}), of: &d.faults}
	d.faults.mu.Lock()
	defer d.faults.mu.Unlock()
	d.faults.all = append(d.faults.all, i)
	return i
}

// faults are those of a domain that have not been mended.
type faults struct {
	mu  sync.Mutex
	all []*Injection

	// other is a key that no server has.
	other sync.Once
	cert  []byte
}

// take is the fault that happens now on a server, nil for none.
func (f *faults) take(on string, happens func(Fault) bool) *Injection {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, i := range f.all {
		if i.fault.times > 0 && i.hits >= i.fault.times || i.fault.on != "" && i.fault.on != on || !happens(i.fault) {
			continue
		}
		i.hits++
		if i.fault.kind != faultHold {
			i.happened()
		}
		return i
	}
	return nil
}

// drop tells whether a connection to a server ends at this step.
func (f *faults) drop(on string, at Step) bool {
	return f.take(on, func(f Fault) bool { return f.kind == faultDrop && f.step == at }) != nil
}

// concerns tells whether the fault is of a call with this action.
func (f Fault) concerns(action bkrp.Action) bool {
	switch f.kind {
	case faultAnswer, faultHold, faultGarbage:
		return true
	case faultWrongCertificate:
		return action == bkrp.ActionRetrieve
	case faultUnknownKey:
		return action == bkrp.ActionRestore || action == bkrp.ActionRestoreWin2K
	case faultWrongResult:
		return action != bkrp.ActionRetrieve
	}
	return false
}

// Both kinds of blobs have the key's GUID after three words (2.2.2, 2.2.4).
const keyOffset, keySize = 12, 16

// answer has a server answer calls of BackuprKey with the fault that is due.
func (d *Domain) answer(on string) interpose.Func {
	return func(ctx context.Context, caller interpose.Caller, action bkrp.Action, in []byte, method interpose.Method) ([]byte, bkrp.Status) {
		i := d.faults.take(on, func(f Fault) bool { return f.concerns(action) })
		switch {
		case i == nil:
			return method(ctx, in)
		case i.fault.kind == faultAnswer:
			d.audit(ctx, &bkrpserver.Event{
				Time: time.Now(), Caller: bkrpserver.Caller(caller), Action: action,
				Status: i.fault.status, Reason: "bkrptest: injected",
			})
			return nil, i.fault.status
		case i.fault.kind == faultUnknownKey:
			in = withUnknownKey(in)
		}
		out, status := method(ctx, in)
		switch {
		case i.fault.kind == faultHold:
			i.happened()
			select {
			case <-i.mended:
			case <-ctx.Done(): // whom an answer still reaches got none in time
				clear(out)
				return nil, bkrp.StatusInternalError
			}
		case status != bkrp.StatusOK:
		case i.fault.kind == faultWrongCertificate:
			out = d.otherCertificate()
		case i.fault.kind == faultWrongResult && len(out) > 0:
			out[len(out)-1] ^= 0xFF
		case i.fault.kind == faultGarbage:
			out = bytes.Repeat([]byte("bkrptest"), 4)
		}
		return out, status
	}
}

// withUnknownKey is a blob as it would be, had another key wrapped it.
func withUnknownKey(blob []byte) []byte {
	if len(blob) < keyOffset+keySize {
		return blob
	}
	unknown := bkrp.NewKeyGUID()
	blob = bytes.Clone(blob)
	copy(blob[keyOffset:], unknown[:])
	return blob
}

// otherCertificate is that of a key that is in no store.
func (d *Domain) otherCertificate() []byte {
	d.faults.other.Do(func() {
		if pair, err := bkrp.GenerateKeyPair(d.Name, time.Now()); err == nil {
			d.faults.cert = pair.Certificate().Raw
			pair.Clear()
		}
	})
	return bytes.Clone(d.faults.cert)
}
