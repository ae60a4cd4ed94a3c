package smb2

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/internal/gss"
	"github.com/seed05845750/bkrp/internal/smb2/wire"
)

// one makes a message of a compound.
func (c *client) one(cmd wire.Command, flags wire.HeaderFlags, body []byte) func() (wire.Header, []byte) {
	return func() (wire.Header, []byte) {
		h := c.header(cmd)
		h.Flags = flags
		if flags&wire.FlagRelated != 0 {
			h.SessionID, h.TreeID = ^uint64(0), ^uint32(0)
			if c.encrypt {
				h.SessionID = c.session
			}
		}
		return h, body
	}
}

// statuses sends a compound and gives the statuses of the responses, however
// they are framed.
func (c *client) statuses(list ...func() (wire.Header, []byte)) []wire.Status {
	c.t.Helper()
	c.sendFrame(c.compound(list))
	var got []wire.Status
	for len(got) < len(list) {
		frame, err := c.recvFrame()
		if err != nil {
			c.t.Fatal(err)
		}
		for len(frame) > 0 {
			h, err := wire.ParseHeader(frame)
			if err != nil {
				c.t.Fatal(err)
			}
			msg := frame
			if h.NextCommand != 0 {
				if h.NextCommand%8 != 0 {
					c.t.Error("a response of a compound is not padded")
				}
				msg = frame[:h.NextCommand]
			}
			frame = frame[len(msg):]
			if !c.encrypt && h.Is(wire.FlagSigned) && !verify(c.in, msg) {
				c.t.Error("signature of a response of a compound is wrong")
			}
			if h.Status != wire.StatusPending {
				got = append(got, h.Status)
			}
		}
	}
	return got
}

