package bkrpclient_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/bkrpserver"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/backuprkey"
	"github.com/seed05845750/bkrp/internal/ndr"
)

func TestWrapUnwrap(t *testing.T) {
	s := startServer(t, bkrpserver.Config{})
	for _, ndr64 := range []bool{false, true} {
		cfg := configFor(s.addr)
		cfg.NDR64 = ndr64
		c := dial(t, cfg)
		for _, tt := range []struct {
			name string
			o    bkrpclient.WrapOptions
			size int
			want uint32 // first word of the blob
		}{
			{"C-3.2.4.1-06 default", bkrpclient.WrapOptions{}, 64, 2},
			{"C-3.2.4-14 ClientWrap 2, longest", bkrpclient.WrapOptions{Version: 2}, 205, 2},
			{"ClientWrap 3, longest", bkrpclient.WrapOptions{Version: 3}, 181, 3},
			{"C-3.2.4-13 ServerWrap, one octet", bkrpclient.WrapOptions{Mode: bkrpclient.ModeServer}, 1, 1},
			{"C-3.2.4-12 C-3.2.4-15 ServerWrap in many fragments", bkrpclient.WrapOptions{Mode: bkrpclient.ModeServer}, 100 << 10, 1},
			{"auto, short", bkrpclient.WrapOptions{Mode: bkrpclient.ModeAuto, Version: 3}, 181, 3},
			{"auto, too long for ClientWrap", bkrpclient.WrapOptions{Mode: bkrpclient.ModeAuto, Version: 3}, 182, 1},
		} {
			t.Run(fmt.Sprintf("%s, NDR64 %v", tt.name, ndr64), func(t *testing.T) {
				secret := bytes.Repeat([]byte{0xA5}, tt.size)
				blob, err := c.Wrap(t.Context(), secret, tt.o)
				if err != nil {
					t.Fatal(err)
				}
				if blob[0] != byte(tt.want) {
					t.Errorf("blob of version %d, want %d", blob[0], tt.want)
				}
				got, err := c.Unwrap(t.Context(), blob)
				if err != nil || !bytes.Equal(got, secret) {
					t.Errorf("%d octets come back, %v", len(got), err)
				}
			})
		}
		t.Run("A-55 SID", func(t *testing.T) {
			if sid, err := c.SID(t.Context()); err != nil || sid != s.sid {
				t.Errorf("SID %v, %v, want %v", sid, err, s.sid)
			}
		})
		t.Run("C-3.2.4.1-04 certificate", func(t *testing.T) {
			cert, err := c.RetrieveKey(t.Context())
			if err != nil || cert.PublicKey.Size() != 256 {
				t.Errorf("%v, %v", cert, err)
			}
		})
	}
}

