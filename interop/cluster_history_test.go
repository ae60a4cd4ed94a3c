package interop

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/keystore"
)

// A clusterHistory is what happened to a store and the servers on it: what
// clients and operators asked and were told, what was broken and for how long,
// and what etcd had, revision by revision. Times are since its beginning.
type clusterHistory struct {
	origin time.Time

	mu     sync.Mutex
	ops    []clusterOp
	faults []clusterFault
	// stalls are the times in which this process, and so the machine with all
	// that is on it, got no time to run.
	stalls []timeSpan
	// pointers are the writes of the current key of each kind, and rotations
	// those of the rotation, by revision.
	pointers  map[keystore.KeyKind][]pointerWrite
	rotations map[keystore.KeyKind][]rotationWrite
	// born is the revision at which each key came to be.
	born map[dtyp.GUID]int64
}

func newClusterHistory() *clusterHistory {
	return &clusterHistory{
		origin:    time.Now(),
		pointers:  make(map[keystore.KeyKind][]pointerWrite),
		rotations: make(map[keystore.KeyKind][]rotationWrite),
		born:      make(map[dtyp.GUID]int64),
	}
}

func (h *clusterHistory) now() time.Duration { return time.Since(h.origin) }

type timeSpan struct{ from, to time.Duration }

const (
	stallTick = 20 * time.Millisecond
	// stall is how late a tick is that tells of one.
	stall = 500 * time.Millisecond
)

// watchClock records stalls until the function that it returns is called.
func (h *clusterHistory) watchClock() (stop func()) {
	stopped, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for last := h.now(); ; {
			select {
			case <-stopped:
				return
			case <-time.After(stallTick):
			}
			now := h.now()
			if now-last > stall {
				h.mu.Lock()
				h.stalls = append(h.stalls, timeSpan{last, now})
				h.mu.Unlock()
			}
			last = now
		}
	}()
	return sync.OnceFunc(func() { close(stopped); <-done })
}

// stalled is how much of the time between two was stalls.
func (h *clusterHistory) stalled(from, to time.Duration) (total time.Duration) {
	for _, s := range h.stalls {
		total += max(min(s.to, to)-max(s.from, from), 0)
	}
	return total
}

// add records an operation that has ended.
func (h *clusterHistory) add(o clusterOp) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, o)
}

func (h *clusterHistory) addFault(f clusterFault) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.faults = append(h.faults, f)
}

// opAction is what was asked for.
type opAction uint8

const (
	// opWrap has a server wrap a secret (ServerWrap).
	opWrap opAction = iota
	// opRetrieve takes the certificate from a server, under which a secret is
	// then wrapped here (ClientWrap).
	opRetrieve
	// opUnwrap has the owner's secret opened.
	opUnwrap
	// opSteal has somebody else's secret opened.
	opSteal
	// opVerify is opUnwrap after everything has been mended.
	opVerify
	opBegin
	opPrefer
	opRollBack
)

func (a opAction) String() string {
	return [...]string{"wrap", "retrieve", "unwrap", "steal", "verify", "begin", "prefer", "roll back"}[a]
}

// opOutcome is what the answer was.
type opOutcome uint8

const (
	// opDone: what was asked for was done, and what came back is right.
	opDone opOutcome = iota
	// opRefused: the server answered with a status, or the store with an error
	// that says that nothing was done.
	opRefused
	// opLost: there was no answer, or one that leaves open what was done.
	opLost
	// opWrong: something else came back than had been wrapped.
	opWrong
)

func (o opOutcome) String() string { return [...]string{"done", "refused", "lost", "wrong"}[o] }

// clusterOp is one operation. Start is before it was begun, and end after its
// answer was had.
type clusterOp struct {
	action     opAction
	server     int // -1 for operators
	kind       keystore.KeyKind
	key        dtyp.GUID // that was used, or handed out
	secret     int       // 0 for none
	start, end time.Duration
	outcome    opOutcome
	status     bkrp.Status // with opRefused by a server
	err        string
}

func (o *clusterOp) String() string {
	return fmt.Sprintf("%v of secret %d under %v key %v at server %d, from %v to %v: %v %v %s",
		o.action, o.secret, o.kind, o.key, o.server, o.start, o.end, o.outcome, o.status, o.err)
}

// acknowledges reports whether a client let go of a secret after it.
func (o *clusterOp) acknowledges() bool {
	return (o.action == opWrap || o.action == opRetrieve) && o.outcome == opDone
}

// clusterFault is something that was broken for a while: a member of etcd, or a
// server with what it was cut off from. From is before it was broken, and to
// after it was seen to work again.
type clusterFault struct {
	etcd     bool
	number   int
	way      string
	killed   bool // and so started anew
	from, to time.Duration
}

func (f *clusterFault) String() string {
	victim := "server"
	if f.etcd {
		victim = "etcd"
	}
	return fmt.Sprintf("%s %d %s from %v to %v", victim, f.number, f.way, f.from, f.to)
}

// pointerWrite is one write of a pointer. It happened between earliest and
// latest.
type pointerWrite struct {
	rev              int64
	key              dtyp.GUID
	earliest, latest time.Duration
}

// rotationWrite is one write of a rotation.
type rotationWrite struct {
	rev int64
	keystore.Rotation
}

// text is the history for people, a line for each thing that happened, in the
// order of their beginnings.
func (h *clusterHistory) text() []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	type line struct {
		at   time.Duration
		text string
	}
	var lines []line
	for i := range h.ops {
		lines = append(lines, line{h.ops[i].start, h.ops[i].String()})
	}
	for i := range h.faults {
		lines = append(lines, line{h.faults[i].from, h.faults[i].String()})
	}
	for kind, writes := range h.pointers {
		for _, w := range writes {
			lines = append(lines, line{w.earliest, fmt.Sprintf("revision %d: current %v key %v, from %v to %v", w.rev, kind, w.key, w.earliest, w.latest)})
		}
	}
	slices.SortStableFunc(lines, func(a, b line) int { return cmp.Compare(a.at, b.at) })
	var text []byte
	for _, l := range lines {
		text = fmt.Appendf(text, "%v %s\n", l.at, l.text)
	}
	for kind, rotations := range h.rotations {
		for _, r := range rotations {
			text = fmt.Appendf(text, "revision %d: rotation of %v keys %s, from %v to %v\n", r.rev, kind, r.Phase, r.Previous, r.Next)
		}
	}
	return text
}
