package interop

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	mathrand "math/rand/v2"
	"sync"
	"time"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/interop/peers"
	"github.com/seed05845750/bkrp/keystore"
	"github.com/seed05845750/bkrp/keystore/etcdstore"
)

const (
	// callTime bounds one call, also the logon before it.
	callTime = 8 * time.Second
	// workersPerServer call at the same time.
	workersPerServer = 2
)

// vaultedSecret is a secret that a client let go of, with what it kept.
type vaultedSecret struct {
	number int
	plain  []byte
	blob   []byte
	op     clusterOp // that acknowledged it
}

// clusterLoad is the clients of a domain.
type clusterLoad struct {
	domain  *clusterDomain
	history *clusterHistory

	mu      sync.Mutex
	secrets []*vaultedSecret
	next    int
}

// keep takes in a secret that was acknowledged.
func (l *clusterLoad) keep(s *vaultedSecret) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.secrets = append(l.secrets, s)
}

// number gives a secret a number.
func (l *clusterLoad) number() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next++
	return l.next
}

// some is a secret that was acknowledged, rather a recent one; nil if there is
// none.
func (l *clusterLoad) some(r *mathrand.Rand) *vaultedSecret {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(l.secrets)
	if n == 0 {
		return nil
	}
	if n > 20 && r.IntN(2) == 0 {
		return l.secrets[n-1-r.IntN(20)]
	}
	return l.secrets[r.IntN(n)]
}

// all are the secrets that were acknowledged.
func (l *clusterLoad) all() []*vaultedSecret {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]*vaultedSecret(nil), l.secrets...)
}

// clusterCaller is one user's connection to one server, made when it is needed.
type clusterCaller struct {
	domain *clusterDomain
	server int
	user   string
	client *bkrpclient.Client
}

func (c *clusterCaller) close() {
	if c.client != nil {
		_ = c.client.Close()
		c.client = nil
	}
}

// call makes one call, and does so again on a new connection if the one at hand
// turns out to be broken.
func (c *clusterCaller) call(ctx context.Context, f func(context.Context, *bkrpclient.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	reused := c.client != nil
	err := c.once(ctx, f)
	if reused && c.client == nil && ctx.Err() == nil {
		err = c.once(ctx, f)
	}
	return err
}

// once makes one call. When it is not answered the connection is given up.
func (c *clusterCaller) once(ctx context.Context, f func(context.Context, *bkrpclient.Client) error) (err error) {
	if c.client == nil {
		c.client, err = bkrpclient.Dial(ctx, bkrpclient.Config{
			Server:     c.domain.servers[c.server].address(),
			Credential: bkrpclient.Credential{Domain: "BKRP", User: c.user, Password: bkrpclient.Password(clusterPasswords[c.user])},
			Timeout:    callTime,
		})
		if err != nil {
			c.client = nil
			return err
		}
	}
	err = f(ctx, c.client)
	if refusal := (*bkrpclient.ServerError)(nil); err != nil && !errors.As(err, &refusal) {
		c.close()
	}
	return err
}

// judge fills in what came of an operation of a client.
func (o *clusterOp) judge(h *clusterHistory, err error) {
	o.end = h.now()
	refusal := (*bkrpclient.ServerError)(nil)
	switch {
	case errors.As(err, &refusal):
		o.outcome, o.status = opRefused, refusal.Status
	case err != nil:
		o.outcome, o.err = opLost, err.Error()
	}
	h.add(*o)
}

// wrap has the server wrap a secret, and reports whether it did.
func (l *clusterLoad) wrap(ctx context.Context, c *clusterCaller) bool {
	s := l.fresh()
	o := clusterOp{action: opWrap, server: c.server, kind: keystore.ServerWrap, secret: s.number, start: l.history.now()}
	err := c.call(ctx, func(ctx context.Context, client *bkrpclient.Client) (err error) {
		s.blob, err = client.Wrap(ctx, s.plain, bkrpclient.WrapOptions{Mode: bkrpclient.ModeServer})
		return err
	})
	if err == nil {
		var blob *bkrp.ServerWrapped
		if blob, err = bkrp.ParseServerWrapped(s.blob); err == nil {
			o.key = blob.KeyGUID
		}
	}
	return l.acknowledge(s, &o, err)
}

// retrieve takes the certificate from the server, and wraps a secret here.
func (l *clusterLoad) retrieve(ctx context.Context, c *clusterCaller, version uint32) bool {
	s := l.fresh()
	o := clusterOp{action: opRetrieve, server: c.server, kind: keystore.ClientWrap, secret: s.number, start: l.history.now()}
	var cert *bkrp.Certificate
	err := c.call(ctx, func(ctx context.Context, client *bkrpclient.Client) (err error) {
		cert, err = client.RetrieveKey(ctx)
		return err
	})
	if err == nil {
		o.key = cert.GUID
		s.blob, err = bkrp.WrapClient(cert, l.domain.sids[c.user], s.plain, version)
	}
	return l.acknowledge(s, &o, err)
}

func (l *clusterLoad) fresh() *vaultedSecret {
	s := &vaultedSecret{number: l.number(), plain: make([]byte, 40)}
	rand.Read(s.plain)
	return s
}

func (l *clusterLoad) acknowledge(s *vaultedSecret, o *clusterOp, err error) bool {
	o.judge(l.history, err)
	if err == nil {
		s.op = *o
		l.keep(s)
	}
	return err == nil
}

// unwrap has a secret opened, by its owner or not.
func (l *clusterLoad) unwrap(ctx context.Context, c *clusterCaller, s *vaultedSecret, action opAction) {
	o := clusterOp{action: action, server: c.server, kind: s.op.kind, key: s.op.key, secret: s.number, start: l.history.now()}
	var plain []byte
	err := c.call(ctx, func(ctx context.Context, client *bkrpclient.Client) (err error) {
		plain, err = client.Unwrap(ctx, s.blob)
		return err
	})
	if err == nil && !bytes.Equal(plain, s.plain) {
		o.outcome = opWrong
	}
	o.judge(l.history, err)
}

// work calls one server until stop is closed.
func (l *clusterLoad) work(ctx context.Context, server int, r *mathrand.Rand, stop <-chan struct{}) {
	alice := &clusterCaller{domain: l.domain, server: server, user: peers.Alice}
	bob := &clusterCaller{domain: l.domain, server: server, user: peers.Bob}
	defer alice.close()
	defer bob.close()
	for {
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(20+r.IntN(40)) * time.Millisecond):
		}
		s := l.some(r)
		switch n := r.IntN(100); {
		case n < 12 || s == nil:
			l.wrap(ctx, alice)
		case n < 24:
			l.retrieve(ctx, alice, bkrp.ClientWrappedVersion2+uint32(r.IntN(2)))
		case n < 30:
			l.unwrap(ctx, bob, s, opSteal)
		case n < 36: // cold
			alice.close()
			fallthrough
		default:
			l.unwrap(ctx, alice, s, opUnwrap)
		}
	}
}

