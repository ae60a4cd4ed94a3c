package interop

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/keystore"
)

const (
	// staleness is for how long a server may go on with the key from before a
	// rotation when nothing is broken. It is milliseconds, but for a process or a
	// disk of a busy machine that stands still by itself, which is no stall of
	// clusterHistory.
	staleness = 3 * time.Second
	// mending is how long a server may take, after something broke or was mended,
	// until its watch of etcd stands again: 3 s to notice silence, 1 s of pause,
	// and twice the 1 s that a member has to answer.
	mending = 6 * time.Second
	// reading is how long a server may take to read a new key ahead of its use.
	reading = 2 * time.Second
	// patience is how long a server may take to unwrap what it has the key of, on
	// a machine that is busy.
	patience = 3 * time.Second
)

// check returns what in a history must not be. Each rule is a function.
func (h *clusterHistory) check(servers int) []string {
	var f findings
	h.checkSecrets(&f, servers)
	h.checkAvailable(&f)
	h.checkPointers(&f)
	h.checkHandedOut(&f)
	return f.list
}

// findings are what must not be, of which the first of each rule tell enough.
type findings struct {
	list []string
	seen map[string]int
}

const findingsOfOneRule = 5

func (f *findings) add(rule, format string, args ...any) {
	if f.seen == nil {
		f.seen = make(map[string]int)
	}
	if f.seen[rule]++; f.seen[rule] <= findingsOfOneRule {
		f.list = append(f.list, rule+": "+fmt.Sprintf(format, args...))
	}
}

// checkSecrets: what was acknowledged opens on every server in the end, has been
// opened to nothing else before, and never to anybody else; and its key was never
// said to be unknown.
func (h *clusterHistory) checkSecrets(f *findings, servers int) {
	acknowledged, opened := make(map[int]*clusterOp), make(map[[2]int]bool)
	for i := range h.ops {
		o := &h.ops[i]
		if o.acknowledges() {
			acknowledged[o.secret] = o
		}
		if o.action == opVerify && o.outcome == opDone {
			opened[[2]int{o.secret, o.server}] = true
		}
	}
	for i := range h.ops {
		o := &h.ops[i]
		if o.secret == 0 || acknowledged[o.secret] == nil {
			continue
		}
		switch o.action {
		case opSteal:
			if o.outcome == opDone || o.outcome == opWrong {
				f.add("a secret is given to its owner alone", "%v", o)
			}
		case opUnwrap, opVerify:
			if o.outcome == opWrong {
				f.add("a secret opens as it was", "%v", o)
			}
			if o.outcome == opRefused && o.status != bkrp.StatusInternalError {
				f.add("an acknowledged secret is not refused", "%v", o)
			}
		}
	}
	for secret, o := range acknowledged {
		for server := range servers {
			if !opened[[2]int{secret, server}] {
				f.add("an acknowledged secret opens on every server", "not on server %d: %v", server, o)
			}
		}
	}
}

// checkAvailable: a server that is not itself broken unwraps what it has the key
// of, whatever is with etcd, and without waiting for it. It has the key of what it used since it was started
// last; and since it reads keys ahead of their use, those that were there for a
// while in which nothing kept it from that.
func (h *clusterHistory) checkAvailable(f *findings) {
	uses := make(map[serverKey][]time.Duration) // ends of operations that used it
	since := make(map[dtyp.GUID]time.Duration)  // when it was acknowledged first
	for i := range h.ops {
		o := &h.ops[i]
		if o.outcome != opDone || o.server < 0 {
			continue
		}
		uses[serverKey{o.server, o.key}] = append(uses[serverKey{o.server, o.key}], o.end)
		if first, ok := since[o.key]; !ok || o.end < first {
			since[o.key] = o.end
		}
	}
	for i := range h.ops {
		o := &h.ops[i]
		failed := o.outcome == opLost || o.outcome == opRefused && o.status == bkrp.StatusInternalError || o.end-o.start-h.stalled(o.start, o.end) > patience
		if o.action != opUnwrap || !failed || h.broken(o.server, o.start, o.end) {
			continue
		}
		started := h.started(o.server, o.start)
		used := slices.ContainsFunc(uses[serverKey{o.server, o.key}], func(at time.Duration) bool { return started <= at && at < o.start })
		from := max(started, since[o.key])
		read := o.start-from-h.excuse(o.server, from, o.start) > reading
		if used || read || !h.troubled(o.start, o.end) {
			f.add("a live server unwraps", "%v", o)
		}
	}
}

type serverKey struct {
	server int
	key    dtyp.GUID
}

// broken reports whether the server itself was, at some time between two.
func (h *clusterHistory) broken(server int, from, to time.Duration) bool {
	return slices.ContainsFunc(h.faults, func(f clusterFault) bool {
		return !f.etcd && f.number == server && f.way != wayIsolated && f.from <= to && from <= f.to
	})
}

// troubled reports whether anything was broken, or had just been mended.
func (h *clusterHistory) troubled(from, to time.Duration) bool {
	return slices.ContainsFunc(h.faults, func(f clusterFault) bool { return f.from <= to && from <= f.to+mending })
}

