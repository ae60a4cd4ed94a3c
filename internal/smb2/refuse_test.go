package smb2

import (
	"encoding/binary"
	"runtime"
	"strings"
	"testing"

	"github.com/seed05845750/bkrp/internal/smb2/wire"
)

func (c *client) want(st wire.Status, cmd wire.Command, body []byte) {
	c.t.Helper()
	if h, _ := c.do(cmd, body); h.Status != st {
		c.t.Errorf("command %d: status %v, want %v", cmd, h.Status, st)
	}
}

// TestAlgorithms has every cipher and every signature carry a call.
func TestAlgorithms(t *testing.T) {
	_, addr := startServer(t, Config{})
	for _, s := range signers {
		for _, e := range ciphers {
			c := newClient(t, addr)
			c.signing, c.cipher = s, e
			c.negotiate(Dialect311)
			if st := c.authenticate(testUser, testPassword, 0); st != wire.StatusSuccess {
				t.Fatalf("signing %d, cipher %d: %v", s, e, st)
			}
			c.connectTree()
			id := c.open("echo")
			c.echo(id)
			c.encrypt, c.sign = true, false
			c.echo(id)
			c.echo(c.open("echo"))
		}
	}
}

func TestSigning(t *testing.T) {
	_, addr := startServer(t, Config{})
	for _, d := range []Dialect{Dialect202, Dialect300, Dialect311} {
		t.Run(d.String(), func(t *testing.T) {
			c := logon(t, addr, d, testUser)
			id := c.open("echo")
			c.sign = false
			c.want(wire.StatusAccessDenied, wire.Ioctl, transceiveBody(id, message(10), 100))
			c.want(wire.StatusAccessDenied, wire.Echo, wire.AppendEmpty(nil))
			c.want(wire.StatusAccessDenied, wire.Logoff, wire.AppendEmpty(nil))
			c.sign = true
			for _, at := range []int{wire.OffsetSignature, wire.OffsetSignature + 15, 14, 36, wire.HeaderSize + 30} {
				msg := c.pack(c.header(wire.Ioctl), transceiveBody(id, message(40), 100))
				msg[at] ^= 1
				c.sendFrame(msg)
				if h, _ := c.final(); h.Status != wire.StatusAccessDenied || h.Is(wire.FlagSigned) {
					t.Errorf("octet %d changed: status %v, flags %x", at, h.Status, h.Flags)
				}
			}
			c.echo(id)
		})
	}
}

func TestEncryption(t *testing.T) {
	_, addr := startServer(t, Config{Encryption: EncryptionRequire})
	sealed := func(c *client, change func(b []byte)) {
		msg := c.pack(c.header(wire.Echo), wire.AppendEmpty(nil))
		b := append(make([]byte, wire.TransformSize, 400), msg...)
		c.seal.seal(b, c.session)
		change(b)
		c.sendRaw(b)
	}
	t.Run("required", func(t *testing.T) {
		c := logon(t, addr, Dialect300, testUser)
		if !c.encrypt {
			t.Fatal("the session does not ask for encryption")
		}
		c.echo(c.open("echo"))
		c.encrypt = false
		c.want(wire.StatusAccessDenied, wire.Echo, wire.AppendEmpty(nil))
		c.want(wire.StatusAccessDenied, wire.Create, createBody("echo"))
	})
	t.Run("client without", func(t *testing.T) {
		for _, d := range []Dialect{Dialect210, Dialect311} {
			c := newClient(t, addr)
			c.negotiate(d)
			if st := c.authenticate(testUser, testPassword, 0); st != wire.StatusAccessDenied {
				t.Errorf("%v: logon: %v", d, st)
			}
		}
	})
	for name, change := range map[string]func(b []byte){
		"text":      func(b []byte) { b[60] ^= 1 },
		"tag":       func(b []byte) { b[4] ^= 1 },
		"nonce":     func(b []byte) { b[20] ^= 1 },
		"session":   func(b []byte) { b[44] ^= 1 },
		"size":      func(b []byte) { b[36]++ },
		"flags":     func(b []byte) { b[42] = 2 },
		"huge size": func(b []byte) { b[39] = 0xff },
	} {
		t.Run(name, func(t *testing.T) {
			c := logon(t, addr, Dialect300, testUser)
			sealed(c, change)
			c.gone()
		})
	}
	t.Run("other session inside", func(t *testing.T) {
		c := logon(t, addr, Dialect300, testUser)
		h := c.header(wire.Echo)
		h.SessionID++
		c.sendFrame(c.pack(h, wire.AppendEmpty(nil)))
		c.gone()
	})
	t.Run("transform inside", func(t *testing.T) {
		c := logon(t, addr, Dialect300, testUser)
		b := append(make([]byte, wire.TransformSize, 400), c.pack(c.header(wire.Echo), wire.AppendEmpty(nil))...)
		c.seal.seal(b, c.session)
		c.sendFrame(b)
		c.gone()
	})
	t.Run("before the logon", func(t *testing.T) {
		c := newClient(t, addr)
		c.negotiate(Dialect300)
		c.establish(make([]byte, 16), &preauthHash{})
		sealed(c, func([]byte) {})
		c.gone()
	})
}

