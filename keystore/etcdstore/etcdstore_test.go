package etcdstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/keystore"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// unhurried is the time for an operation that no busy machine exceeds, nor one
// attempt its fifth.
const unhurried = 2 * time.Minute

// openFake opens a store on the cluster by two members, at one of which nothing
// listens.
func openFake(t *testing.T, c *fakeCluster) *Store {
	t.Helper()
	m := &fakeMember{cluster: c}
	s, err := Open(t.Context(), Options{Endpoints: []string{m.serve(t), "http://127.0.0.1:1"}, Timeout: unhurried})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// lost are errors after which a transaction may have been made.
var lost = map[string]error{
	"server timed out":     rpctypes.ErrGRPCTimeout,
	"leader failed":        rpctypes.ErrGRPCTimeoutDueToLeaderFail,
	"leader changed":       rpctypes.ErrGRPCLeaderChanged,
	"server gave up":       status.Error(codes.DeadlineExceeded, "context deadline exceeded"),
	"server was cancelled": status.Error(codes.Canceled, "context canceled"),
	"raw context error":    status.Error(codes.Unknown, "context deadline exceeded"),
	"connection broke":     status.Error(codes.Unavailable, "transport is closing"),
}

// Our own write, whose answer was lost, is a success and no conflict, and is
// made once.
func TestLostAnswer(t *testing.T) {
	for name, lose := range lost {
		t.Run(name, func(t *testing.T) {
			c := newFakeCluster()
			c.after = func(txn int) error {
				if txn <= 3 {
					return lose
				}
				return nil
			}
			s := openFake(t, c)
			rev, err := s.CompareAndSwap(t.Context(), "a", 0, []byte("1"))
			if err != nil {
				t.Fatal(err)
			}
			if got, gotRev, err := s.Get(t.Context(), "a"); err != nil || string(got) != "1" || gotRev != rev {
				t.Errorf("Get = %q, %d, %v, and %d was acknowledged", got, gotRev, err, rev)
			}
			if c.revision != 2 {
				t.Errorf("the entry was written %d times", c.revision-1)
			}
		})
	}
}

// A lost answer and a writer behind us: whether we were first is not known.
func TestLostAnswerAndAnotherWriter(t *testing.T) {
	for _, test := range []struct {
		name  string
		value []byte // nil deletes
		next  []byte // what another writer leaves; nil for nothing
	}{
		{"overwritten", []byte("1"), []byte("2")},
		{"removed", []byte("1"), nil},
		{"deleted and created", nil, []byte("2")},
		{"deleted", nil, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newFakeCluster()
			key := DefaultPrefix + "a"
			c.put(key, join(newWriteID(), []byte("0")))
			c.after = func(txn int) error {
				if txn > 1 {
					return nil
				}
				if delete(c.kvs, key); test.next != nil {
					c.put(key, join(newWriteID(), test.next))
				}
				return rpctypes.ErrGRPCLeaderChanged
			}
			s := openFake(t, c)
			_, err := s.CompareAndSwap(t.Context(), "a", keystore.Revision(c.revision), test.value)
			if !errors.Is(err, ErrUnknownOutcome) || errors.Is(err, keystore.ErrConflict) || errors.Is(err, keystore.ErrNotFound) {
				t.Errorf("%v, want ErrUnknownOutcome", err)
			}
		})
	}
}

// What etcd refuses outright is said as it is, and at once.
func TestRefusals(t *testing.T) {
	for _, test := range []struct{ etcd, want error }{
		{rpctypes.ErrGRPCPermissionDenied, ErrPermission},
		{rpctypes.ErrGRPCNoSpace, ErrFull},
		{rpctypes.ErrGRPCRequestTooLarge, keystore.ErrTooLarge},
		{rpctypes.ErrGRPCUserEmpty, ErrLogon},
	} {
		c := newFakeCluster()
		c.after = func(int) error { return test.etcd }
		s := openFake(t, c)
		_, err := s.CompareAndSwap(t.Context(), "a", 0, []byte("1"))
		if !errors.Is(err, test.want) || errors.Is(err, ErrUnknownOutcome) || c.txns != 1 {
			t.Errorf("%v after %d attempts, want %v after one", err, c.txns, test.want)
		}
	}
	t.Run("after an attempt that may have been successful", func(t *testing.T) {
		c := newFakeCluster()
		c.after = func(txn int) error {
			if txn == 1 {
				return rpctypes.ErrGRPCTimeout
			}
			return rpctypes.ErrGRPCPermissionDenied
		}
		_, err := openFake(t, c).CompareAndSwap(t.Context(), "a", 0, []byte("1"))
		if !errors.Is(err, ErrUnknownOutcome) || !errors.Is(err, ErrPermission) {
			t.Errorf("%v, want ErrUnknownOutcome and ErrPermission", err)
		}
	})
}

