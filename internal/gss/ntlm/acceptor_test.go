package ntlm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/gss"
)

const testPassword = "Passw0rd.2"

func testConfig() Config {
	return Config{
		Source:        LocalSource(tableOf("alice", testPassword), "BKRP", "bkrp.example"),
		NetBIOSDomain: "BKRP", DNSDomain: "bkrp.example", NetBIOSComputer: "DC1", DNSComputer: "dc1.bkrp.example",
	}
}

// client is a client that does as the test says. It knows the password, so
// that a refusal is for what the test changed and not for the proof.
type client struct {
	negotiate flags
	flags     flags
	domain    string
	user      string
	password  string
	info      func(targetInfo) targetInfo // what it makes of the server's pairs
	response  func([]byte) []byte         // last, with the proof in place
	key       []byte                      // EncryptedRandomSessionKey, if not the right one
	noMIC     bool
	older     bool         // an older table of upper case
	change    func([]byte) // the message at last
}

func (c *client) upper(name string) []byte {
	if c.older {
		return appendUpper(nil, name, upperOlder)
	}
	return appendUpper(nil, name, upper)
}

func newClient() *client {
	f := required | flagSign | flagSeal | flagAlwaysSign | flagVersion
	return &client{negotiate: f, flags: f, domain: "BKRP", user: "alice", password: testPassword}
}

// authenticate answers challenge, and gives ExportedSessionKey too.
func (c *client) authenticate(t testing.TB, negotiate, challenge []byte) ([]byte, [16]byte) {
	t.Helper()
	ch, err := parseChallenge(challenge)
	if err != nil {
		t.Fatal(err)
	}
	r := &ntlmv2Response{targetInfo: ch.targetInfo, clientChallenge: [8]byte{1, 2, 3}}
	copy(r.timestamp[:], ch.targetInfo.get(avTimestamp))
	if !c.noMIC {
		r.targetInfo = append(r.targetInfo, avPair{avFlags, []byte{avFlagMIC, 0, 0, 0}})
	}
	if c.info != nil {
		r.targetInfo = c.info(r.targetInfo)
	}
	key := ntowfv2(HashPassword(c.password), c.upper(c.user), c.domain)
	nt := r.marshal()
	proof := proofOf(key, ch.serverChallenge, nt[proofSize:])
	copy(nt, proof[:])
	if c.response != nil {
		nt = c.response(nt)
	}
	exported := [16]byte(bytes.Repeat([]byte{7}, 16))
	encrypted := exchangeKey(sessionBaseKey(key, proof), exported[:])
	m := &authenticateMessage{flags: c.flags, domain: c.domain, user: c.user, ntResponse: nt, sessionKey: encrypted[:]}
	if c.key != nil {
		m.sessionKey = c.key
	}
	b := m.marshal()
	if !c.noMIC {
		mic := micOf(exported, negotiate, challenge, b)
		copy(b[micOffset:], mic[:])
	}
	if c.change != nil {
		c.change(b)
	}
	return b, exported
}

// logOn runs the exchange against an acceptor of cfg.
func (c *client) logOn(t testing.TB, cfg Config) (gss.Context, error) {
	t.Helper()
	x := NewAcceptor(cfg).Accept(gss.AcceptOptions{})
	negotiate := negotiateMessage{flags: c.negotiate}.marshal()
	challenge, _, err := x.Step(context.Background(), negotiate)
	if err != nil {
		return nil, err
	}
	in, _ := c.authenticate(t, negotiate, challenge)
	out, sc, err := x.Step(context.Background(), in)
	if err != nil && (sc != nil || out != nil) {
		t.Errorf("refused with %v, and yet %v, %x", err, sc, out)
	}
	if _, _, again := x.Step(context.Background(), in); !errors.Is(again, gss.ErrToken) {
		t.Errorf("a third message: %v", again)
	}
	return sc, err
}

// drop leaves out one pair.
func drop(id avID) func(targetInfo) targetInfo {
	return func(t targetInfo) (out targetInfo) {
		for _, p := range t {
			if p.id != id {
				out = append(out, p)
			}
		}
		return out
	}
}

// replace gives one pair another value.
func replace(id avID, value []byte) func(targetInfo) targetInfo {
	return func(t targetInfo) targetInfo { return append(drop(id)(t), avPair{id, value}) }
}

