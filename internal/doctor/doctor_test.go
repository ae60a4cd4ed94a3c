package doctor_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/bkrpserver"
	"github.com/seed05845750/bkrp/bkrptest"
	"github.com/seed05845750/bkrp/internal/doctor"
)

// hangTime tells an examination that hangs from one that is slow.
const hangTime = 3 * time.Minute

// want is a finding that has to be there, by a part of what it says.
type want struct {
	check string
	level doctor.Level
	found string
}

// expect looks for findings about a server, or about the domain if it is "".
// Each that is worse than a note says what to do. Nothing may be worse than the
// worst that is expected.
func expect(t *testing.T, r *doctor.Report, server string, wants ...want) {
	t.Helper()
	worst := doctor.Note
	for _, w := range wants {
		worst = max(worst, w.level)
		if !found(r, server, w) {
			t.Errorf("%s: no finding %s %v %q", server, w.check, w.level, w.found)
		}
	}
	for f := range about(r, server) {
		if f.Level >= doctor.Warning && f.Next == "" {
			t.Errorf("nothing to do about it: %+v", f)
		}
		if f.Level > worst {
			t.Errorf("%s: %s %v: %s", server, f.Check, f.Level, f.Found)
		}
		if t.Failed() {
			t.Logf("%s: %s %v: %s", server, f.Check, f.Level, f.Found)
		}
	}
}

// found reports whether there is a finding, as expect wants one.
func found(r *doctor.Report, server string, w want) bool {
	return slices.ContainsFunc(slices.Collect(about(r, server)), func(f doctor.Finding) bool {
		return f.Check == w.check && f.Level == w.level && strings.Contains(f.Found, w.found)
	})
}

// patiently examines with more and more time for each step, as long as what has to
// be found of servers that are in order is not, which a busy machine may be to blame
// for. The last time is as long as nothing takes.
func patiently(examine func(timeout time.Duration) *doctor.Report, inOrder func(*doctor.Report) bool) *doctor.Report {
	for timeout := time.Second; ; timeout *= 4 {
		if r := examine(timeout); timeout > 30*time.Second || inOrder(r) {
			return r
		}
	}
}

// about are the findings about a server.
func about(r *doctor.Report, server string) func(func(doctor.Finding) bool) {
	return func(yield func(doctor.Finding) bool) {
		for s, f := range r.All {
			if (s == nil) == (server == "") && (s == nil || strings.HasPrefix(s.Name, server)) && !yield(f) {
				return
			}
		}
	}
}

// examine examines one server, which must not take long.
func examine(t *testing.T, cfg bkrpclient.Config, o doctor.Options) *doctor.Report {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), hangTime)
	defer cancel()
	r := doctor.ExamineServer(ctx, cfg, o)
	if ctx.Err() != nil {
		t.Error("it hangs")
	}
	return r
}

func examineDomain(t *testing.T, cfg bkrpclient.DomainConfig, o doctor.Options) *doctor.Report {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), hangTime)
	defer cancel()
	r, err := doctor.ExamineDomain(ctx, cfg, o)
	if err != nil || ctx.Err() != nil {
		t.Fatal(err, ctx.Err())
	}
	return r
}

var well = []want{
	{doctor.CheckReachable, doctor.OK, ""}, {doctor.CheckDialect, doctor.OK, "3.1.1"}, {doctor.CheckSigning, doctor.OK, "required"},
	{doctor.CheckEncryption, doctor.OK, "AES"}, {doctor.CheckClock, doctor.OK, "same"}, {doctor.CheckLogon, doctor.OK, ""},
	{doctor.CheckPipe, doctor.OK, "protected_storage"}, {doctor.CheckPrivacy, doctor.OK, "enforced"},
	{doctor.CheckCertificate, doctor.OK, "2048 bits, made today"}, {doctor.CheckSID, doctor.OK, "S-1-5-21-"},
	{doctor.CheckClientWrap2, doctor.OK, ""}, {doctor.CheckClientWrap3, doctor.OK, ""}, {doctor.CheckServerWrap, doctor.OK, ""},
}

