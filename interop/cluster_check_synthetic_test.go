package interop

import (
	"strings"
	"testing"
	"time"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/keystore"
)

// Keys of made-up histories: old is replaced by fresh, other is neither's.
var (
	oldKey   = dtyp.GUID{1}
	freshKey = dtyp.GUID{2}
	otherKey = dtyp.GUID{3}
)

const second = time.Second

// soundHistory is of two servers that both hand out the old key, and after a
// rotation from 10 to 11 s the fresh one. Three secrets are acknowledged, opened
// under way and in the end, and refused to somebody else.
func soundHistory() *clusterHistory {
	h := newClusterHistory()
	h.born[oldKey], h.born[freshKey], h.born[otherKey] = 1, 5, 6
	h.pointers[keystore.ClientWrap] = []pointerWrite{{rev: 2, key: oldKey, latest: second}, {rev: 9, key: freshKey, earliest: 10 * second, latest: 11 * second}}
	h.rotations[keystore.ClientWrap] = []rotationWrite{
		{rev: 7, Rotation: keystore.Rotation{Phase: keystore.RotationCreated, Next: freshKey, Previous: oldKey}},
		{rev: 8, Rotation: keystore.Rotation{Phase: keystore.RotationPreferred, Next: freshKey, Previous: oldKey}},
	}
	h.operate(opPrefer, -1, freshKey, 0, 10*second)
	h.operate(opRetrieve, 0, oldKey, 1, 2*second)
	h.operate(opRetrieve, 1, oldKey, 2, 11500*time.Millisecond) // within staleness
	h.operate(opRetrieve, 1, freshKey, 3, 13*second)
	for secret := 1; secret <= 3; secret++ {
		key := oldKey
		if secret == 3 {
			key = freshKey
		}
		h.operate(opUnwrap, 0, key, secret, 14*second)
		h.refuse(opSteal, 1, key, secret, 15*second, bkrp.StatusInvalidAccess)
		h.operate(opVerify, 0, key, secret, 30*second)
		h.operate(opVerify, 1, key, secret, 30*second)
	}
	return h
}

func (h *clusterHistory) operate(a opAction, server int, key dtyp.GUID, secret int, at time.Duration) *clusterOp {
	h.ops = append(h.ops, clusterOp{action: a, server: server, kind: keystore.ClientWrap, key: key, secret: secret, start: at, end: at + second/10})
	return &h.ops[len(h.ops)-1]
}

func (h *clusterHistory) refuse(a opAction, server int, key dtyp.GUID, secret int, at time.Duration, status bkrp.Status) {
	o := h.operate(a, server, key, secret, at)
	o.outcome, o.status = opRefused, status
}

func (h *clusterHistory) lose(server int, key dtyp.GUID, secret int, at time.Duration) {
	h.operate(opUnwrap, server, key, secret, at).outcome = opLost
}

// The checker takes histories in which everything that may happen does.
func TestClusterCheckSound(t *testing.T) {
	for _, c := range []struct {
		name   string
		happen func(h *clusterHistory)
	}{
		{"nothing broken", func(*clusterHistory) {}},
		{"a killed server does not answer", func(h *clusterHistory) {
			h.faults = append(h.faults, clusterFault{number: 1, way: "killed", killed: true, from: 16 * second, to: 18 * second})
			h.lose(1, oldKey, 1, 17*second)
		}},
		{"a server that was started anew, without etcd, does not know a key", func(h *clusterHistory) {
			h.faults = append(h.faults, clusterFault{number: 1, way: "killed", killed: true, from: 16 * second, to: 18 * second},
				clusterFault{etcd: true, from: 17 * second, to: 20 * second})
			h.refuse(opUnwrap, 1, oldKey, 1, 19*second, bkrp.StatusInternalError)
		}},
		{"a server that was cut off has the former key", func(h *clusterHistory) {
			h.faults = append(h.faults, clusterFault{number: 1, way: wayIsolated, from: 10 * second, to: 20 * second})
			h.operate(opRetrieve, 1, oldKey, 1, 25*second)
		}},
		{"the machine stands still", func(h *clusterHistory) {
			h.stalls = append(h.stalls, timeSpan{11 * second, 15 * second})
			h.operate(opRetrieve, 1, oldKey, 1, 15500*time.Millisecond)
			h.operate(opUnwrap, 0, oldKey, 1, 11*second).end = 15 * second
		}},
		{"a rotation is rolled back", func(h *clusterHistory) {
			h.rollBack()
			h.operate(opRetrieve, 0, oldKey, 1, 25*second)
		}},
		{"a roll-back that was not acknowledged stays half done", func(h *clusterHistory) {
			h.rollBack()
			h.pointers[keystore.ClientWrap] = h.pointers[keystore.ClientWrap][:2]
			h.ops[len(h.ops)-1].outcome = opLost
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := soundHistory()
			c.happen(h)
			for _, finding := range h.check(2) {
				t.Error(finding)
			}
		})
	}
}

