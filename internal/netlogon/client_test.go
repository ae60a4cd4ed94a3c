package netlogon

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/gss"
	"github.com/seed05845750/bkrp/internal/gss/ntlm"
)

func TestLogOn(t *testing.T) {
	dc := newFakeDC(t)
	c, log := newTestClient(t, dc, func(cfg *Config) { cfg.Lifetime = time.Hour })
	for range 3 {
		before := time.Now()
		a, err := c.LogOn(t.Context(), aliceLogon())
		if err != nil {
			t.Fatal(err)
		}
		groups := []dtyp.SID{
			dtyp.MustParseSID("S-1-5-21-1-2-3-513"), dtyp.MustParseSID("S-1-5-21-1-2-3-513"),
			dtyp.MustParseSID("S-1-5-21-1-2-3-512"), dtyp.MustParseSID("S-1-18-2"),
		}
		if a.SID.String() != "S-1-5-21-1-2-3-1103" || a.Name != "alice" || a.Domain != "BKRP" ||
			a.SessionBaseKey != [16]byte{1, 2, 3} || !slices.Equal(a.Groups, groups) {
			t.Errorf("%v, groups %v", a, a.Groups)
		}
		if a.Expiry.Before(before.Add(time.Hour)) || a.Expiry.After(time.Now().Add(time.Hour)) {
			t.Errorf("ends at %v", a.Expiry)
		}
	}
	if dc.auths != 1 || strings.Count(log.String(), "stands") != 1 {
		t.Errorf("%d session keys for 3 logons, one after the other:\n%s", dc.auths, log)
	}
}

// What the domain controller is not asked about.
func TestNotAsked(t *testing.T) {
	dc := newFakeDC(t)
	c, _ := newTestClient(t, dc, nil)
	for name, tt := range map[string]struct {
		change func(*ntlm.Logon)
		want   error
	}{
		"NTLMv1":         {func(l *ntlm.Logon) { l.NTResponse = make([]byte, 24) }, gss.ErrRefused},
		"no response":    {func(l *ntlm.Logon) { l.NTResponse = nil }, gss.ErrRefused},
		"anonymous":      {func(l *ntlm.Logon) { l.User = "" }, gss.ErrRefused},
		"another domain": {func(l *ntlm.Logon) { l.Domain = "OTHER" }, gss.ErrLogon},
		"long response":  {func(l *ntlm.Logon) { l.NTResponse = make([]byte, maxResponse+1) }, gss.ErrToken},
		"long name":      {func(l *ntlm.Logon) { l.User = strings.Repeat("a", maxName+1) }, gss.ErrToken},
	} {
		l := aliceLogon()
		tt.change(l)
		if a, err := c.LogOn(t.Context(), l); a != nil || !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, %v", name, a, err)
		}
	}
	if dc.auths != 0 || dc.logons != 0 {
		t.Errorf("asked %d and %d times", dc.auths, dc.logons)
	}
	for _, own := range []string{"", "bkrp", "BKRP.example"} {
		l := aliceLogon()
		l.Domain = own
		if _, err := c.LogOn(t.Context(), l); err != nil {
			t.Errorf("%q: %v", own, err)
		}
	}
}

