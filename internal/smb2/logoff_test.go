package smb2

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/internal/gss"
	"github.com/seed05845750/bkrp/internal/gss/ntlm"
	"github.com/seed05845750/bkrp/internal/smb2/wire"
)

// anotherLogon makes c begin a session besides the one it has, which it gives
// a way back to.
func (c *client) anotherLogon() (back func()) {
	out, in, session, tree, sign := c.out, c.in, c.session, c.tree, c.sign
	c.out, c.in, c.session, c.tree, c.sign = nil, nil, 0, 0, false
	return func() { c.out, c.in, c.session, c.tree, c.sign = out, in, session, tree, sign }
}

// forget makes c a client without a session.
func (c *client) forget() { c.out, c.in, c.session, c.sign = nil, nil, 0, false }

// TestLogoff has connections that outlive their sessions: they are as those
// before the logon.
func TestLogoff(t *testing.T) {
	const limit = time.Second
	cfg := Config{Limits: Limits{AuthTimeout: limit, IdleTimeout: time.Hour, AuthBytes: 32 << 10}}
	logoff := func(t *testing.T, c *client) {
		t.Helper()
		c.want(wire.StatusSuccess, wire.Logoff, wire.AppendEmpty(nil))
		c.forget()
	}
	for name, f := range map[string]func(t *testing.T, s *Server, connect func() *client){
		"time": func(t *testing.T, _ *Server, connect func() *client) {
			c := connect().logon(Dialect311, testUser)
			logoff(t, c)
			if st := c.authenticate(testUser, testPassword, 0); st != wire.StatusSuccess {
				t.Fatal(st)
			}
			time.Sleep(limit + limit/2)
			c.want(wire.StatusSuccess, wire.Echo, wire.AppendEmpty(nil))
			logoff(t, c)
			c.gone()
		},
		"octets": func(t *testing.T, _ *Server, connect func() *client) {
			c := connect().logon(Dialect311, testUser)
			logoff(t, c)
			// The server reads no more than the length of it.
			go c.nc.Write(framed(c.pack(c.header(wire.Echo), append(wire.AppendEmpty(nil), make([]byte, 33<<10)...))))
			c.gone()
		},
		"refused re-authentication": func(t *testing.T, _ *Server, connect func() *client) {
			c := connect().logon(Dialect311, testUser)
			if st := c.authenticate("bob", testPassword, 0); st != wire.StatusLogonFailure {
				t.Fatal(st)
			}
			c.gone()
		},
		"one of two sessions": func(t *testing.T, _ *Server, connect func() *client) {
			c := connect().logon(Dialect311, testUser)
			back := c.anotherLogon()
			if st := c.authenticate("bob", testPassword, 0); st != wire.StatusSuccess {
				t.Fatal(st)
			}
			logoff(t, c)
			back()
			time.Sleep(limit + limit/2)
			c.echo(c.open("echo"))
		},
		"ended by another connection": func(t *testing.T, _ *Server, connect func() *client) {
			old := connect().logon(Dialect311, testUser)
			c := connect()
			c.negotiate(Dialect311)
			if st := c.authenticate(testUser, testPassword, old.session); st != wire.StatusSuccess {
				t.Fatal(st)
			}
			old.gone()
		},
		"ended by another connection while it is busy": func(t *testing.T, s *Server, connect func() *client) {
			old := connect().logon(Dialect311, testUser)
			session := old.session
			old.anotherLogon()
			if st := old.authenticate("bob", testPassword, 0); st != wire.StatusSuccess {
				t.Fatal(st)
			}
			mu := &s.findSession(session).conn.mu
			mu.Lock()
			time.AfterFunc(20*time.Millisecond, mu.Unlock)
			c := connect()
			c.negotiate(Dialect311)
			if st := c.authenticate(testUser, testPassword, session); st != wire.StatusSuccess {
				t.Fatal(st)
			}
			if s.findSession(session) != nil {
				t.Error("the session is still there")
			}
			old.want(wire.StatusSuccess, wire.Echo, wire.AppendEmpty(nil))
		},
	} {
		t.Run(name, func(t *testing.T) { inBubble(t, cfg, f) })
	}
}

