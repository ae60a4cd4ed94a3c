package interop

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/internal/doctor"
	"github.com/seed05845750/bkrp/interop/peers"
)

// doctorReport is what "bkrp doctor --json" prints, as far as the tests look.
type doctorReport struct {
	Verdict string
	Servers []struct {
		Name     string
		Findings []doctorFinding
	}
	Findings []doctorFinding
}

type doctorFinding struct{ Check, Level, Found, Next string }

// is gives the findings of a check about the first server.
func (r *doctorReport) is(t *testing.T, check, level string) (list []doctorFinding) {
	t.Helper()
	for _, f := range r.Servers[0].Findings {
		if f.Check == check {
			list = append(list, f)
		}
	}
	if !slices.ContainsFunc(list, func(f doctorFinding) bool { return f.Level == level }) {
		t.Errorf("%s is not %s: %+v", check, level, list)
	}
	return list
}

// doctor runs "bkrp doctor" on the target.
func (g target) doctor(t *testing.T, args ...string) (*doctorReport, int) {
	t.Helper()
	out, stderr, code := g.bkrp(t, g.login(peers.Alice), nil, append([]string{"doctor", "--json"}, args...)...)
	r := new(doctorReport)
	if err := json.Unmarshal([]byte(out), r); err != nil || len(r.Servers) != 1 {
		t.Fatalf("exit code %d, %v, %q: %s", code, err, out, stderr)
	}
	for _, f := range r.Servers[0].Findings {
		t.Logf("%-12s %-8s %s", f.Check, f.Level, f.Found)
	}
	return r, code
}

// healthy are the checks that are ok on both servers.
var healthy = []string{"reachable", "dialect", "signing", "encryption", "clock", "logon", "pipe", "privacy", "certificate", "sid",
	"clientwrap2", "clientwrap3", "serverwrap"}

// A domain controller of Samba's is well, but for the oracle.
func TestDoctorOnSamba(t *testing.T) {
	g := sambaTarget(t, DC(t))
	r, code := g.doctor(t, "--oracle", "--yes-these-are-mine")
	for _, check := range healthy {
		r.is(t, check, "ok")
	}
	if f := r.is(t, "mechanisms", "ok"); !strings.Contains(f[0].Found, "Kerberos") {
		t.Errorf("%+v", f)
	}
	if code != 2 || r.Verdict != "broken" {
		t.Errorf("exit code %d, %s", code, r.Verdict)
	}
	for _, f := range r.is(t, "oracle", "broken") {
		if strings.HasPrefix(f.Found, "ClientWrap") && (f.Level != "broken" || !strings.Contains(f.Found, "padding oracle") ||
			!strings.Contains(f.Found, "ERROR_INVALID_PARAMETER (0x57)") || !strings.Contains(f.Found, "ERROR_INVALID_DATA (0xD)")) {
			t.Errorf("%+v", f)
		}
	}
}

// Ours is well, and no oracle.
func TestDoctorOnOurs(t *testing.T) {
	r, code := startBkrpd(t, options{}).target().doctor(t, "--oracle", "--yes-these-are-mine")
	for _, check := range append([]string{"oracle"}, healthy...) {
		for _, f := range r.is(t, check, "ok") {
			if f.Level != "ok" && f.Level != "note" {
				t.Errorf("%+v", f)
			}
		}
	}
	if code != 0 {
		t.Errorf("exit code %d, %s", code, r.Verdict)
	}
}

// examine examines a domain of which Samba is one or two domain controllers.
func (d *wireDomain) examine(t *testing.T) (find func(server, check string) []doctor.Finding) {
	t.Helper()
	r, err := doctor.ExamineDomain(t.Context(), bkrpclient.DomainConfig{
		Domain: locatorDomain, Resolver: d.Resolver(), PingDelay: 5 * time.Second,
		Client: bkrpclient.Config{Timeout: time.Minute, Credential: bkrpclient.Credential{
			Domain: "BKRP", User: peers.Alice, Password: bkrpclient.Password(d.dc.Password(peers.Alice)),
		}},
		Address: func(name string, _ netip.Addr) string {
			switch name {
			case "dc1.bkrp.test":
				return d.dc1.addr
			case "dc2.bkrp.test":
				return d.dc2.addr
			}
			return "127.0.0.1:1" // nobody is there
		},
	}, doctor.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return func(server, check string) (list []doctor.Finding) {
		for s, f := range r.All {
			if f.Check == check && (s == nil && server == "" || s != nil && s.Name == server+"."+locatorDomain) {
				list = append(list, f)
			}
		}
		t.Logf("%s %s: %+v", server, check, list)
		return list
	}
}

// wantLevel is that there is a finding of that level, and none that is worse.
func wantLevel(t *testing.T, list []doctor.Finding, level doctor.Level) {
	t.Helper()
	worst := doctor.Level(-1)
	for _, f := range list {
		worst = max(worst, f.Level)
	}
	if worst != level {
		t.Errorf("%+v, want %v", list, level)
	}
}

// TestDoctorOnDomain: a dead domain controller, a read-only one, and two that are
// well, which both are Samba's.
func TestDoctorOnDomain(t *testing.T) {
	find := startWireDomain(t, "").examine(t)
	wantLevel(t, find("dead", doctor.CheckPing), doctor.Broken)
	wantLevel(t, find("dead", doctor.CheckReachable), doctor.Broken)
	wantLevel(t, find("rodc", doctor.CheckWritable), doctor.Note)
	for _, dc := range []string{"dc1", "dc2"} {
		for _, check := range append([]string{"ping", "writable", "exchange"}, healthy...) {
			want := doctor.OK
			if check == doctor.CheckPipe { // Samba's has no ntsvcs
				want = doctor.Note
			}
			wantLevel(t, find(dc, check), want)
		}
	}
	wantLevel(t, find("", doctor.CheckSameKey), doctor.OK)
	wantLevel(t, find("", doctor.CheckDNS), doctor.OK)
}

// TestDoctorOnStranger: a server of ours beside Samba's, with keys of its own.
func TestDoctorOnStranger(t *testing.T) {
	dc := DC(t)
	find := startWireDomain(t, startBkrpd(t, options{passwords: map[string]string{
		peers.Administrator: dc.Password(peers.Administrator), peers.Alice: dc.Password(peers.Alice), peers.Bob: dc.Password(peers.Bob),
	}}).addr).examine(t)
	wantLevel(t, find("", doctor.CheckSameKey), doctor.Broken)
	for _, dc := range []string{"dc1", "dc2"} {
		wantLevel(t, find(dc, doctor.CheckServerWrap), doctor.OK)
		wantLevel(t, find(dc, doctor.CheckExchange), doctor.Broken)
	}
}