// rollBack ends the rotation at 20 s the other way.
func (h *clusterHistory) rollBack() {
	h.rotations[keystore.ClientWrap] = append(h.rotations[keystore.ClientWrap],
		rotationWrite{rev: 20, Rotation: keystore.Rotation{Phase: keystore.RotationRolledBack, Next: freshKey, Previous: oldKey}})
	h.pointers[keystore.ClientWrap] = append(h.pointers[keystore.ClientWrap], pointerWrite{rev: 21, key: oldKey, earliest: 20 * second, latest: 20 * second})
	h.operate(opRollBack, -1, freshKey, 0, 20*second)
}

// The checker finds what must not be, and says which rule it breaks.
func TestClusterCheckUnsound(t *testing.T) {
	const (
		opens     = "an acknowledged secret opens on every server"
		refused   = "an acknowledged secret is not refused"
		asItWas   = "a secret opens as it was"
		owner     = "a secret is given to its owner alone"
		available = "a live server unwraps"
		onlyOnce  = "a key is handed out only once it is current"
		former    = "a former key is not handed out"
		replaced  = "a current key is replaced by a rotation only"
		born      = "the key is there before the pointer to it"
		last      = "the current key is that of the last rotation"
	)
	fault := func(f clusterFault) func(h *clusterHistory) {
		return func(h *clusterHistory) {
			h.faults = append(h.faults, f)
			h.lose(1, freshKey, 3, f.from+second)
		}
	}
	for _, c := range []struct {
		name, rule string
		happen     func(h *clusterHistory)
	}{
		{"two current keys at the same time", onlyOnce, func(h *clusterHistory) { h.operate(opRetrieve, 1, otherKey, 1, 3*second) }},
		{"a key handed out before its rotation", onlyOnce, func(h *clusterHistory) { h.operate(opRetrieve, 1, freshKey, 1, 9*second) }},
		{"an old certificate after a rotation", former, func(h *clusterHistory) { h.operate(opRetrieve, 1, oldKey, 1, 14500*time.Millisecond) }},
		{"an old certificate long after a server was cut off", former, func(h *clusterHistory) {
			h.faults = append(h.faults, clusterFault{number: 1, way: wayIsolated, from: 10 * second, to: 12 * second})
			h.operate(opRetrieve, 1, oldKey, 1, 22*second)
		}},
		{"an old certificate of a server, and another was cut off", former, func(h *clusterHistory) {
			h.faults = append(h.faults, clusterFault{number: 0, way: wayIsolated, from: 10 * second, to: 20 * second})
			h.operate(opRetrieve, 1, oldKey, 1, 15*second)
		}},
		{"a rolled-back key that goes on being handed out", former, func(h *clusterHistory) {
			h.rollBack()
			h.operate(opRetrieve, 1, freshKey, 3, 25*second)
		}},
		{"a secret that does not open on one server", opens, func(h *clusterHistory) {
			h.operate(opRetrieve, 0, oldKey, 4, 3*second)
			h.operate(opVerify, 0, oldKey, 4, 30*second)
		}},
		{"a secret that is refused in the end", opens, func(h *clusterHistory) {
			h.operate(opRetrieve, 0, oldKey, 4, 3*second)
			h.operate(opVerify, 0, oldKey, 4, 30*second)
			h.refuse(opVerify, 1, oldKey, 4, 30*second, bkrp.StatusInvalidData)
		}},
		{"an acknowledged key that is unknown", refused, func(h *clusterHistory) { h.refuse(opUnwrap, 1, oldKey, 1, 16*second, bkrp.StatusFileNotFound) }},
		{"an acknowledged key that is unknown while etcd is away", refused, func(h *clusterHistory) {
			h.faults = append(h.faults, clusterFault{number: 1, way: wayIsolated, from: 10 * second, to: 20 * second})
			h.refuse(opUnwrap, 1, oldKey, 1, 16*second, bkrp.StatusFileNotFound)
		}},
		{"another secret comes back", asItWas, func(h *clusterHistory) { h.operate(opUnwrap, 1, oldKey, 1, 16*second).outcome = opWrong }},
		{"a secret given to bob", owner, func(h *clusterHistory) { h.operate(opSteal, 1, oldKey, 1, 16*second) }},
		{"part of a secret given to bob", owner, func(h *clusterHistory) { h.operate(opSteal, 1, oldKey, 1, 16*second).outcome = opWrong }},
		{"no answer of a sound server", available, func(h *clusterHistory) { h.lose(1, oldKey, 1, 16*second) }},
		{"a late answer of a server that is cut off from etcd", available, func(h *clusterHistory) {
			h.faults = append(h.faults, clusterFault{number: 0, way: wayIsolated, from: 16 * second, to: 22 * second})
			h.operate(opUnwrap, 0, oldKey, 1, 17*second).end = 21 * second
		}},
		{"an old certificate long after the machine stood still", former, func(h *clusterHistory) {
			h.stalls = append(h.stalls, timeSpan{11 * second, 12 * second})
			h.operate(opRetrieve, 1, oldKey, 1, 20*second)
		}},
		{"a late answer, and the machine stood still for a part of it", available, func(h *clusterHistory) {
			h.stalls = append(h.stalls, timeSpan{17 * second, 18 * second})
			h.operate(opUnwrap, 0, oldKey, 1, 17*second).end = 22 * second
		}},
		{"no answer while a member of etcd is away", available, fault(clusterFault{etcd: true, number: 1, from: 16 * second, to: 20 * second})},
		{"no answer while another server is away", available, fault(clusterFault{number: 0, killed: true, from: 16 * second, to: 20 * second})},
		{"no answer of a server that is cut off from etcd", available, fault(clusterFault{number: 1, way: wayIsolated, from: 16 * second, to: 20 * second})},
		{"no answer, with a key read long ago, of a server that is cut off from etcd", available, func(h *clusterHistory) {
			h.faults = append(h.faults, clusterFault{number: 0, killed: true, from: 15 * second, to: 16 * second},
				clusterFault{number: 0, way: wayIsolated, from: 25 * second, to: 28 * second})
			h.refuse(opUnwrap, 0, oldKey, 1, 27*second, bkrp.StatusInternalError)
		}},
		{"an internal error of a sound server", available, func(h *clusterHistory) { h.refuse(opUnwrap, 1, oldKey, 1, 16*second, bkrp.StatusInternalError) }},
		{"a key replaced without a rotation", replaced, func(h *clusterHistory) {
			h.pointers[keystore.ClientWrap] = append(h.pointers[keystore.ClientWrap], pointerWrite{rev: 12, key: otherKey, earliest: 12 * second, latest: 12 * second})
		}},
		{"a key replaced before its rotation", replaced, func(h *clusterHistory) { h.pointers[keystore.ClientWrap][1].rev = 7 }},
		{"a pointer to a key that is not there yet", born, func(h *clusterHistory) { h.born[freshKey] = 10 }},
		{"a pointer to nothing", born, func(h *clusterHistory) { delete(h.born, freshKey) }},
		{"a rotation that was acknowledged and not done", last, func(h *clusterHistory) {
			h.rollBack()
			h.pointers[keystore.ClientWrap] = h.pointers[keystore.ClientWrap][:2]
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := soundHistory()
			c.happen(h)
			found := h.check(2)
			for _, finding := range found {
				if strings.HasPrefix(finding, c.rule+": ") {
					return
				}
			}
			t.Errorf("found %q, want one of the rule %q", found, c.rule)
		})
	}
}