// An entry whose stored form is damaged, or another's, is named, hides none beside
// it, and can be written anew at its revision.
func TestDamagedEntry(t *testing.T) {
	c := newFakeCluster()
	s := openFake(t, c)
	for _, name := range []string{"a", "b", "c"} {
		if _, err := s.CompareAndSwap(t.Context(), name, 0, []byte("1")); err != nil {
			t.Fatal(err)
		}
	}
	for _, stored := range []string{"", "\x01short", strings.Repeat("\x02", 40)} {
		c.mu.Lock()
		c.put(DefaultPrefix+"b", []byte(stored))
		c.mu.Unlock()
		list, err := s.List(t.Context(), "")
		if err != nil || len(list) != 3 || string(list[0].Value) != "1" || len(list[1].Value) != 0 || list[1].Name != "b" || string(list[2].Value) != "1" {
			t.Errorf("beside %q: %v, %v", stored, list, err)
		}
		value, rev, err := s.Get(t.Context(), "b")
		if value != nil || rev == 0 || !errors.Is(err, keystore.ErrCorrupt) || !strings.Contains(err.Error(), `"b"`) {
			t.Errorf("of %q: %q, %d, %v; want its revision and ErrCorrupt", stored, value, rev, err)
		}
		if _, err := s.CompareAndSwap(t.Context(), "b", rev, []byte("2")); err != nil {
			t.Errorf("writing it anew: %v", err)
		}
	}
}

// A list that is too long for the time of one attempt, or of one operation, is
// read in more pages.
func TestListOverASlowWay(t *testing.T) {
	t.Parallel() // it waits, most of the time
	c := newFakeCluster()
	for i := range 2 * pageSize {
		c.put(fmt.Sprintf("%s%04d", DefaultPrefix, i), join(newWriteID(), []byte("1")))
	}
	// A whole page never comes. A smaller one takes a third of an attempt's time:
	// on a busy machine one may still be late, which costs one attempt of five.
	const (
		fits  = pageSize / 8
		pause = DefaultTimeout / patienceShare / 3
	)
	var late, took atomic.Int64
	m := &fakeMember{cluster: c, slow: func(ctx context.Context, r *pb.RangeRequest) error {
		switch {
		case r.KeysOnly: // Open looks whether it may read
		case r.Limit > fits:
			late.Add(1)
			<-ctx.Done()
			return status.FromContextError(ctx.Err()).Err()
		default:
			took.Add(int64(pause))
			time.Sleep(pause)
		}
		return nil
	}}
	s, err := Open(t.Context(), Options{Endpoints: []string{m.serve(t)}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	list, err := s.List(t.Context(), "")
	if err != nil || len(list) != 2*pageSize {
		t.Fatalf("%d entries, %v", len(list), err)
	}
	if late.Load() != 1 {
		t.Errorf("a whole page was asked for %d times, want once", late.Load())
	}
	if time.Duration(took.Load()) < DefaultTimeout {
		t.Errorf("it was not slow: %v", time.Duration(took.Load()))
	}
}

// Revisions of another cluster mean something else.
func TestOtherCluster(t *testing.T) {
	c := newFakeCluster()
	s := openFake(t, c)
	c.mu.Lock()
	c.id++
	c.mu.Unlock()
	if _, _, err := s.Get(t.Context(), "a"); !errors.Is(err, ErrOtherCluster) || errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("Get: %v, want ErrOtherCluster", err)
	}
}

// So do those of a cluster that was set back to a snapshot, under its own
// identity: what is absent there may be in use. It stays refused when its
// revisions have grown beyond where they were.
func TestSetBackCluster(t *testing.T) {
	c := newFakeCluster()
	s := openFake(t, c)
	for _, name := range []string{"a", "b"} {
		if _, err := s.CompareAndSwap(t.Context(), name, 0, []byte("1")); err != nil {
			t.Fatal(err)
		}
	}
	c.mu.Lock()
	delete(c.kvs, DefaultPrefix+"b")
	c.revision--
	c.mu.Unlock()
	for range 2 {
		if _, _, err := s.Get(t.Context(), "b"); !errors.Is(err, ErrOtherCluster) || errors.Is(err, keystore.ErrNotFound) {
			t.Errorf("Get: %v, want ErrOtherCluster", err)
		}
		if _, err := s.CompareAndSwap(t.Context(), "b", 0, []byte("2")); !errors.Is(err, ErrOtherCluster) {
			t.Errorf("CompareAndSwap: %v, want ErrOtherCluster", err)
		}
		c.mu.Lock()
		c.revision += 10
		c.mu.Unlock()
	}
	if _, _, err := openFake(t, c).Get(t.Context(), "a"); err != nil {
		t.Errorf("by a server that is started anew: %v", err)
	}
}

// A watch that is not answered, or ends, says so.
func TestWatchEnds(t *testing.T) {
	c := newFakeCluster()
	created := &pb.WatchResponse{Header: c.header(), Created: true}
	for _, test := range []struct {
		name   string
		stands bool
		watch  func(stream pb.Watch_WatchServer) error
		want   string
	}{
		{"never answered", false, func(stream pb.Watch_WatchServer) error { <-stream.Context().Done(); return nil }, errSilent.Error()},
		{"silent", true, func(stream pb.Watch_WatchServer) error {
			_ = stream.Send(created)
			<-stream.Context().Done()
			return nil
		}, errSilent.Error()},
		{"compacted", true, func(stream pb.Watch_WatchServer) error {
			_ = stream.Send(created)
			_ = stream.Send(&pb.WatchResponse{Header: c.header(), Canceled: true, CompactRevision: 9})
			<-stream.Context().Done()
			return nil
		}, "compacted"},
		{"no leader", true, func(stream pb.Watch_WatchServer) error {
			_ = stream.Send(created)
			return rpctypes.ErrGRPCNoLeader
		}, "no leader"},
		{"closed", true, func(stream pb.Watch_WatchServer) error { _ = stream.Send(created); return nil }, "EOF"},
		{"refused", false, func(stream pb.Watch_WatchServer) error {
			return stream.Send(&pb.WatchResponse{Header: c.header(), Created: true, Canceled: true, CancelReason: "rpc error: code = PermissionDenied desc = etcdserver: permission denied"})
		}, ErrPermission.Error()},
		{"other cluster", true, func(stream pb.Watch_WatchServer) error {
			_ = stream.Send(created)
			return stream.Send(&pb.WatchResponse{Header: &pb.ResponseHeader{ClusterId: 99}})
		}, ErrOtherCluster.Error()},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := &fakeMember{cluster: c, watch: test.watch}
			o := Options{Endpoints: []string{m.serve(t)}, Timeout: unhurried}
			if test.name == "never answered" {
				o.Timeout = 0 // or it would be waited for
			}
			s, err := Open(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			stood := false
			err = s.Watch(t.Context(), func(name string) { stood = stood || name == keystore.AnyName })
			if err == nil || !strings.Contains(err.Error(), test.want) || stood != test.stands {
				t.Errorf("%v, stood %v; want %q, %v", err, stood, test.want, test.stands)
			}
		})
	}
}