func TestWell(t *testing.T) {
	t.Parallel()
	d := bkrptest.NewDomain(t, bkrptest.WithControllers(3), bkrptest.WithReadOnly())
	alice := d.User("alice")
	t.Run("NTLM", func(t *testing.T) {
		r := examine(t, alice.NTLM(), doctor.Options{Oracle: true})
		name := r.Servers[0].Name
		expect(t, r, name, append(slices.Clone(well), want{doctor.CheckOracle, doctor.OK, "ClientWrap version 2"},
			want{doctor.CheckOracle, doctor.OK, "ClientWrap version 3"}, want{doctor.CheckOracle, doctor.OK, "ServerWrap"})...)
	})
	t.Run("Kerberos", func(t *testing.T) {
		r := examine(t, alice.Kerberos(), doctor.Options{})
		expect(t, r, r.Servers[0].Name, append(slices.Clone(well), want{doctor.CheckLogon, doctor.OK, "Kerberos"},
			want{doctor.CheckMechanisms, doctor.OK, "Kerberos"})...)
	})
	for name, cfg := range map[string]bkrpclient.DomainConfig{"domain, NTLM": alice.InDomain(), "domain, Kerberos": alice.InDomainKerberos()} {
		t.Run(name, func(t *testing.T) {
			var told [][2]int
			r := examineDomain(t, cfg, doctor.Options{Parallel: 2, Examined: func(ended, servers int) { told = append(told, [2]int{ended, servers}) }})
			if diff := cmp.Diff([][2]int{{1, 4}, {2, 4}, {3, 4}, {4, 4}}, told); diff != "" {
				t.Errorf("told of examinations that ended (-want +got):\n%s", diff)
			}
			if len(r.Servers) != 4 || r.Worst() != doctor.Note {
				t.Errorf("%d servers, %v", len(r.Servers), r.Worst())
			}
			expect(t, r, "", want{doctor.CheckDNS, doctor.OK, "4 domain controllers, of which 3"},
				want{doctor.CheckSameKey, doctor.OK, "public key"}, want{doctor.CheckSameKey, doctor.OK, "ServerWrap key"})
			expect(t, r, "rodc", want{doctor.CheckWritable, doctor.Note, "read-only"})
			for _, dc := range []string{"dc1", "dc2", "dc3"} {
				expect(t, r, dc, append(slices.Clone(well), want{doctor.CheckPing, doctor.OK, ""}, want{doctor.CheckWritable, doctor.OK, ""},
					want{doctor.CheckExchange, doctor.OK, "opens what dc"})...)
			}
		})
	}
}

