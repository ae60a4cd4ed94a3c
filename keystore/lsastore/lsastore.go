// Package lsastore is a keystore.Backend that keeps the keys where a domain
// keeps them: in the LSA secrets of a domain controller, which the directory
// replicates to the others ([MS-BKRP] 1.3.1, 3.1.6). It speaks [MS-LSAD] to the
// controller's \pipe\lsarpc, over an encrypted SMB session, as an account that
// may manage LSA secrets: one of the domain's administrators.
//
// It is for keystore.OpenDomain, not for a sealed store: values are in the
// formats of [MS-BKRP] 2.2.5 and 2.2.7, so that the controllers' own services
// and this one open what the other has wrapped. Hence also what it does not
// have:
//
//   - No entries but the secrets G$BCKUPKEY_*; no accounts.
//   - No list: the LSA does not enumerate secrets.
//   - No compare-and-swap in the LSA. A secret that must not exist yet is
//     created, which one writer alone can; a pointer that does exist is read,
//     written, and read again. Two controllers that make a first key at the
//     same moment, or two that rotate, end with the pointer of the later one;
//     the keys of both stay.
//   - No revisions in the LSA either: a Revision is a hash of the value. A
//     pointer that went from A to B and back to A counts as unchanged.
//   - No notice of changes: Watch reads the two pointers at an interval. A key
//     that is not known yet is looked for on the controller at each call.
//   - Nothing is deleted.
//
// Absence is what the LSA says with STATUS_OBJECT_NAME_NOT_FOUND and nothing
// else; a secret without a value, which a read-only controller has, is
// ErrNoValue and never leads to a new key.
package lsastore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/dcerpc"
	"github.com/seed05845750/bkrp/internal/dclocator"
	"github.com/seed05845750/bkrp/internal/gss/ntlm"
	"github.com/seed05845750/bkrp/internal/lsaclient"
	"github.com/seed05845750/bkrp/internal/smbclient"
	"github.com/seed05845750/bkrp/keystore"
)

// What a Config leaves at zero.
const (
	// DefaultPoll is how often Watch reads the pointers.
	DefaultPoll = 30 * time.Second
	// DefaultTimeout bounds each operation, with the connecting it may need.
	DefaultTimeout = 15 * time.Second
)

var (
	// ErrNoValue is a secret that exists and has no value on this controller,
	// because it is read-only, or because a creation was cut short. It is not
	// absence: use a writable controller, or remove the empty secret.
	ErrNoValue = errors.New("lsastore: the secret exists and has no value on this domain controller; use a writable one, or remove the empty secret")
	// ErrLogon is a logon that the controller refused.
	ErrLogon = errors.New("lsastore: logon refused by the domain controller: check user and password")
)

// Config says which domain controller keeps the secrets, and who asks for them.
type Config struct {
	// Server is HOST or HOST:PORT of a writable domain controller; the port is
	// 445 if none is given.
	Server string
	// Domain and User are the account's, and Password is what it logs on with
	// by NTLM.
	Domain, User string
	Password     Password
	// Poll is how often Watch reads the pointers; 0 is DefaultPoll.
	Poll time.Duration
	// Timeout bounds each operation; 0 is DefaultTimeout.
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
	return nil, errors.New("lsastore: a password is not marshalled")
}

// Backend keeps entries in the LSA secrets of a domain controller. It has one
// connection, which it makes when it is needed and again when it broke.
type Backend struct {
	dial    func(ctx context.Context) (*conn, error)
	poll    time.Duration
	timeout time.Duration

	turn  chan struct{} // holds a token while somebody uses conn and pause
	conn  *conn         // nil if there is none
	pause pause

	life context.Context // ends with Close
	end  context.CancelFunc
}

var _ keystore.Backend = (*Backend)(nil)

// conn is a connection with an open policy.
type conn struct {
	rpc    *dcerpc.Client
	lsa    *lsaclient.Client
	policy lsaclient.Handle
	close  func()
	// watch ends what is under way on the connection when ctx does.
	watch func(ctx context.Context) (stop func())
	// noPrivateData says that the server has been found not to have
	// LsarStorePrivateData and LsarRetrievePrivateData.
	noPrivateData bool
}

// Open connects to the domain controller and logs on, to find out now what
// would fail later.
func Open(ctx context.Context, cfg Config) (*Backend, error) {
	if cfg.Server == "" || cfg.User == "" {
		return nil, errors.New("lsastore: Config.Server and Config.User are required")
	}
	initiator := ntlm.NewInitiator(ntlm.Credential{
		Domain: cfg.Domain, User: cfg.User, Hash: ntlm.HashPassword(string(cfg.Password)),
	})
	host, port, ok := dclocator.SplitServer(cfg.Server)
	if !ok {
		return nil, fmt.Errorf("lsastore: server %q: it is HOST, HOST:PORT, or an address, one of IPv6 in brackets where a port follows", cfg.Server)
	}
	address := net.JoinHostPort(host, cmp.Or(port, "445"))
	b := newBackend(cfg.Poll, cfg.Timeout, func(ctx context.Context) (*conn, error) {
		return dial(ctx, smbclient.Config{Host: host, Address: address, Initiator: initiator, Encrypt: true})
	})
	err := b.use(ctx, func(context.Context, *conn) error { return nil })
	if err != nil {
		return nil, err
	}
	return b, nil
}