// TestPreviousSessionOfTheDeaf has a user come back whose old connection still
// stands, takes nothing, and has a request waiting.
func TestPreviousSessionOfTheDeaf(t *testing.T) {
	s, addr := startServer(t, Config{Limits: Limits{StallTimeout: time.Hour}})
	near, far := net.Pipe() // without a buffer: each write waits for its read
	var served sync.WaitGroup
	served.Go(func() { s.ServeConn(t.Context(), far) })
	defer served.Wait()
	defer near.Close()
	old := &client{t: t, nc: near}
	old.negotiate(Dialect311)
	if st := old.authenticate(testUser, testPassword, 0); st != wire.StatusSuccess {
		t.Fatal(st)
	}
	old.connectTree()
	old.sendFrame(old.pack(old.header(wire.Read), readBody(old.open("echo"), 10)))
	if h, _, err := old.recv(); err != nil || h.Status != wire.StatusPending {
		t.Fatal(h.Status, err)
	}
	c := newClient(t, addr) // waits for hangTime
	c.negotiate(Dialect311)
	if st := c.authenticate(testUser, testPassword, old.session); st != wire.StatusSuccess {
		t.Fatal(st)
	}
}

// TestSlowLogon has a client that is logged on begin another logon, and not go
// on with it in time.
func TestSlowLogon(t *testing.T) {
	const limit = time.Second
	cfg := Config{Limits: Limits{AuthTimeout: limit, Sessions: 2}}
	begin := func(t *testing.T, c *client) (back func()) {
		c.logon(Dialect311, testUser)
		back = c.anotherLogon()
		mech := ntlm.NewInitiator(ntlm.Credential{Domain: testDomain, User: testUser})
		token, _, err := spnegoInitiator(mech).Initiate(gss.InitiateOptions{Target: "cifs/dc1"}).Step(context.Background(), nil)
		if err != nil {
			t.Fatal(err)
		}
		h, _ := c.do(wire.SessionSetup, (&wire.SessionSetupRequest{Token: token}).Append(nil))
		if h.Status != wire.StatusMoreProcessingRequired {
			t.Fatal(h.Status)
		}
		c.session = h.SessionID
		time.Sleep(limit + limit/2)
		return back
	}
	t.Run("goes on later", func(t *testing.T) {
		inBubble(t, cfg, func(t *testing.T, _ *Server, connect func() *client) {
			c := connect()
			back := begin(t, c)
			// In time this would be an invalid parameter.
			c.want(wire.StatusLogonFailure, wire.SessionSetup, (&wire.SessionSetupRequest{Token: []byte("x")}).Append(nil))
			back()
			c.want(wire.StatusSuccess, wire.Echo, wire.AppendEmpty(nil))
		})
	})
	t.Run("begins again", func(t *testing.T) {
		inBubble(t, cfg, func(t *testing.T, _ *Server, connect func() *client) {
			c := connect()
			back := begin(t, c)
			c.forget()
			if st := c.authenticate("bob", testPassword, 0); st != wire.StatusSuccess {
				t.Error(st)
			}
			back()
			c.want(wire.StatusSuccess, wire.Echo, wire.AppendEmpty(nil))
		})
	})
}

// TestEncryptedNothing sends a transform header without a message.
func TestEncryptedNothing(t *testing.T) {
	_, addr := startServer(t, Config{})
	c := newClient(t, addr)
	c.cipher = wire.AES128GCM
	c.negotiate(Dialect311)
	if st := c.authenticate(testUser, testPassword, 0); st != wire.StatusSuccess {
		t.Fatal(st)
	}
	c.encrypt = true
	c.sendFrame(nil)
	c.gone()
}