// TestFaults: every fault of a test domain is named.
func TestFaults(t *testing.T) {
	t.Parallel()
	d := bkrptest.NewDomain(t)
	const broken = doctor.Broken
	for name, tt := range map[string]struct {
		fault bkrptest.Fault
		wants []want
	}{
		"refused":           {bkrptest.Refuse(), []want{{doctor.CheckCertificate, broken, "ERROR_ACCESS_DENIED"}, {doctor.CheckPrivacy, doctor.Note, "not known"}, {doctor.CheckServerWrap, broken, "ERROR_ACCESS_DENIED"}}},
		"wrong certificate": {bkrptest.WrongCertificate(), []want{{doctor.CheckClientWrap2, broken, "not opened"}, {doctor.CheckServerWrap, doctor.OK, ""}}},
		"unknown key":       {bkrptest.UnknownKey(), []want{{doctor.CheckClientWrap2, broken, "not opened"}, {doctor.CheckServerWrap, broken, "not opened again"}}},
		"wrong result":      {bkrptest.WrongResult(), []want{{doctor.CheckClientWrap2, broken, "another secret"}, {doctor.CheckClientWrap3, broken, "another secret"}}},
		"garbage":           {bkrptest.Garbage(), []want{{doctor.CheckCertificate, broken, "malformed"}, {doctor.CheckServerWrap, broken, ""}}},
		"no answer":         {bkrptest.Hold(), []want{{doctor.CheckCertificate, broken, "deadline"}, {doctor.CheckServerWrap, broken, "deadline"}}},
		"drop connect":      {bkrptest.Drop(bkrptest.Connect), []want{{doctor.CheckReachable, broken, ""}}},
		"drop negotiate":    {bkrptest.Drop(bkrptest.Negotiate), []want{{doctor.CheckReachable, broken, "NEGOTIATE"}}},
		"drop logon":        {bkrptest.Drop(bkrptest.SessionSetup), []want{{doctor.CheckLogon, broken, ""}}},
		"drop tree":         {bkrptest.Drop(bkrptest.TreeConnect), []want{{doctor.CheckLogon, broken, "IPC$"}}},
		"drop create":       {bkrptest.Drop(bkrptest.Create), []want{{doctor.CheckPipe, broken, "protected_storage"}}},
		"drop bind":         {bkrptest.Drop(bkrptest.Bind), []want{{doctor.CheckPipe, broken, "binding on pipe"}}},
		"drop request":      {bkrptest.Drop(bkrptest.Request), []want{{doctor.CheckCertificate, broken, "RETRIEVE"}, {doctor.CheckServerWrap, broken, "BACKUP"}}},
		"drop response":     {bkrptest.Drop(bkrptest.Response), []want{{doctor.CheckCertificate, broken, "RETRIEVE"}, {doctor.CheckServerWrap, broken, "BACKUP"}}},
	} {
		t.Run(name, func(t *testing.T) {
			f := d.Inject(tt.fault)
			defer f.Mend()
			cfg := d.User("alice").NTLM()
			r := patiently(func(timeout time.Duration) *doctor.Report {
				if name == "no answer" {
					cfg.Timeout = timeout
				}
				return examine(t, cfg, doctor.Options{Oracle: true})
			}, func(r *doctor.Report) bool {
				return name != "no answer" || found(r, r.Servers[0].Name, want{doctor.CheckPipe, doctor.OK, ""})
			})
			expect(t, r, r.Servers[0].Name, tt.wants...)
		})
	}
	t.Run("disabled account", func(t *testing.T) {
		d.User("bob").Disable()
		r := examine(t, d.User("bob").NTLM(), doctor.Options{})
		expect(t, r, r.Servers[0].Name, want{doctor.CheckLogon, broken, "refused"})
	})
	t.Run("no ticket", func(t *testing.T) {
		cfg := d.User("alice").Kerberos()
		cfg.Credential.Kerberos.CCache = filepath.Join(t.TempDir(), "none")
		r := examine(t, cfg, doctor.Options{})
		expect(t, r, r.Servers[0].Name, want{doctor.CheckLogon, broken, "no Kerberos ticket"})
	})
	t.Run("it ends in time", func(t *testing.T) {
		defer d.Inject(bkrptest.Hold()).Mend()
		r := examine(t, d.User("alice").NTLM(), doctor.Options{Timeout: time.Second})
		expect(t, r, r.Servers[0].Name, want{doctor.CheckTime, broken, "ended after"})
	})
}

// TestOneSick: one server of several, and what that does to the domain.
func TestOneSick(t *testing.T) {
	t.Parallel()
	d := bkrptest.NewDomain(t, bkrptest.WithControllers(2))
	t.Run("another public key", func(t *testing.T) {
		defer d.Inject(bkrptest.WrongCertificate().On("dc2")).Mend()
		r := examineDomain(t, d.User("alice").InDomain(), doctor.Options{})
		expect(t, r, "", want{doctor.CheckSameKey, doctor.Broken, "different public keys"})
		expect(t, r, "dc1", well...)
		expect(t, r, "dc2", want{doctor.CheckClientWrap2, doctor.Broken, ""})
	})
	t.Run("dead", func(t *testing.T) {
		defer d.Inject(bkrptest.Drop(bkrptest.Connect).On("dc1")).Mend()
		r := examineDomain(t, d.User("alice").InDomain(), doctor.Options{})
		expect(t, r, "dc1", want{doctor.CheckReachable, doctor.Broken, ""})
		expect(t, r, "dc2", well...)
	})
}

