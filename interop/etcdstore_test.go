package interop

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/interop/peers"
	"github.com/seed05845750/bkrp/keystore"
	"github.com/seed05845750/bkrp/keystore/etcdstore"
	"github.com/seed05845750/bkrp/keystore/keystoretest"
	"go.uber.org/goleak"
)

// startEtcd starts a cluster of three members for one test.
func startEtcd(t *testing.T, hosts ...*peers.Host) *peers.Etcd {
	t.Helper()
	peers.Need(t, peers.EtcdPrograms...)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	e, err := peers.StartEtcd(ctx, 3, hosts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// etcdOptions are those of a client with a certificate.
func etcdOptions(e *peers.Etcd, prefix string) etcdstore.Options {
	return etcdstore.Options{
		Endpoints: e.Endpoints(), Prefix: prefix,
		CAFile: e.Client.CA, CertFile: e.Client.Cert, KeyFile: e.Client.Key,
	}
}

func openEtcd(t *testing.T, o etcdstore.Options) *etcdstore.Store {
	t.Helper()
	s, err := etcdstore.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// etcdConformance runs the suite of all backends, under a prefix for each test.
func etcdConformance(t *testing.T, o etcdstore.Options) {
	n, prefix := 0, o.Prefix
	o.Timeout = time.Minute // what is asked is not how fast the members are
	open := func(t *testing.T) keystore.Backend {
		n++
		o := o
		o.Prefix = fmt.Sprintf("%s%d/", prefix, n)
		return openEtcd(t, o)
	}
	reopen := func(t *testing.T, b keystore.Backend) keystore.Backend {
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		o := o
		o.Prefix = fmt.Sprintf("%s%d/", prefix, n)
		return openEtcd(t, o)
	}
	keystoretest.TestBackend(t, open, reopen)
}

func TestEtcdConformance(t *testing.T) {
	e := startEtcd(t)
	t.Run("backend", func(t *testing.T) { etcdConformance(t, etcdOptions(e, "/conformance/")) })
	t.Run("S-3.1.6-01", func(t *testing.T) { testEtcdWatchDelay(t, e) })
	t.Run("nothing is left running", func(t *testing.T) { testEtcdLeaks(t, e) })
	t.Run("a list is of one moment", func(t *testing.T) { testEtcdListMoment(t, e) })
	t.Run("prefixes do not meet", func(t *testing.T) { testEtcdPrefixes(t, e) })
}

// A change is told by every replica's watch within a second: most are, as a busy
// machine may be the reason for some that are not.
func testEtcdWatchDelay(t *testing.T, e *peers.Etcd) {
	writer := openEtcd(t, etcdOptions(e, "/delay/"))
	var told []<-chan string
	for range 3 {
		told = append(told, followEtcd(t, openEtcd(t, etcdOptions(e, "/delay/"))).names)
	}
	var delays []time.Duration
	var rev keystore.Revision
	for i := range 20 {
		start := time.Now()
		var err error
		if rev, err = writer.CompareAndSwap(t.Context(), "a", rev, fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
		for _, names := range told {
			if name := <-names; name != "a" {
				t.Fatalf("told of %q", name)
			}
		}
		delays = append(delays, time.Since(start))
	}
	slices.Sort(delays)
	median, worst := delays[len(delays)/2], delays[len(delays)-1]
	t.Logf("a write and its being told on three replicas takes %v, and %v at most", median, worst)
	if median > time.Second {
		t.Errorf("most changes were told after %v and more", median)
	}
}

// etcdFollower is a watch under way.
type etcdFollower struct {
	names chan string
	ended chan error
}

// followEtcd watches, and returns when the watch stands.
func followEtcd(t *testing.T, b keystore.Backend) *etcdFollower {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	f := &etcdFollower{names: make(chan string, 1<<12), ended: make(chan error, 1)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.ended <- b.Watch(ctx, func(name string) { f.names <- name })
	}()
	t.Cleanup(func() { cancel(); <-done })
	select {
	case name := <-f.names:
		if name != keystore.AnyName {
			t.Fatalf("the first that a watch tells is %q", name)
		}
	case err := <-f.ended:
		t.Fatalf("the watch does not stand: %v", err)
	}
	return f
}

func testEtcdLeaks(t *testing.T, e *peers.Etcd) {
	before := goleak.IgnoreCurrent()
	s, err := etcdstore.Open(t.Context(), etcdOptions(e, "/leaks/"))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	standing := make(chan struct{})
	go func() { ended <- s.Watch(t.Context(), func(string) { close(standing) }) }()
	<-standing
	if _, err := s.List(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, keystore.ErrClosed) {
		t.Errorf("Watch: %v, want ErrClosed", err)
	}
	// Connections take their time to end, at the other end too.
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		err := goleak.Find(before)
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func testEtcdPrefixes(t *testing.T, e *peers.Etcd) {
	one, two := openEtcd(t, etcdOptions(e, "/p")), openEtcd(t, etcdOptions(e, "/p/q"))
	other := openEtcd(t, etcdOptions(e, "/p0"))
	told := followEtcd(t, one)
	if _, err := other.CompareAndSwap(t.Context(), "a", 0, []byte("other")); err != nil {
		t.Fatal(err)
	}
	if _, err := two.CompareAndSwap(t.Context(), "a", 0, []byte("two")); err != nil {
		t.Fatal(err)
	}
	if name := <-told.names; name != "q/a" {
		t.Errorf("/p/ is told of %q, want what is below it alone", name)
	}
	if list, err := one.List(t.Context(), ""); err != nil || len(list) != 1 || list[0].Name != "q/a" {
		t.Errorf("/p/ lists %v, %v", list, err)
	}
}

// A list of several pages is of one revision: an entry on its first page is
// always written before one on its last.
func testEtcdListMoment(t *testing.T, e *peers.Etcd) {
	const entries = 300 // three pages
	s := openEtcd(t, etcdOptions(e, "/moment/"))
	revs := make([]keystore.Revision, entries)
	write := func(i int, value string) {
		rev, err := s.CompareAndSwap(t.Context(), fmt.Sprintf("%03d", i), revs[i], []byte(value))
		if err != nil {
			t.Error(err)
		}
		revs[i] = rev
	}
	for i := range revs {
		write(i, "0000")
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for n := 1; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			write(0, fmt.Sprintf("%04d", n))
			write(entries-1, fmt.Sprintf("%04d", n))
		}
	}()
	defer func() { close(stop); <-done }()
	reader := openEtcd(t, etcdOptions(e, "/moment/"))
	for range 50 {
		list, err := reader.List(t.Context(), "")
		if err != nil || len(list) != entries {
			t.Fatalf("%d entries, %v", len(list), err)
		}
		if first, last := string(list[0].Value), string(list[entries-1].Value); first < last {
			t.Fatalf("the first entry is %s and the last, written after it, %s", first, last)
		}
	}
}
