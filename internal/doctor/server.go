package doctor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/dtyp"
)

// patient is a server under examination.
type patient struct {
	cfg           bkrpclient.Config
	options       Options
	domain        string // its DNS name, "" if it is not known
	host, address string
	report        *Server
}

func newPatient(cfg bkrpclient.Config, o Options, domain string) *patient {
	p := &patient{cfg: cfg, options: o, domain: domain}
	p.host, p.address = hostOf(cfg.Server)
	if cfg.Address != "" {
		p.address = cfg.Address
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
	c, pipe := p.logOn(ctx)
	if c == nil {
		return
	}
	defer c.Close()
	p.judgePrivacy(ctx, pipe)
	p.use(ctx, c)
}

func (p *patient) negotiate(ctx context.Context) (*negotiation, error) {
	ctx, cancel := p.step(ctx)
	defer cancel()
	return negotiate(ctx, p.address, p.options.Now)
}

// logOn tries the pipes, each by a connection of its own. The first client that
// works is handed out; it is nil where none does.
func (p *patient) logOn(ctx context.Context) (c *bkrpclient.Client, pipe string) {
	pipes := p.cfg.Pipes
	if len(pipes) == 0 {
		pipes = []string{bkrpclient.ProtectedStorage, bkrpclient.NTSvcs}
	}
	refused := make(map[string]error)
	for _, name := range pipes {
		cfg := p.cfg
		cfg.Pipes = []string{name}
		next, err := bkrpclient.Dial(ctx, cfg)
		switch {
		case errors.Is(err, bkrpclient.ErrLogon), errors.Is(err, bkrpclient.ErrTicket):
			p.report.add(CheckLogon, Broken, nextLogon(err), "%v", err)
			return nil, ""
		case err != nil:
			refused[name] = err
		case c == nil:
			c, pipe = next, name
		default:
			next.Close()
		}
	}
	if c != nil {
		p.report.add(CheckLogon, OK, "", "%s", p.caller())
	}
	for _, name := range pipes {
		switch err := refused[name]; {
		case err == nil:
			p.report.add(CheckPipe, OK, "", "%s answers", name)
		case c == nil:
			p.report.add(CheckPipe, Broken, "see whether the BackupKey service runs on this server, and is bound to this pipe", "%s: %v", name, err)
		case name == bkrpclient.ProtectedStorage:
			p.report.add(CheckPipe, Warning, "serve protected_storage: it is the first pipe that clients try, and for some the only one", "%s: %v", name, err)
		default:
			p.report.add(CheckPipe, Note, "", "%s does not answer; clients use the other pipe", name)
		}
	}
	return c, pipe
}

func nextLogon(err error) string {
	if errors.Is(err, bkrpclient.ErrTicket) {
		return "run kinit, see that the KDC knows the server by this name (service cifs), and that the clocks agree"
	}
	return "see that the account is there and enabled, the password right, and that this server knows the account"
}

// caller is who logs on.
func (p *patient) caller() string {
	switch c := p.cfg.Credential; {
	case c.User != "":
		return fmt.Sprintf(`as %s\%s`, c.Domain, c.User)
	case c.Kerberos != nil && c.Kerberos.Principal != "":
		return "as " + c.Kerberos.Principal
	}
	return "by the tickets of kinit"
}

// use makes the checks that need the protocol.
func (p *patient) use(ctx context.Context, c *bkrpclient.Client) {
	cert, err := c.RetrieveKey(ctx)
	switch {
	case errors.Is(err, bkrp.ErrCertificate):
		p.report.add(CheckCertificate, Broken, "look at the domain's key on this server: what it hands out cannot be used to wrap", "%v", err)
	case err != nil:
		p.report.add(CheckCertificate, Broken, "read the server's log: without its public key no secret can be wrapped by a client", "%v", err)
	default:
		judgeCertificate(p.report, cert, p.domain, p.options.Now())
	}
	var sid dtyp.SID
	if cert != nil {
		if sid, err = c.SID(ctx); err != nil {
			p.report.add(CheckSID, Warning, "see that the server has the pipe lsarpc: clients that do not know their SID cannot wrap", "%v", err)
		} else {
			p.report.add(CheckSID, OK, "", "the caller is %v", sid)
		}
	}
	if cert != nil && !sid.IsZero() {
		p.clientCanary(ctx, c, cert, sid, bkrp.ClientWrappedVersion2)
		p.clientCanary(ctx, c, cert, sid, bkrp.ClientWrappedVersion3)
	}
	p.serverCanary(ctx, c)
	if p.options.Oracle {
		p.judgeOracle(ctx, cert, sid)
	}
}

// rounded is a duration as people read it.
func rounded(d time.Duration) time.Duration {
	if d < 10*time.Millisecond {
		return d.Round(10 * time.Microsecond)
	}
	return d.Round(time.Millisecond)
}