// start has clients call every server until the function that it returns is
// called, which waits for them.
func (l *clusterLoad) start(ctx context.Context, seed uint64) (stop func()) {
	stopped := make(chan struct{})
	var wg sync.WaitGroup
	for i := range l.domain.servers {
		for j := range workersPerServer {
			r := mathrand.New(mathrand.NewPCG(seed, uint64(i*workersPerServer+j)))
			wg.Go(func() { l.work(ctx, i, r, stopped) })
		}
	}
	return sync.OnceFunc(func() { close(stopped); wg.Wait() })
}

// verify has every secret opened on every server.
func (l *clusterLoad) verify(ctx context.Context) {
	var wg sync.WaitGroup
	for i := range l.domain.servers {
		for j := range workersPerServer {
			wg.Go(func() {
				c := &clusterCaller{domain: l.domain, server: i, user: peers.Alice}
				defer c.close()
				for n, s := range l.all() {
					if n%workersPerServer == j {
						l.unwrap(ctx, c, s, opVerify)
					}
				}
			})
		}
	}
	wg.Wait()
}

// operator rotates the keys of one kind.
type operator struct {
	store   *keystore.Store
	history *clusterHistory
	kind    keystore.KeyKind
	rand    *mathrand.Rand
}

// rotate goes on with rotations until stop is closed.
func (op *operator) rotate(ctx context.Context, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(50+op.rand.IntN(500)) * time.Millisecond):
		}
		ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
		op.step(ctx)
		cancel()
	}
}

// step does what may be done next, by chance.
func (op *operator) step(ctx context.Context) {
	r, err := op.store.Rotation(ctx, op.kind)
	if err != nil && !errors.Is(err, keystore.ErrNoRotation) {
		return // etcd is away; nothing has been done
	}
	n := op.rand.IntN(100)
	switch {
	case err != nil || r.Phase != keystore.RotationCreated && n < 70:
		op.do(opBegin, func() (keystore.Rotation, error) { return op.store.BeginRotation(ctx, op.kind) })
	case r.Phase == keystore.RotationRolledBack:
		op.do(opRollBack, func() (keystore.Rotation, error) { return op.store.RollBackRotation(ctx, op.kind) })
	case r.Phase == keystore.RotationCreated && n < 75:
		op.do(opPrefer, func() (keystore.Rotation, error) { return op.store.PreferRotation(ctx, op.kind) })
	default:
		op.do(opRollBack, func() (keystore.Rotation, error) { return op.store.RollBackRotation(ctx, op.kind) })
	}
}

func (op *operator) do(action opAction, f func() (keystore.Rotation, error)) {
	o := clusterOp{action: action, server: -1, kind: op.kind, start: op.history.now()}
	r, err := f()
	o.end, o.key = op.history.now(), r.Next
	if err != nil {
		o.outcome, o.err = opLost, err.Error()
		if errors.Is(err, keystore.ErrRotation) && !errors.Is(err, etcdstore.ErrUnknownOutcome) {
			o.outcome = opRefused
		}
	}
	op.history.add(o)
}