func TestCompound(t *testing.T) {
	const related = wire.FlagRelated
	_, addr := startServer(t, Config{})
	closeBody := (&wire.CloseRequest{FileID: wire.RelatedFileID}).Append(nil)
	flush := (&wire.FlushRequest{FileID: wire.RelatedFileID}).Append(nil)
	info := (&wire.QueryInfoRequest{InfoType: 1, Class: wire.FileStandardInformation, MaxOutput: 24, FileID: wire.RelatedFileID}).Append(nil)
	echo := wire.AppendEmpty(nil)
	tree := (&wire.TreeConnectRequest{Path: wire.AppendUTF16(nil, `\\x\IPC$`)}).Append(nil)
	ok, notFound := wire.StatusSuccess, wire.StatusObjectNameNotFound
	for _, encrypt := range []bool{false, true} {
		c := logon(t, addr, Dialect300, testUser)
		c.encrypt = encrypt
		c.sign = !encrypt
		for name, x := range map[string]struct {
			list []func() (wire.Header, []byte)
			want []wire.Status
		}{
			"related": {[]func() (wire.Header, []byte){
				c.one(wire.Create, 0, createBody("echo")), c.one(wire.QueryInfo, related, info),
				c.one(wire.Flush, related, flush), c.one(wire.Close, related, closeBody)},
				[]wire.Status{ok, ok, ok, ok}},
			"tree and open": {[]func() (wire.Header, []byte){
				c.one(wire.TreeConnect, 0, tree), c.one(wire.Create, related, createBody("echo")),
				c.one(wire.Close, related, closeBody), c.one(wire.TreeDisconnect, related, echo)},
				[]wire.Status{ok, ok, ok, ok}},
			"failed create": {[]func() (wire.Header, []byte){
				c.one(wire.Create, 0, createBody("none")), c.one(wire.QueryInfo, related, info), c.one(wire.Close, related, closeBody)},
				[]wire.Status{notFound, notFound, notFound}},
			"unrelated": {[]func() (wire.Header, []byte){
				c.one(wire.Echo, 0, echo), c.one(wire.Create, 0, createBody("none")), c.one(wire.Echo, 0, echo), c.one(wire.Flush, 0, flush)},
				[]wire.Status{ok, notFound, ok, wire.StatusFileClosed}},
			"related first": {[]func() (wire.Header, []byte){
				func() (wire.Header, []byte) {
					h := c.header(wire.Create)
					h.Flags = related
					return h, createBody("echo")
				},
				c.one(wire.Close, related, closeBody)},
				[]wire.Status{wire.StatusInvalidParameter, wire.StatusInvalidParameter}},
			"waits in the middle": {[]func() (wire.Header, []byte){
				c.one(wire.Create, 0, createBody("echo")), c.one(wire.Read, related, readBody(wire.RelatedFileID, 10)),
				c.one(wire.Close, related, closeBody)},
				[]wire.Status{ok, wire.StatusInternalError, ok}},
			"waits at the end": {[]func() (wire.Header, []byte){
				c.one(wire.Create, 0, createBody("echo")), c.one(wire.Ioctl, related, transceiveBody(wire.RelatedFileID, message(30), 100))},
				[]wire.Status{ok, ok}},
			"session setup": {[]func() (wire.Header, []byte){
				c.one(wire.Echo, 0, echo), c.one(wire.SessionSetup, 0, (&wire.SessionSetupRequest{}).Append(nil))},
				[]wire.Status{ok, wire.StatusInvalidParameter}},
		} {
			got := c.statuses(x.list...)
			for i := range got {
				if got[i] != x.want[i] {
					t.Errorf("%s, encrypted %v: status %d is %v, want %v", name, encrypt, i, got[i], x.want[i])
				}
			}
		}
		if got := c.statuses(c.one(wire.Logoff, 0, echo), c.one(wire.Echo, related, echo)); got[0] != ok || got[1] != wire.StatusUserSessionDeleted {
			t.Errorf("after the end of the session: %v", got)
		}
	}
	t.Run("one signature wrong", func(t *testing.T) {
		c := logon(t, addr, Dialect311, testUser)
		frame := c.compound([]func() (wire.Header, []byte){c.one(wire.Echo, 0, echo), c.one(wire.Create, related, createBody("echo"))})
		frame[len(frame)-1] ^= 1
		c.sendFrame(frame)
		got, err := c.recvFrame()
		if err != nil {
			t.Fatal(err)
		}
		h, _ := wire.ParseHeader(got)
		last, err := wire.ParseHeader(got[h.NextCommand:])
		if h.Status != ok || err != nil || last.Status != wire.StatusAccessDenied {
			t.Errorf("status %v, then %v", h.Status, last.Status)
		}
	})
	t.Run("bomb", func(t *testing.T) {
		c := logon(t, addr, Dialect311, testUser)
		var list []func() (wire.Header, []byte)
		for range 33 {
			list = append(list, c.one(wire.Echo, 0, echo))
		}
		c.sendFrame(c.compound(list))
		c.gone()
	})
	for name, next := range map[string]uint32{"unaligned": 68, "inside": 8, "at the end": 72, "far": 1 << 31} {
		t.Run("next command "+name, func(t *testing.T) {
			c := logon(t, addr, Dialect311, testUser)
			h := c.header(wire.Echo)
			h.NextCommand = next
			c.sendFrame(append(c.pack(h, wire.AppendEmpty(nil)), 0, 0, 0, 0))
			c.gone()
		})
	}
}

