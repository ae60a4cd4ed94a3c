package etcdstore

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"github.com/seed05845750/bkrp/keystore"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	mvccpb "go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
)

// What is stored is an octet of version, an identifier of the write, and the
// value.
const (
	formatVersion = 1
	writeIDSize   = 16
	headSize      = 1 + writeIDSize
)

// writeID tells a write from every other.
type writeID [writeIDSize]byte

func newWriteID() (id writeID) {
	rand.Read(id[:])
	return id
}

// join makes what is stored of a value.
func join(id writeID, value []byte) []byte {
	stored := make([]byte, 0, headSize+len(value))
	stored = append(stored, formatVersion)
	stored = append(stored, id[:]...)
	return append(stored, value...)
}

// cut splits what is stored, which is not copied.
func cut(name string, stored []byte) (id writeID, value []byte, err error) {
	if len(stored) < headSize || stored[0] != formatVersion {
		return writeID{}, nil, fmt.Errorf("%w: entry %q in etcd was not written by this program", keystore.ErrCorrupt, name)
	}
	// The value's slice is the caller's to append to.
	return writeID(stored[1:headSize]), stored[headSize:len(stored):len(stored)], nil
}

// entry makes an Entry of what etcd has. Where its value is none of ours the
// error is ErrCorrupt, and the entry is there nevertheless, with an empty value.
func (s *Store) entry(kv *mvccpb.KeyValue) (keystore.Entry, error) {
	name, ok := strings.CutPrefix(string(kv.Key), s.prefix)
	if !ok || kv.ModRevision <= 0 {
		return keystore.Entry{}, fmt.Errorf("%w: etcd gave an entry that was not asked for", keystore.ErrCorrupt)
	}
	_, value, err := cut(name, kv.Value)
	if err != nil {
		value = []byte{}
	}
	return keystore.Entry{Name: name, Value: value, Revision: keystore.Revision(kv.ModRevision)}, err
}

// rangeEnd is the first key after all that begin with prefix, as etcd wants it.
func rangeEnd(prefix string) []byte { return []byte(clientv3.GetPrefixRangeEnd(prefix)) }

// Get implements keystore.Backend.
func (s *Store) Get(ctx context.Context, name string) (value []byte, rev keystore.Revision, err error) {
	op, err := s.begin(ctx, fmt.Sprintf("reading %q", name))
	if err != nil {
		return nil, 0, err
	}
	defer op.end()
	var resp *pb.RangeResponse
	err = op.try(func(ctx context.Context, kv pb.KVClient) (*pb.ResponseHeader, error) {
		resp, err = kv.Range(ctx, &pb.RangeRequest{Key: []byte(s.prefix + name)}, callOptions...)
		return resp.GetHeader(), err
	})
	if err != nil {
		return nil, 0, err
	}
	if len(resp.Kvs) == 0 {
		return nil, 0, keystore.ErrNotFound
	}
	e, err := s.entry(resp.Kvs[0])
	if err != nil {
		return nil, e.Revision, err
	}
	return e.Value, e.Revision, nil
}

// CompareAndSwap implements keystore.Backend. When etcd's answer got lost it
// asks again: the comparison lets only one attempt through, and the identifier
// in front of the value says whether it was one of ours.
func (s *Store) CompareAndSwap(ctx context.Context, name string, old keystore.Revision, value []byte) (keystore.Revision, error) {
	if name == keystore.AnyName || len(name) > keystore.MaxNameSize || len(value) > keystore.MaxValueSize {
		return 0, keystore.ErrTooLarge
	}
	op, err := s.begin(ctx, fmt.Sprintf("writing %q", name))
	if err != nil {
		return 0, err
	}
	defer op.end()
	w := s.newSwap(name, old, value)
	err = op.try(w.attempt)
	if err == nil {
		err = w.verdict
	}
	if err != nil && w.unsure && !errors.Is(err, ErrUnknownOutcome) {
		err = fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
	}
	if err != nil {
		return 0, err
	}
	return w.rev, nil
}

// swap is a transaction and what is known of it.
type swap struct {
	name string
	id   writeID
	put  bool
	txn  *pb.TxnRequest

	unsure  bool              // an attempt may have been successful
	rev     keystore.Revision // after success
	verdict error
}

