package lsarpc

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/dcerpc"
	"github.com/seed05845750/bkrp/internal/gss"
	"github.com/seed05845750/bkrp/internal/lsasecret"
	"github.com/seed05845750/bkrp/internal/ndr"
)

var (
	domain        = Domain{DNSName: "bkrp.test", NetBIOS: "BKRP", SID: dtyp.MustParseSID("S-1-5-21-177270213-1796266205-1813127581")}
	alice         = Account{"alice", dtyp.MustParseSID("S-1-5-21-177270213-1796266205-1813127581-1103")}
	administrator = gss.Identity{SID: dtyp.MustParseSID("S-1-5-21-177270213-1796266205-1813127581-500"), Domain: "BKRP", Name: "Administrator"}
	secretValue   = []byte("sixteen octets!!")
	sessionKey    = []byte("0123456789abcdef")
	remote        = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}
)

func testConfig() Config {
	return Config{
		Domain: domain,
		AccountByName: func(_ context.Context, name string) (Account, error) {
			if strings.EqualFold(name, alice.Name) {
				return alice, nil
			}
			if name == "broken" {
				return Account{}, errors.New("store is away")
			}
			return Account{}, ErrNoAccount
		},
		AccountBySID: func(_ context.Context, sid dtyp.SID) (Account, error) {
			if sid == alice.SID {
				return alice, nil
			}
			return Account{}, ErrNoAccount
		},
		Secret: func(_ context.Context, name string) ([]byte, error) {
			switch {
			case name == "G$BCKUPKEY_broken":
				return nil, errors.New("store is away")
			case strings.HasPrefix(strings.ToUpper(name), "G$BCKUPKEY_") && len(name) < 50:
				return bytes.Clone(secretValue), nil
			}
			return nil, ErrNoSecret
		},
		Administrators: []dtyp.SID{administrator.SID},
	}
}

// session is one connection's calls.
type session struct {
	iface  dcerpc.Interface
	caller gss.Identity
	key    []byte
	level  dcerpc.AuthLevel
	enc    ndr.Encoding
	state  any

	encrypted bool // the transport
}

func newSession(cfg Config, caller gss.Identity) *session {
	i := New(cfg)
	return &session{iface: i, caller: caller, key: sessionKey, level: dcerpc.LevelNone, state: i.NewState()}
}

func (s *session) call(opnum uint16, stub []byte) ([]byte, error) {
	return s.iface.Handle(context.Background(), &dcerpc.Call{
		Opnum: opnum, Stub: stub, Encoding: s.enc, Identity: s.caller, AuthLevel: s.level,
		Transport: &dcerpc.Transport{SessionKey: s.key, Encrypted: s.encrypted, Remote: remote}, State: s.state,
	})
}