// What the domain controller says, and is not enough.
func TestVerdicts(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*fakeDC)
		want   error
		text   string
	}{
		"wrong password": {func(dc *fakeDC) { dc.verdict = statusLogonFailure }, gss.ErrLogon, "wrong name or password"},
		"no such user":   {func(dc *fakeDC) { dc.verdict = statusNoSuchUser }, gss.ErrLogon, "wrong name or password"},
		"disabled":       {func(dc *fakeDC) { dc.verdict = 0xC0000072 }, gss.ErrRefused, "disabled"},
		"locked out":     {func(dc *fakeDC) { dc.verdict = 0xC0000234 }, gss.ErrRefused, "locked out"},
		"guest":          {func(dc *fakeDC) { dc.answer.flags |= flagGuest }, gss.ErrRefused, "guest"},
		"by LM":          {func(dc *fakeDC) { dc.answer.flags |= flagLMKey }, gss.ErrRefused, "NTLMv2"},
		"by LMv2":        {func(dc *fakeDC) { dc.answer.flags |= flagLMv2 }, gss.ErrRefused, "NTLMv2"},
		"no encryption":  {func(dc *fakeDC) { dc.answer.flags |= flagNoEncryption }, gss.ErrRefused, "NTLMv2"},
		"computer":       {func(dc *fakeDC) { dc.answer.flags |= flagMachine }, gss.ErrRefused, "computer"},
		"no key":         {func(dc *fakeDC) { clear(dc.answer.sessionKey[:]) }, gss.ErrRefused, "no session key"},
		"no name":        {func(dc *fakeDC) { dc.answer.name = "" }, gss.ErrRefused, "anonymous"},
		"no RID":         {func(dc *fakeDC) { dc.answer.userID = 0 }, gss.ErrRefused, "anonymous"},
		"no domain":      {func(dc *fakeDC) { dc.answer.domainID = dtyp.SID{} }, gss.ErrRefused, "anonymous"},
		"foreign domain": {func(dc *fakeDC) { dc.answer.domainID = dtyp.MustParseSID("S-1-5-21-9-9-9") }, gss.ErrRefused, "S-1-5-21-9-9-9"},
		"BUILTIN":        {func(dc *fakeDC) { dc.answer.domainID = dtyp.MustParseSID("S-1-5-32") }, gss.ErrRefused, "S-1-5-32"},
		"hours are over": {func(dc *fakeDC) { dc.answer.kickOff = 1e7 }, gss.ErrRefused, "logon hours"},
		"another code":   {func(dc *fakeDC) { dc.verdict = 0xC000005E }, nil, "0xC000005E"},
	} {
		t.Run(name, func(t *testing.T) {
			dc := newFakeDC(t)
			tt.change(dc)
			c, _ := newTestClient(t, dc, nil)
			a, err := c.LogOn(t.Context(), aliceLogon())
			if a != nil || err == nil || tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("%v, %v", a, err)
			}
			if tt.want == nil && (errors.Is(err, gss.ErrLogon) || errors.Is(err, gss.ErrRefused)) {
				t.Errorf("%v passes for a verdict", err)
			}
			if dc.logons != 1 {
				t.Errorf("asked %d times", dc.logons)
			}
		})
	}
}

// A logon ends when the domain says, where that is sooner.
func TestKickOff(t *testing.T) {
	dc := newFakeDC(t)
	at := time.Now().Add(time.Minute).Truncate(time.Second)
	dc.answer.logoff = 1<<63 - 1
	dc.answer.kickOff = uint64(at.Unix()+11644473600) * 1e7
	c, _ := newTestClient(t, dc, nil)
	a, err := c.LogOn(t.Context(), aliceLogon())
	if err != nil || !a.Expiry.Equal(at) {
		t.Errorf("ends at %v, want %v: %v", a, at, err)
	}
}