func (s *Store) newSwap(name string, old keystore.Revision, value []byte) *swap {
	w := &swap{name: name, id: newWriteID(), put: value != nil}
	key := []byte(s.prefix + name)
	change := &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: key}}}
	if w.put {
		change.Request = &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: key, Value: join(w.id, value)}}
	}
	w.txn = &pb.TxnRequest{
		Compare: []*pb.Compare{{
			Key: key, Target: pb.Compare_MOD, Result: pb.Compare_EQUAL,
			// Absent entries have 0 here too. A Revision beyond etcd's becomes
			// negative, which no entry has.
			TargetUnion: &pb.Compare_ModRevision{ModRevision: int64(old)},
		}},
		Success: []*pb.RequestOp{change},
		Failure: []*pb.RequestOp{{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: key}}}},
	}
	return w
}

// attempt asks for the swap once more.
func (w *swap) attempt(ctx context.Context, kv pb.KVClient) (*pb.ResponseHeader, error) {
	txn := w.txn
	if !w.unsure { // whose entry it is matters only after an attempt
		txn = &pb.TxnRequest{Compare: txn.Compare, Success: txn.Success}
	}
	resp, err := kv.Txn(ctx, txn, callOptions...)
	switch {
	case err != nil:
		w.unsure = w.unsure || !refused(err)
		return nil, err
	case resp.Succeeded:
		w.settle(resp.Header.GetRevision())
	case !w.unsure:
		w.verdict = keystore.ErrConflict
	default:
		w.recognize(resp)
	}
	return resp.Header, nil
}

// settle notes that the swap was made, at a revision.
func (w *swap) settle(rev int64) {
	w.unsure, w.verdict = false, nil
	if w.put {
		w.rev = keystore.Revision(rev)
	}
}

// recognize looks whether the entry is as an earlier attempt would have left
// it. Where it is not, that attempt may still have been made, and the entry
// changed again since: this is no conflict, of which nothing is written.
func (w *swap) recognize(resp *pb.TxnResponse) {
	w.verdict = fmt.Errorf("%w: writing %q: etcd's answer was lost, and the entry is another now", ErrUnknownOutcome, w.name)
	if len(resp.Responses) != 1 {
		return
	}
	for _, kv := range resp.Responses[0].GetResponseRange().GetKvs() {
		if id, _, err := cut(w.name, kv.Value); err == nil && w.put && id == w.id {
			w.settle(kv.ModRevision)
		}
	}
}

// pageSize is how many entries one answer of a list has at most; their values
// may be keystore.MaxValueSize each.
const pageSize = 128

// maxCompacted bounds how often a list is begun again because somebody compacts
// etcd's history faster than its pages are read.
const maxCompacted = 10

// List implements keystore.Backend: all entries are those of one revision. Each
// page is an operation with a time of its own.
func (s *Store) List(ctx context.Context, prefix string) (list []keystore.Entry, err error) {
	for range maxCompacted {
		list, err = s.list(ctx, prefix)
		if !errors.Is(err, rpctypes.ErrCompacted) {
			break
		}
	}
	return list, err
}

func (s *Store) list(ctx context.Context, prefix string) (list []keystore.Entry, err error) {
	key := s.prefix + prefix
	req := &pb.RangeRequest{Key: []byte(key), RangeEnd: rangeEnd(key), Limit: pageSize}
	for {
		resp, err := s.page(ctx, fmt.Sprintf("listing %q", prefix), req)
		if err != nil {
			return nil, err
		}
		for _, kv := range resp.Kvs {
			e, err := s.entry(kv)
			if err != nil && e.Revision == 0 {
				return nil, err
			}
			list = append(list, e)
		}
		if !resp.More || len(resp.Kvs) == 0 {
			return list, nil
		}
		if req.Revision == 0 {
			req.Revision = resp.Header.GetRevision()
		}
		req.Key = append(bytes.Clone(resp.Kvs[len(resp.Kvs)-1].Key), 0)
	}
}

// page reads one page of a list. One that does not come in time is asked for in
// smaller pieces from then on: its values may be large and the way slow.
func (s *Store) page(ctx context.Context, what string, req *pb.RangeRequest) (resp *pb.RangeResponse, err error) {
	op, err := s.begin(ctx, what)
	if err != nil {
		return nil, err
	}
	defer op.end()
	err = op.try(func(ctx context.Context, kv pb.KVClient) (*pb.ResponseHeader, error) {
		resp, err = kv.Range(ctx, req, callOptions...)
		// The member's clock may be the first to say that time is up.
		if err != nil && (ctx.Err() != nil || code(err) == codes.DeadlineExceeded) {
			req.Limit = max(1, req.Limit/8)
		}
		return resp.GetHeader(), err
	})
	return resp, err
}
