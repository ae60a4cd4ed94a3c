package netlogon

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/dcerpc"
	"github.com/seed05845750/bkrp/internal/gss"
	"github.com/seed05845750/bkrp/internal/gss/ntlm"
	"github.com/seed05845750/bkrp/internal/ndr"
	"github.com/seed05845750/bkrp/internal/nthash"
)

const fakePassword = "Machine.Passw0rd.1"

var domainSID = dtyp.MustParseSID("S-1-5-21-1-2-3")

// fakeDC is a domain controller that says what a test has it say. Its RPC and
// its end of the secure channel are real.
type fakeDC struct {
	t        *testing.T
	address  string
	mu       sync.Mutex
	listener net.Listener
	conns    map[net.Conn]bool
	serving  sync.WaitGroup

	password   string
	status     Status // of NetrServerAuthenticate3
	options    uint32
	wrongProof bool
	challenge  func(client [8]byte) [8]byte // gives a challenge that is not random
	reflect    bool                         // proves itself by what the client proved itself by
	verdict    Status
	answer     validation
	stub       []byte                 // in the place of an answer
	hold       chan struct{}          // a logon waits for it, if not nil
	raw        func(net.Conn)         // in the place of everything
	logons     int                    // how many were asked about
	auths      int                    // how many session keys were made
	keys       map[string]*sessionKey // by computer
	client     [8]byte
	server     [8]byte
}

func newFakeDC(t *testing.T) *fakeDC {
	dc := &fakeDC{
		t: t, password: fakePassword, options: options, conns: map[net.Conn]bool{}, keys: map[string]*sessionKey{},
		answer: validation{name: "alice", domain: "BKRP", userID: 1103, groupID: 513, groups: []uint32{513, 512},
			sessionKey: [16]byte{1, 2, 3}, domainID: domainSID, flags: flagExtraSIDs, extras: []dtyp.SID{dtyp.MustParseSID("S-1-18-2")}},
	}
	dc.start()
	t.Cleanup(dc.stop)
	return dc
}

func (dc *fakeDC) start() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		dc.t.Fatal(err)
	}
	dc.listener, dc.address = l, l.Addr().String()
	dc.serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			dc.mu.Lock()
			dc.conns[conn] = true
			raw := dc.raw
			dc.mu.Unlock()
			dc.serving.Go(func() {
				defer conn.Close()
				if raw != nil {
					raw(conn)
					return
				}
				_ = dc.rpc().ServeConn(context.Background(), conn, dcerpc.Transport{})
			})
		}
	})
}

// stop closes every connection, and takes no more.
func (dc *fakeDC) stop() {
	dc.listener.Close()
	dc.restart(func() {})
	dc.serving.Wait()
}

// restart closes every connection, with a change. The port is kept, which
// somebody else could have otherwise.
func (dc *fakeDC) restart(change func()) {
	dc.mu.Lock()
	defer dc.mu.Unlock()
	for conn := range dc.conns {
		conn.Close()
	}
	change()
}

// set changes what it says.
func (dc *fakeDC) set(change func()) {
	dc.mu.Lock()
	defer dc.mu.Unlock()
	change()
}

func (dc *fakeDC) rpc() *dcerpc.Server {
	i := netlogonInterface()
	return &dcerpc.Server{
		Interfaces: []dcerpc.Interface{{UUID: i.UUID, Major: i.Major, MinAuthLevel: dcerpc.LevelNone, Opnums: 64, Handle: dc.handle}},
		Acceptors:  map[dcerpc.AuthType]gss.Acceptor{dcerpc.AuthNetlogon: schannelAcceptor{dc}},
	}
}

type schannelAcceptor struct{ dc *fakeDC }

func (a schannelAcceptor) Accept(gss.AcceptOptions) gss.Exchange { return a }

