package netlogon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/dcerpc"
	"github.com/seed05845750/bkrp/internal/gss/ntlm"
)

const (
	// DefaultTimeout bounds each logon, with the connecting it may need.
	DefaultTimeout = 5 * time.Second
	// DefaultLifetime is how long a logon is good for.
	DefaultLifetime = 10 * time.Hour

	// maxChannels is how many logons the domain controller is asked about at a
	// time; maxWaiting is how many more may wait for that. Beyond them a logon
	// is refused at once.
	maxChannels = 4
	maxWaiting  = 256

	// After a secure channel could not be made, logons are refused without
	// asking for a while that doubles from the one to the other.
	minBackOff = 500 * time.Millisecond
	maxBackOff = 10 * time.Second
)

// Config says whom to ask, and as whom. All but Log have to be set.
type Config struct {
	// Server is the domain controller: a host, whose endpoint mapper knows the
	// port, or host:port of its Netlogon over TCP.
	Server string
	// Account is the machine account, "SRV1$".
	Account string
	// PasswordFile is a file of mode 0600 whose first line is its password. It
	// is read again for each new secure channel.
	PasswordFile string
	// NetBIOSDomain and DNSDomain are the names of the domain, and DomainSID
	// what its users' SIDs begin with.
	NetBIOSDomain, DNSDomain string
	DomainSID                dtyp.SID
	// Timeout bounds each logon; 0 is DefaultTimeout.
	Timeout time.Duration
	// Lifetime is how long a logon is good for; 0 is DefaultLifetime.
	Lifetime time.Duration
	// Log gets what an operator may want to know; nil for none.
	Log *slog.Logger
}

func (c *Config) check() error {
	name, ok := strings.CutSuffix(c.Account, "$")
	switch {
	case c.Server == "":
		return errors.New("netlogon: no domain controller is configured")
	case !ok || name == "" || len(name) > 15 || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' }):
		return fmt.Errorf(`netlogon: machine account %q: it takes the computer's NetBIOS name and "$"`, c.Account)
	case c.NetBIOSDomain == "" || c.DomainSID.IsZero():
		return errors.New("netlogon: the domain has no NetBIOS name or no SID")
	case c.Timeout < 0 || c.Lifetime < 0:
		return errors.New("netlogon: a duration is negative")
	}
	return nil
}

// errDown is a logon while no secure channel stands.
var errDown = errors.New("netlogon: no secure channel to the domain controller, next try soon")

// Client asks a domain controller about logons. It is safe for concurrent use,
// and connects when it first has to.
type Client struct {
	cfg      Config
	computer string
	dial     func(ctx context.Context, network, address string) (net.Conn, error)

	// ctx ends by Close, and calls with it. A client's own going away does not
	// end a call: it would take the secure channel with it.
	ctx    context.Context
	cancel context.CancelFunc

	// turns has room for maxChannels logons at a time.
	turns   chan struct{}
	waiting atomic.Int32

	// opening is held, by a value in it, by the one who makes a channel.
	opening chan struct{}

	mu       sync.Mutex
	closed   bool
	calls    sync.WaitGroup
	idle     []*channel // those used last are at the end, and used next
	stands   bool       // the channel made last could be made
	retryAt  time.Time
	backOff  time.Duration
	lastDown error
}

// New makes a Client. The password's file has to be readable already; the domain
// controller need not be there yet.
func New(cfg Config) (*Client, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultTimeout
	}
	if cfg.Lifetime == 0 {
		cfg.Lifetime = DefaultLifetime
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if _, err := readHash(cfg.PasswordFile); err != nil {
		return nil, err
	}
	c := &Client{
		cfg:      cfg,
		computer: strings.TrimSuffix(cfg.Account, "$"),
		dial:     new(net.Dialer).DialContext,
		turns:    make(chan struct{}, maxChannels),
		opening:  make(chan struct{}, 1),
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c, nil
}

// Close ends what is under way, waits for it, and closes the connections. Logons
// after it are refused.
func (c *Client) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.cancel()
	c.calls.Wait()
	for ch := c.standing(); ch != nil; ch = c.standing() {
		ch.close()
	}
}

// standing takes the channel that was used last, nil if there is none.
func (c *Client) standing() *channel {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := len(c.idle) - 1
	if last < 0 {
		return nil
	}
	ch := c.idle[last]
	c.idle = c.idle[:last]
	return ch
}

// keep puts a channel back, unless it is nil.
func (c *Client) keep(ch *channel) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ch != nil {
		c.idle = append(c.idle, ch)
	}
}

// begin says that a logon is under way, unless the Client is closed.
func (c *Client) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.calls.Add(1)
	}
	return !c.closed
}

