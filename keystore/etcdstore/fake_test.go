package etcdstore

import (
	"context"
	"maps"
	"net"
	"slices"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	mvccpb "go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"
)

// fakeCluster is as much of etcd as the store asks for, in which answers can
// get lost. Package interop asks real ones.
type fakeCluster struct {
	mu       sync.Mutex
	id       uint64
	revision int64
	kvs      map[string]*mvccpb.KeyValue
	txns     int
	// after is asked after each transaction was done, with its number from 1
	// on; an error takes the place of the answer.
	after func(txn int) error
}

// fakeMember is one way to ask the cluster.
type fakeMember struct {
	pb.UnimplementedKVServer
	pb.UnimplementedWatchServer
	cluster *fakeCluster
	// watch answers a watch.
	watch func(stream pb.Watch_WatchServer) error
	// slow is called before a range is read; it holds nobody else up.
	slow func(ctx context.Context, r *pb.RangeRequest) error
}

func newFakeCluster() *fakeCluster {
	return &fakeCluster{id: 7, revision: 1, kvs: make(map[string]*mvccpb.KeyValue)}
}

// serve makes the member listen, and returns its endpoint.
func (m *fakeMember) serve(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	pb.RegisterKVServer(server, m)
	pb.RegisterWatchServer(server, m)
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	t.Cleanup(func() { server.Stop(); <-done })
	return "http://" + l.Addr().String()
}

func (c *fakeCluster) header() *pb.ResponseHeader {
	return &pb.ResponseHeader{ClusterId: c.id, Revision: c.revision}
}

// Range answers for one key, or for a range.
func (m *fakeMember) Range(ctx context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	if m.slow != nil && r.RangeEnd != nil {
		if err := m.slow(ctx, r); err != nil {
			return nil, err
		}
	}
	c := m.cluster
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.read(r), nil
}

func (c *fakeCluster) read(r *pb.RangeRequest) *pb.RangeResponse {
	resp := &pb.RangeResponse{Header: c.header()}
	if r.RangeEnd != nil {
		for _, key := range slices.Sorted(maps.Keys(c.kvs)) {
			if string(r.Key) <= key && key < string(r.RangeEnd) {
				resp.Kvs = append(resp.Kvs, c.kvs[key])
			}
		}
		resp.Count = int64(len(resp.Kvs))
		if r.Limit > 0 && resp.Count > r.Limit {
			resp.Kvs, resp.More = resp.Kvs[:r.Limit], true
		}
		return resp
	}
	if kv, ok := c.kvs[string(r.Key)]; ok {
		resp.Kvs, resp.Count = []*mvccpb.KeyValue{kv}, 1
	}
	return resp
}

// Txn compares one modification revision.
func (m *fakeMember) Txn(_ context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	c := m.cluster
	c.mu.Lock()
	defer c.mu.Unlock()
	key := string(r.Compare[0].Key)
	resp := &pb.TxnResponse{Succeeded: c.kvs[key].GetModRevision() == r.Compare[0].GetModRevision()}
	ops := r.Failure
	if resp.Succeeded {
		ops = r.Success
	}
	for _, op := range ops {
		answer := &pb.ResponseOp{}
		switch {
		case op.GetRequestPut() != nil:
			c.put(key, op.GetRequestPut().Value)
		case op.GetRequestDeleteRange() != nil:
			c.revision++
			delete(c.kvs, key)
		default:
			answer.Response = &pb.ResponseOp_ResponseRange{ResponseRange: c.read(op.GetRequestRange())}
		}
		resp.Responses = append(resp.Responses, answer)
	}
	resp.Header = c.header()
	c.txns++
	if c.after != nil {
		if err := c.after(c.txns); err != nil {
			return nil, err
		}
	}
	return resp, nil
}

// put writes behind everybody's back; the caller holds mu.
func (c *fakeCluster) put(key string, value []byte) {
	c.revision++
	c.kvs[key] = &mvccpb.KeyValue{Key: []byte(key), Value: value, ModRevision: c.revision}
}

// Watch does what the test says.
func (m *fakeMember) Watch(stream pb.Watch_WatchServer) error { return m.watch(stream) }