func newBackend(poll, timeout time.Duration, dial func(context.Context) (*conn, error)) *Backend {
	if poll <= 0 {
		poll = DefaultPoll
	}
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	b := &Backend{dial: dial, poll: poll, timeout: timeout, turn: make(chan struct{}, 1)}
	b.life, b.end = context.WithCancel(context.Background())
	return b
}

// maxResponse is more than any answer has to say, in octets.
const maxResponse = 4 * maxValue

// dial connects and opens the policy. The bind has no RPC authentication:
// Samba has a session key for the values of secrets only without it.
// That the session is encrypted stands in for it.
func dial(ctx context.Context, cfg smbclient.Config) (*conn, error) {
	session, err := smbclient.Dial(ctx, cfg)
	if errors.Is(err, smbclient.ErrLogon) {
		return nil, fmt.Errorf("%w: %w", ErrLogon, err)
	}
	if err != nil {
		return nil, err
	}
	stop := session.Watch(ctx)
	defer stop()
	pipe, err := session.OpenPipe(lsaclient.Pipe)
	if err != nil {
		session.Close()
		return nil, err
	}
	rpc := dcerpc.NewClient(pipe, dcerpc.ClientConfig{Interface: lsaclient.Interface(), MaxResponse: maxResponse})
	c, err := bind(ctx, rpc, session.SessionKey())
	if err != nil {
		session.Close()
		return nil, err
	}
	c.close = func() { session.Close() }
	c.watch = session.Watch
	return c, nil
}

// bind makes a conn of a connection to the LSA.
func bind(ctx context.Context, rpc *dcerpc.Client, sessionKey []byte) (*conn, error) {
	if err := rpc.Bind(ctx); err != nil {
		return nil, fmt.Errorf("binding on pipe %s: %w", lsaclient.Pipe, err)
	}
	c := &conn{rpc: rpc, lsa: lsaclient.New(rpc, sessionKey)}
	var err error
	c.policy, err = c.lsa.OpenPolicy(ctx, lsaclient.PolicyGetPrivateInformation|lsaclient.PolicyCreateSecret)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Self asks the domain controller for the SID of the account that was logged
// on. Without its last sub-authority it is the domain's.
func (b *Backend) Self(ctx context.Context) (sid dtyp.SID, err error) {
	err = b.use(ctx, func(ctx context.Context, c *conn) error {
		sid, err = c.lsa.Self(ctx)
		return err
	})
	return sid, err
}

// use has the connection to itself while f works with it, within the time of
// an operation. A connection on which f was not answered is given up.
func (b *Backend) use(ctx context.Context, f func(context.Context, *conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	stop := context.AfterFunc(b.life, cancel)
	defer stop()
	select {
	case <-ctx.Done():
		return b.why(ctx, ctx.Err())
	case b.turn <- struct{}{}:
	}
	defer func() { <-b.turn }()
	if b.life.Err() != nil {
		return keystore.ErrClosed
	}
	reused := b.conn != nil
	err := b.try(ctx, f)
	if reused && b.conn == nil && ctx.Err() == nil && !errors.Is(err, errNotRepeatable) {
		// The server may have closed it while it was idle.
		err = b.try(ctx, f)
	}
	return b.why(ctx, err)
}

// errNotRepeatable marks an error after which the operation may have been done.
var errNotRepeatable = errors.New("the secret may or may not have been written")

// why is ErrClosed or the context's error, where that is what ended an
// operation.
func (b *Backend) why(ctx context.Context, err error) error {
	if err != nil && b.life.Err() != nil {
		return keystore.ErrClosed
	}
	if err != nil && ctx.Err() != nil && !errors.Is(err, ctx.Err()) {
		return fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	return err
}

func (b *Backend) try(ctx context.Context, f func(context.Context, *conn) error) error {
	if b.conn == nil {
		if err := b.pause.over(time.Now()); err != nil {
			return err
		}
		c, err := b.dial(ctx)
		b.pause.note(time.Now(), err)
		if err != nil {
			return err
		}
		b.conn = c
	}
	stop := b.conn.watch(ctx)
	err := f(ctx, b.conn)
	stop()
	if err != nil && (ctx.Err() != nil || !answered(err)) {
		b.conn.close()
		b.conn = nil
	}
	return err
}

// answered reports whether an error is the server's answer, after which the
// connection is fit for the next call.
func answered(err error) bool {
	var status lsaclient.Status
	var fault dcerpc.Fault
	for _, known := range []error{keystore.ErrNotFound, keystore.ErrConflict, ErrNoValue} {
		if errors.Is(err, known) {
			return true
		}
	}
	return errors.As(err, &status) || errors.As(err, &fault) && fault != dcerpc.FaultContext
}

// Close implements keystore.Backend.
func (b *Backend) Close() error {
	b.end()
	b.turn <- struct{}{} // operations end by themselves now
	defer func() { <-b.turn }()
	if b.conn != nil {
		b.conn.close()
		b.conn = nil
	}
	return nil
}