// LogOn is a source of accounts (ntlm.Source). It gives an answer within
// Config.Timeout. ctx ends the wait for a turn only.
func (c *Client) LogOn(ctx context.Context, l *ntlm.Logon) (*ntlm.Account, error) {
	if err := c.checkLogon(l); err != nil {
		return nil, err
	}
	if !c.begin() {
		return nil, errors.New("netlogon: the server is shutting down")
	}
	defer c.calls.Done()
	limit, cancel := context.WithTimeout(c.ctx, c.cfg.Timeout)
	defer cancel()
	if err := c.wait(ctx, limit); err != nil {
		return nil, err
	}
	defer func() { <-c.turns }()
	ch, v, err := c.ask(limit, c.standing(), l)
	c.keep(ch)
	if err != nil {
		return nil, err
	}
	defer v.clear()
	return c.account(v, time.Now())
}

// wait waits for a turn, for half of the time that a logon has: one that came to
// its turn with next to none left would break a channel that is in order, or have
// the domain controller pass for one that does not answer, and anybody can make
// logons wait.
func (c *Client) wait(ctx, limit context.Context) error {
	select {
	case c.turns <- struct{}{}:
		return nil
	default:
	}
	defer c.waiting.Add(-1)
	if c.waiting.Add(1) > maxWaiting {
		return fmt.Errorf("netlogon: %d logons wait for the domain controller already", maxWaiting)
	}
	limit, cancel := context.WithTimeout(limit, c.cfg.Timeout/2)
	defer cancel()
	select {
	case c.turns <- struct{}{}:
		return nil
	case <-limit.Done():
		return fmt.Errorf("netlogon: waiting for the domain controller: %w", context.Cause(limit))
	case <-ctx.Done():
		return fmt.Errorf("netlogon: waiting for the domain controller: %w", context.Cause(ctx))
	}
}

// ask asks about a logon by ch, or by a new channel, and gives the channel back
// that is to be used next, nil if there is none.
func (c *Client) ask(ctx context.Context, ch *channel, l *ntlm.Logon) (*channel, *validation, error) {
	for {
		stood := ch != nil
		if !stood {
			var err error
			if ch, err = c.open(ctx); err != nil {
				return nil, nil, err
			}
		}
		v, err := logOn(ctx, ch.rpc, c.computer, l)
		var status Status
		if err == nil || errors.As(err, &status) && !status.endsChannel() {
			return ch, v, err
		}
		ch.close()
		c.broke()
		// The error is about the channel: it must not pass for a verdict.
		err = fmt.Errorf("netlogon: secure channel to %s: %v", c.cfg.Server, err)
		if !stood || ctx.Err() != nil {
			c.cfg.Log.Warn("netlogon: the secure channel broke; the logon is refused", "server", c.cfg.Server, "reason", err)
			return nil, nil, err
		}
		// One that stood before may have ended in the meantime, as at a restart
		// of the domain controller.
		c.cfg.Log.Info("netlogon: the secure channel ended; making another", "server", c.cfg.Server, "reason", err)
		ch = nil
	}
}

// broke notes that a channel ended, so that the next one is worth a line.
func (c *Client) broke() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stands = false
}

// channel is one connection that a session key of its own protects.
type channel struct{ rpc *dcerpc.Client }

func (ch *channel) close() {
	if ch != nil {
		ch.rpc.Close()
	}
}

// open makes a channel, one at a time. Where that cannot be done just now, it
// says so at once.
func (c *Client) open(ctx context.Context) (*channel, error) {
	select {
	case c.opening <- struct{}{}:
		defer func() { <-c.opening }()
	case <-ctx.Done():
		return nil, fmt.Errorf("netlogon: waiting for the secure channel: %w", context.Cause(ctx))
	}
	c.mu.Lock()
	wait, last := time.Until(c.retryAt), c.lastDown
	c.mu.Unlock()
	if wait > 0 {
		return nil, fmt.Errorf("%w: %w", errDown, last)
	}
	ch, err := c.connect(ctx)
	if err != nil {
		return nil, c.down(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.stands {
		c.cfg.Log.Info("netlogon: secure channel to the domain controller stands", "server", c.cfg.Server, "account", c.cfg.Account)
	}
	c.stands, c.backOff, c.retryAt, c.lastDown = true, 0, time.Time{}, nil
	return ch, nil
}

// down notes that no channel could be made, and why.
func (c *Client) down(err error) error {
	// Where there is a status in it, it is the machine's and not the caller's.
	down := fmt.Errorf("netlogon: making a secure channel to %s: %v", c.cfg.Server, err)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stands = false
	if c.ctx.Err() != nil {
		return down // by Close
	}
	c.backOff = min(max(2*c.backOff, minBackOff), maxBackOff)
	c.retryAt, c.lastDown = time.Now().Add(c.backOff), down
	c.cfg.Log.Error("netlogon: no secure channel to the domain controller; NTLM logons are refused",
		"server", c.cfg.Server, "account", c.cfg.Account, "reason", err, "do", advice(err), "next_try_in", c.backOff)
	return down
}
