package bkrptest_test

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/bkrpserver"
	"github.com/seed05845750/bkrp/bkrptest"
)

// server wraps on the server.
var server = bkrpclient.WrapOptions{Mode: bkrpclient.ModeServer}

func TestAnswers(t *testing.T) {
	t.Parallel()
	d := bkrptest.NewDomain(t)
	c := dial(t, d.User("alice").NTLM())
	blobs := make(map[string][]byte)
	for name, o := range map[string]bkrpclient.WrapOptions{"client": {}, "server": server} {
		blob, err := c.Wrap(t.Context(), []byte("secret"), o)
		if err != nil {
			t.Fatal(err)
		}
		blobs[name] = blob
	}
	unwrap := func(t *testing.T, want error) {
		t.Helper()
		for name, blob := range blobs {
			if secret, err := c.Unwrap(t.Context(), blob); !errors.Is(err, want) {
				t.Errorf("%s: %q, %v, want %v", name, secret, err, want)
			}
		}
	}
	last := func() bkrpserver.Event {
		events := d.Events()
		return events[len(events)-1]
	}
	t.Run("Refuse", func(t *testing.T) {
		f := d.Inject(bkrptest.Refuse())
		unwrap(t, bkrp.StatusAccessDenied)
		if _, err := c.RetrieveKey(t.Context()); !errors.Is(err, bkrp.StatusAccessDenied) {
			t.Error(err)
		}
		if e := last(); e.Status != bkrp.StatusAccessDenied || e.Caller.SID != d.User("alice").SID {
			t.Errorf("%+v", e)
		}
		if f.Hits() != 3 {
			t.Errorf("%d hits", f.Hits())
		}
		f.Mend()
		f.Mend()
		roundTrip(t, c)
	})
	t.Run("Answer, twice", func(t *testing.T) {
		defer d.Inject(bkrptest.Answer(bkrp.StatusInternalError).Times(2)).Mend()
		unwrap(t, bkrp.StatusInternalError)
		roundTrip(t, c)
	})
	t.Run("UnknownKey", func(t *testing.T) {
		f := d.Inject(bkrptest.UnknownKey())
		unwrap(t, bkrp.StatusFileNotFound)
		if e := last(); e.Status != bkrp.StatusFileNotFound {
			t.Errorf("%+v", e)
		}
		f.Mend()
		roundTrip(t, c)
	})
	t.Run("WrongCertificate", func(t *testing.T) {
		f := d.Inject(bkrptest.WrongCertificate())
		cert, err := c.RetrieveKey(t.Context())
		if err != nil || cert.GUID == d.Certificate().GUID {
			t.Errorf("%v, %v", cert, err)
		}
		blob, err := c.Wrap(t.Context(), []byte("lost"), bkrpclient.WrapOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Unwrap(t.Context(), blob); !errors.Is(err, bkrp.StatusFileNotFound) {
			t.Error(err)
		}
		f.Mend()
		roundTrip(t, c)
	})
	t.Run("WrongResult", func(t *testing.T) {
		f := d.Inject(bkrptest.WrongResult())
		for name, blob := range blobs {
			if secret, err := c.Unwrap(t.Context(), blob); err != nil || string(secret) == "secret" || len(secret) != 6 {
				t.Errorf("%s: %q, %v", name, secret, err)
			}
		}
		blob, err := c.Wrap(t.Context(), []byte("secret"), server)
		if err != nil {
			t.Fatal(err)
		}
		f.Mend()
		if _, err := c.Unwrap(t.Context(), blob); !errors.Is(err, bkrp.StatusInvalidAccess) {
			t.Error(err)
		}
		roundTrip(t, c)
	})
	t.Run("Garbage", func(t *testing.T) {
		f := d.Inject(bkrptest.Garbage())
		if _, err := c.RetrieveKey(t.Context()); !errors.Is(err, bkrpclient.ErrResponse) {
			t.Error(err)
		}
		if _, err := c.Wrap(t.Context(), []byte("secret"), server); !errors.Is(err, bkrpclient.ErrResponse) {
			t.Error(err)
		}
		f.Mend()
		roundTrip(t, c)
	})
}

func TestHold(t *testing.T) {
	t.Parallel()
	d := bkrptest.NewDomain(t)
	alice := d.User("alice")
	type answer struct {
		cert *bkrp.Certificate
		err  error
	}
	call := func(ctx context.Context, c *bkrpclient.Client) <-chan answer {
		answers := make(chan answer, 1)
		go func() {
			cert, err := c.RetrieveKey(ctx)
			answers <- answer{cert, err}
		}()
		return answers
	}
	t.Run("mended", func(t *testing.T) {
		held := d.Inject(bkrptest.Hold())
		answers := call(t.Context(), dial(t, alice.NTLM()))
		<-held.Hit()
		if len(d.Events()) != 1 {
			t.Errorf("the call has not been made: %v", d.Events())
		}
		select {
		case a := <-answers:
			t.Errorf("answered: %v, %v", a.cert, a.err)
		default:
		}
		held.Mend()
		if a := <-answers; a.err != nil {
			t.Error(a.err)
		}
	})
	t.Run("the caller gives up", func(t *testing.T) {
		held := d.Inject(bkrptest.Hold())
		defer held.Mend()
		ctx, cancel := context.WithCancel(t.Context())
		answers := call(ctx, dial(t, alice.NTLM()))
		<-held.Hit()
		cancel()
		if a := <-answers; !errors.Is(a.err, context.Canceled) {
			t.Error(a.err)
		}
	})
	t.Run("the domain ends", func(t *testing.T) {
		var answers <-chan answer
		t.Run("first", func(t *testing.T) {
			d := bkrptest.NewDomain(t)
			c, err := bkrpclient.Dial(t.Context(), d.User("alice").Kerberos())
			if err != nil {
				t.Fatal(err)
			}
			held := d.Inject(bkrptest.Hold())
			answers = call(context.Background(), c)
			<-held.Hit()
		})
		if a := <-answers; a.err == nil {
			t.Error("a call is answered after the end")
		}
	})
}

func TestOn(t *testing.T) {
	t.Parallel()
	d := bkrptest.NewDomain(t, bkrptest.WithControllers(3))
	cfg := d.User("alice").InDomain()
	direct := d.User("alice").NTLM()
	for name, want := range map[string]error{"dc1": nil, "dc2": bkrp.StatusAccessDenied, "dc3": bkrp.StatusInternalError} {
		if want != nil {
			defer d.Inject(bkrptest.Answer(want.(bkrp.Status)).On(name)).Mend()
		}
	}
	for name, want := range map[string]error{"dc1": nil, "dc2": bkrp.StatusAccessDenied, "dc3": bkrp.StatusInternalError} {
		direct.Server = cfg.Address(name+"."+d.Name, netip.MustParseAddr("127.0.0.1"))
		if _, err := dial(t, direct).RetrieveKey(t.Context()); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
}

func TestDrop(t *testing.T) {
	t.Parallel()
	d := bkrptest.NewDomain(t)
	for _, cfg := range []func() bkrpclient.Config{d.User("alice").NTLM, d.User("alice").Kerberos} {
		for step := bkrptest.Connect; step <= bkrptest.Response; step++ {
			t.Run(step.String(), func(t *testing.T) {
				calls := len(d.Events())
				f := d.Inject(bkrptest.Drop(step))
				defer f.Mend()
				c, err := bkrpclient.Dial(t.Context(), cfg())
				if step >= bkrptest.Request {
					if err != nil {
						t.Fatalf("Dial: %v", err)
					}
					_, err = c.RetrieveKey(t.Context())
					c.Close()
				}
				var refused *bkrpclient.ServerError
				if err == nil || errors.Is(err, bkrpclient.ErrLogon) || errors.As(err, &refused) {
					t.Errorf("%v", err)
				}
				if f.Hits() == 0 {
					t.Error("the step was not seen")
				}
				if made := len(d.Events()) > calls; made != (step == bkrptest.Response) {
					t.Errorf("call made: %v", made)
				}
				f.Mend()
				roundTrip(t, dial(t, cfg()))
			})
		}
	}
}
