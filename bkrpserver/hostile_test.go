package bkrpserver_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/pprof"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/bkrpserver"
)

var (
	hostileSeed   = flag.Uint64("hostile.seed", 0, "seed of the hostile clients; 0 draws one")
	hostileRounds = flag.Int("hostile.rounds", 0, "hostile connections of each kind; 0 is up to 1000, or a tenth with -short")
)

// hostileWorkers is how many hostile connections there are at a time.
const hostileWorkers = 12

// hostileStall is how long the server waits for the rest of a message, and for
// an answer to be taken.
const hostileStall = 8 * time.Second

// hostileHeap is how much the heap may grow while they are there, in octets,
// both ends of all connections together.
const hostileHeap = 64 << 20

// hostileExchange is one connection of a hostile client. Its error is what the
// server did wrong.
type hostileExchange func(h *hostileRun, m *mutator) error

// hostileRun is one run of the test: a server with hostile clients and honest
// ones.
type hostileRun struct {
	*hostileDomain
	t          *testing.T
	seed       uint64
	recordings []recording
	plainBind  []byte // a bind PDU without authentication
	kdc        *hostileKDC

	spoilt   atomic.Int64 // messages that were spoilt
	peakHeap uint64
}

// TestHostile lets hostile clients at a server that honest ones use. The
// server has to answer or to close each connection in time, to give back what
// it held, and to serve the honest clients without one failure. A panic is
// kept to its connection; the log shows it, see failOnError.
func TestHostile(t *testing.T) {
	h := newHostileRun(t)
	h.hostileDomain = startHostileDomain(t, bkrpserver.Config{
		Pipes:  []string{bkrpserver.PipeProtectedStorage, bkrpserver.PipeNTSvcs},
		Limits: hostileLimits,
	})
	h.run(1000, []hostileKind{
		{"frames before the logon", (*hostileRun).beforeLogon},
		{"tokens of the logon", (*hostileRun).badTokens},
		{"frames after the logon", (*hostileRun).afterLogon},
		{"compounds, credits, CANCEL", (*hostileRun).oddOrders},
		{"sessions of others", (*hostileRun).takeOver},
		{"PDUs before the bind is done", (*hostileRun).badBind},
		{"sealed PDUs", (*hostileRun).badSealed},
		{"stubs and verification trailers", (*hostileRun).badStub},
		{"fragments", (*hostileRun).badFragments},
	}, h.startSleepers, func() { t.Run("clients that do not read", h.deafClients) })
}

// hostileLimits are short, so that the test sees them hold, and long enough for
// honest clients of a machine that stands still for seconds.
var hostileLimits = bkrpserver.Limits{AuthTimeout: 10 * time.Second, StallTimeout: hostileStall}

// hostileKind is one thing that hostile clients do.
type hostileKind struct {
	name     string
	exchange hostileExchange
}

func newHostileRun(t *testing.T) *hostileRun {
	h := &hostileRun{t: t, seed: *hostileSeed, recordings: loadRecordings(t), plainBind: plainBind()}
	for h.seed == 0 {
		h.seed = rand.Uint64()
	}
	return h
}

// run lets hostile clients of all kinds at the server, each kind in so many
// rounds unless the command line says otherwise, while sleepers sleep. After
// that comes last.
func (h *hostileRun) run(rounds int, kinds []hostileKind, startSleepers func() (done func()), last func()) {
	t := h.t
	switch {
	case *hostileRounds != 0:
		rounds = *hostileRounds
	case testing.Short():
		rounds /= 10
	}
	t.Logf("-hostile.seed=%d -hostile.rounds=%d", h.seed, rounds)
	honest := h.startHonest()
	heap := heapAfterGC()
	sampled := h.sampleHeap()
	sleepers := startSleepers()
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) { h.many(t, k.name, rounds, k.exchange) })
	}
	last()
	sleepers()
	sampled()
	calls := honest()
	h.stop()
	h.noGoroutineLeft(h.goroutines)

	grown := int64(h.peakHeap) - int64(heap)
	t.Logf("%d hostile messages in %d connections; heap grew by %d KiB at most; %d honest calls",
		h.spoilt.Load(), len(kinds)*rounds, grown>>10, calls)
	if grown > hostileHeap {
		t.Errorf("heap grew by %d octets", grown)
	}
	if calls == 0 {
		t.Error("no honest call was made")
	}
}

// many runs exchanges of one kind, hostileWorkers at a time.
func (h *hostileRun) many(t *testing.T, kind string, rounds int, exchange hostileExchange) {
	var next atomic.Int64
	var workers sync.WaitGroup
	var offset uint64
	for _, r := range kind {
		offset = offset*31 + uint64(r)
	}
	for range hostileWorkers {
		workers.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= rounds || t.Failed() {
					return
				}
				if err := exchange(h, newMutator(h.seed+offset, i)); err != nil {
					t.Errorf("exchange %d with -hostile.seed=%d: %v", i, h.seed, err)
				}
			}
		})
	}
	workers.Wait()
}

// survived is nil for what may happen to a hostile client: an answer, or the
// end of its connection.
func survived(err error) error {
	if errors.Is(err, errGone) {
		return nil
	}
	return err
}

// startHonest runs honest clients until stop, which gives the number of their
// calls.
func (h *hostileRun) startHonest() (stop func() int64) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	var calls atomic.Int64
	for i, call := range h.honest {
		running.Go(func() {
			for ctx.Err() == nil {
				if err := call(&calls); err != nil {
					h.t.Errorf("honest client %d: %v", i, err)
					return
				}
			}
		})
	}
	return func() int64 {
		cancel()
		running.Wait()
		return calls.Load()
	}
}

// call is one connection of an honest client, on which it wraps and unwraps in
// both ways.
func (u honestUser) call(calls *atomic.Int64) error {
	ctx := context.Background()
	c, err := bkrpclient.Dial(ctx, u.cfg)
	if err != nil {
		return err
	}
	defer c.Close()
	for _, o := range []bkrpclient.WrapOptions{
		{Mode: bkrpclient.ModeServer}, {Version: bkrp.ClientWrappedVersion2, SID: u.sid}, {Version: bkrp.ClientWrappedVersion3, SID: u.sid},
	} {
		secret := randomSecret(64)
		blob, err := c.Wrap(ctx, secret, o)
		if err != nil {
			return fmt.Errorf("wrapping: %w", err)
		}
		got, err := c.Unwrap(ctx, blob)
		if err != nil {
			return fmt.Errorf("unwrapping: %w", err)
		}
		if !bytes.Equal(got, secret) {
			return errors.New("another secret comes back")
		}
		calls.Add(2)
	}
	// There are to be hostile clients most of the time.
	time.Sleep(5 * time.Millisecond)
	return nil
}

func heapAfterGC() uint64 {
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}

// sampleHeap looks at the heap, after a collection, until stop.
func (h *hostileRun) sampleHeap() (stop func()) {
	done := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		for {
			h.peakHeap = max(h.peakHeap, heapAfterGC())
			select {
			case <-done:
				return
			case <-time.After(200 * time.Millisecond):
			}
		}
	})
	return func() { close(done); running.Wait() }
}

// noGoroutineLeft waits until there are no more goroutines than before.
func (h *hostileRun) noGoroutineLeft(before int) {
	for end := time.Now().Add(hangTime); runtime.NumGoroutine() > before; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			pprof.Lookup("goroutine").WriteTo(os.Stderr, 1)
			h.t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
	}
}
