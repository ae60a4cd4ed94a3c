// Package etcdstore keeps a keystore in an etcd cluster (API version 3, servers
// from 3.4 on), so that several servers can stand on the same keys. The values
// in it are sealed by package keystore; this package knows nothing of keys.
//
// Reads are linearizable. The Revision of an entry is its modification revision,
// which etcd counts over the whole cluster and never gives twice. A swap is one
// transaction; since etcd's answer to a transaction can get lost, each writes an
// identifier of its own in front of the value, by which a repeated attempt knows
// what the first one did. A list is read at one revision, however many pages it
// takes.
//
// Two things are not done here. Nothing of the cluster is administered: users,
// roles, compaction and backups are etcd's own business. Compaction has to be
// switched on (--auto-compaction-retention=1h): every server writes every few
// seconds that it lives, and how keys are used, and etcd keeps all that was ever
// written until then, up to its quota. And a cluster that was
// set back to a snapshot is refused (ErrOtherCluster) by a Store that knew it
// before, because revisions repeat in it: the server has to be started anew.
package etcdstore

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/seed05845750/bkrp/keystore"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// What Options leave at zero.
const (
	// DefaultPrefix stands before the names of entries.
	DefaultPrefix = "/bkrp/"
	// DefaultTimeout bounds each operation.
	DefaultTimeout = 5 * time.Second
)

// maxPrefix is the longest prefix, in octets.
const maxPrefix = 256

var (
	// ErrOptions is a configuration that cannot work, or must not.
	ErrOptions = errors.New("etcdstore: options")
	// ErrUnavailable says that etcd gave no answer in time. Enough of its
	// members have to run, and be reachable, to make a majority.
	ErrUnavailable = errors.New("etcdstore: etcd does not answer; a majority of its members must run and be reachable")
	// ErrUnknownOutcome says that a change may or may not have been made: etcd
	// was asked for it and did not say. Read the entry.
	ErrUnknownOutcome = errors.New("etcdstore: the change may or may not have been made")
	// ErrLogon says that etcd refused user and password, or wants some.
	ErrLogon = errors.New("etcdstore: logon refused by etcd: check user, password and client certificate")
	// ErrPermission says that the user may not use the prefix.
	ErrPermission = errors.New("etcdstore: etcd's user may not read and write under the prefix; grant a role for it")
	// ErrFull says that etcd has raised its space alarm. Nothing was written.
	ErrFull = errors.New("etcdstore: etcd is out of space: compact and defragment it, then disarm its alarm")
	// ErrOtherCluster says that an answer came from another cluster than the
	// ones before: endpoints of two clusters are mixed, or the cluster was made
	// anew from a snapshot, or set back to an older state of its disks.
	ErrOtherCluster = errors.New("etcdstore: the answer is of another etcd cluster than before: check the endpoints; after a restore, start this server anew")
)

// Options say which cluster keeps the entries, and who asks for them.
type Options struct {
	// Endpoints are the members' client URLs, https://HOST:PORT; without a
	// scheme https is meant. One is enough to reach the cluster, all of them
	// keep it reachable when members fail. http:// is for loopback addresses,
	// unless Plaintext is set, and not to be mixed with https.
	Endpoints []string
	// Prefix stands before the names of all entries, to share a cluster with
	// others. A missing slash at its end is added. Default: DefaultPrefix.
	Prefix string

	// CAFile is a PEM file with the authorities that the members' certificates
	// may come from. Those of the system are not taken. Required with https.
	CAFile string
	// CertFile and KeyFile are the certificate and key, PEM, that this client
	// shows, if any. They are read at each new connection, so that they can be
	// replaced under a running server. Only the owner may read KeyFile.
	CertFile, KeyFile string
	// Plaintext allows http:// to other machines: keys are sealed there, but
	// password and names are not, and nothing says whom one talks to.
	Plaintext bool

	// User and Password log on to a cluster whose authentication is on. With a
	// client certificate alone etcd takes its common name as user.
	User     string
	Password Password

	// Timeout bounds each operation, of a list each page, also while etcd is away. A member that has
	// not answered after a fifth of it is passed over for the next. It is at
	// least a second. Default: DefaultTimeout.
	Timeout time.Duration
}

