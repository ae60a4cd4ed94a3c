package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/cli"
	"github.com/seed05845750/bkrp/internal/cli/clitest"
	"github.com/seed05845750/bkrp/internal/dclocator/locatortest"
	"github.com/seed05845750/bkrp/internal/doctor"
)

// jsonTest is a domain with alice and bob, and files of theirs in a directory.
type jsonTest struct {
	*testing.T
	dir, addr string
	alice     dtyp.SID
	names     map[string]dtyp.GUID
	secrets   []string // that no JSON may have in it
}

func newJSONTest(t *testing.T) *jsonTest {
	store := newStore(t, adatumSID)
	for _, user := range []string{"alice", "bob"} {
		if _, err := store.AddAccount(t.Context(), user, passwords[user]); err != nil {
			t.Fatal(err)
		}
	}
	alice, err := store.Account(t.Context(), "alice")
	if err != nil {
		t.Fatal(err)
	}
	j := &jsonTest{T: t, dir: t.TempDir(), alice: alice.SID}
	var files map[string][]byte
	files, j.names = dpapiFiles(t, store, alice.SID)
	files["secret"] = []byte("correct horse battery staple")
	files["long"] = bytes.Repeat(files["secret"], 20)
	files["alice"], files["bob"] = []byte(passwords["alice"]), []byte(passwords["bob"])
	for name, b := range files {
		if err := os.WriteFile(j.path(name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, sum, _ := bytes.Cut(bytes.TrimSpace(files["key.sha1"]), []byte(":"))
	j.secrets = []string{"correct horse", passwords["alice"], hex.EncodeToString(files["key.raw"]), string(bytes.ToLower(sum))}
	j.addr = serve(t, store)
	t.Setenv(passwordFileEnv, j.path("alice"))
	return j
}

func (j *jsonTest) path(name string) string { return filepath.Join(j.dir, name) }

// run runs a command with --json.
func (j *jsonTest) run(command string, arg ...string) (stdout, stderr string, code int) {
	var out, errs bytes.Buffer
	arg = append(append(strings.Fields(command)[1:], arg...), "--json")
	code = run(j.Context(), arg, strings.NewReader(""), &out, &errs)
	return out.String(), errs.String(), code
}

// json runs a command as alice, which has to work, and decodes what it prints.
func (j *jsonTest) json(v any, command string, arg ...string) (stderr string) {
	j.Helper()
	out, stderr, code := j.run(command, arg...)
	if code != cli.ExitOK {
		j.Fatalf("%s %q: exit code %d: %s", command, arg, code, stderr)
	}
	clitest.DecodeJSON(j.T, command, out, v)
	for _, secret := range j.secrets {
		if strings.Contains(strings.ToLower(out), strings.ToLower(secret)) {
			j.Errorf("%s %q: there is a secret: %s", command, arg, out)
		}
	}
	return stderr
}

func (j *jsonTest) same(want, got any) {
	j.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		j.Error(diff)
	}
}

func (j *jsonTest) server() []string { return []string{"--server", j.addr, "-U", `BKRP\alice`} }

// holds compares the content of two files, and gives its size.
func (j *jsonTest) holds(name, want string) (size int) {
	j.Helper()
	got, err := os.ReadFile(j.path(name))
	if err != nil {
		j.Fatal(err)
	}
	if expected, err := os.ReadFile(j.path(want)); err != nil || !bytes.Equal(got, expected) {
		j.Errorf("%s does not hold what %s does (%v)", name, want, err)
	}
	return len(got)
}

// jsonSecret is what wrap and unwrap print.
type jsonSecret struct {
	Kind, Key, Owner, Server, Domain string
	KeyFile                          string `json:"key_file"`
	Out                              string
	Version, Size                    int
}

func TestJSONOfWrapAndUnwrap(t *testing.T) {
	j := newJSONTest(t)
	for _, test := range []struct {
		name, in string
		args     []string
		want     jsonSecret
	}{
		{"v2", "secret", nil, jsonSecret{Kind: "client-wrapped-secret", Version: 2}},
		{"v3", "secret", []string{"--version", "3"}, jsonSecret{Kind: "client-wrapped-secret", Version: 3}},
		{"named", "secret", []string{"--sid", j.alice.String()}, jsonSecret{Kind: "client-wrapped-secret", Version: 2}},
		{"server", "long", []string{"--mode", "server"}, jsonSecret{Kind: "server-wrapped-secret", Version: 1}},
		{"auto", "long", []string{"--mode", "auto"}, jsonSecret{Kind: "server-wrapped-secret", Version: 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			j := &jsonTest{t, j.dir, j.addr, j.alice, j.names, j.secrets}
			var made, opened jsonSecret
			blob := j.path(test.name)
			j.json(&made, "bkrp wrap", append(append(j.server(), "-i", j.path(test.in), "-o", blob), test.args...)...)
			want := test.want
			want.Key, want.Owner, want.Server, want.Out = j.names["NEEDED"].String(), j.alice.String(), j.addr, blob
			if want.Version == 1 {
				want.Key = j.names["OLD"].String()
			}
			want.Size = j.holds(test.name, test.name)
			j.same(want, made)
			b, _ := os.ReadFile(blob)
			if r, err := inspect(b); err != nil || r.kind != made.Kind {
				t.Errorf("inspect says %v, %v", r, err)
			}

			stderr := j.json(&opened, "bkrp unwrap", append(j.server(), "--input", blob, "--output", j.path("opened"))...)
			want.Out, want.Size = j.path("opened"), j.holds("opened", test.in)
			j.same(want, opened)
			if !strings.Contains(stderr, "a secret of "+j.alice.String()) {
				t.Errorf("people are not told whose it is: %s", stderr)
			}
		})
	}
	var opened jsonSecret
	j.json(&opened, "bkrp unwrap", "--key-file", j.path("pair.pvk"), "-i", j.path("v2.blob"), "-o", j.path("opened"))
	j.same(jsonSecret{Kind: "client-wrapped-secret", Version: 2, Key: j.names["NEEDED"].String(), Owner: j.alice.String(),
		KeyFile: j.path("pair.pvk"), Out: j.path("opened"), Size: j.holds("opened", "key.raw")}, opened)
}

func TestJSONOfRecover(t *testing.T) {
	j := newJSONTest(t)
	type recovered struct {
		GUID, Owner, Server, Domain, File, Format, Out string
		OpenedBy                                       string `json:"opened_by"`
		KeyFile                                        string `json:"key_file"`
		Size                                           int
	}
	for _, format := range []string{"hex", "raw", "sha1"} {
		want := recovered{GUID: j.names["MASTER"].String(), Owner: j.alice.String(), OpenedBy: "ClientWrap key " + j.names["NEEDED"].String(),
			File: j.path("v2.mkf"), Format: format, Out: j.path("recovered")}
		var got recovered
		j.json(&got, "bkrp dpapi recover", append(j.server(), want.File, "--format", format, "-o", want.Out)...)
		want.Server, want.Size = j.addr, j.holds("recovered", "key."+format)
		j.same(want, got)

		got = recovered{}
		j.json(&got, "bkrp dpapi recover", want.File, "--key-file", j.path("pair.lsa"), "--format", format, "-o", want.Out)
		want.Server, want.KeyFile = "", j.path("pair.lsa")
		j.same(want, got)
	}
}

func TestJSONOfReports(t *testing.T) {
	j := newJSONTest(t)
	var sid struct{ SID string }
	j.json(&sid, "bkrp sid", j.server()...)
	j.same(j.alice.String(), sid.SID)

	var cert certificateJSON
	j.json(&cert, "bkrp cert", append(j.server(), "-o", j.path("der"))...)
	if b, err := os.ReadFile(j.path("der")); err != nil || fingerprint(b) != cert.SHA256 || cert.Size != len(b) || cert.Key != j.names["NEEDED"].String() {
		t.Errorf("%+v, %v", cert, err)
	}

	var bench benchReport
	j.json(&bench, "bkrp bench", append(j.server(), "--count", "20", "--duration", "0s", "--compare", j.addr)...)
	if len(bench.Servers) != 2 || bench.Servers[0].Calls != 20 || bench.Ratio == nil {
		t.Errorf("%+v", bench)
	}

	var examined struct {
		Verdict doctor.Level
		doctor.Report
	}
	j.json(&examined, "bkrp doctor", j.server()...)
	if len(examined.Servers) != 1 || examined.Verdict != examined.Worst() || len(examined.Servers[0].Findings) < 5 {
		t.Errorf("%+v", examined)
	}

	var inspected struct {
		Kind, Section string
		Size          int
		Fields        json.RawMessage
	}
	out, stderr, code := j.run("bkrp inspect", j.path("v2.blob")) // its fields are the kind's
	if err := json.Unmarshal([]byte(out), &inspected); err != nil || code != cli.ExitOK || inspected.Kind != "client-wrapped-secret" || inspected.Fields == nil {
		t.Errorf("exit code %d, %v, %+v: %s", code, err, inspected, stderr)
	}
}

// A report of what is broken is printed too, and a domain without servers has an
// empty list of them.
func TestJSONOfDomainWithoutServers(t *testing.T) {
	j := newJSONTest(t)
	domain := locatortest.Start(t, "bkrp.example", &locatortest.DC{Name: "dc1"})
	out, stderr, code := j.run("bkrp doctor", "other.example", "--dns", domain.DNS, "-U", `BKRP\alice`)
	var examined struct {
		Verdict doctor.Level
		doctor.Report
	}
	clitest.DecodeJSON(t, "bkrp doctor", out, &examined)
	if code != exitBroken || examined.Verdict != doctor.Broken || examined.Servers == nil || len(examined.Servers) != 0 || examined.Domain != "other.example" {
		t.Errorf("exit code %d, %+v: %s", code, examined, stderr)
	}
}

// What standard output has for itself is not mixed with JSON, and what fails prints
// none; the exit codes are those without --json.
func TestJSONIsRefused(t *testing.T) {
	j := newJSONTest(t)
	missing := j.path("missing")
	for _, test := range []struct {
		code    int
		user    string
		command string
		args    []string
	}{
		{cli.ExitUsage, "alice", "bkrp wrap", append(j.server(), "-i", j.path("secret"))},
		{cli.ExitUsage, "alice", "bkrp wrap", append(j.server(), "-i", j.path("secret"), "-o", "-")},
		{cli.ExitUsage, "alice", "bkrp unwrap", append(j.server(), "-i", j.path("v2.blob"))},
		{cli.ExitUsage, "alice", "bkrp dpapi recover", append(j.server(), j.path("v2.mkf"))},
		{cli.ExitUsage, "alice", "bkrp cert", append(j.server(), "-o", "-")},
		{cli.ExitRefused, "bob", "bkrp unwrap", []string{"--server", j.addr, "-U", `BKRP\bob`, "-i", j.path("v2.blob"), "-o", missing}},
		{cli.ExitLogon, "bob", "bkrp wrap", append(j.server(), "-i", j.path("secret"), "-o", missing)},
		{cli.ExitError, "alice", "bkrp unwrap", append(j.server(), "-i", j.path("secret"), "-o", missing)},
		{cli.ExitError, "alice", "bkrp dpapi recover", append(j.server(), j.path("short.mkf"), "-o", missing)},
	} {
		t.Setenv(passwordFileEnv, j.path(test.user))
		stdout, stderr, code := j.run(test.command, test.args...)
		if code != test.code || stdout != "" || stderr == "" {
			t.Errorf("%s %q: exit code %d, want %d: %s%s", test.command, test.args, code, test.code, stdout, stderr)
		}
		if test.code == cli.ExitUsage && !strings.Contains(stderr, "--json: it goes to standard output; name another file by -o") {
			t.Errorf("%s %q: %s", test.command, test.args, stderr)
		}
	}
	if _, err := os.Lstat(missing); err == nil {
		t.Error("a file was written")
	}

	// Standard output by another name.
	f, err := os.Create(j.path("stdout"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for name, refused := range map[string]bool{j.path("stdout"): true, j.path("other"): false, j.path("secret"): false} {
		if err := toFile(true, name, f); (err != nil) != refused {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := toFile(false, "-", f); err != nil {
		t.Error(err)
	}
}

// A server that does not say who the caller is leaves the owner open.
func TestOwnerIsNotSaid(t *testing.T) {
	var stderr bytes.Buffer
	sid := callerSID(t.Context(), nobody{}, &stderr)
	if !sid.IsZero() || !strings.Contains(stderr.String(), "warning: the owner is the caller") {
		t.Errorf("%v, %s", sid, &stderr)
	}
	var out bytes.Buffer
	if err := cli.PrintJSON(&out, secretReport{Owner: sid}); err != nil || strings.Contains(out.String(), "owner") {
		t.Errorf("%v: %s", err, &out)
	}
}

// nobody is a server that does not answer who the caller is.
type nobody struct{ caller }

func (nobody) SID(context.Context) (dtyp.SID, error) { return dtyp.SID{}, os.ErrDeadlineExceeded }
