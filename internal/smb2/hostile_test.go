package smb2

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/internal/smb2/wire"
)

// TestBytes sends what is not SMB2, or not yet.
func TestBytes(t *testing.T) {
	_, addr := startServer(t, Config{Limits: Limits{AuthBytes: 100 << 10}})
	echo := (&wire.Header{Command: wire.Echo}).Append(nil)
	for name, raw := range map[string][]byte{
		"http":                    []byte("GET / HTTP/1.0\r\n\r\n"),
		"session request":         {0x81, 0, 0, 68},
		"empty frame":             {0, 0, 0, 0},
		"too large":               {0, 0xff, 0xff, 0xff},
		"three octets":            {0, 0, 0, 3, 0xfe, 'S', 'M'},
		"other protocol":          append([]byte{0, 0, 0, 68, 0xfc, 'S', 'M', 'B'}, make([]byte, 64)...),
		"echo first":              append([]byte{0, 0, 0, 68}, wire.AppendEmpty(echo)...),
		"encrypted first":         append([]byte{0, 0, 0, 68, 0xfd, 'S', 'M', 'B'}, make([]byte, 64)...),
		"SMB1 without SMB2":       framed((&wire.SMB1NegotiateRequest{Dialects: []string{"NT LM 0.12"}}).Append(nil)),
		"SMB1 that lies":          framed(append((&wire.SMB1NegotiateRequest{Dialects: []string{wire.SMB1NameWildcard}}).Append(nil), 0)),
		"flood":                   bytes.Repeat([]byte{0x85, 0, 0, 0}, 30<<10),
		"header only, short size": framed(append([]byte{0xfe, 'S', 'M', 'B', 63, 0}, make([]byte, 58)...)),
	} {
		t.Run(name, func(t *testing.T) {
			c := newClient(t, addr)
			c.nc.Write(raw)
			c.gone()
		})
	}
	t.Run("second negotiate", func(t *testing.T) {
		c := newClient(t, addr)
		c.negotiate(Dialect210)
		c.sendFrame(c.pack(c.header(wire.Negotiate), c.neg.Append(nil)))
		c.gone()
	})
	t.Run("SMB1 afterwards", func(t *testing.T) {
		c := newClient(t, addr)
		c.negotiate(Dialect210)
		c.sendRaw((&wire.SMB1NegotiateRequest{Dialects: []string{wire.SMB1NameWildcard}}).Append(nil))
		c.gone()
	})
	t.Run("a response", func(t *testing.T) {
		c := logon(t, addr, Dialect311, testUser)
		h := c.header(wire.Echo)
		h.Flags = wire.FlagResponse
		c.sendFrame(c.pack(h, wire.AppendEmpty(nil)))
		c.gone()
	})
	t.Run("guessing", func(t *testing.T) {
		c := logon(t, addr, Dialect311, testUser)
		keys, session := c.out, c.session
		for range 10 {
			c.out, c.sign, c.session = nil, false, 0
			if st := c.authenticate("bob", "guess", 0); st != wire.StatusLogonFailure {
				t.Fatal(st)
			}
		}
		c.out, c.sign, c.session = keys, true, session
		c.want(wire.StatusSuccess, wire.Echo, wire.AppendEmpty(nil))
		c.sign, c.session = false, 0
		c.sendFrame(c.pack(c.header(wire.SessionSetup), (&wire.SessionSetupRequest{}).Append(nil)))
		c.gone()
	})
	t.Run("not logged on", func(t *testing.T) {
		c := newClient(t, addr)
		c.negotiate(Dialect311)
		c.want(wire.StatusUserSessionDeleted, wire.TreeConnect, createBody("echo"))
		c.want(wire.StatusUserSessionDeleted, wire.Create, createBody("echo"))
		c.session = 77
		c.want(wire.StatusUserSessionDeleted, wire.Echo, wire.AppendEmpty(nil))
		c.want(wire.StatusUserSessionDeleted, wire.SessionSetup, (&wire.SessionSetupRequest{}).Append(nil))
	})
}

