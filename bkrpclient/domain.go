package bkrpclient

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/dclocator"
)

// What the zero DomainConfig comes to.
const (
	// DefaultKeyLife is how long the domain's public key is used before it is
	// fetched again. Blobs that were made under an older one can be opened all
	// the same.
	DefaultKeyLife = 24 * time.Hour
	// DefaultConnections is how many calls run at a time.
	DefaultConnections = 4
	// DefaultIdleTime is how long a connection waits for its next call.
	DefaultIdleTime = time.Minute
)

// DomainConfig says which domain to use, and as whom. Domain and
// Client.Credential are required; the zero value of everything else is the
// protocol's default.
type DomainConfig struct {
	// Domain is the DNS name of the domain.
	Domain string
	// Client says who calls, and how to talk to each domain controller;
	// Client.Server and its Address are left empty. With Kerberos, tickets are for the names that
	// DNS has for the domain controllers. Client.Timeout bounds each attempt.
	Client Config
	// Version is that of ClientWrap where WrapOptions name none; 0 is 2
	// (C-3.2.4.1-06).
	Version uint32
	// SID is the caller's; zero asks the domain.
	SID dtyp.SID
	// Keys keeps the domain's public key beyond the life of the Domain; nil
	// keeps it in memory alone. It goes by the domain of whom the secret will
	// belong to: unless that or SID is given, the domain is asked first.
	Keys KeyCache
	// KeyLife is how long that key is used, and the caller's SID that the domain
	// has told; 0 is DefaultKeyLife.
	KeyLife time.Duration
	// FallBack has the secret wrapped by the server when the domain's public key
	// cannot be fetched, as Windows does (3.2.4.1, note <18>). It is off by
	// default: whoever can make the fetching fail could have every secret sent
	// to a server.
	FallBack bool
	// RetrySame repeats a failed call with the same domain controller where
	// there is no other.
	RetrySame bool
	// Connections is how many calls run at a time, each on a connection of its
	// own; more wait. 0 is DefaultConnections.
	Connections int
	// IdleTime is how long a connection is kept for the next call; 0 is
	// DefaultIdleTime.
	IdleTime time.Duration
	// Site is the client's site, if it is known; "" learns it from the domain.
	Site string
	// PingDelay is how long a domain controller may take to answer before the
	// next one is asked as well; 0 is 100 ms. Its answer is waited for at least so
	// long, and 2 s if that is longer.
	PingDelay time.Duration
	// Resolver looks up names in DNS; nil is the system's.
	Resolver *net.Resolver
	// Address says where SMB of a domain controller is reached, as HOST:PORT; nil
	// is port 445 of the address that DNS has for it.
	Address func(dc string, addr netip.Addr) string
}

// Domain is a client of one domain: it finds a writable domain controller when
// it needs one, repeats a call that failed with another one, once, and wraps
// under the domain's public key without asking again while it has that. It is
// safe for concurrent use, and keeps connections for the next calls.
//
// What a call tried stands in its error, a *DomainError, and is to be had by
// WithTrace otherwise.
type Domain struct {
	cfg     DomainConfig
	locator *dclocator.Locator
	pool    *pool

	mu       sync.Mutex // guards what follows
	key      domainKey
	sid      dtyp.SID // the caller's, as the domain has said
	sidAsked time.Time
}