func TestOptions(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("no certificate"), 0o644); err != nil {
		t.Fatal(err)
	}
	secure := []string{"https://etcd.example:2379"}
	for name, o := range map[string]Options{
		"no endpoint":         {},
		"no port":             {Endpoints: []string{"https://etcd.example"}},
		"path":                {Endpoints: []string{"https://etcd.example:2379/v3"}},
		"query":               {Endpoints: []string{"https://etcd.example:2379?x"}},
		"password in URL":     {Endpoints: []string{"https://user:Sesame@etcd.example:2379"}},
		"other scheme":        {Endpoints: []string{"unix:///etcd.sock"}},
		"plaintext":           {Endpoints: []string{"http://etcd.example:2379"}},
		"plaintext, address":  {Endpoints: []string{"http://192.0.2.1:2379"}},
		"mixed":               {Endpoints: []string{"https://etcd.example:2379", "http://127.0.0.1:2379"}},
		"mixed, plaintext":    {Endpoints: []string{"http://etcd.example:2379", "https://127.0.0.1:2379"}, Plaintext: true},
		"no authority":        {Endpoints: secure},
		"authority is absent": {Endpoints: secure, CAFile: filepath.Join(dir, "absent")},
		"authority is none":   {Endpoints: secure, CAFile: file},
		"user alone":          {Endpoints: []string{"http://127.0.0.1:1"}, User: "u"},
		"password alone":      {Endpoints: []string{"http://127.0.0.1:1"}, Password: "Sesame"},
		"short timeout":       {Endpoints: []string{"http://127.0.0.1:1"}, Timeout: time.Millisecond},
		"negative timeout":    {Endpoints: []string{"http://127.0.0.1:1"}, Timeout: -time.Second},
		"long prefix":         {Endpoints: []string{"http://127.0.0.1:1"}, Prefix: strings.Repeat("p", maxPrefix)},
	} {
		if _, err := Open(t.Context(), o); !errors.Is(err, ErrOptions) || strings.Contains(err.Error(), "Sesame") {
			t.Errorf("%s: %v, want ErrOptions", name, err)
		}
	}
	for _, endpoint := range []string{"http://127.0.0.1:2379", "http://localhost:2379", "http://[::1]:2379/"} {
		if _, secure, err := checkEndpoints([]string{endpoint}, false); err != nil || secure {
			t.Errorf("%s: %v, %v", endpoint, secure, err)
		}
	}
	if urls, secure, err := checkEndpoints([]string{"etcd.example:2379"}, false); err != nil || !secure || urls[0] != "https://etcd.example:2379" {
		t.Errorf("without a scheme: %q, %v, %v", urls, secure, err)
	}
}

func TestPasswordIsRedacted(t *testing.T) {
	var b bytes.Buffer
	p := Password("Sesame")
	slog.New(slog.NewTextHandler(&b, nil)).Info("m", "p", p)
	fmt.Fprintf(&b, "%v %+v %#v %s %q", p, Options{Password: p}, Options{Password: p}, p, p)
	if _, err := p.MarshalText(); err == nil || strings.Contains(b.String(), "Sesame") {
		t.Errorf("the password is told: %v %s", err, &b)
	}
}