// policy opens a policy handle.
func (s *session) policy(t testing.TB) handle {
	t.Helper()
	w := ndr.NewWriter(nil, s.enc)
	w.Referent(true)
	w.String(`\`)
	w.AlignPointer()
	w.U32(24)
	w.Referent(false)
	w.Referent(false)
	w.U32(0)
	w.Referent(false)
	w.Referent(false)
	w.U32(0x02000000)
	out, err := s.call(opOpenPolicy2, w.Buffer())
	if err != nil {
		t.Fatal(err)
	}
	id, st := handleAndStatus(t, s, out)
	if st != statusSuccess {
		t.Fatalf("OpenPolicy2: %#x", st)
	}
	return id
}

func handleAndStatus(t testing.TB, s *session, out []byte) (handle, status) {
	t.Helper()
	r := ndr.NewReader(out, ndr.Encoding{NDR64: s.enc.NDR64})
	id, st := readHandle(&r), status(r.U32())
	if err := r.Done(); err != nil {
		t.Fatal(err)
	}
	return id, st
}

func (s *session) openSecret(t testing.TB, policy handle, name string) (handle, status) {
	t.Helper()
	w := ndr.NewWriter(nil, s.enc)
	policy.write(&w)
	writeUnicodeString(&w, name)
	writeText(&w, name)
	w.U32(2)
	out, err := s.call(opOpenSecret, w.Buffer())
	if err != nil {
		t.Fatal(err)
	}
	return handleAndStatus(t, s, out)
}

func (s *session) retrieve(t testing.TB, policy handle, name string) ([]byte, status) {
	t.Helper()
	w := ndr.NewWriter(nil, s.enc)
	policy.write(&w)
	writeUnicodeString(&w, name)
	writeText(&w, name)
	w.Referent(false)
	out, err := s.call(opRetrievePrivateData, w.Buffer())
	if err != nil {
		t.Fatal(err)
	}
	r := ndr.NewReader(out, ndr.Encoding{NDR64: s.enc.NDR64})
	var sealed []byte
	if r.Referent() {
		r.AlignPointer()
		r.U32()
		r.U32()
		r.Referent()
		_, n := r.ConformantVarying(1)
		sealed = r.Octets(n)
	}
	st := status(r.U32())
	if err := r.Done(); err != nil {
		t.Fatal(err)
	}
	return sealed, st
}

// recorded is a request and its response of testdata/samba.txt.
type recorded struct {
	opnum             uint16
	request, response []byte
}

func recordings(t testing.TB) []recorded {
	t.Helper()
	var all []recorded
	for _, w := range lines(t, "testdata/samba.txt", 4) {
		n, err := strconv.Atoi(w[1])
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, recorded{uint16(n), unhex(t, w[2]), unhex(t, w[3])})
	}
	return all
}

func lines(t testing.TB, path string, words int) [][]string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all [][]string
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		if w := strings.Fields(s.Text()); len(w) == words && w[0] != "#" {
			all = append(all, w)
		}
	}
	if err := s.Err(); err != nil || len(all) < 5 {
		t.Fatalf("%s: %d lines, %v", path, len(all), err)
	}
	return all
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// canonical replaces what a server is free to choose in a response: referent
// identifiers, and the room that Samba leaves for a terminator in the names of
// domains.
func canonical(stub []byte) string {
	b := bytes.Clone(stub)
	for i := 0; i+4 <= len(b); i += 4 {
		if v := binary.LittleEndian.Uint32(b[i:]); v >= 0x20000 && v < 0x20100 {
			binary.LittleEndian.PutUint32(b[i:], 0x20000)
		}
	}
	h := hex.EncodeToString(b)
	h = strings.ReplaceAll(h, "08000a00", "08000800")
	h = strings.ReplaceAll(h, "050000000000000004000000", "040000000000000004000000")
	h = strings.ReplaceAll(h, "18001a00", "18001800")
	return strings.ReplaceAll(h, "0d000000000000000c000000", "0c000000000000000c000000")
}

// The recorded requests get the answers that Samba gave to them.
func TestAnswersAsSamba(t *testing.T) {
	for _, r := range recordings(t) {
		t.Run(strconv.Itoa(int(r.opnum)), func(t *testing.T) {
			s := newSession(testConfig(), administrator)
			// The handle of the recording, as this session knows it.
			id := s.policy(t)
			if r.opnum == opQuerySecret {
				id, _ = s.openSecret(t, id, "G$BCKUPKEY_P")
			}
			if r.opnum != opOpenPolicy && r.opnum != opOpenPolicy2 && r.opnum != opGetUserName {
				w := ndr.NewWriter(nil, ndr.Encoding{})
				id.write(&w)
				copy(r.request, w.Buffer())
			}
			got, err := s.call(r.opnum, r.request)
			if err != nil {
				t.Fatal(err)
			}
			want := r.response
			switch r.opnum {
			case opOpenPolicy, opOpenPolicy2, opOpenSecret:
				if len(got) != 24 || bytes.Equal(got[4:20], make([]byte, 16)) {
					t.Fatalf("%x", got)
				}
				copy(want, got[:20])
			case opQuerySecret:
				sealed, err := lsasecret.Seal(sessionKey, secretValue)
				if err != nil {
					t.Fatal(err)
				}
				copy(want[32:], sealed)
			}
			if canonical(got) != canonical(want) {
				t.Errorf("\n got %s\nwant %s", canonical(got), canonical(want))
			}
		})
	}
}

func TestSecretAccess(t *testing.T) {
	ordinary := gss.Identity{SID: alice.SID, Name: "alice", Domain: "BKRP"}
	member := ordinary
	member.Groups = []dtyp.SID{administrator.SID}
	for _, enc := range []ndr.Encoding{{}, {NDR64: true}, {BigEndian: true}} {
		for _, tt := range []struct {
			name   string
			caller gss.Identity
			change func(*Config)
			secret string
			want   status
		}{
			{"administrator", administrator, nil, "G$BCKUPKEY_P", statusSuccess},
			{"by a group", member, nil, "G$BCKUPKEY_P", statusSuccess},
			{"A-24 in another case", administrator, nil, "g$bckupkey_P", statusSuccess},
			{"ordinary user", ordinary, nil, "G$BCKUPKEY_P", statusAccessDenied},
			{"ordinary user, absent", ordinary, nil, "G$BCKUPKEY_" + strings.Repeat("x", 80), statusAccessDenied},
			{"nobody by default", administrator, func(c *Config) { c.Administrators = nil }, "G$BCKUPKEY_P", statusAccessDenied},
			{"zero SID listed", ordinary, func(c *Config) { c.Administrators = []dtyp.SID{{}} }, "G$BCKUPKEY_P", statusAccessDenied},
			{"D-18 absent", administrator, nil, "G$BCKUPKEY_" + strings.Repeat("x", 80), statusNameNotFound},
			{"no secrets at all", administrator, func(c *Config) { c.Secret = nil }, "G$BCKUPKEY_P", statusNameNotFound},
			{"another secret", administrator, nil, "G$other", statusNameNotFound},
			{"D-17 backslash", administrator, nil, `G$BCKUPKEY_\`, statusInvalidParameter},
			{"D-17 empty", administrator, nil, "", statusInvalidParameter},
			{"D-17 too long", administrator, nil, strings.Repeat("x", 129), statusInvalidParameter},
			{"store away", administrator, nil, "G$BCKUPKEY_broken", statusInternalError},
		} {
			t.Run(tt.name, func(t *testing.T) {
				cfg := testConfig()
				if tt.change != nil {
					tt.change(&cfg)
				}
				var events []SecretEvent
				cfg.Audit = func(_ context.Context, e SecretEvent) error {
					events = append(events, e)
					return nil
				}
				s := newSession(cfg, tt.caller)
				s.enc = enc
				policy := s.policy(t)
				if _, st := s.openSecret(t, policy, tt.secret); st != tt.want {
					t.Errorf("OpenSecret: %#x, want %#x", st, tt.want)
				}
				sealed, st := s.retrieve(t, policy, tt.secret)
				if st != tt.want || (sealed != nil) != (st == statusSuccess) {
					t.Errorf("RetrievePrivateData: %#x, want %#x", st, tt.want)
				}
				if len(events) != 2 || events[0].Operation != "LsarOpenSecret" || events[1].Operation != "LsarRetrievePrivateData" ||
					events[0].Found != (tt.want == statusSuccess) || events[0].Granted == (tt.want == statusAccessDenied) ||
					events[0].Granted != (events[0].Reason == "") {
					t.Errorf("audit: %+v", events)
				}
			})
		}
	}
	t.Run("the audit gets the address, and of a name no more than there can be", func(t *testing.T) {
		for _, caller := range []gss.Identity{administrator, ordinary} {
			cfg := testConfig()
			var e SecretEvent
			cfg.Audit = func(_ context.Context, got SecretEvent) error { e = got; return nil }
			s := newSession(cfg, caller)
			if _, st := s.openSecret(t, s.policy(t), strings.Repeat("é", 20000)); st == statusSuccess {
				t.Error("opened")
			}
			if e.Name != strings.Repeat("é", 128) || e.Remote != remote {
				t.Errorf("audit: %d octets of a name, %v", len(e.Name), e.Remote)
			}
		}
	})
	t.Run("no audit, no answer", func(t *testing.T) {
		cfg := testConfig()
		cfg.Audit = func(context.Context, SecretEvent) error { return errors.New("disk full") }
		s := newSession(cfg, administrator)
		if sealed, st := s.retrieve(t, s.policy(t), "G$BCKUPKEY_P"); st != statusInternalError || sealed != nil {
			t.Errorf("%#x, %x", st, sealed)
		}
	})
	t.Run("encryption required", func(t *testing.T) {
		for _, tt := range []struct {
			level     dcerpc.AuthLevel
			encrypted bool
			want      status
		}{
			{dcerpc.LevelNone, false, statusAccessDenied},
			{dcerpc.LevelIntegrity, false, statusAccessDenied},
			{dcerpc.LevelNone, true, statusSuccess},
			{dcerpc.LevelPrivacy, false, statusSuccess},
		} {
			cfg := testConfig()
			cfg.RequireEncryption = true
			s := newSession(cfg, administrator)
			s.level, s.encrypted = tt.level, tt.encrypted
			if sealed, st := s.retrieve(t, s.policy(t), "G$BCKUPKEY_P"); st != tt.want || (sealed != nil) != (st == statusSuccess) {
				t.Errorf("level %v, encrypted %v: %#x, want %#x", tt.level, tt.encrypted, st, tt.want)
			}
		}
	})
	t.Run("no session key", func(t *testing.T) {
		s := newSession(testConfig(), administrator)
		s.key = nil
		if sealed, st := s.retrieve(t, s.policy(t), "G$BCKUPKEY_P"); st != statusNoSessionKey || sealed != nil {
			t.Errorf("%#x, %x", st, sealed)
		}
	})
}

func TestHandles(t *testing.T) {
	s, other := newSession(testConfig(), administrator), newSession(testConfig(), administrator)
	closeStub := func(id handle) []byte {
		w := ndr.NewWriter(nil, ndr.Encoding{})
		id.write(&w)
		return w.Buffer()
	}
	id := s.policy(t)
	t.Run("S-3.1.3-08 of another connection", func(t *testing.T) {
		if _, err := other.call(opClose, closeStub(id)); err != dcerpc.FaultContext {
			t.Errorf("%v, want %v", err, dcerpc.FaultContext)
		}
	})
	t.Run("of another kind", func(t *testing.T) {
		secret, _ := s.openSecret(t, id, "G$BCKUPKEY_P")
		if _, st := s.openSecret(t, secret, "G$BCKUPKEY_P"); st != statusInvalidHandle {
			t.Errorf("%#x", st)
		}
		if sealed, st := s.retrieve(t, secret, "G$BCKUPKEY_P"); st != statusInvalidHandle || sealed != nil {
			t.Errorf("%#x", st)
		}
	})
	t.Run("closed twice", func(t *testing.T) {
		if _, err := s.call(opClose, closeStub(id)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.call(opClose, closeStub(id)); err != dcerpc.FaultContext {
			t.Errorf("%v", err)
		}
	})
	t.Run("never given out", func(t *testing.T) {
		if _, err := s.call(opClose, closeStub(handle{})); err != dcerpc.FaultContext {
			t.Errorf("%v", err)
		}
	})
	t.Run("too many", func(t *testing.T) {
		s := newSession(testConfig(), administrator)
		for range maxHandles {
			id = s.policy(t)
		}
		if _, st := s.openSecret(t, id, "G$BCKUPKEY_P"); st != statusNoResources {
			t.Errorf("%#x", st)
		}
		if _, err := s.call(opClose, closeStub(id)); err != nil {
			t.Fatal(err)
		}
		s.policy(t)
	})
}

// A quality of service in NDR64, as the definition has it and as Samba sends
// it.
func TestQualityOfServiceNDR64(t *testing.T) {
	for name, samba := range map[string]bool{"as defined": false, "as Samba sends it": true} {
		t.Run(name, func(t *testing.T) {
			s := newSession(testConfig(), administrator)
			s.enc = ndr.Encoding{NDR64: true}
			w := ndr.NewWriter(nil, s.enc)
			w.Referent(false)
			w.U32(24)
			w.Referent(false)
			w.Referent(false)
			w.U32(0)
			w.Referent(false)
			w.Referent(true)
			if samba {
				w.U64(12)
				w.U16(2)
			} else {
				w.U32(12)
				w.Enum(2)
			}
			w.U8(1)
			w.U8(0)
			if samba {
				w.Align(8)
			}
			w.U32(0x02000000)
			out, err := s.call(opOpenPolicy2, w.Buffer())
			if err != nil {
				t.Fatal(err)
			}
			if _, st := handleAndStatus(t, s, out); st != statusSuccess {
				t.Errorf("%#x", st)
			}
		})
	}
}

func TestByName(t *testing.T) {
	s := &server{testConfig()}
	for name, want := range map[string]string{
		"alice":                    "1 BKRP alice S-1-5-21-177270213-1796266205-1813127581-1103",
		`BKRP\ALICE`:               "1 BKRP alice S-1-5-21-177270213-1796266205-1813127581-1103",
		`bkrp.test\alice`:          "1 BKRP alice S-1-5-21-177270213-1796266205-1813127581-1103",
		"alice@bkrp.test":          "1 BKRP alice S-1-5-21-177270213-1796266205-1813127581-1103",
		`BKRP\Administrator`:       "1 BKRP Administrator S-1-5-21-177270213-1796266205-1813127581-500",
		`BKRP\guest`:               "1 BKRP Guest S-1-5-21-177270213-1796266205-1813127581-501",
		"domain admins":            "2 BKRP Domain Admins S-1-5-21-177270213-1796266205-1813127581-512",
		"BKRP":                     "3 BKRP  S-1-5-21-177270213-1796266205-1813127581",
		`BKRP\`:                    "3 BKRP  S-1-5-21-177270213-1796266205-1813127581",
		"system":                   "5 NT AUTHORITY SYSTEM S-1-5-18",
		`NT AUTHORITY\SYSTEM`:      "5 NT AUTHORITY SYSTEM S-1-5-18",
		`BUILTIN\Administrators`:   "4 BUILTIN Administrators S-1-5-32-544",
		"Everyone":                 "5  Everyone S-1-1-0",
		`BKRP\SYSTEM`:              "",
		`OTHER\alice`:              "",
		`OTHER\`:                   "",
		"alice@other":              "",
		"nobody":                   "",
		"":                         "",
		`\`:                        "",
		`NT AUTHORITY\alice`:       "",
		"alice@bkrp.test@bkrp.com": "",
	} {
		p, ok, err := s.byName(context.Background(), gss.Identity{}, name)
		got := ""
		if ok {
			got = strconv.Itoa(int(p.kind)) + " " + p.domain.name + " " + p.name + " " + p.sid.String()
		}
		if err != nil || got != want {
			t.Errorf("%q: %q, %v, want %q", name, got, err, want)
		}
		if ok && p.name != "" {
			back, ok, err := s.bySID(context.Background(), gss.Identity{}, p.sid)
			if err != nil || !ok || back != p {
				t.Errorf("%q: %v comes back as %+v, %v", name, p.sid, back, err)
			}
		}
	}
	if _, _, err := s.byName(context.Background(), gss.Identity{}, "broken"); err == nil {
		t.Error("a store that is away is no account that is absent")
	}
}

// Callers learn their own SID, and that of nobody else, also where the accounts
// are kept elsewhere.
func TestCallerByName(t *testing.T) {
	cfg := testConfig()
	cfg.AccountByName, cfg.AccountBySID = nil, nil
	s := &server{Config: cfg}
	sid, err := cfg.Domain.SID.Child(4711)
	if err != nil {
		t.Fatal(err)
	}
	carol := gss.Identity{Name: "Carol", SID: sid}
	// One of a realm whose users the configuration gives SIDs of this domain,
	// and one of another domain.
	erin := gss.Identity{Domain: "REALM.TEST", Name: "Carol", SID: sid}
	frank := gss.Identity{Domain: "OTHER", Name: "frank", SID: dtyp.MustParseSID("S-1-5-21-9-9-9-4711")}
	for _, tt := range []struct {
		caller gss.Identity
		name   string
		want   bool
	}{
		{carol, cfg.Domain.NetBIOS + `\carol`, true},
		{carol, "CAROL", true},
		{carol, "carol@" + cfg.Domain.DNSName, true},
		{carol, `OTHER\carol`, false},
		{carol, "dave", false},
		{erin, `realm.test\carol`, true},
		{erin, `OTHER\carol`, false},
		{frank, `other\Frank`, true},
		{frank, "frank", false},
		{frank, cfg.Domain.NetBIOS + `\frank`, false},
		{frank, `OTHER\carol`, false},
		{gss.Identity{}, "carol", false},
		{gss.Identity{Name: "Carol", SID: dtyp.MustParseSID("S-1-5-21-9-9-9-4711")}, "carol", false},
	} {
		p, ok, err := s.byName(t.Context(), tt.caller, tt.name)
		if err != nil || ok != tt.want || ok && p.sid != tt.caller.SID {
			t.Errorf("%v asks for %s: %v, %v, %v", tt.caller, tt.name, p, ok, err)
		}
		if domain, _, _ := p.sid.Cut(); ok && p.domain.sid != domain {
			t.Errorf("%v asks for %s: %v of the domain %v", tt.caller, tt.name, p.sid, p.domain)
		}
		back, ok, err := s.bySID(t.Context(), tt.caller, sid)
		if err != nil || ok != (tt.caller.SID == carol.SID) || ok && back.name != "Carol" {
			t.Errorf("%v asks for %v: %v, %v, %v", tt.caller, sid, back, ok, err)
		}
	}
}

func FuzzCall(f *testing.F) {
	for _, r := range recordings(f) {
		f.Add(r.opnum, r.request, false, false)
	}
	f.Fuzz(func(t *testing.T, opnum uint16, stub []byte, ndr64, big bool) {
		s := newSession(testConfig(), administrator)
		s.enc = ndr.Encoding{NDR64: ndr64, BigEndian: big}
		// Two handles that requests can name, as the recorded ones do.
		h := s.state.(*handles)
		h.open = map[handle]object{{}: policy, {1}: {secret: "G$BCKUPKEY_P"}}
		out, err := s.call(opnum, stub)
		var fault dcerpc.Fault
		if err != nil && !errors.As(err, &fault) && !errors.Is(err, ndr.ErrStub) {
			t.Fatalf("error of another kind: %v", err)
		}
		if err == nil && (len(out) < 8 || len(out)%4 != 0) {
			t.Fatalf("response of %d octets", len(out))
		}
	})
}