func TestLimits(t *testing.T) {
	s, addr := startServer(t, Config{Limits: Limits{
		Connections: 20, ConnectionsPerAddress: 6, Sessions: 2, Trees: 2, Opens: 3, Outstanding: 2}})
	tree := (&wire.TreeConnectRequest{Path: wire.AppendUTF16(nil, `\\x\IPC$`)}).Append(nil)
	t.Run("trees", func(t *testing.T) {
		c := logon(t, addr, Dialect311, testUser)
		c.want(wire.StatusSuccess, wire.TreeConnect, tree)
		c.want(wire.StatusInsufficientResources, wire.TreeConnect, tree)
		c.nc.Close()
	})
	t.Run("opens", func(t *testing.T) {
		c := logon(t, addr, Dialect311, testUser)
		c.open("echo")
		c.open("echo")
		id := c.open("echo")
		c.want(wire.StatusTooManyOpenedFiles, wire.Create, createBody("echo"))
		c.want(wire.StatusSuccess, wire.Close, (&wire.CloseRequest{FileID: id}).Append(nil))
		eventually(t, func() bool {
			h, _ := c.do(wire.Create, createBody("echo"))
			return h.Status == wire.StatusSuccess
		})
		c.nc.Close()
	})
	t.Run("outstanding", func(t *testing.T) {
		c := logon(t, addr, Dialect311, testUser)
		id := c.open("echo")
		for range 3 {
			c.sendFrame(c.pack(c.header(wire.Read), readBody(id, 10)))
		}
		if h, _ := c.final(); h.Status != wire.StatusInsufficientResources {
			t.Error(h.Status)
		}
		c.nc.Close()
	})
	t.Run("sessions", func(t *testing.T) {
		c := logon(t, addr, Dialect311, testUser)
		c.session, c.sign, c.out = 0, false, nil
		if st := c.authenticate("bob", testPassword, 0); st != wire.StatusSuccess {
			t.Fatal(st)
		}
		c.session, c.sign, c.out = 0, false, nil
		if st := c.authenticate("bob", testPassword, 0); st != wire.StatusInsufficientResources {
			t.Error(st)
		}
		c.nc.Close()
	})
	t.Run("connections", func(t *testing.T) {
		eventually(t, func() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.conns) == 0 })
		var list []*client
		for range 6 {
			c := newClient(t, addr)
			c.negotiate(Dialect311)
			list = append(list, c)
		}
		newClient(t, addr).gone()
		list[0].nc.Close()
		eventually(t, func() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.conns) == 5 })
		newClient(t, addr).negotiate(Dialect311)
	})
}

func eventually(t *testing.T, done func() bool) {
	t.Helper()
	for range 2000 {
		if done() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("it did not come true")
}

// TestShutdown lets a call in flight end and closes everything else.
func TestShutdown(t *testing.T) {
	begun, release := make(chan struct{}), make(chan struct{})
	s, addr := startServer(t, Config{Pipes: map[string]PipeFunc{"work": func(ctx context.Context, p *Pipe) {
		m, err := readMessage(p)
		if err != nil {
			return
		}
		close(begun)
		<-release
		p.Write(m)
		io.Copy(io.Discard, p)
	}}})
	idle, unauthenticated, busy := logon(t, addr, Dialect311, testUser), newClient(t, addr), logon(t, addr, Dialect311, testUser)
	idle.echo(idle.open("echo"))
	id := busy.open("work")
	busy.sendFrame(busy.pack(busy.header(wire.Ioctl), transceiveBody(id, message(50), 100)))
	<-begun
	ended := make(chan error, 1)
	go func() { ended <- s.Shutdown(context.Background()) }()
	idle.gone()
	unauthenticated.gone()
	if nc, err := net.Dial("tcp", addr); err == nil {
		nc.Close()
		t.Error("the listener is still open")
	}
	select {
	case <-ended:
		t.Fatal("Shutdown did not wait for the call")
	default:
	}
	close(release)
	if h, _ := busy.final(); h.Status != wire.StatusSuccess {
		t.Error("the call in flight:", h.Status)
	}
	busy.gone()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestShutdownCutsOff has a call that does not end.
func TestShutdownCutsOff(t *testing.T) {
	begun := make(chan struct{})
	s, addr := startServer(t, Config{Pipes: map[string]PipeFunc{"work": func(ctx context.Context, p *Pipe) {
		close(begun)
		<-ctx.Done()
	}}})
	c := logon(t, addr, Dialect311, testUser)
	c.open("work")
	<-begun
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	c.gone()
}

// expiring makes contexts end at a time that a test sets.
type expiring struct {
	gss.Acceptor
	at *atomic.Int64
}

func (e expiring) Accept(o gss.AcceptOptions) gss.Exchange {
	return expiringExchange{e.Acceptor.Accept(o), e.at}
}

type expiringExchange struct {
	gss.Exchange
	at *atomic.Int64
}

func (e expiringExchange) Step(ctx context.Context, in []byte) ([]byte, gss.Context, error) {
	out, sc, err := e.Exchange.Step(ctx, in)
	if sc != nil {
		sc = expiringContext{sc, time.Unix(e.at.Load(), 0)}
	}
	return out, sc, err
}

type expiringContext struct {
	gss.Context
	at time.Time
}

func (e expiringContext) Expiry() time.Time { return e.at }

func TestExpiry(t *testing.T) {
	var now, at atomic.Int64
	now.Store(1000)
	at.Store(2000)
	a := testAcceptor(t)
	_, addr := startServer(t, Config{
		Acceptor: expiring{a, &at}, NegotiateToken: a.Hint(),
		Now: func() time.Time { return time.Unix(now.Load(), 0) },
	})
	c := logon(t, addr, Dialect311, testUser)
	id := c.open("echo")
	c.echo(id)
	now.Store(3000)
	c.want(wire.StatusNetworkSessionExpired, wire.Ioctl, transceiveBody(id, message(4), 100))
	c.want(wire.StatusNetworkSessionExpired, wire.Create, createBody("echo"))
	c.want(wire.StatusSuccess, wire.Echo, wire.AppendEmpty(nil))
	at.Store(4000)
	if st := c.authenticate(testUser, testPassword, 0); st != wire.StatusSuccess {
		t.Fatal(st)
	}
	c.echo(id)
}

// TestManyAtOnce has clients come and go on all sides at the same time.
func TestManyAtOnce(t *testing.T) {
	_, addr := startServer(t, Config{})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 4 {
				c := logon(t, addr, []Dialect{Dialect202, Dialect300, Dialect311}[(i+j)%3], testUser)
				for range 3 {
					id := c.open("echo")
					c.echo(id)
				}
				if j%2 == 0 {
					c.sendFrame(c.pack(c.header(wire.Read), readBody(c.open("echo"), 10)))
				}
				c.nc.Close()
			}
		})
	}
	wg.Wait()
}

