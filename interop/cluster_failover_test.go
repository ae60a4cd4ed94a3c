package interop

import (
	"context"
	"testing"
	"time"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/interop/peers"
	"github.com/seed05845750/bkrp/keystore"
)

// testClusterFailover measures how long what is lost is missed: wraps after the
// leader of etcd was killed, writes to etcd then, and a server that is killed and
// started anew.
func testClusterFailover(t *testing.T, c *cluster) {
	d := c.newDomain(t, "failover")
	d.start(t)
	h := newClusterHistory()
	load := &clusterLoad{domain: d, history: h}
	for server := range d.servers {
		first := &clusterCaller{domain: d, server: server, user: peers.Alice}
		defer first.close()
		if !load.wrap(t.Context(), first) || !load.retrieve(t.Context(), first, bkrp.ClientWrappedVersion3) {
			t.Fatalf("server %d: %v", server, h.ops)
		}
	}
	t.Run("leader of etcd", func(t *testing.T) { testLeaderKilled(t, c, d, load) })
	t.Run("server", func(t *testing.T) { testServerRestarted(t, d) })
}

// testLeaderKilled kills the leader while all servers wrap.
func testLeaderKilled(t *testing.T, c *cluster, d *clusterDomain, load *clusterLoad) {
	leader := c.leader(t)
	store := d.open(t, c.Etcd)
	if _, err := store.BeginRotation(t.Context(), keystore.ServerWrap); err != nil {
		t.Fatal(err)
	}
	stopLoad := load.start(t.Context(), 1)
	defer stopLoad()
	time.Sleep(time.Second)
	if err := c.Kill(leader); err != nil {
		t.Fatal(err)
	}
	killed := load.history.now()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for {
		_, err := store.RollBackRotation(ctx, keystore.ServerWrap) // writes twice
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
	written := load.history.now()
	time.Sleep(5 * time.Second) // until every server has noticed
	stopLoad()
	if err := c.Restart(leader); err != nil {
		t.Fatal(err)
	}
	if err := c.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("etcd was written to again %v after its leader was killed", written-killed)
	for server := range d.servers {
		gap, lost := load.history.longestGap(server, killed)
		t.Logf("server %d: the longest time without a wrap, retrieval or unwrap was %v; %d calls failed", server, gap, lost)
		if lost > 0 {
			t.Errorf("server %d: calls failed though it had the keys", server)
		}
	}
}

// leader is the number of etcd's leader.
func (c *cluster) leader(t *testing.T) int {
	t.Helper()
	client := etcdClient(t, c.Etcd, "", "")
	for i, endpoint := range c.Endpoints() {
		status, err := client.Status(t.Context(), endpoint)
		if err != nil {
			t.Fatal(err)
		}
		if status.Leader == status.Header.MemberId {
			return i
		}
	}
	t.Fatal("etcd has no leader")
	return 0
}

// longestGap is the longest time in which no call of a server ended well, from a
// second before a moment on, and how many calls did not.
func (h *clusterHistory) longestGap(server int, from time.Duration) (gap time.Duration, lost int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	last := from - time.Second
	for i := range h.ops {
		o := &h.ops[i]
		if o.server != server || o.end < last {
			continue
		}
		if o.outcome == opDone || o.action == opSteal && o.outcome == opRefused {
			gap, last = max(gap, o.end-last), o.end
		} else {
			lost++
		}
	}
	return gap, lost
}

// testServerRestarted kills each server and starts it again at once.
func testServerRestarted(t *testing.T, d *clusterDomain) {
	for server, s := range d.servers {
		start := time.Now()
		if err := s.kill(); err != nil {
			t.Fatal(err)
		}
		killed := time.Now()
		if err := s.start(); err != nil {
			t.Fatal(err)
		}
		listens := time.Now()
		if err := d.answers(t.Context(), server, 30*time.Second); err != nil {
			t.Error(err)
		}
		t.Logf("server %d: killed in %v, listens %v later, has answered a logon and a call %v later",
			server, killed.Sub(start), listens.Sub(killed), time.Since(listens))
	}
}