func TestValidateNegotiation(t *testing.T) {
	_, addr := startServer(t, Config{})
	good := func(c *client) wire.ValidateNegotiation {
		return wire.ValidateNegotiation{Capabilities: c.neg.Capabilities, ClientGUID: c.neg.ClientGUID,
			SecurityMode: c.neg.SecurityMode, Dialects: c.neg.Dialects}
	}
	send := func(c *client, v wire.ValidateNegotiation) {
		req := wire.IoctlRequest{Code: wire.FSCTLValidateNegotiation, FileID: wire.RelatedFileID,
			Input: v.Append(nil), MaxOutput: 24, Flags: wire.IsFSCTL}
		c.sendFrame(c.pack(c.header(wire.Ioctl), req.Append(nil)))
	}
	for _, d := range []Dialect{Dialect202, Dialect210, Dialect300, Dialect302} {
		c := logon(t, addr, d, testUser)
		send(c, good(c))
		h, msg := c.final()
		resp, err := wire.ParseIoctlResponse(msg)
		if h.Status != wire.StatusSuccess || err != nil || Dialect(binary.LittleEndian.Uint16(resp.Output[22:])) != d {
			t.Errorf("%v: status %v, %v", d, h.Status, err)
		}
	}
	for name, change := range map[string]func(v *wire.ValidateNegotiation){
		"dialects":     func(v *wire.ValidateNegotiation) { v.Dialects = []Dialect{Dialect300, Dialect302, Dialect311} },
		"capabilities": func(v *wire.ValidateNegotiation) { v.Capabilities ^= 1 },
		"guid":         func(v *wire.ValidateNegotiation) { v.ClientGUID[0] ^= 1 },
		"mode":         func(v *wire.ValidateNegotiation) { v.SecurityMode ^= 2 },
	} {
		t.Run(name, func(t *testing.T) {
			c := logon(t, addr, Dialect302, testUser)
			v := good(c)
			change(&v)
			send(c, v)
			c.gone()
		})
	}
	t.Run("3.1.1", func(t *testing.T) {
		c := logon(t, addr, Dialect311, testUser)
		send(c, good(c))
		c.gone()
	})
}

// TestPreauthTampered changes a message of the negotiation on its way: the
// keys of the two ends differ then.
func TestPreauthTampered(t *testing.T) {
	_, addr := startServer(t, Config{})
	c := newClient(t, addr)
	c.negotiate(Dialect311)
	c.preauth.add([]byte("somebody changed something"))
	inner := &fatalRecorder{TB: t}
	c.t = inner
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.authenticate(testUser, testPassword, 0)
	}()
	<-done
	if !strings.Contains(inner.said, "not signed") {
		t.Errorf("the logon went on although its negotiation was changed: %q", inner.said)
	}
}

func TestMessageIDs(t *testing.T) {
	_, addr := startServer(t, Config{Limits: Limits{Credits: 32}})
	send := func(c *client, id uint64, charge uint16) {
		h := c.header(wire.Echo)
		h.MessageID, h.CreditCharge = id, charge
		c.sendFrame(c.pack(h, wire.AppendEmpty(nil)))
	}
	for name, f := range map[string]func(c *client){
		"replayed":           func(c *client) { send(c, c.next-1, 1) },
		"replayed later":     func(c *client) { send(c, c.next+3, 1); c.final(); send(c, c.next+2, 1) },
		"not granted":        func(c *client) { send(c, c.next+1000, 1) },
		"charge not granted": func(c *client) { send(c, c.next, 60000) },
		"far away":           func(c *client) { send(c, ^uint64(0)-1, 1) },
		"wraps":              func(c *client) { send(c, ^uint64(0), 2) },
	} {
		t.Run(name, func(t *testing.T) {
			c := logon(t, addr, Dialect311, testUser)
			f(c)
			c.gone()
		})
	}
	t.Run("credits are bounded", func(t *testing.T) {
		c := logon(t, addr, Dialect311, testUser)
		for range 40 {
			h := c.header(wire.Echo)
			h.Credits = 60000
			c.sendFrame(c.pack(h, wire.AppendEmpty(nil)))
			if got, _ := c.final(); got.Credits != 1 {
				t.Fatalf("%d credits for one when all 32 are held", got.Credits)
			}
		}
		send(c, c.next+31, 1)
		c.final()
		send(c, c.next+32, 1)
		c.gone()
	})
	t.Run("before the logon", func(t *testing.T) {
		c := newClient(t, addr)
		c.negotiate(Dialect311)
		h := c.header(wire.Echo)
		h.Credits = 60000
		c.sendFrame(c.pack(h, wire.AppendEmpty(nil)))
		if got, _ := c.final(); got.Credits > authCredits {
			t.Errorf("%d credits", got.Credits)
		}
	})
	t.Run("charge does not cover", func(t *testing.T) {
		_, addr := startServer(t, Config{Limits: Limits{Transfer: 1 << 20}})
		c := logon(t, addr, Dialect311, testUser)
		id := c.open("echo")
		c.want(wire.StatusInvalidParameter, wire.Read, readBody(id, 65537))
		h := c.header(wire.Read)
		h.CreditCharge = 2
		c.next++
		c.sendFrame(c.pack(c.header(wire.Write), writeBody(id, message(100))))
		c.sendFrame(c.pack(h, readBody(id, 65537)))
		c.final()
		if h, _ := c.final(); h.Status != wire.StatusSuccess {
			t.Error("a read that is covered:", h.Status)
		}
	})
}