// panicking is an acceptor with a mistake in it.
type panicking struct{ gss.Acceptor }

func (p panicking) Accept(o gss.AcceptOptions) gss.Exchange { panic("a mistake") }

// TestPanic has mistakes of what is served end no more than they have to.
func TestPanic(t *testing.T) {
	var log bytes.Buffer
	_, addr := startServer(t, Config{
		Log: slog.New(slog.NewTextHandler(&log, nil)),
		Pipes: map[string]PipeFunc{"wrong": func(ctx context.Context, p *Pipe) {
			readMessage(p)
			panic("a mistake")
		}}})
	c := logon(t, addr, Dialect311, testUser)
	id := c.open("wrong")
	c.want(wire.StatusPipeBroken, wire.Ioctl, transceiveBody(id, message(4), 100))
	c.echo(c.open("echo"))
	if !strings.Contains(log.String(), "pipe wrong") || !strings.Contains(log.String(), "a mistake") {
		t.Errorf("the log says %q", log.String())
	}
	_, addr = startServer(t, Config{Acceptor: panicking{}})
	for range 2 {
		c := newClient(t, addr)
		c.negotiate(Dialect311)
		c.sendFrame(c.pack(c.header(wire.SessionSetup), (&wire.SessionSetupRequest{Token: []byte("x")}).Append(nil)))
		c.gone()
	}
}

func TestConfig(t *testing.T) {
	a := testAcceptor(t)
	for name, cfg := range map[string]Config{
		"no acceptor":        {},
		"long token":         {Acceptor: a, NegotiateToken: make([]byte, 1<<16)},
		"dialects":           {Acceptor: a, MinDialect: Dialect311, MaxDialect: Dialect300},
		"encryption":         {Acceptor: a, MaxDialect: Dialect210, Encryption: EncryptionRequire},
		"negative limit":     {Acceptor: a, Limits: Limits{Opens: -1}},
		"large limit":        {Acceptor: a, Limits: Limits{Transfer: 1 << 30}},
		"negative time":      {Acceptor: a, Limits: Limits{IdleTimeout: -1}},
		"pipe without name":  {Acceptor: a, Pipes: map[string]PipeFunc{"": echoPipe}},
		"pipe without serve": {Acceptor: a, Pipes: map[string]PipeFunc{"x": nil}},
	} {
		if _, err := NewServer(cfg); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