func framed(msg []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(msg))), msg...)
}

// TestSMB1 goes through the multi-protocol negotiate.
func TestSMB1(t *testing.T) {
	_, addr := startServer(t, Config{})
	c := newClient(t, addr)
	c.sendRaw((&wire.SMB1NegotiateRequest{Dialects: []string{"NT LM 0.12", wire.SMB1Name202, wire.SMB1NameWildcard}}).Append(nil))
	_, msg := c.final()
	if r, err := wire.ParseNegotiateResponse(msg); err != nil || r.Dialect != wire.DialectWildcard {
		t.Fatal(r, err)
	}
	c.next = 1
	c.negotiate(Dialect311)
	if st := c.authenticate(testUser, testPassword, 0); st != wire.StatusSuccess {
		t.Fatal(st)
	}
	d := newClient(t, addr)
	d.sendRaw((&wire.SMB1NegotiateRequest{Dialects: []string{wire.SMB1Name202}}).Append(nil))
	_, msg = d.final()
	if r, err := wire.ParseNegotiateResponse(msg); err != nil || r.Dialect != Dialect202 {
		t.Fatal(r, err)
	}
	d.next, d.dialect = 1, Dialect202
	if st := d.authenticate(testUser, testPassword, 0); st != wire.StatusSuccess {
		t.Fatal(st)
	}
}

func TestNegotiateRefused(t *testing.T) {
	_, addr := startServer(t, Config{MinDialect: Dialect210, MaxDialect: Dialect311})
	ctx := func(typ wire.ContextType, data []byte) wire.NegotiateContext {
		return wire.NegotiateContext{Type: typ, Data: data}
	}
	preauth := ctx(wire.ContextPreauth, wire.PreauthCapabilities{Hashes: []uint16{1}}.Append(nil))
	for name, c := range map[string]struct {
		dialects []Dialect
		contexts []wire.NegotiateContext
		want     wire.Status
	}{
		"below":           {[]Dialect{Dialect202}, nil, wire.StatusNotSupported},
		"unknown":         {[]Dialect{0x0999, 0x02ff}, nil, wire.StatusNotSupported},
		"no preauth":      {[]Dialect{Dialect311}, nil, wire.StatusInvalidParameter},
		"other hash":      {[]Dialect{Dialect311}, []wire.NegotiateContext{ctx(wire.ContextPreauth, wire.PreauthCapabilities{Hashes: []uint16{2}}.Append(nil))}, wire.StatusNoPreauthHashOverlap},
		"twice":           {[]Dialect{Dialect311}, []wire.NegotiateContext{preauth, preauth}, wire.StatusInvalidParameter},
		"short preauth":   {[]Dialect{Dialect311}, []wire.NegotiateContext{ctx(wire.ContextPreauth, []byte{9, 0, 0, 0})}, wire.StatusInvalidParameter},
		"no cipher":       {[]Dialect{Dialect311}, []wire.NegotiateContext{preauth, ctx(wire.ContextEncryption, []byte{0, 0})}, wire.StatusInvalidParameter},
		"ciphers cut":     {[]Dialect{Dialect311}, []wire.NegotiateContext{preauth, ctx(wire.ContextEncryption, []byte{2, 0, 1, 0})}, wire.StatusInvalidParameter},
		"unknown ciphers": {[]Dialect{Dialect311}, []wire.NegotiateContext{preauth, ctx(wire.ContextEncryption, []byte{1, 0, 9, 0})}, wire.StatusSuccess},
		"unknown signing": {[]Dialect{Dialect311}, []wire.NegotiateContext{preauth, ctx(wire.ContextSigning, []byte{1, 0, 9, 0})}, wire.StatusSuccess},
	} {
		t.Run(name, func(t *testing.T) {
			cl := newClient(t, addr)
			req := cl.negotiateRequest(c.dialects...)
			req.Contexts = c.contexts
			cl.want(c.want, wire.Negotiate, req.Append(nil))
		})
	}
}