func TestOthers(t *testing.T) {
	_, addr := startServer(t, Config{})
	a := logon(t, addr, Dialect311, "alice")
	b := logon(t, addr, Dialect311, "bob")
	idA := a.open("echo")
	b.open("echo")
	t.Run("session of another connection", func(t *testing.T) {
		own := b.session
		b.session = a.session
		b.want(wire.StatusUserSessionDeleted, wire.Ioctl, transceiveBody(idA, message(4), 100))
		b.session = own
	})
	t.Run("second session on a connection", func(t *testing.T) {
		first, tree, out, in := a.session, a.tree, a.out, a.in
		a.session, a.out, a.sign = 0, nil, false
		if st := a.authenticate("bob", testPassword, 0); st != wire.StatusSuccess {
			t.Fatal(st)
		}
		a.want(wire.StatusNetworkNameDeleted, wire.Ioctl, transceiveBody(idA, message(4), 100))
		a.connectTree()
		a.want(wire.StatusFileClosed, wire.Ioctl, transceiveBody(idA, message(4), 100))
		a.want(wire.StatusFileClosed, wire.Close, (&wire.CloseRequest{FileID: idA}).Append(nil))
		// The right session id with the keys of another session.
		a.session, a.tree = first, tree
		a.want(wire.StatusAccessDenied, wire.Ioctl, transceiveBody(idA, message(4), 100))
		a.out, a.in = out, in
		a.echo(idA)
	})
	t.Run("open of another tree", func(t *testing.T) {
		tree := a.tree
		a.connectTree()
		a.want(wire.StatusFileClosed, wire.Ioctl, transceiveBody(idA, message(4), 100))
		a.tree = tree
	})
	t.Run("binding", func(t *testing.T) {
		c := newClient(t, addr)
		c.negotiate(Dialect311)
		c.session = a.session
		req := wire.SessionSetupRequest{Flags: wire.BindingFlag, Token: []byte("x")}
		c.want(wire.StatusRequestNotAccepted, wire.SessionSetup, req.Append(nil))
	})
	a.echo(idA)
}

func TestReauthentication(t *testing.T) {
	_, addr := startServer(t, Config{})
	t.Run("same user", func(t *testing.T) {
		c := logon(t, addr, Dialect311, "alice")
		id := c.open("echo")
		if st := c.authenticate("alice", testPassword, 0); st != wire.StatusSuccess {
			t.Fatal(st)
		}
		c.echo(id)
	})
	t.Run("other user", func(t *testing.T) {
		c := logon(t, addr, Dialect311, "alice")
		if st := c.authenticate("bob", testPassword, 0); st != wire.StatusLogonFailure {
			t.Fatal(st)
		}
		c.want(wire.StatusUserSessionDeleted, wire.Create, createBody("echo"))
	})
	t.Run("unsigned", func(t *testing.T) {
		c := logon(t, addr, Dialect311, "alice")
		c.sign = false
		if st := c.authenticate("alice", testPassword, 0); st != wire.StatusAccessDenied {
			t.Fatal(st)
		}
	})
	t.Run("previous session", func(t *testing.T) {
		old := logon(t, addr, Dialect311, "alice")
		other := logon(t, addr, Dialect311, "bob")
		c := newClient(t, addr)
		c.negotiate(Dialect311)
		if st := c.authenticate("alice", testPassword, other.session); st != wire.StatusSuccess {
			t.Fatal(st)
		}
		other.open("echo") // is bob's, and alice cannot end it
		d := newClient(t, addr)
		d.negotiate(Dialect311)
		if st := d.authenticate("alice", testPassword, old.session); st != wire.StatusSuccess {
			t.Fatal(st)
		}
		old.want(wire.StatusUserSessionDeleted, wire.Create, createBody("echo"))
	})
}

// fatalRecorder is a testing.TB whose Fatal ends the goroutine and no test.
type fatalRecorder struct {
	testing.TB
	said string
}

func (f *fatalRecorder) Fatal(args ...any) {
	for _, a := range args {
		if s, ok := a.(string); ok {
			f.said += s
		}
	}
	runtime.Goexit()
}
