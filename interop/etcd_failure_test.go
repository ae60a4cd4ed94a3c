package interop

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/interop/peers"
	"github.com/seed05845750/bkrp/keystore"
	"github.com/seed05845750/bkrp/keystore/etcdstore"
)

// etcdNetwork is a cluster of which each member can be cut off.
type etcdNetwork struct {
	*peers.Etcd
	network *peers.Network
	hosts   []*peers.Host
}

func startEtcdNetwork(t *testing.T) *etcdNetwork {
	t.Helper()
	peers.Need(t, append(peers.NetworkPrograms, peers.EtcdPrograms...)...)
	network, err := peers.StartNetwork(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := network.Close(); err != nil {
			t.Error(err)
		}
	})
	n := &etcdNetwork{network: network}
	for range 3 {
		host, err := network.Join(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		n.hosts = append(n.hosts, host)
	}
	n.Etcd = startEtcd(t, n.hosts...)
	return n
}

// etcdLoad reads and swaps without a pause, and notes what that was like.
type etcdLoad struct {
	calls map[string]int
	worst map[string]time.Duration
	// away are the calls that etcd did not answer in time, because it was
	// long in finding a leader.
	away  []error
	wrong error // what must not be
}

// run works until stop is closed, or something is wrong. It is the one writer
// of its entry, so that a conflict would be with a write of its own.
func (l *etcdLoad) run(ctx context.Context, b keystore.Backend, stop <-chan struct{}) {
	l.calls, l.worst = make(map[string]int), make(map[string]time.Duration)
	var rev keystore.Revision
	var value, unsure string
	for i := 0; l.wrong == nil; i++ {
		select {
		case <-stop:
			return
		default:
		}
		read := l.call("get", func() error {
			got, gotRev, err := b.Get(ctx, "load")
			switch {
			case errors.Is(err, keystore.ErrNotFound) && rev == 0:
				return nil
			case err != nil:
				return err
			case unsure != "" && string(got) == unsure:
				rev, value = gotRev, unsure
			case gotRev != rev || string(got) != value:
				return fmt.Errorf("read %q at %d, and what was acknowledged is %q at %d", got, gotRev, value, rev)
			}
			return nil
		})
		if !read {
			continue
		}
		unsure = fmt.Sprint(i)
		l.call("swap", func() error {
			newRev, err := b.CompareAndSwap(ctx, "load", rev, []byte(unsure))
			if err == nil {
				rev, value, unsure = newRev, unsure, ""
			}
			return err
		})
	}
}

func (l *etcdLoad) call(kind string, f func() error) bool {
	start := time.Now()
	err := f()
	l.calls[kind]++
	l.worst[kind] = max(l.worst[kind], time.Since(start))
	if err != nil {
		err = fmt.Errorf("%s after %v: %w", kind, time.Since(start), err)
	}
	switch {
	case errors.Is(err, etcdstore.ErrUnavailable):
		l.away = append(l.away, err)
	case err != nil:
		l.wrong = err
	}
	return err == nil
}

// One member of three is lost, each in its turn, and with it the leader once: no
// call fails for want of it, and no write is made twice or taken for another's.
func TestEtcdMemberFails(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes a minute")
	}
	n := startEtcdNetwork(t)
	for _, loss := range []struct {
		name       string
		fail, mend func(i int) error
	}{
		{"killed", n.Kill, n.Restart},
		{"stopped", n.Pause, n.Resume},
		{"cut off", func(i int) error { return n.hosts[i].Cut(t.Context()) }, func(i int) error { return n.hosts[i].Heal(t.Context()) }},
	} {
		t.Run(loss.name, func(t *testing.T) { testEtcdLoss(t, n, loss.fail, loss.mend) })
	}
}

func testEtcdLoss(t *testing.T, n *etcdNetwork, fail, mend func(i int) error) {
	prefix := "/" + t.Name() + "/"
	var loads [4]etcdLoad
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for i := range loads {
		s := openEtcd(t, etcdOptions(n.Etcd, fmt.Sprintf("%s%d/", prefix, i)))
		wg.Go(func() { loads[i].run(t.Context(), s, stop) })
	}
	defer wg.Wait()
	watcher := &etcdWatcher{backend: openEtcd(t, etcdOptions(n.Etcd, prefix))}
	watcher.start(t)
	for i := range 3 {
		if err := fail(i); err != nil {
			t.Error(err)
		}
		time.Sleep(6 * time.Second) // longer than any call may take
		if err := mend(i); err != nil {
			t.Error(err)
		}
		if err := n.Ready(t.Context()); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	wg.Wait()
	for i := range loads {
		t.Logf("server %d: %v calls, the longest %v", i, loads[i].calls, loads[i].worst)
		if loads[i].wrong != nil {
			t.Errorf("server %d: %v", i, loads[i].wrong)
		}
		// An election may take its time on a busy machine, but not for ever: in the
		// 6 s of a loss and the time until it is mended two calls of 5 s begin.
		if len(loads[i].away) > 2*3 {
			t.Errorf("server %d: %d calls were not answered in time, two for each member were to be expected at most", i, len(loads[i].away))
		}
		for _, err := range loads[i].away {
			t.Logf("server %d: %v", i, err)
		}
	}
	t.Logf("the watch broke %d times and told of nothing for %v at most", watcher.breaks(), watcher.silence())
}

// etcdWatcher keeps a watch up as a Store does.
type etcdWatcher struct {
	backend keystore.Backend

	mu    sync.Mutex
	last  time.Time
	worst time.Duration
	ends  []error
}

func (w *etcdWatcher) start(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	w.last = time.Now()
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			err := w.backend.Watch(ctx, func(string) {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.worst, w.last = max(w.worst, time.Since(w.last)), time.Now()
			})
			w.mu.Lock()
			w.ends = append(w.ends, err)
			w.mu.Unlock()
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
}

func (w *etcdWatcher) breaks() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.ends)
}