// TestSlow has clients that begin something and do not go on.
func TestSlow(t *testing.T) {
	const limit = 300 * time.Millisecond
	cfg := Config{Limits: Limits{AuthTimeout: limit, StallTimeout: limit, IdleTimeout: time.Hour}}
	slow := map[string]func(c *client){
		"says nothing": func(*client) {},
		"one octet at a time": func(c *client) {
			var dripping sync.WaitGroup
			dripping.Go(func() {
				for _, octet := range framed(make([]byte, 100)) {
					if _, err := c.nc.Write([]byte{octet}); err != nil {
						return
					}
					time.Sleep(50 * time.Millisecond)
				}
				c.t.Error("all octets were taken")
			})
			c.t.Cleanup(dripping.Wait)
		},
		"negotiates only": func(c *client) { c.negotiate(Dialect311) },
	}
	for _, size := range []int{4, 40, 3000, 60000} {
		slow[fmt.Sprintf("%d octets of a frame after the logon", size)] = func(c *client) {
			c.logon(Dialect311, testUser)
			c.nc.Write(append([]byte{0, 0, 0xff, 0xff}, make([]byte, size)...))
		}
	}
	for name, begin := range slow {
		t.Run(name, func(t *testing.T) {
			inBubble(t, cfg, func(t *testing.T, _ *Server, connect func() *client) {
				start := time.Now()
				c := connect()
				begin(c)
				c.gone()
				if took := time.Since(start); took != limit {
					t.Errorf("closed after %v, want %v", took, limit)
				}
			})
		})
	}
	t.Run("does not read", func(t *testing.T) {
		flooded := make(chan error, 1)
		_, addr := startServer(t, Config{
			Limits: Limits{StallTimeout: 300 * time.Millisecond},
			Pipes: map[string]PipeFunc{"flood": func(_ context.Context, p *Pipe) {
				b := make([]byte, 60000)
				for {
					if _, err := p.Write(b); err != nil {
						flooded <- err
						return
					}
				}
			}}})
		c := logon(t, addr, Dialect311, testUser)
		id := c.open("flood")
		c.nc.(*net.TCPConn).SetReadBuffer(4096)
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			for range 3000 {
				if _, err := c.nc.Write(framed(c.pack(c.header(wire.Read), readBody(id, 60000)))); err != nil {
					return
				}
				if c.next > 400 {
					return // the credits of the logon
				}
			}
		}()
		if err := <-flooded; err != io.ErrClosedPipe {
			t.Error("the pipe ended with", err)
		}
		c.nc.Close()
		<-sent
	})
	t.Run("idle", func(t *testing.T) {
		inBubble(t, Config{Limits: Limits{IdleTimeout: 200 * time.Millisecond}}, func(t *testing.T, _ *Server, connect func() *client) {
			c := connect().logon(Dialect311, testUser)
			c.gone()
		})
	})
	t.Run("idle while the server works", func(t *testing.T) {
		inBubble(t, Config{Limits: Limits{IdleTimeout: 100 * time.Millisecond},
			Pipes: map[string]PipeFunc{"long": func(ctx context.Context, p *Pipe) {
				m, err := readMessage(p)
				if err != nil {
					return
				}
				select {
				case <-ctx.Done():
				case <-time.After(time.Second):
				}
				p.Write(m)
				io.Copy(io.Discard, p)
			}}}, func(t *testing.T, _ *Server, connect func() *client) {
			c := connect().logon(Dialect311, testUser)
			id := c.open("long")
			if h, _ := c.do(wire.Ioctl, transceiveBody(id, message(20), 100)); h.Status != wire.StatusSuccess {
				t.Error(h.Status)
			}
			c.gone()
		})
	})
}