// TestRefusals has a case for each rule of the acceptor.
func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		want   error
		change func(*client)
	}{
		"as it should be":           {nil, func(*client) {}},
		"lower-case domain":         {nil, func(c *client) { c.domain = "bkrp" }},
		"DNS domain":                {nil, func(c *client) { c.domain = "BKRP.example" }},
		"no domain":                 {nil, func(c *client) { c.domain = "" }},
		"principal name":            {nil, func(c *client) { c.domain, c.user = "", "alice@bkrp.example" }},
		"user in upper case":        {nil, func(c *client) { c.user = "ALICE" }},
		"no MIC announced":          {nil, func(c *client) { c.noMIC = true }},
		"foreign domain":            {gss.ErrLogon, func(c *client) { c.domain = "OTHER" }},
		"foreign principal name":    {gss.ErrLogon, func(c *client) { c.domain, c.user = "", "alice@other" }},
		"unknown user":              {gss.ErrLogon, func(c *client) { c.user = "carol" }},
		"wrong password":            {gss.ErrLogon, func(c *client) { c.password = "x" }},
		"anonymous flag":            {gss.ErrRefused, func(c *client) { c.flags |= flagAnonymous }},
		"no user":                   {gss.ErrRefused, func(c *client) { c.user = "" }},
		"NTLMv1":                    {gss.ErrRefused, func(c *client) { c.response = func(b []byte) []byte { return b[:ntlmv1Size] } }},
		"LM alone":                  {gss.ErrRefused, func(c *client) { c.response = func([]byte) []byte { return nil } }},
		"response cut short":        {gss.ErrToken, func(c *client) { c.response = func(b []byte) []byte { return b[:proofSize+clientHeaderSize-1] } }},
		"response of version 2":     {gss.ErrToken, func(c *client) { c.response = func(b []byte) []byte { b[16] = 2; return b } }},
		"proof changed":             {gss.ErrLogon, func(c *client) { c.response = func(b []byte) []byte { b[3] ^= 1; return b } }},
		"what follows the pairs":    {gss.ErrLogon, func(c *client) { c.response = func(b []byte) []byte { b[len(b)-1] ^= 1; return b } }},
		"time cut out":              {gss.ErrLogon, func(c *client) { c.info = drop(avTimestamp) }},
		"another time":              {gss.ErrLogon, func(c *client) { c.info = replace(avTimestamp, make([]byte, 8)) }},
		"another server's name":     {gss.ErrLogon, func(c *client) { c.info = replace(avNbComputerName, appendUTF16(nil, "DC2")) }},
		"another server's DNS name": {gss.ErrLogon, func(c *client) { c.info = drop(avDNSComputerName) }},
		"short session key":         {gss.ErrToken, func(c *client) { c.key = make([]byte, 8) }},
		"no session key":            {gss.ErrToken, func(c *client) { c.key = []byte{} }},
		"another session key":       {gss.ErrLogon, func(c *client) { c.key = make([]byte, 16) }},
		"wrong MIC":                 {gss.ErrLogon, func(c *client) { c.change = func(b []byte) { b[micOffset] ^= 0x80 } }},
		"no MIC and a zero one":     {gss.ErrLogon, func(c *client) { c.change = func(b []byte) { clear(b[micOffset : micOffset+micSize]) } }},
		"odd user name":             {gss.ErrToken, func(c *client) { c.change = func(b []byte) { b[36]-- } }},
		"field beyond the end":      {gss.ErrToken, func(c *client) { c.change = func(b []byte) { binary.LittleEndian.PutUint32(b[24:], 1<<31) } }},
		"field in the header":       {gss.ErrToken, func(c *client) { c.change = func(b []byte) { binary.LittleEndian.PutUint32(b[24:], 12) } }},
		"OEM character set":         {gss.ErrRefused, func(c *client) { c.flags = c.flags&^flagUnicode | flagOEM }},
		"NEGOTIATE again":           {gss.ErrToken, func(c *client) { c.change = func(b []byte) { b[8] = typeNegotiate } }},
	} {
		t.Run(name, func(t *testing.T) {
			cl := newClient()
			c.change(cl)
			sc, err := cl.logOn(t, testConfig())
			if !errors.Is(err, c.want) || (sc == nil) != (c.want != nil) {
				t.Errorf("context %v, error %v, want %v", sc, err, c.want)
			}
		})
	}
}

// TestRequiredFlags leaves out each required flag, in either message.
func TestRequiredFlags(t *testing.T) {
	for _, f := range []flags{flagUnicode, flagNTLM, flagExtendedSecurity, flag128, flagKeyExchange} {
		c := newClient()
		c.negotiate &^= f
		if _, err := c.logOn(t, testConfig()); !errors.Is(err, gss.ErrRefused) {
			t.Errorf("NEGOTIATE without %#x: %v", uint32(f), err)
		}
		c = newClient()
		c.flags &^= f
		if _, err := c.logOn(t, testConfig()); !errors.Is(err, gss.ErrRefused) {
			t.Errorf("AUTHENTICATE without %#x: %v", uint32(f), err)
		}
	}
	c := newClient()
	c.negotiate |= flagDatagram
	if _, err := c.logOn(t, testConfig()); !errors.Is(err, gss.ErrRefused) {
		t.Errorf("datagram mode: %v", err)
	}
}

