package doctor

import (
	"cmp"
	"context"
	"errors"
	"net"
	"time"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/dcerpc"
	"github.com/seed05845750/bkrp/internal/dclocator"
)

// patient is a server under examination.
type patient struct {
	cfg           bkrpclient.Config
	options       Options
	domain        string // its DNS name, "" if it is not known
	host, address string
	report        *Server
	tries         *tries // of the domain's servers; nil for a server by itself

	client *bkrpclient.Client // nil when there is no connection
	pipe   string             // the one that answers
}

func newPatient(cfg bkrpclient.Config, o Options, domain string) *patient {
	p := &patient{cfg: cfg, options: o, domain: domain}
	p.host, p.address = cfg.Server, cfg.Address
	if host, port, ok := dclocator.SplitServer(cfg.Server); ok {
		p.host = host
		if p.address == "" {
			p.address = net.JoinHostPort(host, cmp.Or(port, bkrpclient.DefaultPort))
		}
	}
	p.report = &Server{Name: p.host, Address: p.address}
	return p
}

// step bounds one step.
func (p *patient) step(ctx context.Context) (context.Context, context.CancelFunc) {
	timeout := p.cfg.Timeout
	if timeout <= 0 {
		timeout = bkrpclient.DefaultTimeout
	}
	return context.WithTimeout(ctx, timeout)
}

// examine makes all checks of one server, as far as one makes sense after the
// other.
func (p *patient) examine(ctx context.Context) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, p.options.Timeout)
	defer cancel()
	p.connect(ctx)
	if ctx.Err() != nil {
		p.report.add(CheckTime, Broken, "look at the network and the load of this server, or give it more time", "the examination was ended after %v", time.Since(began).Round(time.Second))
	}
	p.report.Took = time.Since(began)
}

func (p *patient) connect(ctx context.Context) {
	n, err := p.negotiate(ctx)
	if err != nil {
		p.report.add(CheckReachable, Broken, "see whether the server runs, and whether a firewall is between; the port is that of SMB", "%v", err)
		return
	}
	p.report.add(CheckReachable, OK, "", "%s answers in %v", p.address, rounded(n.received.Sub(n.sent)))
	n.judge(p.report)
	s := p.judgeLogon(ctx)
	if s == nil {
		return
	}
	defer s.Close()
	if !p.judgePipes(ctx) {
		return
	}
	defer p.hangUp()
	p.use(ctx, s)
}

func (p *patient) negotiate(ctx context.Context) (*negotiation, error) {
	ctx, cancel := p.step(ctx)
	defer cancel()
	return negotiate(ctx, p.address, p.options.Now)
}

// judgePipes tries the pipes, each by a connection of its own, and says whether
// one answers. The client that it did so by is kept.
func (p *patient) judgePipes(ctx context.Context) bool {
	pipes := p.cfg.Pipes
	if len(pipes) == 0 {
		pipes = []string{bkrpclient.ProtectedStorage, bkrpclient.NTSvcs}
	}
	refused := make(map[string]error)
	for _, name := range pipes {
		cfg := p.cfg
		cfg.Pipes = []string{name}
		c, err := bkrpclient.Dial(ctx, cfg)
		switch {
		case err != nil:
			refused[name] = err
		case p.client == nil:
			p.client, p.pipe = c, name
		default:
			c.Close()
		}
	}
	for _, name := range pipes {
		switch err := refused[name]; {
		case err == nil:
			p.report.add(CheckPipe, OK, "", "%s answers", name)
		case p.client == nil:
			p.report.add(CheckPipe, Broken, "see whether the BackupKey service runs on this server, and is bound to this pipe", "%s: %v", name, err)
		case name == bkrpclient.ProtectedStorage:
			p.report.add(CheckPipe, Warning, "serve protected_storage: it is the first pipe that clients try, and for some the only one", "%s: %v", name, err)
		default:
			p.report.add(CheckPipe, Note, "", "%s does not answer; clients use the other pipe", name)
		}
	}
	return p.client != nil
}

// call makes calls on the connection there is, and gives that up when it is of
// no more use; the next call has a new one.
func (p *patient) call(ctx context.Context, f func(context.Context, *bkrpclient.Client) error) (err error) {
	ctx, cancel := p.step(ctx)
	defer cancel()
	if p.client == nil {
		cfg := p.cfg
		cfg.Pipes = []string{p.pipe}
		if p.client, err = bkrpclient.Dial(ctx, cfg); err != nil {
			p.client = nil
			return err
		}
	}
	if err = f(ctx, p.client); err != nil && !answered(err) {
		p.hangUp()
	}
	return err
}

func (p *patient) hangUp() {
	if p.client != nil {
		p.client.Close()
		p.client = nil
	}
}

// answered says whether an error is what the server said, on a connection that
// works.
func answered(err error) bool {
	var refused *bkrpclient.ServerError
	var fault dcerpc.Fault
	return errors.As(err, &refused) || errors.As(err, &fault)
}

// use makes the checks that need the protocol.
func (p *patient) use(ctx context.Context, s *session) {
	var cert *bkrp.Certificate
	err := p.call(ctx, func(ctx context.Context, c *bkrpclient.Client) (err error) {
		cert, err = c.RetrieveKey(ctx)
		return err
	})
	switch {
	case errors.Is(err, bkrp.ErrCertificate):
		p.report.add(CheckCertificate, Broken, "look at the domain's key on this server: what it hands out cannot be used to wrap", "%v", err)
	case err != nil:
		p.report.add(CheckCertificate, Broken, "read the server's log: without its public key no secret can be wrapped by a client", "%v", err)
	default:
		judgeCertificate(p.report, cert, p.domain, p.options.Now())
	}
	if err == nil || errors.Is(err, bkrp.ErrCertificate) {
		p.judgePrivacy(ctx, s)
	} else { // a refusal would mean nothing
		p.report.add(CheckPrivacy, Note, "", "not known: the call that is to be refused without packet privacy is not answered with it either")
	}
	sid := p.judgeSID(ctx)
	if cert != nil && !sid.IsZero() {
		p.clientCanary(ctx, cert, sid, bkrp.ClientWrappedVersion2)
		p.clientCanary(ctx, cert, sid, bkrp.ClientWrappedVersion3)
	}
	p.serverCanary(ctx)
	if p.options.Oracle {
		p.judgeOracle(ctx, cert, sid)
	}
}

// judgeSID asks who the caller is.
func (p *patient) judgeSID(ctx context.Context) (sid dtyp.SID) {
	err := p.call(ctx, func(ctx context.Context, c *bkrpclient.Client) (err error) {
		sid, err = c.SID(ctx)
		return err
	})
	if err != nil {
		p.report.add(CheckSID, Warning, "see that the server has the pipe lsarpc: clients that do not know their SID cannot wrap", "%v", err)
		return sid
	}
	p.report.add(CheckSID, OK, "", "the caller is %v", sid)
	return sid
}

// rounded is a duration as people read it.
func rounded(d time.Duration) time.Duration {
	if d < 10*time.Millisecond {
		return d.Round(10 * time.Microsecond)
	}
	return d.Round(time.Millisecond)
}
