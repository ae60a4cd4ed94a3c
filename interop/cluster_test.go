package interop

import (
	"context"
	"flag"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/interop/peers"
	"github.com/seed05845750/bkrp/keystore"
)

var (
	clusterRounds = flag.Int("cluster.rounds", 4, "how often something is broken in the cluster, in TestCluster/rounds")
	clusterSeed   = flag.Uint64("cluster.seed", 0, "what is broken, how and when; 0 draws it")
)

// Three servers on three members of etcd, of which any one may be lost at any
// moment. Histories of what happened are checked, not only the end.
func TestCluster(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes a minute")
	}
	seed := *clusterSeed
	if seed == 0 {
		seed = mathrand.Uint64()
	}
	t.Logf("-cluster.seed %d", seed)
	c := startCluster(t)
	t.Run("first calls", func(t *testing.T) { testClusterFirstCalls(t, c) })
	t.Run("first use", func(t *testing.T) { testClusterFirstUse(t, c, seed) })
	t.Run("rounds", func(t *testing.T) { testClusterRounds(t, c, seed) })
	t.Run("failover", func(t *testing.T) { testClusterFailover(t, c) })
}

// 200 clients that are the first to call, at three servers at the same time, make
// one key of each kind.
func testClusterFirstCalls(t *testing.T, c *cluster) {
	const calls = 200
	d := c.newDomain(t, "first", "canary_interval=0s") // the clients are to be first
	d.start(t)
	h := newClusterHistory()
	heard := listenToEtcd(t, c.Etcd, d.prefix, h.origin)
	load := &clusterLoad{domain: d, history: h}
	callers := d.logOn(t, calls)
	start := time.Now()
	load.callFirst(t.Context(), callers)
	t.Logf("%d first calls at %d servers took %v", calls, clusterSize, time.Since(start))
	load.verify(t.Context())
	report := checkCluster(t, c, d, load, heard)
	report.oneKeyEach(t)
	if len(h.ops) != calls*(1+clusterSize) || len(load.secrets) != calls {
		t.Errorf("%d operations and %d secrets of %d calls", len(h.ops), len(load.secrets), calls)
	}
	t.Logf("%d keys were made, of which %d stay unused", len(h.born), len(h.born)-2)
}

// logOn has alice logged on so many times, by turns at all servers.
func (d *clusterDomain) logOn(t *testing.T, n int) []*clusterCaller {
	t.Helper()
	callers := make([]*clusterCaller, n)
	var wg sync.WaitGroup
	for i := range callers {
		c := &clusterCaller{domain: d, server: i % clusterSize, user: peers.Alice}
		callers[i] = c
		wg.Go(func() {
			if err := c.call(t.Context(), func(context.Context, *bkrpclient.Client) error { return nil }); err != nil {
				t.Errorf("logging on at server %d: %v", c.server, err)
			}
		})
	}
	wg.Wait()
	t.Cleanup(func() {
		for _, c := range callers {
			c.close()
		}
	})
	return callers
}

// callFirst has all call at the same moment, half of them for each kind of key,
// and again until they are answered.
func (l *clusterLoad) callFirst(ctx context.Context, callers []*clusterCaller) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	begin := make(chan struct{})
	for i, caller := range callers {
		wg.Go(func() {
			<-begin
			for done := false; !done && ctx.Err() == nil; {
				if i/clusterSize%2 == 0 {
					done = l.wrap(ctx, caller)
				} else {
					done = l.retrieve(ctx, caller, bkrp.ClientWrappedVersion3)
				}
				if !done {
					time.Sleep(50 * time.Millisecond)
				}
			}
		})
	}
	close(begin)
	wg.Wait()
}

