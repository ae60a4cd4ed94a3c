package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed05845750/bkrp/keystore"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// maxResponse is more than any answer has to say, in octets: a page of entries
// of the greatest size, or a piece of a watch's events, which etcd cuts at its
// own limit for requests.
const maxResponse = (pageSize + 4) * (keystore.MaxValueSize + 4096)

// callOptions are those of every call. One that cannot connect fails at once:
// there are other members.
var callOptions = []grpc.CallOption{grpc.MaxCallRecvMsgSize(maxResponse)}

// operation is one call of the Backend, which may take several of etcd.
type operation struct {
	store  *Store
	what   string // is being done, for messages
	caller context.Context
	ctx    context.Context
	cancel context.CancelFunc
	stop   func() bool
	// floor is the revision that the cluster had reached before it was asked.
	floor int64
}

// begin starts an operation: it ends with ctx, with the Store, or when its time
// is up.
func (s *Store) begin(ctx context.Context, what string) (*operation, error) {
	if s.life.Err() != nil {
		return nil, keystore.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if s.setBack.Load() { // nothing is to be written there
		return nil, s.wasSetBack()
	}
	op := &operation{store: s, what: what, caller: ctx, floor: s.reached.Load()}
	op.ctx, op.cancel = context.WithTimeout(ctx, s.timeout)
	op.stop = context.AfterFunc(s.life, op.cancel)
	// A member that has lost its leader says so, instead of waiting for one.
	op.ctx = clientv3.WithRequireLeader(op.ctx)
	return op, nil
}

func (op *operation) end() {
	op.stop()
	op.cancel()
}

const (
	// repeatPause lies between two rounds over the members that failed at once.
	repeatPause = 50 * time.Millisecond
	// patienceShare is the part of an operation's time that one attempt has. A
	// leader that vanishes can cost three: two members that pass a write on to
	// it, until they have noticed, and the leader itself.
	patienceShare = 5
)

// try makes attempts until one is answered, each with the next member. f must
// bear being repeated after an attempt that was in fact successful.
func (op *operation) try(f func(context.Context, pb.KVClient) (*pb.ResponseHeader, error)) error {
	s := op.store
	var last error
	for n := 1; ; n++ {
		m, turn := s.chosen()
		attempt, cancel := context.WithTimeout(op.ctx, s.timeout/patienceShare)
		header, err := m.ask(attempt, f)
		tookLong := attempt.Err() != nil
		cancel()
		if err == nil {
			return op.accept(header)
		}
		if last == nil || !tookLong {
			last = err // that time was up is not why
		}
		if op.ctx.Err() != nil {
			return op.why(last)
		}
		if !s.passes(err) {
			return fmt.Errorf("etcdstore: %s: %w", op.what, refusal(err))
		}
		s.pass(turn)
		if !tookLong && n%len(s.members) == 0 {
			select {
			case <-op.ctx.Done():
				return op.why(last)
			case <-time.After(repeatPause):
			}
		}
	}
}

// ask makes one attempt with one member.
func (m *member) ask(ctx context.Context, f func(context.Context, pb.KVClient) (*pb.ResponseHeader, error)) (*pb.ResponseHeader, error) {
	conn, err := m.connect(ctx)
	if err != nil {
		return nil, err
	}
	return f(ctx, pb.NewKVClient(conn))
}

// why says what ended an operation that got no answer.
func (op *operation) why(last error) error {
	s := op.store
	switch {
	case op.caller.Err() != nil:
		return fmt.Errorf("etcdstore: %s: %w: %w", op.what, op.caller.Err(), last)
	case s.life.Err() != nil:
		return keystore.ErrClosed
	}
	return fmt.Errorf("%w: %s took more than %v with %s: %w", ErrUnavailable, op.what, s.timeout, s.endpoints, last)
}

// accept refuses answers of a cluster that was set back: reads are linearizable
// and revisions only grow, whichever member is asked. Since they grow again it
// stays refused.
func (op *operation) accept(header *pb.ResponseHeader) error {
	s, rev := op.store, header.GetRevision()
	if err := s.sameCluster(header); err != nil {
		return err
	}
	if rev < op.floor {
		s.setBack.Store(true)
		return s.wasSetBack()
	}
	for {
		if last := s.reached.Load(); rev <= last || s.reached.CompareAndSwap(last, rev) {
			return nil
		}
	}
}

func (s *Store) wasSetBack() error {
	return fmt.Errorf("%w (%s was at revision %d, and was set back)", ErrOtherCluster, s.endpoints, s.reached.Load())
}

// sameCluster refuses answers of another cluster than the first one's, whose
// revisions mean something else.
func (s *Store) sameCluster(header *pb.ResponseHeader) error {
	id := header.GetClusterId()
	if s.cluster.CompareAndSwap(0, id) || s.cluster.Load() == id {
		return nil
	}
	return fmt.Errorf("%w (%s)", ErrOtherCluster, s.endpoints)
}

// passes reports whether an error may be gone at the next attempt.
func (s *Store) passes(err error) bool {
	switch known := rpctypes.Error(err); {
	case errors.Is(known, rpctypes.ErrInvalidAuthToken), errors.Is(known, rpctypes.ErrAuthOldRevision),
		errors.Is(known, rpctypes.ErrTooManyRequests):
		return true // the client has got a new token by now
	case errors.Is(known, rpctypes.ErrUserEmpty):
		return s.logsOn // its token was lost
	}
	switch code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
		return true
	case codes.Unknown: // what a member says when its own wait was cut short
		return true
	}
	return false
}

func code(err error) codes.Code {
	var known rpctypes.EtcdError
	if errors.As(err, &known) {
		return known.Code()
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return codes.DeadlineExceeded
	}
	if errors.Is(err, context.Canceled) {
		return codes.Canceled
	}
	return status.Code(err)
}

// refusal gives etcd's errors the names that callers know.
func refusal(err error) error {
	switch known := rpctypes.Error(err); {
	case errors.Is(known, rpctypes.ErrAuthFailed), errors.Is(known, rpctypes.ErrUserEmpty), errors.Is(known, rpctypes.ErrUserNotFound):
		return fmt.Errorf("%w (%w)", ErrLogon, known)
	case errors.Is(known, rpctypes.ErrPermissionDenied):
		return fmt.Errorf("%w (%w)", ErrPermission, known)
	case errors.Is(known, rpctypes.ErrNoSpace):
		return fmt.Errorf("%w (%w)", ErrFull, known)
	case errors.Is(known, rpctypes.ErrRequestTooLarge):
		return fmt.Errorf("%w: etcd takes no more (--max-request-bytes; its default, 1.5 MiB, is enough)", keystore.ErrTooLarge)
	default:
		return known
	}
}

// refused reports whether after an error nothing has been written for certain.
func refused(err error) bool {
	for _, known := range []error{
		rpctypes.ErrInvalidAuthToken, rpctypes.ErrAuthOldRevision, rpctypes.ErrUserEmpty, rpctypes.ErrAuthFailed,
		rpctypes.ErrPermissionDenied, rpctypes.ErrRequestTooLarge, rpctypes.ErrTooManyRequests, rpctypes.ErrNoSpace,
		rpctypes.ErrNoLeader,
	} {
		if errors.Is(rpctypes.Error(err), known) {
			return true
		}
	}
	return false
}
