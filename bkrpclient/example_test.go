package bkrpclient_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/bkrpserver"
	"github.com/seed05845750/bkrp/internal/dclocator/locatortest"
)

// A secret is wrapped for its owner, and comes back to nobody else.
func Example() {
	ctx, server, end := exampleServer()
	defer end()

	c, err := bkrpclient.Dial(ctx, bkrpclient.Config{
		Server:     server, // "dc1.example.com"
		Credential: bkrpclient.Credential{Domain: "BKRP", User: "alice", Password: "Correct.Horse.9"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	blob, err := c.Wrap(ctx, []byte("the passphrase of a disk"), bkrpclient.WrapOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	secret, err := c.Unwrap(ctx, blob)
	fmt.Printf("%s, %v\n", secret, err)
	// Output: the passphrase of a disk, <nil>
}

// In a domain nobody has to know a server's name, and one that fails is made up
// for by another.
func ExampleDomain() {
	ctx, domain, end := exampleDomain()
	defer end()

	d, err := bkrpclient.OpenDomain(bkrpclient.DomainConfig{
		Domain: "bkrp.example",
		Client: bkrpclient.Config{
			Credential: bkrpclient.Credential{Domain: "BKRP", User: "alice", Password: "Correct.Horse.9"},
		},
		// A program in a real domain leaves these two out.
		Resolver: domain.Resolver(), Address: domain.config().Address,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer d.Close()
	blob, err := d.Wrap(ctx, []byte("the passphrase of a disk"), bkrpclient.WrapOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	secret, err := d.Unwrap(ctx, blob)
	fmt.Printf("%s, %v\n", secret, err)
	// Output: the passphrase of a disk, <nil>
}

// A trace says what was tried, also when all went well.
func ExampleWithTrace() {
	ctx, domain, end := exampleDomain()
	defer end()
	d, err := bkrpclient.OpenDomain(domain.config())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer d.Close()

	var trace bkrpclient.Trace
	if _, err := d.RetrieveKey(bkrpclient.WithTrace(ctx, &trace)); err != nil {
		fmt.Println(err)
		return
	}
	for _, s := range trace {
		s.Took = 0 // for the sake of a comparison
		fmt.Println(s)
	}
	// Output:
	// _ldap._tcp.dc._msdcs.bkrp.example: 2 in DNS
	// branch.bkrp.example: read-only, skipped
	// dc1.bkrp.example: 0.0 ms
	// dc1.bkrp.example: connect: 0.0 ms
	// dc1.bkrp.example: RETRIEVE: 0.0 ms
}

// The domain's public key is kept for the next run of the program.
func ExampleKeyDir() {
	ctx, domain, end := exampleDomain()
	defer end()
	dir, err := os.MkdirTemp("", "keys")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)

	cfg := domain.config()
	cfg.Keys = &bkrpclient.KeyDir{Path: dir}
	for range 2 {
		d, err := bkrpclient.OpenDomain(cfg)
		if err != nil {
			fmt.Println(err)
			return
		}
		var trace bkrpclient.Trace
		blob, err := d.Wrap(bkrpclient.WithTrace(ctx, &trace), []byte("secret"), bkrpclient.WrapOptions{Version: 3})
		fmt.Println(len(blob), err, "steps:", len(trace))
		d.Close()
	}
	// Output:
	// 428 <nil> steps: 5
	// 428 <nil> steps: 1
}

// exampleTB is what tests are given, for examples, which are given nothing.
type exampleTB struct {
	testing.TB
	ctx      context.Context
	dir      string
	cleanups []func()
}

func (*exampleTB) Helper()                    {}
func (e *exampleTB) Context() context.Context { return e.ctx }
func (e *exampleTB) TempDir() string          { return e.dir }
func (e *exampleTB) Cleanup(f func())         { e.cleanups = append(e.cleanups, f) }
func (*exampleTB) Error(args ...any)          { fmt.Println(args...) }
func (*exampleTB) Fatal(args ...any)          { panic(fmt.Sprint(args...)) }

func (e *exampleTB) end() {
	for len(e.cleanups) > 0 {
		last := len(e.cleanups) - 1
		f := e.cleanups[last]
		e.cleanups = e.cleanups[:last]
		f()
	}
	os.RemoveAll(e.dir)
}

func newExampleTB() *exampleTB {
	dir, err := os.MkdirTemp("", "bkrpclient")
	if err != nil {
		panic(err)
	}
	return &exampleTB{ctx: context.Background(), dir: dir}
}

// exampleServer is a server with alice as its user.
func exampleServer() (ctx context.Context, addr string, end func()) {
	tb := newExampleTB()
	return tb.ctx, startServer(tb, bkrpserver.Config{}).addr, tb.end
}

// exampleDomain is such a server in a domain, and a read-only domain controller.
func exampleDomain() (ctx context.Context, d *fakeDomain, end func()) {
	tb := newExampleTB()
	s := startServer(tb, bkrpserver.Config{})
	d = startDomain(tb,
		&dcAt{DC: locatortest.DC{Name: "branch", Reply: locatortest.ReadOnly}},
		&dcAt{DC: locatortest.DC{Name: "dc1"}, addr: s.addr})
	return tb.ctx, d, tb.end
}