// started is when the server was started last before a time.
func (h *clusterHistory) started(server int, at time.Duration) (last time.Duration) {
	for _, f := range h.faults {
		if !f.etcd && f.number == server && f.killed && f.from <= at {
			last = max(last, f.from)
		}
	}
	return last
}

// checkPointers: a current key, once there is one, is replaced by a rotation
// only, and is there before it is pointed to. In the end the last rotation says
// which it is.
func (h *clusterHistory) checkPointers(f *findings) {
	for kind, writes := range h.pointers {
		for i, w := range writes {
			if born, ok := h.born[w.key]; !ok || born >= w.rev {
				f.add("the key is there before the pointer to it", "%v key %v at revision %d", kind, w.key, w.rev)
			}
			if i > 0 && writes[i-1].key != w.key && !h.explained(kind, i, writes[i-1].key, w) {
				f.add("a current key is replaced by a rotation only", "%v key %v by %v at revision %d", kind, writes[i-1].key, w.key, w.rev)
			}
		}
		if rotations := h.rotations[kind]; len(writes) > 0 && len(rotations) > 0 {
			h.checkLastRotation(f, kind, rotations[len(rotations)-1], writes[len(writes)-1])
		}
	}
}

// explained reports whether a rotation was to replace one key by another, by
// going on or by going back, in the n-th write of the pointer. One that went on
// from no key may have met the first one.
func (h *clusterHistory) explained(kind keystore.KeyKind, n int, before dtyp.GUID, w pointerWrite) bool {
	return slices.ContainsFunc(h.rotations[kind], func(r rotationWrite) bool {
		if r.rev >= w.rev {
			return false
		}
		return r.Phase == keystore.RotationPreferred && r.Next == w.key && (r.Previous == before || r.Previous.IsZero() && n == 1) ||
			r.Phase == keystore.RotationRolledBack && r.Previous == w.key && r.Next == before
	})
}

// checkLastRotation looks whether the pointer is where the last rotation has it,
// if that came to its end.
func (h *clusterHistory) checkLastRotation(f *findings, kind keystore.KeyKind, r rotationWrite, w pointerWrite) {
	want, action := r.Previous, opRollBack
	if r.Phase == keystore.RotationPreferred {
		want, action = r.Next, opPrefer
	}
	if r.Phase == keystore.RotationCreated || w.key == want {
		return
	}
	var last *clusterOp
	for i := range h.ops {
		if o := &h.ops[i]; o.kind == kind && o.action == action {
			last = o
		}
	}
	if last != nil && last.outcome == opDone {
		f.add("the current key is that of the last rotation", "%v key %v, and the rotation to %v was %s", kind, w.key, r.Next, r.Phase)
	}
}

// checkHandedOut: what servers wrap with and hand out was the current key at some
// moment of the call, or until staleness before. While something is broken, and
// until it is mended, a server may go on with the one it has.
func (h *clusterHistory) checkHandedOut(f *findings) {
	for i := range h.ops {
		o := &h.ops[i]
		if !o.acknowledges() {
			continue
		}
		reigned, late := h.late(o)
		switch {
		case !reigned:
			f.add("a key is handed out only once it is current", "%v", o)
		case late > staleness+h.excuse(o.server, o.start-late, o.start):
			f.add("a former key is not handed out", "%v after it was replaced, of which %v are excused: %v", late, h.excuse(o.server, o.start-late, o.start), o)
		}
	}
}

// late tells whether a key had become current before its being handed out ended,
// and for how long it had not been any more when that began.
func (h *clusterHistory) late(o *clusterOp) (reigned bool, late time.Duration) {
	for _, r := range reigns(h.pointers[o.kind]) {
		if r.key != o.key || r.from > o.end {
			continue
		}
		since := max(o.start-r.to, 0)
		if !reigned || since < late {
			reigned, late = true, since
		}
	}
	return reigned, late
}

// reign is a time during which a key was current; it began at from at the
// earliest, and ended at to at the latest.
type reign struct {
	key      dtyp.GUID
	from, to time.Duration
}

func reigns(writes []pointerWrite) (list []reign) {
	const forever = time.Duration(math.MaxInt64)
	for _, w := range writes {
		n := len(list)
		if n > 0 && list[n-1].key == w.key { // pointed to once more
			continue
		}
		if n > 0 {
			list[n-1].to = w.latest
		}
		list = append(list, reign{w.key, w.earliest, forever})
	}
	return list
}

// excuse is how much of the time between two was such that a server could not
// know better.
func (h *clusterHistory) excuse(server int, from, to time.Duration) time.Duration {
	var spans []timeSpan
	for _, s := range h.stalls {
		spans = append(spans, timeSpan{s.from, s.to + staleness})
	}
	for _, f := range h.faults {
		switch {
		case f.etcd: // only while watches move to another member, and elect a leader
			spans = append(spans, timeSpan{f.from, f.from + mending}, timeSpan{f.to, f.to + mending})
		case f.number == server:
			spans = append(spans, timeSpan{f.from, f.to + mending})
		}
	}
	slices.SortFunc(spans, func(a, b timeSpan) int { return cmp.Compare(a.from, b.from) })
	total, done := time.Duration(0), from
	for _, s := range spans {
		begin, end := max(s.from, done), min(s.to, to)
		if begin < end {
			total, done = total+end-begin, end
		}
	}
	return total
}
