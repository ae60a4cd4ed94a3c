package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed05845750/bkrp/bkrpserver"
	"github.com/seed05845750/bkrp/bkrptest"
	"github.com/seed05845750/bkrp/internal/cli"
	"github.com/seed05845750/bkrp/internal/doctor"
)

// examine runs "bkrp doctor --json" on a test domain's server as alice.
func examine(t *testing.T, d *bkrptest.Domain) (r *doctor.Report, verdict doctor.Level, code int) {
	t.Helper()
	alice := d.User("alice")
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte(string(alice.Password)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv(passwordFileEnv, password)
	var out, stderr bytes.Buffer
	code = run(t.Context(), []string{"doctor", "--json", "--server", d.Addr(), "-U", `BKRP\alice`}, strings.NewReader(""), &out, &stderr)
	printed := doctorJSON{Report: new(doctor.Report)}
	if err := json.Unmarshal(out.Bytes(), &printed); err != nil {
		t.Fatalf("exit code %d, %v: %s%s", code, err, &out, &stderr)
	}
	if strings.Contains(out.String()+stderr.String(), string(alice.Password)) {
		t.Error("the password is printed")
	}
	return printed.Report, printed.Verdict, code
}

// TestDoctorExitCodes: 0 is well, 1 warnings, 2 broken.
func TestDoctorExitCodes(t *testing.T) {
	t.Run("well", func(t *testing.T) {
		r, verdict, code := examine(t, bkrptest.NewDomain(t))
		if code != 0 || verdict > doctor.Note || verdict != r.Worst() || len(r.Servers) != 1 || r.Servers[0].Key == nil {
			t.Errorf("exit code %d, %v, %+v", code, verdict, r)
		}
	})
	t.Run("warnings", func(t *testing.T) {
		r, verdict, code := examine(t, bkrptest.NewDomain(t, bkrptest.WithServer(func(c *bkrpserver.Config) {
			c.Pipes = []string{bkrpserver.PipeNTSvcs}
		})))
		if code != exitWarnings || verdict != doctor.Warning || r.Count(doctor.Warning) != 1 {
			t.Errorf("exit code %d, %v, %+v", code, verdict, r)
		}
	})
	t.Run("broken", func(t *testing.T) {
		d := bkrptest.NewDomain(t)
		d.Inject(bkrptest.UnknownKey())
		r, verdict, code := examine(t, d)
		if code != exitBroken || verdict != doctor.Broken || r.Count(doctor.Broken) != 2 {
			t.Errorf("exit code %d, %v, %+v", code, verdict, r)
		}
	})
}

// hostileReport is of servers whose names and answers are meant to steer a terminal.
func hostileReport() *doctor.Report {
	const evil = "dc1\x1b[2J\x1b]0;title\a\nok"
	return &doctor.Report{Domain: "bkrp.example", Servers: []*doctor.Server{{Name: evil, Address: "127.0.0.1:445", Findings: []doctor.Finding{
		{Check: doctor.CheckPipe, Level: doctor.Warning, Found: "two\nlines\tand a tab \x1b[31m", Next: "first"},
		{Check: doctor.CheckLogon, Level: doctor.Broken, Found: "x\x9b31m", Next: "second, of " + evil},
	}}}, Findings: []doctor.Finding{{Check: doctor.CheckDNS, Level: doctor.OK, Found: "1 server"}}}
}

// TestDoctorRecords: in a pipe or a file each finding is a record, and what a server
// or a resolver says makes neither another one nor a colour.
func TestDoctorRecords(t *testing.T) {
	var out, stderr bytes.Buffer
	stdout, _ := cli.Streams(&out, &stderr)
	if err := printReport(stdout, hostileReport(), false); err != nil {
		t.Fatal(err)
	}
	want := "WHERE\tADDRESS\tCHECK\tLEVEL\tFOUND\tNEXT\n" +
		"dc1?[2J?]0;title? ok\t127.0.0.1:445\tpipe\twarning\ttwo lines and a tab ?[31m\tfirst\n" +
		"dc1?[2J?]0;title? ok\t127.0.0.1:445\tlogon\tbroken\tx\ufffd31m\tsecond, of dc1?[2J?]0;title? ok\n" +
		"bkrp.example\t\tdns\tok\t1 server\t\n"
	if out.String() != want {
		t.Errorf("%q, want\n%q", &out, want)
	}
}