// TestSealingNotNegotiated says that a context grants what both messages
// agree on and no more.
func TestSealingNotNegotiated(t *testing.T) {
	for name, change := range map[string]func(*client){
		"NEGOTIATE":    func(c *client) { c.negotiate &^= flagSeal },
		"AUTHENTICATE": func(c *client) { c.flags &^= flagSeal },
	} {
		c := newClient()
		change(c)
		sc, err := c.logOn(t, testConfig())
		if err != nil {
			t.Fatal(err)
		}
		if sc.Flags()&gss.Confidentiality != 0 || sc.Flags()&gss.Integrity == 0 {
			t.Errorf("%s without sealing grants %b", name, sc.Flags())
		}
		if _, err := sc.Seal(nil, []byte("x"), 0, 1); !errors.Is(err, gss.ErrRefused) {
			t.Errorf("Seal: %v", err)
		}
		if err := sc.Unseal([]byte("x"), 0, 1, make([]byte, 16)); !errors.Is(err, gss.ErrRefused) {
			t.Errorf("Unseal: %v", err)
		}
	}
}

// TestReplay sends one exchange's AUTHENTICATE to another, which has another
// challenge, and back to the server as the client's own challenge.
func TestReplay(t *testing.T) {
	a := NewAcceptor(testConfig())
	c := newClient()
	negotiate := negotiateMessage{flags: c.negotiate}.marshal()
	step := func(x gss.Exchange, in []byte) ([]byte, gss.Context, error) { return x.Step(context.Background(), in) }

	first, second := a.Accept(gss.AcceptOptions{}), a.Accept(gss.AcceptOptions{})
	challenge, _, err := step(first, negotiate)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := step(second, negotiate); err != nil {
		t.Fatal(err)
	}
	in, _ := c.authenticate(t, negotiate, challenge)
	if _, sc, err := step(second, in); sc != nil || !errors.Is(err, gss.ErrLogon) {
		t.Errorf("another exchange's AUTHENTICATE: %v, %v", sc, err)
	}
	if _, sc, err := step(first, challenge); sc != nil || !errors.Is(err, gss.ErrToken) {
		t.Errorf("the server's own challenge: %v, %v", sc, err)
	}
	if _, sc, err := step(a.Accept(gss.AcceptOptions{}), in); sc != nil || !errors.Is(err, gss.ErrToken) {
		t.Errorf("AUTHENTICATE before NEGOTIATE: %v, %v", sc, err)
	}
}

// TestGuest says that a source cannot let the guest in, nor nobody.
func TestGuest(t *testing.T) {
	for _, s := range []dtyp.SID{{}, dtyp.MustParseSID("S-1-5-21-1-2-3-501")} {
		cfg := testConfig()
		inner := cfg.Source
		cfg.Source = func(ctx context.Context, l *Logon) (*Account, error) {
			a, err := inner(ctx, l)
			if a != nil {
				a.SID = s
			}
			return a, err
		}
		if _, err := newClient().logOn(t, cfg); !errors.Is(err, gss.ErrRefused) {
			t.Errorf("SID %q: %v", s, err)
		}
	}
}

// TestExpiry says that a context ends when the source of the account says.
func TestExpiry(t *testing.T) {
	for _, end := range []time.Time{{}, time.Unix(1<<31, 0)} {
		cfg := testConfig()
		inner := cfg.Source
		cfg.Source = func(ctx context.Context, l *Logon) (*Account, error) {
			a, err := inner(ctx, l)
			if a != nil {
				a.Expiry = end
			}
			return a, err
		}
		sc, err := newClient().logOn(t, cfg)
		if err != nil || !sc.Expiry().Equal(end) {
			t.Errorf("%v, ends at %v, want %v", err, sc.Expiry(), end)
		}
	}
}

// TestForeignDomain says that a foreign domain costs what an own one does: the
// account is looked up all the same, and not let in.
func TestForeignDomain(t *testing.T) {
	looked := 0
	cfg := testConfig()
	cfg.Source = LocalSource(func(ctx context.Context, user string) (LocalAccount, error) {
		looked++
		return tableOf("alice", testPassword)(ctx, user)
	}, "BKRP")
	c := newClient()
	c.domain = "OTHER"
	if _, err := c.logOn(t, cfg); !errors.Is(err, gss.ErrLogon) || looked != 1 {
		t.Errorf("%d look-ups, %v", looked, err)
	}
}