func (w *etcdWatcher) silence() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.worst
}

// Nothing hangs while etcd is away, whatever the context, and no answer is
// taken for one that etcd did not give.
func TestEtcdAway(t *testing.T) {
	n := startEtcdNetwork(t)
	for _, loss := range []struct {
		name       string
		fail, mend func(i int) error
	}{
		{"cut off", func(i int) error { return n.hosts[i].Cut(t.Context()) }, func(i int) error { return n.hosts[i].Heal(t.Context()) }},
		{"stopped", n.Pause, n.Resume},
		{"killed", n.Kill, n.Restart},
	} {
		t.Run(loss.name, func(t *testing.T) {
			o := etcdOptions(n.Etcd, "/"+t.Name())
			o.Timeout = 2 * time.Second
			s := openEtcd(t, o)
			rev, err := s.CompareAndSwap(t.Context(), "a", 0, []byte("1"))
			if err != nil {
				t.Fatal(err)
			}
			watch := followEtcd(t, s)
			for i := range 3 {
				if err := loss.fail(i); err != nil {
					t.Fatal(err)
				}
			}
			testEtcdNoAnswer(t, s, o, rev)
			select {
			case err := <-watch.ended:
				t.Logf("the watch ended: %v", err)
			case <-time.After(time.Minute):
				t.Error("the watch goes on without etcd")
			}
			for i := range 3 {
				if err := loss.mend(i); err != nil {
					t.Fatal(err)
				}
			}
			if err := n.Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			for {
				if _, _, err = s.Get(t.Context(), "a"); err == nil {
					break
				}
				if time.Since(start) > time.Minute {
					t.Fatal(err)
				}
			}
			t.Logf("answers again %v after etcd", time.Since(start))
		})
	}
}

func testEtcdNoAnswer(t *testing.T, s *etcdstore.Store, o etcdstore.Options, rev keystore.Revision) {
	slack := 500 * time.Millisecond
	for name, call := range map[string]func() error{
		"Get":    func() error { _, _, err := s.Get(context.Background(), "a"); return err },
		"absent": func() error { _, _, err := s.Get(context.Background(), "absent"); return err },
		"List":   func() error { _, err := s.List(context.Background(), ""); return err },
		"swap":   func() error { _, err := s.CompareAndSwap(context.Background(), "a", rev, []byte("2")); return err },
		"delete": func() error { _, err := s.CompareAndSwap(context.Background(), "a", rev, nil); return err },
		"Open":   func() error { _, err := etcdstore.Open(context.Background(), o); return err },
	} {
		var err error
		var took time.Duration
		for range 3 { // a machine that stands still makes one take long, and not all
			start := time.Now()
			err = call()
			if took = time.Since(start); took <= o.Timeout+slack {
				break
			}
		}
		if !errors.Is(err, etcdstore.ErrUnavailable) || errors.Is(err, keystore.ErrNotFound) || errors.Is(err, keystore.ErrConflict) {
			t.Errorf("%s: %v, want ErrUnavailable", name, err)
		}
		if took > o.Timeout+slack {
			t.Errorf("%s took %v, and its time is %v", name, took, o.Timeout)
		}
		if write := name == "swap" || name == "delete"; write != errors.Is(err, etcdstore.ErrUnknownOutcome) {
			t.Errorf("%s: %v; whether the outcome is unknown", name, err)
		}
		if err == nil || !strings.Contains(err.Error(), o.Endpoints[2]) {
			t.Errorf("%s: %v; it does not say which endpoints", name, err)
		}
		if name == "swap" {
			t.Logf("after %v: %v", took, err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if _, _, err := s.Get(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Get with a short context: %v", err)
	}
}

// A member that has lost the others answers its connections as before; a watch
// on it ends within seconds.
func TestEtcdWatchOnLonelyMember(t *testing.T) {
	n := startEtcdNetwork(t)
	for i := range 3 {
		o := etcdOptions(n.Etcd, "/lonely/")
		o.Endpoints = o.Endpoints[i : i+1]
		watch := followEtcd(t, openEtcd(t, o))
		for _, other := range []int{(i + 1) % 3, (i + 2) % 3} {
			if err := n.hosts[other].Cut(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		start := time.Now()
		select {
		case err := <-watch.ended:
			t.Logf("member %d: the watch ended after %v: %v", i, time.Since(start), err)
		case <-time.After(time.Minute):
			t.Errorf("member %d: the watch goes on without a leader", i)
		}
		for _, host := range n.hosts {
			if err := host.Heal(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if err := n.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