// A secure channel that cannot be made refuses logons, at once from then on,
// with one line on what to do. No status of the machine's passes for the user's.
func TestNoChannel(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*fakeDC)
		log    string
	}{
		"wrong machine password": {func(dc *fakeDC) { dc.password = "x" }, "password is wrong"},
		"no machine account":     {func(dc *fakeDC) { dc.status = statusNoTrustSAMAccount }, "no such machine account"},
		"disabled":               {func(dc *fakeDC) { dc.status = 0xC0000072 }, "check that netlogon.server"},
		"impostor":               {func(dc *fakeDC) { dc.wrongProof = true }, "does not know the machine account"},
		"no AES":                 {func(dc *fakeDC) { dc.options &^= optionAES }, "no secure channel by AES"},
		"challenge of zeros":     {func(dc *fakeDC) { dc.challenge = func([8]byte) [8]byte { return [8]byte{} } }, "not random"},
		"five equal octets": {func(dc *fakeDC) {
			dc.challenge = func([8]byte) [8]byte { return [8]byte{7, 7, 7, 7, 7, 1, 2, 3} }
		}, "not random"},
		// Who does not know the password, and proves himself all the same.
		"our challenge back": {func(dc *fakeDC) {
			dc.password, dc.reflect = "x", true
			dc.challenge = func(client [8]byte) [8]byte { return client }
		}, "not random"},
		"most of our challenge back": {func(dc *fakeDC) {
			dc.password, dc.reflect = "x", true
			dc.challenge = func(client [8]byte) [8]byte { client[7] ^= 1; return client }
		}, "not random"},
		"nobody there": {func(*fakeDC) {}, "that it runs"},
		"closes":       {func(dc *fakeDC) { dc.raw = func(net.Conn) {} }, "check that netlogon.server"},
		"garbage": {func(dc *fakeDC) {
			dc.raw = func(conn net.Conn) { io.WriteString(conn, strings.Repeat("HTTP/1.0 400\r\n", 9)) }
		}, "check that netlogon.server"},
	} {
		t.Run(name, func(t *testing.T) {
			dc := newFakeDC(t)
			if name == "nobody there" {
				dc.stop()
			} else {
				dc.set(func() { tt.change(dc) })
			}
			c, log := newTestClient(t, dc, nil)
			for i := range 2 {
				a, err := c.LogOn(t.Context(), aliceLogon())
				if a != nil || err == nil || errors.Is(err, gss.ErrLogon) || errors.Is(err, gss.ErrRefused) {
					t.Errorf("%v, %v", a, err)
				}
				if down := errors.Is(err, errDown); down != (i > 0) {
					t.Errorf("logon %d: %v", i, err)
				}
			}
			if n := strings.Count(log.String(), "level=ERROR"); n != 1 || !strings.Contains(log.String(), tt.log) {
				t.Errorf("%d errors, without %q:\n%s", n, tt.log, log)
			}
			if dc.logons != 0 {
				t.Error("asked about a logon all the same")
			}
			// Nothing of it lasts.
			c.mu.Lock()
			c.retryAt = time.Time{}
			c.mu.Unlock()
			if name == "wrong machine password" {
				dc.set(func() { dc.password = fakePassword })
				if _, err := c.LogOn(t.Context(), aliceLogon()); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// A domain controller that hangs costs a logon its time, and no more.
func TestHangs(t *testing.T) {
	for name, change := range map[string]func(*fakeDC, chan struct{}){
		"at once":      func(dc *fakeDC, end chan struct{}) { dc.raw = func(net.Conn) { <-end } },
		"in the logon": func(dc *fakeDC, end chan struct{}) { dc.hold = end },
	} {
		t.Run(name, func(t *testing.T) {
			dc := newFakeDC(t)
			end := make(chan struct{})
			defer close(end)
			dc.set(func() { change(dc, end) })
			c, log := newTestClient(t, dc, func(cfg *Config) { cfg.Timeout = 50 * time.Millisecond })
			// Time may be up while it still connects, which the net calls a timeout.
			if a, err := c.LogOn(t.Context(), aliceLogon()); a != nil || err == nil || !strings.Contains(err.Error(), "deadline") && !strings.Contains(err.Error(), "timeout") {
				t.Errorf("%v, %v", a, err)
			}
			if !strings.Contains(log.String(), "refused") {
				t.Errorf("the log says nothing:\n%s", log)
			}
		})
	}
}

// A channel that broke is made anew, in the same logon.
func TestReconnects(t *testing.T) {
	for name, meanwhile := range map[string]func(*fakeDC){
		"that forgot the key": func(dc *fakeDC) { dc.restart(func() { clear(dc.keys) }) },
		"that knows it":       func(dc *fakeDC) { dc.restart(func() {}) },
	} {
		t.Run(name, func(t *testing.T) {
			dc := newFakeDC(t)
			c, log := newTestClient(t, dc, nil)
			for range 2 {
				if _, err := c.LogOn(t.Context(), aliceLogon()); err != nil {
					t.Fatalf("%v\n%s", err, log)
				}
				meanwhile(dc)
			}
			if !strings.Contains(log.String(), "making another") {
				t.Errorf("the log says nothing:\n%s", log)
			}
		})
	}
}

// An answer that the protocol does not allow ends the channel.
func TestBrokenAnswers(t *testing.T) {
	for _, stub := range [][]byte{{1}, make([]byte, 64), {6, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}} {
		dc := newFakeDC(t)
		dc.stub = stub
		c, log := newTestClient(t, dc, nil)
		if a, err := c.LogOn(t.Context(), aliceLogon()); a != nil || err == nil {
			t.Errorf("%x: %v, %v", stub, a, err)
		}
		dc.set(func() { dc.stub = nil })
		if _, err := c.LogOn(t.Context(), aliceLogon()); err != nil {
			t.Errorf("%x, and then a good one: %v\n%s", stub, err, log)
		}
	}
}

// A flood is held off: so many are asked about, so many wait, the rest is
// refused at once. The server can stop meanwhile.
func TestFlood(t *testing.T) {
	dc := newFakeDC(t)
	end := make(chan struct{})
	defer close(end)
	dc.hold = end
	c, _ := newTestClient(t, dc, nil)
	const most = maxChannels + maxWaiting
	results := make(chan error, most)
	for range most {
		go func() {
			_, err := c.LogOn(context.Background(), aliceLogon())
			results <- err
		}()
	}
	for deadline := time.Now().Add(hangTime / 2); c.waiting.Load() < maxWaiting; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d wait", c.waiting.Load())
		}
	}
	if _, err := c.LogOn(t.Context(), aliceLogon()); err == nil || !strings.Contains(err.Error(), "wait for the domain controller already") {
		t.Errorf("one more: %v", err)
	}
	c.Close()
	for range most {
		if err := <-results; err == nil || errors.Is(err, gss.ErrLogon) {
			t.Errorf("at the end: %v", err)
		}
	}
	if _, err := c.LogOn(t.Context(), aliceLogon()); err == nil || !strings.Contains(err.Error(), "shutting down") {
		t.Errorf("after the end: %v", err)
	}
}

// Who waits for a turn leaves time for what comes then.
func TestWaitsHalf(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		c, err := New(Config{Server: "dc1", Account: "SRV1$", PasswordFile: file, NetBIOSDomain: "BKRP", DomainSID: domainSID, Timeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for range maxChannels {
			c.turns <- struct{}{}
		}
		start := time.Now()
		_, err = c.LogOn(t.Context(), aliceLogon())
		if waited := time.Since(start); err == nil || !strings.Contains(err.Error(), "waiting") || waited != 30*time.Second {
			t.Errorf("after %v: %v", waited, err)
		}
	})
}

func TestConfig(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	good := Config{Server: "dc1", Account: "SRV1$", PasswordFile: file, NetBIOSDomain: "BKRP", DomainSID: domainSID}
	for name, tt := range map[string]struct {
		content string
		mode    os.FileMode
		change  func(*Config)
		want    string
	}{
		"good":             {"x\n", 0o600, func(*Config) {}, ""},
		"CRLF":             {"x\r\n", 0o400, func(*Config) {}, ""},
		"group may read":   {"x\n", 0o640, func(*Config) {}, "chmod 600"},
		"others may read":  {"x\n", 0o604, func(*Config) {}, "chmod 600"},
		"empty":            {"\n", 0o600, func(*Config) {}, "0 octets"},
		"long":             {strings.Repeat("x", maxPassword+1), 0o600, func(*Config) {}, "octets"},
		"binary":           {"\xff\xfe\n", 0o600, func(*Config) {}, "UTF-8"},
		"absent":           {"x", 0o600, func(c *Config) { c.PasswordFile += ".none" }, "no such file"},
		"no server":        {"x", 0o600, func(c *Config) { c.Server = "" }, "domain controller"},
		"user's account":   {"x", 0o600, func(c *Config) { c.Account = "SRV1" }, "machine account"},
		"long account":     {"x", 0o600, func(c *Config) { c.Account = "SIXTEENLETTERSXX$" }, "machine account"},
		"no domain":        {"x", 0o600, func(c *Config) { c.NetBIOSDomain = "" }, "domain"},
		"no domain's SID":  {"x", 0o600, func(c *Config) { c.DomainSID = dtyp.SID{} }, "domain"},
		"negative timeout": {"x", 0o600, func(c *Config) { c.Timeout = -1 }, "negative"},
	} {
		os.Remove(file)
		if err := os.WriteFile(file, []byte(tt.content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, tt.mode); err != nil {
			t.Fatal(err)
		}
		cfg := good
		tt.change(&cfg)
		c, err := New(cfg)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
		if c != nil {
			c.Close()
			c.Close()
		}
	}
}