// Password is a password that does not print itself.
type Password string

// String hides the password.
func (Password) String() string { return "[redacted]" }

// GoString hides the password from %#v.
func (Password) GoString() string { return "[redacted]" }

// LogValue hides the password from structured logs.
func (Password) LogValue() slog.Value { return slog.StringValue("[redacted]") }

// MarshalText refuses, so that no encoder writes a password.
func (Password) MarshalText() ([]byte, error) {
	return nil, errors.New("etcdstore: a password is not marshalled")
}

// Store is a keystore.Backend in an etcd cluster. It asks one member, and when
// that does not answer the next: a call that finds a member silent takes a fifth
// of Options.Timeout longer, and those after it go elsewhere at once.
type Store struct {
	prefix    string
	timeout   time.Duration
	endpoints string // for messages
	logsOn    bool   // with a user

	members []*member
	turn    atomic.Uint64 // modulo their number, the member that is asked
	cluster atomic.Uint64 // identity of the cluster, 0 until it has answered
	reached atomic.Int64  // the highest revision that it has answered with
	setBack atomic.Bool   // it was at a lower one afterwards

	life context.Context // ends with Close
	end  context.CancelFunc
}

var _ keystore.Backend = (*Store)(nil)

// Open connects to the cluster, logs on, and reads from the prefix, to find out
// now what would fail later. The errors are ErrOptions, ErrLogon, ErrPermission
// and ErrUnavailable.
func Open(ctx context.Context, o Options) (*Store, error) {
	s, err := prepare(o)
	if err != nil {
		return nil, err
	}
	op, err := s.begin(ctx, "connecting")
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	defer op.end()
	err = op.try(func(ctx context.Context, kv pb.KVClient) (*pb.ResponseHeader, error) {
		resp, err := kv.Range(ctx, &pb.RangeRequest{
			Key: []byte(s.prefix), RangeEnd: rangeEnd(s.prefix), Limit: 1, KeysOnly: true,
		}, callOptions...)
		return resp.GetHeader(), err
	})
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// prepare checks the options and makes a Store that has not connected yet.
func prepare(o Options) (*Store, error) {
	if o.Prefix == "" {
		o.Prefix = DefaultPrefix
	}
	if !strings.HasSuffix(o.Prefix, "/") {
		o.Prefix += "/"
	}
	if len(o.Prefix) > maxPrefix {
		return nil, fmt.Errorf("%w: the prefix is longer than %d octets", ErrOptions, maxPrefix)
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Timeout < time.Second {
		return nil, fmt.Errorf("%w: the timeout is %v and must be 1s or more", ErrOptions, o.Timeout)
	}
	if (o.User == "") != (o.Password == "") {
		return nil, fmt.Errorf("%w: user and password go together", ErrOptions)
	}
	endpoints, secure, err := checkEndpoints(o.Endpoints, o.Plaintext)
	if err != nil {
		return nil, err
	}
	var tlsConfig *tls.Config
	if secure {
		if tlsConfig, err = clientTLS(o); err != nil {
			return nil, err
		}
	}
	s := &Store{
		prefix: o.Prefix, timeout: o.Timeout, logsOn: o.User != "",
		endpoints: strings.Join(endpoints, ", "),
	}
	s.life, s.end = context.WithCancel(context.Background())
	for _, endpoint := range endpoints {
		s.members = append(s.members, s.newMember(endpoint, tlsConfig, o))
	}
	// Not every server is to ask the same member.
	var b [8]byte
	rand.Read(b[:])
	s.turn.Store(uint64(binary.LittleEndian.Uint32(b[:])))
	return s, nil
}

// Close implements keystore.Backend.
func (s *Store) Close() error {
	s.end()
	var errs []error
	for _, m := range s.members {
		errs = append(errs, m.close())
	}
	return errors.Join(errs...)
}
