package interop

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

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
