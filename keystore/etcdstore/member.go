package etcdstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"github.com/seed05845750/bkrp/keystore"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

// How a connection is kept. The kernel gives one up that was sent something and
// did not acknowledge it for deadPeer (grpc sets TCP_USER_TIMEOUT to it), which
// is how a machine that has vanished is noticed.
const (
	deadPeer     = 2 * time.Second
	pingInterval = 10 * time.Second // grpc takes no less
	redialMin    = 100 * time.Millisecond
	redialMax    = time.Second
	dialTimeout  = 3 * time.Second
)

// member is one endpoint. It has a client of its own, because the client library
// spreads calls over its endpoints by turns: a member that accepts calls and
// answers none would go on getting its share of them.
type member struct {
	cfg clientv3.Config

	turn   chan struct{} // holds a token while somebody uses client
	client *clientv3.Client
}

func (s *Store) newMember(endpoint string, tlsConfig *tls.Config, o Options) *member {
	return &member{turn: make(chan struct{}, 1), cfg: clientv3.Config{
		Endpoints: []string{endpoint},
		TLS:       tlsConfig,
		Username:  o.User,
		Password:  string(o.Password),
		Context:   s.life,
		// Of logging on; every other call has a time of its own.
		DialTimeout:          s.timeout / patienceShare,
		DialKeepAliveTime:    pingInterval,
		DialKeepAliveTimeout: deadPeer,
		// The library would also repeat a transaction that a member gave up
		// after it had been passed on, and so turn our own success into a
		// conflict. See operation.try.
		MaxUnaryRetries: 1,
		Logger:          zap.NewNop(), // errors say it all, and not twice
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: redialMin, Multiplier: 1.6, Jitter: 0.2, MaxDelay: redialMax},
			MinConnectTimeout: dialTimeout,
		})},
	}}
}

// connect gives the member's connection, which makes itself when it is used.
// With a user the first call logs on.
func (m *member) connect(ctx context.Context) (*grpc.ClientConn, error) {
	select {
	case m.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-m.turn }()
	if m.cfg.Context.Err() != nil {
		return nil, keystore.ErrClosed
	}
	if m.client == nil {
		var err error
		if m.client, err = clientv3.New(m.cfg); err != nil {
			m.client = nil
			if errors.Is(err, context.DeadlineExceeded) { // the library drops what it knows
				err = fmt.Errorf("logging on at %s got no answer: the member is away, or one side does not accept the other's certificate: %w", m.cfg.Endpoints[0], err)
			}
			return nil, err
		}
	}
	return m.client.ActiveConnection(), nil
}

// close ends the connection, once what is under way on it has been told to end.
func (m *member) close() error {
	m.turn <- struct{}{}
	defer func() { <-m.turn }()
	if m.client == nil {
		return nil
	}
	err := m.client.Close()
	m.client = nil
	if err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("etcdstore: closing: %w", err)
	}
	return nil
}

// chosen is the member whose turn it is, with the turn.
func (s *Store) chosen() (m *member, turn uint64) {
	turn = s.turn.Load()
	return s.members[turn%uint64(len(s.members))], turn
}

// pass gives the turn of a member that did not answer to the next, unless
// another call did so already.
func (s *Store) pass(turn uint64) { s.turn.CompareAndSwap(turn, turn+1) }