// TestDisabled says that only who knows the password learns that an account is
// disabled, and that a failing table is neither of the two.
func TestDisabled(t *testing.T) {
	disk := errors.New("disk on fire")
	for _, c := range []struct {
		lookup, want error
		password     string
	}{
		{gss.ErrRefused, gss.ErrRefused, testPassword},
		{gss.ErrRefused, gss.ErrLogon, "x"},
		{disk, disk, testPassword},
	} {
		cfg := testConfig()
		cfg.Source = LocalSource(func(ctx context.Context, user string) (LocalAccount, error) {
			a, _ := tableOf("alice", testPassword)(ctx, user)
			return a, c.lookup
		}, "BKRP")
		cl := newClient()
		cl.password = c.password
		if _, err := cl.logOn(t, cfg); !errors.Is(err, c.want) || errors.Is(err, gss.ErrLogon) != (c.want == gss.ErrLogon) {
			t.Errorf("lookup says %v: %v, want %v", c.lookup, err, c.want)
		}
	}
	if _, err := newClient().logOn(t, Config{}); err == nil {
		t.Error("an acceptor without a source lets someone in")
	}
}

// TestUpperForms logs on with a name of which there are two forms in upper
// case, in either of them.
func TestUpperForms(t *testing.T) {
	for _, older := range []bool{false, true} {
		cfg := testConfig()
		cfg.Source = LocalSource(tableOf("ștefan", testPassword), "BKRP")
		c := newClient()
		c.user, c.older = "ștefan", older
		if _, err := c.logOn(t, cfg); err != nil {
			t.Errorf("older table %v: %v", older, err)
		}
		c.password = "x"
		if _, err := c.logOn(t, cfg); !errors.Is(err, gss.ErrLogon) {
			t.Errorf("older table %v, wrong password: %v", older, err)
		}
	}
}

// TestUnknownNameZeroHash logs on as an unknown user with the proof that the
// stand-in's hash gives.
func TestUnknownNameZeroHash(t *testing.T) {
	l := &Logon{Domain: "BKRP", User: "carol", NTResponse: make([]byte, 64)}
	proof := proofOf(ntowfv2(Hash{}, upperForms(l.User)[0], l.Domain), l.Challenge, l.NTResponse[proofSize:])
	copy(l.NTResponse, proof[:])
	if _, err := testConfig().Source(context.Background(), l); !errors.Is(err, gss.ErrLogon) {
		t.Errorf("error %v, want %v", err, gss.ErrLogon)
	}
}

// TestLog says what the log of a logon holds, and what it does not.
func TestLog(t *testing.T) {
	var b strings.Builder
	cfg := testConfig()
	cfg.Log = slog.New(slog.NewTextHandler(&b, nil))
	c := newClient()
	c.info = replace(avTargetName, appendUTF16(nil, "cifs/dc1"))
	if _, err := c.logOn(t, cfg); err != nil {
		t.Fatal(err)
	}
	c.password = "x"
	if _, err := c.logOn(t, cfg); err == nil {
		t.Fatal("wrong password accepted")
	}
	for _, want := range []string{"ntlm logon\"", "refused", "user=alice", "target=cifs/dc1", "mic=true", aliceSID.String()} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("log lacks %q:\n%s", want, b.String())
		}
	}
}

// TestRedacted prints what holds an NT hash in every way.
func TestRedacted(t *testing.T) {
	h := HashPassword(testPassword)
	c := Credential{User: "alice", Hash: h}
	var b strings.Builder
	i := NewInitiator(c)
	acct := &Account{SessionBaseKey: h, Name: "alice"}
	sc := newSession(h, flagSign, 0, true)
	holders := []any{h, c, &c, i, i.Initiate(gss.InitiateOptions{}), *acct, acct, sc, LocalAccount{Hash: h}}
	for _, x := range holders {
		slog.New(slog.NewJSONHandler(&b, nil)).Info("x", "x", x)
		slog.New(slog.NewTextHandler(&b, nil)).Info("x", "x", x)
		for _, verb := range []string{"%v", "%+v", "%#v", "%x", "%s", "%d", "%q"} {
			fmt.Fprintf(&b, verb+"\n", x)
		}
	}
	for _, leak := range []string{fmt.Sprintf("%x", h[:]), fmt.Sprintf("%d", h[:4])[1:12], fmt.Sprintf("%d,%d", h[0], h[1]), fmt.Sprintf("%#x, %#x", h[0], h[1]), string(h[:])} {
		if strings.Contains(strings.ToLower(b.String()), leak) {
			t.Errorf("%q leaks in %s", leak, b.String())
		}
	}
}
