package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/cli"
)

// caller is what commands ask of a server or of a domain.
type caller interface {
	RetrieveKey(ctx context.Context) (*bkrp.Certificate, error)
	Wrap(ctx context.Context, secret []byte, o bkrpclient.WrapOptions) ([]byte, error)
	Unwrap(ctx context.Context, blob []byte) ([]byte, error)
	SID(ctx context.Context) (dtyp.SID, error)
	Close() error
}

// domainFlags say how to find the servers of a domain.
type domainFlags struct {
	name, site, dns string
	port            uint16
	noKeyCache      bool
	fallBack        bool // of "bkrp wrap" alone
	trace           bool
	stderr          func() io.Writer
}

// domainOnly are the flags that go with --domain and no server.
var domainOnly = []string{"site", "dns", "port", "no-key-cache", "trace"}

func (f *domainFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.name, "domain", "", "in the place of --server: the DNS name of the domain, whose servers are found")
	cmd.Flags().StringVar(&f.site, "site", "", "the site whose servers come first (default: what the domain says)")
	cmd.Flags().StringVar(&f.dns, "dns", "", "the DNS server to ask, HOST or HOST:PORT (default: the system's)")
	cmd.Flags().Uint16Var(&f.port, "port", 445, "the port of the domain's servers")
	cmd.Flags().BoolVar(&f.noKeyCache, "no-key-cache", false, "do not keep the domain's public key, nor use the one that was kept")
	cmd.Flags().BoolVarP(&f.trace, "trace", "v", false, "say on standard error what was tried")
	f.stderr = cmd.ErrOrStderr
}

// open makes a client of the domain, which connects when it has to.
func (f *domainFlags) open(cfg bkrpclient.Config) (caller, error) {
	domain := f.config(cfg)
	// Where the user has no cache, the key is fetched each time.
	if dir, err := os.UserCacheDir(); err == nil && !f.noKeyCache {
		domain.Keys = &bkrpclient.KeyDir{Path: filepath.Join(dir, "bkrp", "keys")}
	}
	d, err := bkrpclient.OpenDomain(domain)
	if err != nil {
		return nil, cli.UsageError{Err: err}
	}
	if !f.trace {
		return d, nil
	}
	return &tracedDomain{d, f.stderr()}, nil
}

// config says which domain it is, and how its servers are reached.
func (f *domainFlags) config(cfg bkrpclient.Config) bkrpclient.DomainConfig {
	return bkrpclient.DomainConfig{
		Domain:   f.name,
		Site:     f.site,
		Client:   cfg,
		Resolver: f.resolver(),
		FallBack: f.fallBack,
		Address: func(_ string, addr netip.Addr) string {
			return net.JoinHostPort(addr.String(), strconv.Itoa(int(f.port)))
		},
	}
}

// resolver asks the server that --dns names.
func (f *domainFlags) resolver() *net.Resolver {
	if f.dns == "" {
		return nil
	}
	server := dnsServer(f.dns)
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, server)
	}}
}

// dnsServer is HOST:PORT of HOST or HOST:PORT; an address of IPv6 may have its
// brackets without a port, too.
func dnsServer(server string) string {
	host, port, err := net.SplitHostPort(server)
	if err != nil {
		host = strings.TrimSuffix(strings.TrimPrefix(server, "["), "]")
	}
	if port == "" {
		port = "53"
	}
	return net.JoinHostPort(host, port)
}

// tracedDomain says of each call what was tried for it.
type tracedDomain struct {
	*bkrpclient.Domain
	to io.Writer
}

// traced makes a call and prints its trace, a step a line.
func traced[T any](ctx context.Context, to io.Writer, call func(context.Context) (T, error)) (T, error) {
	var trace bkrpclient.Trace
	v, err := call(bkrpclient.WithTrace(ctx, &trace))
	for _, s := range trace {
		fmt.Fprintln(to, cli.OneLine(fmt.Sprint(s)))
	}
	return v, err
}

func (d *tracedDomain) RetrieveKey(ctx context.Context) (*bkrp.Certificate, error) {
	return traced(ctx, d.to, d.Domain.RetrieveKey)
}

func (d *tracedDomain) Wrap(ctx context.Context, secret []byte, o bkrpclient.WrapOptions) ([]byte, error) {
	return traced(ctx, d.to, func(ctx context.Context) ([]byte, error) { return d.Domain.Wrap(ctx, secret, o) })
}

func (d *tracedDomain) Unwrap(ctx context.Context, blob []byte) ([]byte, error) {
	return traced(ctx, d.to, func(ctx context.Context) ([]byte, error) { return d.Domain.Unwrap(ctx, blob) })
}

func (d *tracedDomain) SID(ctx context.Context) (dtyp.SID, error) {
	return traced(ctx, d.to, d.Domain.SID)
}