// Step looks for the session key as domain controllers do, by the computer.
func (a schannelAcceptor) Step(_ context.Context, in []byte) ([]byte, gss.Context, error) {
	names := strings.Split(string(in[authMessageHeader:]), "\x00")
	a.dc.mu.Lock()
	defer a.dc.mu.Unlock()
	key := a.dc.keys[names[1]]
	if key == nil {
		return nil, nil, gss.ErrLogon
	}
	return []byte{authMessageResponse, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, peerSession{&session{key: *key, peer: true}}, nil
}

// peerSession is the domain controller's end, where a caller has to have a SID.
type peerSession struct{ *session }

func (peerSession) Identity() gss.Identity {
	return gss.Identity{SID: dtyp.MustParseSID("S-1-5-21-1-2-3-1105"), Name: "SRV1$", Mechanism: "netlogon"}
}

func (dc *fakeDC) handle(_ context.Context, c *dcerpc.Call) ([]byte, error) {
	dc.mu.Lock()
	defer dc.mu.Unlock()
	r, w := ndr.NewReader(c.Stub, c.Encoding), ndr.NewWriter(nil, c.ResponseEncoding())
	switch c.Opnum {
	case opServerReqChallenge:
		r.Referent()
		_ = r.String()
		dc.client = [8]byte(r.Octets(8))
		if rand.Read(dc.server[:]); dc.challenge != nil {
			dc.server = dc.challenge(dc.client)
		}
		w.Octets(dc.server[:])
		w.U32(0)
	case opServerAuthenticate3:
		dc.authenticate(&r, &w)
	case opLogonSamLogonEx:
		dc.logons++
		if c.AuthLevel != dcerpc.LevelPrivacy {
			return nil, dcerpc.FaultAccessDenied
		}
		if hold := dc.hold; hold != nil {
			dc.mu.Unlock()
			<-hold
			dc.mu.Lock()
		}
		if dc.stub != nil {
			return append([]byte(nil), dc.stub...), nil
		}
		appendSamLogonResponse(&w, &dc.answer, dc.verdict)
	}
	return w.Buffer(), r.Err()
}

func (dc *fakeDC) authenticate(r *ndr.Reader, w *ndr.Writer) {
	dc.auths++
	r.Referent()
	_ = r.String()
	r.Enum()
	r.Align(4)
	computer := r.String()
	proof := [8]byte(r.Octets(8))
	key := newSessionKey(nthash.Sum(dc.password), dc.client, dc.server)
	status := dc.status
	if proof != key.credential(dc.client) && status == 0 {
		status = statusAccessDenied
	}
	credential := key.credential(dc.server)
	if dc.reflect {
		status, credential = 0, proof
		for i := range credential {
			credential[i] ^= dc.client[i] ^ dc.server[i]
		}
	}
	if dc.wrongProof {
		credential[0] ^= 1
	}
	dc.keys[computer] = &key
	w.Octets(credential[:])
	w.U32(dc.options)
	w.U32(1105)
	w.U32(uint32(status))
}

// appendSamLogonResponse writes what readSamLogon reads, and a status.
func appendSamLogonResponse(w *ndr.Writer, v *validation, status Status) {
	w.Enum(validationSamInfo4)
	w.Referent(status == 0)
	if status == 0 {
		appendSamInfo4(w, v)
	}
	w.U8(1)
	w.U32(0)
	w.U32(uint32(status))
}

func appendSamInfo4(w *ndr.Writer, v *validation) {
	time := func(ft uint64) { w.U32(uint32(ft)); w.U32(uint32(ft >> 32)) }
	texts := []string{v.name, "", "", "", "", ""}
	w.Align(4)
	time(0)
	time(v.logoff)
	time(v.kickOff)
	w.Octets(make([]byte, 24))
	for _, text := range texts {
		appendUnicodeString(w, units(text))
	}
	w.U32(0)
	w.U32(v.userID)
	w.U32(v.groupID)
	w.U32(uint32(len(v.groups)))
	w.Referent(true)
	w.U32(v.flags)
	w.Octets(v.sessionKey[:])
	for _, text := range []string{"DC1", v.domain} {
		appendUnicodeString(w, units(text))
	}
	w.Referent(!v.domainID.IsZero())
	w.Octets(make([]byte, 8+4+4+8+8+4+4))
	w.U32(uint32(len(v.extras)))
	w.Referent(true)
	for range 12 {
		w.U32(0)
		w.Referent(false)
	}
	for _, text := range texts {
		w.UTF16(text)
	}
	w.Count(len(v.groups))
	for _, rid := range v.groups {
		w.U32(rid)
		w.U32(7)
	}
	w.UTF16("DC1")
	w.UTF16(v.domain)
	if !v.domainID.IsZero() {
		appendSID(w, v.domainID)
	}
	w.Count(len(v.extras))
	for range v.extras {
		w.Referent(true)
		w.U32(7)
	}
	for _, sid := range v.extras {
		appendSID(w, sid)
	}
}

func appendSID(w *ndr.Writer, sid dtyp.SID) {
	b, _ := sid.AppendBinary(nil)
	w.Count(len(sid.SubAuthorities()))
	w.Octets(b)
}

// hangTime is as long as nothing takes, on a machine that is busy as well.
const hangTime = 2 * time.Minute

// newTestClient is a Client of dc, and what it logs.
func newTestClient(t *testing.T, dc *fakeDC, change func(*Config)) (*Client, *logBuffer) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(fakePassword+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	log := new(logBuffer)
	cfg := Config{
		Server: dc.address, Account: "SRV1$", PasswordFile: file, NetBIOSDomain: "BKRP", DNSDomain: "bkrp.example",
		DomainSID: domainSID, Timeout: hangTime, Log: slog.New(slog.NewTextHandler(log, nil)),
	}
	if change != nil {
		change(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		if strings.Contains(log.String(), fakePassword) {
			t.Error("the password is in the log")
		}
	})
	return c, log
}

// logBuffer is a log that two goroutines may use.
type logBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func aliceLogon() *ntlm.Logon {
	return &ntlm.Logon{Domain: "BKRP", User: "alice", Challenge: [8]byte{1}, NTResponse: make([]byte, 200)}
}