func TestConfiguration(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(*bkrpserver.Config)
		wants  []want
	}{
		"ntsvcs alone": {func(c *bkrpserver.Config) { c.Pipes = []string{bkrpserver.PipeNTSvcs} }, []want{
			{doctor.CheckPipe, doctor.Warning, "protected_storage"}, {doctor.CheckPipe, doctor.OK, "ntsvcs"}, {doctor.CheckPrivacy, doctor.OK, ""}}},
		"both pipes": {func(c *bkrpserver.Config) {
			c.Pipes = []string{bkrpserver.PipeProtectedStorage, bkrpserver.PipeNTSvcs}
		}, []want{
			{doctor.CheckPipe, doctor.OK, "protected_storage"}, {doctor.CheckPipe, doctor.OK, "ntsvcs"}}},
		"SMB 2.1": {func(c *bkrpserver.Config) { c.MaxDialect = bkrpserver.SMB210 }, []want{
			{doctor.CheckDialect, doctor.Warning, "2.1"}, {doctor.CheckEncryption, doctor.Note, "not offered"}}},
		"SMB 3.0.2":           {func(c *bkrpserver.Config) { c.MaxDialect = bkrpserver.SMB302 }, []want{{doctor.CheckEncryption, doctor.OK, "AES-128-CCM"}}},
		"encryption required": {func(c *bkrpserver.Config) { c.Encryption = bkrpserver.EncryptionRequire }, well},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := bkrptest.NewDomain(t, bkrptest.WithServer(tt.change))
			r := examine(t, d.User("alice").NTLM(), doctor.Options{})
			expect(t, r, r.Servers[0].Name, tt.wants...)
		})
	}
}

func TestClock(t *testing.T) {
	t.Parallel()
	d := bkrptest.NewDomain(t)
	for name, tt := range map[string]struct {
		ours  time.Duration
		wants []want
	}{
		"a minute behind": {time.Minute, []want{{doctor.CheckClock, doctor.Warning, "behind ours"}}},
		"an hour behind":  {time.Hour, []want{{doctor.CheckClock, doctor.Broken, "behind ours"}}},
		"an hour ahead": {-time.Hour, []want{{doctor.CheckClock, doctor.Broken, "ahead of ours"},
			{doctor.CheckCertificate, doctor.Warning, "not yet"}}},
		"a year later": {370 * 24 * time.Hour, []want{{doctor.CheckClock, doctor.Broken, "behind ours"},
			{doctor.CheckCertificate, doctor.Note, "it was valid until"}}},
	} {
		t.Run(name, func(t *testing.T) {
			r := examine(t, d.User("alice").NTLM(), doctor.Options{Now: func() time.Time { return time.Now().Add(tt.ours) }})
			expect(t, r, r.Servers[0].Name, tt.wants...)
		})
	}
}

func TestNoDomain(t *testing.T) {
	t.Parallel()
	d := bkrptest.NewDomain(t)
	cfg := d.User("alice").InDomain()
	cfg.Domain = "elsewhere.test"
	r := examineDomain(t, cfg, doctor.Options{})
	expect(t, r, "", want{doctor.CheckDNS, doctor.Broken, "no writable domain controller"})
	cfg.Domain = "../../etc"
	if _, err := doctor.ExamineDomain(t.Context(), cfg, doctor.Options{}); err == nil {
		t.Error("no error")
	}
	t.Run("none can be used", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errors.New("nobody waits"))
		r, err := doctor.ExamineDomain(ctx, d.User("alice").InDomain(), doctor.Options{})
		if err != nil || r.Worst() != doctor.Broken {
			t.Error(r, err)
		}
	})
}