// testClusterFirstUse breaks something while a new store is used first.
func testClusterFirstUse(t *testing.T, c *cluster, seed uint64) {
	r := mathrand.New(mathrand.NewPCG(seed, 2<<32))
	for round := range (*clusterRounds + 3) / 4 {
		d := c.newDomain(t, fmt.Sprintf("use%d", round), "canary_interval=0s")
		d.start(t)
		load := &clusterLoad{domain: d, history: newClusterHistory()}
		heard := listenToEtcd(t, c.Etcd, d.prefix, load.history.origin)
		stopClock := load.history.watchClock()
		callers := d.logOn(t, 30)
		struck := make(chan error, 1)
		b := c.draw(d, r)
		after, hold := time.Duration(r.IntN(150))*time.Millisecond, time.Second+time.Duration(r.IntN(3000))*time.Millisecond
		go func() { struck <- c.strike(t.Context(), d, load.history, b, after, hold) }()
		time.Sleep(time.Duration(r.IntN(150)) * time.Millisecond)
		load.callFirst(t.Context(), callers)
		if err := <-struck; err != nil {
			t.Fatal(err)
		}
		load.verify(t.Context())
		stopClock()
		t.Logf("first use %d: %v", round, &load.history.faults[0])
		checkCluster(t, c, d, load, heard).oneKeyEach(t)
		if len(load.secrets) != len(callers) {
			t.Errorf("%d calls of %d were answered in the end", len(load.secrets), len(callers))
		}
		heard.close()
		for _, s := range d.servers {
			if err := s.kill(); err != nil {
				t.Error(err)
			}
		}
	}
}

// oneKeyEach fails unless one key of each kind was handed out.
func (r *clusterReport) oneKeyEach(t *testing.T) {
	t.Helper()
	for _, kind := range []keystore.KeyKind{keystore.ClientWrap, keystore.ServerWrap} {
		if len(r.handedOut[kind]) != 1 {
			t.Errorf("%v keys %v were handed out, want one", kind, r.handedOut[kind])
		}
	}
}

// clusterReport is what a history comes to.
type clusterReport struct {
	handedOut map[keystore.KeyKind]map[dtyp.GUID]int // how often
	unwraps   [clusterSize]int                       // before the end
}

