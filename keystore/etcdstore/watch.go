package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/seed05845750/bkrp/keystore"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// A member that a watch stands on is asked for a sign of life every heartbeat;
// after maxSilence of them without one the watch is broken.
const (
	heartbeat  = 500 * time.Millisecond
	maxSilence = 4
)

var (
	errSilent = errors.New("etcd has been silent for too long")
	errEnded  = errors.New("etcd ended it")
)

// Watch implements keystore.Backend. It reports a change as soon as the member
// that it stands on has it. It returns an error, and leaves it to the caller to
// begin again with the next member, when that one is silent for 2 to 3 seconds,
// stops, or has been without a leader for a few: what was read before may be old by
// then, and whoever watches should know so.
func (s *Store) Watch(ctx context.Context, changed func(name string)) error {
	if s.life.Err() != nil {
		return keystore.ErrClosed
	}
	watch, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(s.life, func() { cancel(keystore.ErrClosed) })
	defer stop()
	m, turn := s.chosen()
	err := s.follow(watch, cancel, m, changed)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case s.life.Err() != nil:
		return keystore.ErrClosed
	}
	if cause := context.Cause(watch); cause != nil {
		err = cause
	}
	s.pass(turn)
	return fmt.Errorf("etcdstore: watching %s: %w", m.cfg.Endpoints[0], refusal(err))
}

// follow sets up the stream, and reads it until it breaks.
func (s *Store) follow(ctx context.Context, cancel context.CancelCauseFunc, m *member, changed func(name string)) error {
	setup := time.AfterFunc(2*s.timeout/patienceShare, func() { cancel(errSilent) })
	defer setup.Stop()
	stream, err := s.stand(ctx, m)
	if err != nil {
		return err
	}
	if !setup.Stop() {
		return errSilent
	}
	changed(keystore.AnyName)

	arrivals, done := make(chan arrival), make(chan struct{})
	go func() {
		defer close(done)
		receive(ctx, stream, arrivals)
	}()
	err = s.report(ctx, stream, arrivals, changed)
	cancel(err) // ends the stream, and with it the goroutine
	<-done
	return err
}

// stand returns a stream whose watch the member has confirmed. It is of the
// present revision on: what was before is read after AnyName has been told.
func (s *Store) stand(ctx context.Context, m *member) (pb.Watch_WatchClient, error) {
	conn, err := m.connect(ctx)
	if err != nil {
		return nil, err
	}
	stream, err := pb.NewWatchClient(conn).Watch(clientv3.WithRequireLeader(ctx), callOptions...)
	if err != nil {
		return nil, err
	}
	// Where this fails, what arrives says why.
	_ = stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{
		Key: []byte(s.prefix), RangeEnd: rangeEnd(s.prefix), Fragment: true,
	}}})
	resp, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	if err := s.checkWatch(resp); err != nil {
		return nil, err
	}
	if !resp.Created {
		return nil, errEnded
	}
	return stream, nil
}

// arrival is what came from a stream.
type arrival struct {
	resp *pb.WatchResponse
	err  error
}

// receive passes on what comes until that is an error.
func receive(ctx context.Context, stream pb.Watch_WatchClient, to chan<- arrival) {
	for {
		resp, err := stream.Recv()
		select {
		case to <- arrival{resp, err}:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// report tells of changes, and asks for signs of life.
func (s *Store) report(ctx context.Context, stream pb.Watch_WatchClient, from <-chan arrival, changed func(name string)) error {
	tick := time.NewTicker(heartbeat)
	defer tick.Stop()
	unanswered := 0
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			// Counted by what was asked, not by the clock: time may have gone
			// by in changed.
			if unanswered == maxSilence {
				return errSilent
			}
			unanswered++
			// Where this fails, what arrives next says why.
			_ = stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}})
		case r := <-from:
			unanswered = 0
			if r.err != nil {
				return r.err
			}
			if err := s.checkWatch(r.resp); err != nil {
				return err
			}
			for _, event := range r.resp.Events {
				if name, ok := strings.CutPrefix(string(event.GetKv().GetKey()), s.prefix); ok {
					changed(name)
				}
			}
		}
	}
}

// checkWatch says whether an answer ends the watch.
func (s *Store) checkWatch(resp *pb.WatchResponse) error {
	switch {
	case resp.CompactRevision != 0:
		return fmt.Errorf("%w: it was behind, and what it had to tell has been compacted", errEnded)
	case resp.Canceled && strings.Contains(resp.CancelReason, "permission denied"):
		return ErrPermission
	case resp.Canceled:
		return fmt.Errorf("%w: %s", errEnded, resp.CancelReason)
	}
	return s.sameCluster(resp.Header)
}