// OpenDomain makes a Domain. It looks at the configuration and asks nobody.
func OpenDomain(cfg DomainConfig) (*Domain, error) {
	cfg.Domain = strings.ToLower(strings.TrimSuffix(cfg.Domain, "."))
	locator, err := dclocator.New(dclocator.Config{
		Domain: cfg.Domain, Site: cfg.Site, Resolver: cfg.Resolver,
		Apart: cfg.PingDelay, PingTimeout: max(cfg.PingDelay, dclocator.DefaultPingTimeout),
	})
	if err != nil {
		return nil, fmt.Errorf("bkrpclient: %w", err)
	}
	if err := cfg.Client.checkCaller(cfg.Domain); err != nil {
		return nil, err
	}
	switch {
	case cfg.Client.Server != "" || cfg.Client.Address != "":
		return nil, errors.New("bkrpclient: DomainConfig.Client.Server and its Address are to be empty: the domain has its servers found")
	case cfg.Version == 0:
		cfg.Version = bkrp.ClientWrappedVersion2
	case cfg.Version != bkrp.ClientWrappedVersion2 && cfg.Version != bkrp.ClientWrappedVersion3:
		return nil, fmt.Errorf("bkrpclient: ClientWrap has no version %d", cfg.Version)
	}
	if cfg.KeyLife <= 0 {
		cfg.KeyLife = DefaultKeyLife
	}
	if cfg.Connections <= 0 {
		cfg.Connections = DefaultConnections
	}
	if cfg.IdleTime <= 0 {
		cfg.IdleTime = DefaultIdleTime
	}
	if cfg.Address == nil {
		cfg.Address = func(_ string, addr netip.Addr) string { return net.JoinHostPort(addr.String(), DefaultPort) }
	}
	return &Domain{cfg: cfg, locator: locator, pool: newPool(cfg.Connections, cfg.IdleTime)}, nil
}

// Close closes the connections that are kept. Calls that run end as they would;
// later ones return ErrClosed.
func (d *Domain) Close() error { return d.pool.close() }

// RetrieveKey fetches the domain's public key from a domain controller, as
// Client.RetrieveKey does, and uses it from then on.
func (d *Domain) RetrieveKey(ctx context.Context) (*bkrp.Certificate, error) {
	return d.retrieve(ctx, newRecord(ctx), dtyp.SID{})
}

// BackuprKey makes one call of the protocol's one method, as Client.BackuprKey
// does, and repeats it with another domain controller if it fails.
func (d *Domain) BackuprKey(ctx context.Context, action bkrp.Action, in []byte) (out []byte, err error) {
	err = d.do(ctx, newRecord(ctx), action.String(), func(ctx context.Context, c *Client) (err error) {
		out, err = c.BackuprKey(ctx, action, in)
		return err
	})
	return out, err
}

// Unwrap has a domain controller open a blob of either subprotocol for the
// caller, as Client.Unwrap does.
func (d *Domain) Unwrap(ctx context.Context, blob []byte) (secret []byte, err error) {
	action, err := unwrapAction(blob)
	if err != nil {
		return nil, err
	}
	err = d.do(ctx, newRecord(ctx), action.String(), func(ctx context.Context, c *Client) (err error) {
		secret, err = c.Unwrap(ctx, blob)
		return err
	})
	return secret, err
}

// UnwrapCrossover is Client.UnwrapCrossover in a domain.
func (d *Domain) UnwrapCrossover(ctx context.Context, blob, nonce []byte) (secret []byte, err error) {
	if err := checkCrossover(blob); err != nil {
		return nil, err
	}
	err = d.do(ctx, newRecord(ctx), bkrp.ActionRestoreWin2K.String(), func(ctx context.Context, c *Client) (err error) {
		secret, err = c.UnwrapCrossover(ctx, blob, nonce)
		return err
	})
	return secret, err
}

// SID asks the domain who the caller is, or gives DomainConfig.SID. The
// answer is kept for DomainConfig.KeyLife, and no longer than the domain's public
// key stays the same.
func (d *Domain) SID(ctx context.Context) (dtyp.SID, error) { return d.callerSID(ctx, newRecord(ctx)) }

func (d *Domain) callerSID(ctx context.Context, r *record) (sid dtyp.SID, err error) {
	if !d.cfg.SID.IsZero() {
		return d.cfg.SID, nil
	}
	d.mu.Lock()
	sid, asked := d.sid, d.sidAsked
	d.mu.Unlock()
	if !sid.IsZero() && time.Since(asked) < d.cfg.KeyLife {
		return sid, nil
	}
	err = d.do(ctx, r, "SID", func(ctx context.Context, c *Client) (err error) {
		sid, err = c.SID(ctx)
		return err
	})
	if err != nil {
		return dtyp.SID{}, err
	}
	d.mu.Lock()
	d.sid, d.sidAsked = sid, time.Now()
	d.mu.Unlock()
	return sid, nil
}