// checkCluster takes in what etcd had, checks the history and says what it was.
func checkCluster(t *testing.T, c *cluster, d *clusterDomain, load *clusterLoad, heard *etcdHistory) *clusterReport {
	t.Helper()
	h := load.history
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	events, err := heard.whole(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.takeIn(ctx, d.kek, events); err != nil {
		t.Fatal(err)
	}
	for _, finding := range h.check(clusterSize) {
		t.Error(finding)
	}
	if t.Failed() { // kept by -artifacts
		file := filepath.Join(t.ArtifactDir(), "history.txt")
		if err := os.WriteFile(file, h.text(), 0o600); err != nil {
			t.Error(err)
		}
		t.Logf("with -artifacts, the history is kept in %s", file)
	}
	report := &clusterReport{handedOut: make(map[keystore.KeyKind]map[dtyp.GUID]int)}
	counts, oldest, slowest := make(map[string]int), time.Duration(0), time.Duration(0)
	for i := range h.ops {
		o := &h.ops[i]
		counts[fmt.Sprintf("%v %v", o.action, o.outcome)]++
		if o.action == opUnwrap && !h.broken(o.server, o.start, o.end) {
			slowest = max(slowest, o.end-o.start)
			report.unwraps[o.server]++
		}
		if !o.acknowledges() {
			continue
		}
		if report.handedOut[o.kind] == nil {
			report.handedOut[o.kind] = make(map[dtyp.GUID]int)
		}
		report.handedOut[o.kind][o.key]++
		_, late := h.late(o)
		oldest = max(oldest, late)
	}
	t.Logf("%s: %d operations %v; %d keys, %d pointers and %d rotations of ClientWrap, %d and %d of ServerWrap written; the oldest key handed out had been replaced %v before; the slowest unwrap of a live server took %v; the machine stood still for %v",
		d.prefix, len(h.ops), counts, len(h.born), len(h.pointers[keystore.ClientWrap]), len(h.rotations[keystore.ClientWrap]),
		len(h.pointers[keystore.ServerWrap]), len(h.rotations[keystore.ServerWrap]), oldest, slowest, h.stalls)
	return report
}

// testClusterRounds breaks one thing after the other while clients call and
// operators rotate.
func testClusterRounds(t *testing.T, c *cluster, seed uint64) {
	d := c.newDomain(t, "rounds", "canary_interval=2s")
	d.start(t)
	h := newClusterHistory()
	heard := listenToEtcd(t, c.Etcd, d.prefix, h.origin)
	load := &clusterLoad{domain: d, history: h}
	stopClock := h.watchClock()
	defer stopClock()
	stopLoad := load.start(t.Context(), seed)
	defer stopLoad()
	stopRotating := startOperators(t, c, d, h, seed)
	defer stopRotating()
	r := mathrand.New(mathrand.NewPCG(seed, 1<<32))
	victims := make(map[string]int)
	for round := range *clusterRounds {
		b := c.draw(d, r)
		after, hold := time.Duration(r.IntN(1500))*time.Millisecond, time.Second+time.Duration(r.IntN(5000))*time.Millisecond
		if b.fault.way == wayIsolated {
			hold += 3 * time.Second // or its watch of etcd would not notice
		}
		if r.IntN(20) == 0 && *clusterRounds > 20 {
			hold += 20 * time.Second // until the others take it for dead
		}
		if err := c.strike(t.Context(), d, h, b, after, hold); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		t.Logf("round %d: %v", round, &h.faults[round])
		time.Sleep(time.Duration(r.IntN(1500)) * time.Millisecond)
		victim := "server "
		if b.fault.etcd {
			victim = "etcd "
		}
		victims[victim+b.fault.way]++
	}
	stopRotating()
	stopLoad()
	stopClock()
	verify := time.Now()
	load.verify(t.Context())
	t.Logf("%d rounds, victims %v; %d secrets opened on each server in %v", *clusterRounds, victims, len(load.secrets), time.Since(verify))
	report := checkCluster(t, c, d, load, heard)
	for server, unwraps := range report.unwraps {
		if unwraps < *clusterRounds {
			t.Errorf("server %d unwrapped %d secrets in %d rounds: that shows nothing", server, unwraps, *clusterRounds)
		}
	}
	testClusterAgrees(t, d, h)
}

// startOperators rotates the keys of both kinds until the function that it
// returns is called.
func startOperators(t *testing.T, c *cluster, d *clusterDomain, h *clusterHistory, seed uint64) (stop func()) {
	store := d.open(t, c.Etcd)
	stopped := make(chan struct{})
	var wg sync.WaitGroup
	for _, kind := range []keystore.KeyKind{keystore.ClientWrap, keystore.ServerWrap} {
		op := &operator{store: store, history: h, kind: kind, rand: mathrand.New(mathrand.NewPCG(seed, 1<<33+uint64(kind)))}
		wg.Go(func() { op.rotate(t.Context(), stopped) })
	}
	return sync.OnceFunc(func() { close(stopped); wg.Wait() })
}

// testClusterAgrees looks whether all servers hand out the key that etcd points
// to, once everything is as it should be.
func testClusterAgrees(t *testing.T, d *clusterDomain, h *clusterHistory) {
	after := &clusterLoad{domain: d, history: newClusterHistory()}
	for server := range d.servers {
		c := &clusterCaller{domain: d, server: server, user: peers.Alice}
		defer c.close()
		after.wrap(t.Context(), c)
		after.retrieve(t.Context(), c, bkrp.ClientWrappedVersion3)
	}
	for i := range after.history.ops {
		o := &after.history.ops[i]
		writes := h.pointers[o.kind]
		if len(writes) == 0 || o.outcome != opDone || o.key != writes[len(writes)-1].key {
			t.Errorf("in the end: %v, want the key of the last of %d pointers", o, len(writes))
		}
	}
}