func TestRefusedInput(t *testing.T) {
	s := startServer(t, bkrpserver.Config{})
	c := dial(t, configFor(s.addr))
	t.Run("A-22 empty secret", func(t *testing.T) {
		if _, err := c.Wrap(t.Context(), nil, bkrpclient.WrapOptions{}); !errors.Is(err, bkrpclient.ErrEmptySecret) {
			t.Error(err)
		}
	})
	t.Run("secret too long for ClientWrap", func(t *testing.T) {
		if _, err := c.Wrap(t.Context(), make([]byte, 206), bkrpclient.WrapOptions{}); !errors.Is(err, bkrp.ErrSecretTooLong) {
			t.Error(err)
		}
	})
	t.Run("C-3.2.4-20 not a blob", func(t *testing.T) {
		for _, blob := range [][]byte{nil, {1}, {1, 0, 0, 0}, {2, 0, 0, 0}, {4, 0, 0, 0}, make([]byte, 600)} {
			if _, err := c.Unwrap(t.Context(), blob); !errors.Is(err, bkrp.ErrFormat) {
				t.Errorf("%x: %v", blob[:min(4, len(blob))], err)
			}
		}
	})
	t.Run("C-3.2.4-17 another user's secret", func(t *testing.T) {
		blob, err := c.Wrap(t.Context(), []byte("secret"), bkrpclient.WrapOptions{SID: dtyp.MustParseSID("S-1-5-21-1-2-3-999")})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Unwrap(t.Context(), blob)
		if st := serverStatus(t, err); st != bkrp.StatusInvalidAccess || !errors.Is(err, bkrp.StatusInvalidAccess) {
			t.Errorf("status %v", st)
		}
	})
	t.Run("what only the server can wrap, for somebody else", func(t *testing.T) {
		other, long := dtyp.MustParseSID("S-1-5-21-1-2-3-999"), make([]byte, 1000)
		for _, mode := range []bkrpclient.Mode{bkrpclient.ModeServer, bkrpclient.ModeAuto} {
			if blob, err := c.Wrap(t.Context(), long, bkrpclient.WrapOptions{Mode: mode, SID: other}); blob != nil || !errors.Is(err, bkrpclient.ErrOwner) {
				t.Errorf("%v: %v", mode, err)
			}
			if _, err := c.Wrap(t.Context(), long, bkrpclient.WrapOptions{Mode: mode, SID: s.sid}); err != nil {
				t.Errorf("%v, for the caller: %v", mode, err)
			}
		}
	})
	t.Run("the connection is good after all of that", func(t *testing.T) {
		if _, err := c.RetrieveKey(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestPipes covers W-2.1-06, C-3.2.4-04 and C-3.2.4-05.
func TestPipes(t *testing.T) {
	s := startServer(t, bkrpserver.Config{Pipes: []string{bkrpserver.PipeNTSvcs}})
	t.Run("W-2.1-06 ntsvcs after protected_storage", func(t *testing.T) {
		if _, err := dial(t, configFor(s.addr)).RetrieveKey(t.Context()); err != nil {
			t.Error(err)
		}
	})
	t.Run("neither", func(t *testing.T) {
		cfg := configFor(s.addr)
		cfg.Pipes = []string{bkrpclient.ProtectedStorage, "spoolss"}
		_, err := bkrpclient.Dial(t.Context(), cfg)
		if err == nil || !strings.Contains(err.Error(), "protected_storage") || !strings.Contains(err.Error(), "spoolss") {
			t.Errorf("the error does not name both pipes: %v", err)
		}
	})
	t.Run("a pipe with another interface", func(t *testing.T) {
		cfg := configFor(s.addr)
		cfg.Pipes = []string{"lsarpc", bkrpclient.NTSvcs}
		if _, err := dial(t, cfg).RetrieveKey(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestRefusedLogon(t *testing.T) {
	s := startServer(t, bkrpserver.Config{})
	for _, who := range []bkrpclient.Credential{
		{Domain: testDomain, User: testUser, Password: "wrong"},
		{Domain: testDomain, User: "nobody", Password: testPassword},
		{Domain: "OTHER", User: testUser, Password: testPassword},
	} {
		cfg := configFor(s.addr)
		cfg.Credential = who
		_, err := bkrpclient.Dial(t.Context(), cfg)
		if !errors.Is(err, bkrpclient.ErrLogon) {
			t.Errorf("%s\\%s: %v", who.Domain, who.User, err)
		}
		if err != nil && strings.Contains(err.Error(), string(who.Password)) {
			t.Errorf("the error shows the password: %v", err)
		}
	}
	t.Run("no user", func(t *testing.T) {
		if _, err := bkrpclient.Dial(t.Context(), bkrpclient.Config{Server: s.addr}); err == nil {
			t.Error("an anonymous client is let go on")
		}
	})
}

func TestPasswordIsNotPrinted(t *testing.T) {
	cfg := configFor("dc1")
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		if text := fmt.Sprintf(format, cfg); strings.Contains(text, testPassword) {
			t.Errorf("%s: %s", format, text)
		}
	}
}

func TestContextEnds(t *testing.T) {
	s := startServer(t, bkrpserver.Config{})
	cause := errors.New("the caller has gone home")
	for name, tt := range map[string]struct {
		ctx  func() (context.Context, func())
		want error
	}{
		"cancelled": {func() (context.Context, func()) {
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			return ctx, cancel
		}, context.Canceled},
		"past its deadline": {func() (context.Context, func()) {
			ctx, cancel := context.WithDeadline(context.Background(), time.Unix(1, 0))
			return ctx, cancel
		}, context.DeadlineExceeded},
		"cancelled for a cause": {func() (context.Context, func()) {
			ctx, cancel := context.WithCancelCause(context.Background())
			cancel(cause)
			return ctx, func() {}
		}, cause},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := tt.ctx()
			defer cancel()
			if _, err := bkrpclient.Dial(ctx, configFor(s.addr)); !errors.Is(err, tt.want) {
				t.Errorf("Dial: %v", err)
			}
			c := dial(t, configFor(s.addr))
			if _, err := c.RetrieveKey(ctx); !errors.Is(err, tt.want) {
				t.Errorf("RetrieveKey: %v", err)
			}
			if _, err := c.RetrieveKey(t.Context()); err != nil {
				t.Errorf("the call after it, with nothing sent in between: %v", err)
			}
		})
	}
}

// TestContextEndsInCall: a context that ends under a call takes the connection
// with it, also where the answer has come all the same.
func TestContextEndsInCall(t *testing.T) {
	for range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		addr, _ := startFake(t, func(q backuprkey.Request, enc ndr.Encoding) ([]byte, error) {
			cancel()
			return good([]byte("octets"), 0)(q, enc)
		})
		c := dial(t, configFor(addr))
		if out, err := c.BackuprKey(ctx, bkrp.ActionBackup, []byte{1}); !errors.Is(err, context.Canceled) && (err != nil || string(out) != "octets") {
			t.Errorf("%q, %v", out, err)
		}
		if _, err := c.BackuprKey(t.Context(), bkrp.ActionBackup, []byte{1}); !errors.Is(err, bkrpclient.ErrClosed) {
			t.Errorf("the call after it: %v", err)
		}
	}
}

// TestContextEndsWaiting: a call that waits behind another one goes by its own
// context, and leaves the other one alone.
func TestContextEndsWaiting(t *testing.T) {
	asked, answer := make(chan struct{}), make(chan struct{})
	addr, calls := startFake(t, func(q backuprkey.Request, enc ndr.Encoding) ([]byte, error) {
		asked <- struct{}{}
		<-answer
		return good([]byte("octets"), 0)(q, enc)
	})
	c := dial(t, configFor(addr))
	first := make(chan error, 1)
	go func() {
		_, err := c.BackuprKey(context.Background(), bkrp.ActionBackup, []byte{1})
		first <- err
	}()
	<-asked
	gone := errors.New("the caller has gone home")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(50*time.Millisecond, func() { cancel(gone) })
	err := inHangTime(t, func() error {
		_, err := c.BackuprKey(ctx, bkrp.ActionBackup, []byte{1})
		return err
	})
	if !errors.Is(err, gone) {
		t.Error(err)
	}
	close(answer)
	if err := <-first; err != nil {
		t.Errorf("the call before it: %v", err)
	}
	go func() { <-asked }()
	if _, err := c.BackuprKey(t.Context(), bkrp.ActionBackup, []byte{1}); err != nil || calls.Load() != 2 {
		t.Errorf("the call after it: %v; %d calls", err, calls.Load())
	}
}

func TestConcurrentCalls(t *testing.T) {
	s := startServer(t, bkrpserver.Config{})
	c := dial(t, configFor(s.addr))
	var running sync.WaitGroup
	for i := range 8 {
		running.Go(func() {
			secret := bytes.Repeat([]byte{byte(i)}, 100)
			for range 10 {
				blob, err := c.Wrap(t.Context(), secret, bkrpclient.WrapOptions{Mode: bkrpclient.ModeServer})
				if err != nil {
					t.Error(err)
					return
				}
				if got, err := c.Unwrap(t.Context(), blob); err != nil || !bytes.Equal(got, secret) {
					t.Errorf("%x, %v", got, err)
					return
				}
			}
		})
	}
	running.Wait()
}

func TestClose(t *testing.T) {
	s := startServer(t, bkrpserver.Config{})
	c := dial(t, configFor(s.addr))
	for range 2 {
		if err := c.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	if _, err := c.RetrieveKey(t.Context()); !errors.Is(err, bkrpclient.ErrClosed) {
		t.Errorf("a call after Close: %v", err)
	}
	if _, err := c.SID(t.Context()); !errors.Is(err, bkrpclient.ErrClosed) {
		t.Errorf("a call after Close: %v", err)
	}
}
