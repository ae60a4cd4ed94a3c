package main

import (
	"bytes"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/backup"
	"github.com/seed05845750/bkrp/internal/cli"
	"github.com/seed05845750/bkrp/internal/cli/clitest"
	"github.com/seed05845750/bkrp/keystore"
)

// newConfig makes a domain, and gives its configuration.
func newConfig(t *testing.T) (file string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "d")
	var out, stderr bytes.Buffer
	if code := run(t.Context(), []string{"init", "--dir", dir, "--domain", "example.com"}, stdio{strings.NewReader(""), &out, &stderr}); code != 0 {
		t.Fatalf("exit code %d: %s", code, &stderr)
	}
	return filepath.Join(dir, "bkrpd.toml")
}

// fakeDaemon answers on the control socket of a configuration what answer says.
func fakeDaemon(t *testing.T, config string, answer func(adminVerb) *adminResponse) {
	t.Helper()
	cfg, err := loadConfig(config, nil)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", cfg.Control)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(cfg.Control, 0o600); err != nil {
		t.Fatal(err)
	}
	server := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var req adminRequest
		if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
			t.Error(err)
		}
		json.NewEncoder(w).Encode(answer(req.Verb))
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Serve(l)
	}()
	t.Cleanup(func() {
		server.Close()
		<-done
	})
}

// hostile is a text that is meant to steer a terminal, break a table, and be
// something else than it is; shown is what may be seen of it.
const (
	hostile = "x\x1b[32m\x1b[2A\r\tactive\nwarning: \u009b2J"
	shown   = "x?[32m?[2A  active warning: ?2J"
)

// answers are those of a store in which everything that is text is hostile.
func answers() map[adminVerb]*adminResponse {
	sid := dtyp.MustParseSID("S-1-5-21-1-2-3-1100")
	keys := []keyEntry{
		{GUID: dtyp.GUID{1}, Kind: "ClientWrap", Current: true, Callers: 1},
		{GUID: dtyp.GUID{2}, Kind: "ServerWrap", State: keystore.KeyRetired},
		{GUID: dtyp.GUID{3}, Kind: hostile, State: keystore.KeyLocked},
		{GUID: dtyp.GUID{4}, Error: hostile, Damaged: []string{hostile}},
	}
	return map[adminVerb]*adminResponse{
		verbKeysList: {Life: &lifeResponse{Keys: keys, Behind: hostile}},
		verbKeysShow: {Life: &lifeResponse{Keys: []keyEntry{{Kind: hostile, State: keystore.KeyLocked, Certificate: hostile, Error: hostile, Days: []dayEntry{{hostile, 5}}}}}},
		verbKeysWho: {Life: &lifeResponse{Callers: &callersEntry{
			List: []callerEntry{{sid, "2026-01-02", hostile}, {sid, hostile, ""}}, Damaged: []string{hostile}}}},
		verbKeysReplicas: {Life: &lifeResponse{Replicas: []replicaEntry{{Name: hostile, Live: true}, {Name: "b", Started: time.Unix(0, 0)}}}},
		verbRekeyStatus:  {Life: &lifeResponse{KEK: &kekEntry{KEKs: []string{hostile, "file:new"}, Configured: 1}}},
		verbUserList:     {Users: []adminUser{{hostile, sid}}},
		verbUserRemove:   {Error: hostile},
	}
}

// TestTables: the tables of all commands, in a pipe with a tab between the fields and
// in no colour, and on a terminal in colours; what is in the store makes no record,
// no field and no colour of its own in either.
func TestTables(t *testing.T) {
	config := newConfig(t)
	all := answers()
	fakeDaemon(t, config, func(verb adminVerb) *adminResponse { return all[verb] })
	const (
		key1, key2 = "00000001-0000-0000-0000-000000000000", "00000002-0000-0000-0000-000000000000"
		key3, key4 = "00000003-0000-0000-0000-000000000000", "00000004-0000-0000-0000-000000000000"
	)
	for _, test := range []struct {
		args     []string
		code     int
		pipe     string   // all of standard output
		terminal []string // parts of what is seen, in their order
	}{
		{[]string{"keys", "list"}, 0,
			"GUID\tKIND\tSTATE\tCURRENT\tCREATED\tLAST USED\tUNWRAPS/DAY\tCALLERS\n" +
				key1 + "\tClientWrap\tactive\tyes\tunknown\tnever\t0\t1\n" + key2 + "\tServerWrap\tretired\t-\tunknown\tnever\t0\t0\n" +
				key3 + "\t" + shown + "\tlocked\t-\tunknown\tnever\t0\t0\n" + key4 + "\tdamaged\tactive\t-\tunknown\tnever\t0\t0\n",
			[]string{"\x1b[33mwarning:\x1b[0m the numbers are from before: " + shown + "\n\x1b[1mGUID\x1b[0m  ",
				"\n\x1b[1m" + key1 + "\x1b[0m  \x1b[1mClientWrap\x1b[0m                       \x1b[1mactive\x1b[0m   \x1b[1myes\x1b[0m  ",
				"\n\x1b[2m" + key2, "\n\x1b[33m" + key3, "\n\x1b[31m" + key4,
				"\n\x1b[33mwarning:\x1b[0m key " + key4 + ": " + shown + "\n"}},
		{[]string{"keys", "show", key1}, 0,
			"key\t00000000-0000-0000-0000-000000000000\nkind\t" + shown + "\nstate\tlocked\ncurrent\tfalse\ncreated\tunknown\ncertificate\tsha256 " + shown +
				"\ncounted since\tnever used\nlast used\tnever\nwraps\t0\nretrieves\t0\nunwraps\t0\nunwraps per day\t0\non " + shown + "\t5\ncallers\t0\n",
			[]string{"\nstate   ", "  \x1b[33mlocked\x1b[0m\n", "\non " + shown + "  5\n"}},
		{[]string{"keys", "who", key1}, 0,
			"SID\tLAST USED\tACCOUNT\nS-1-5-21-1-2-3-1100\t2026-01-02\t" + shown + "\nS-1-5-21-1-2-3-1100\t" + shown + "\t-\n",
			[]string{"\x1b[1mSID\x1b[0m                  \x1b[1mLAST USED\x1b[0m  ", "\x1b[33mwarning:\x1b[0m " + shown + " is damaged"}},
		{[]string{"keys", "replicas"}, 0,
			"NAME\tSTARTED\tLIVE\tSERVES\n" + shown + "\tunknown\tyes\t-\nb\t1970-01-01 00:00\tno\t-\n",
			[]string{shown + "  unknown           \x1b[32myes\x1b[0m   -\n", "\x1b[33mno\x1b[0m    -\n"}},
		{[]string{"rekey", "--status"}, 0,
			shown + "\told\nfile:new\tnew, in the configuration\n",
			[]string{shown + "  old\n\x1b[1mfile:new\x1b[0m  "}},
		{[]string{"user", "list"}, 0, shown + "\tS-1-5-21-1-2-3-1100\n", []string{"\x1b[1m" + shown + "\x1b[0m  S-1-5-21"}},
		{[]string{"user", "remove", "x"}, cli.ExitError, "",
			[]string{"\x1b[31mbkrpd:\x1b[0m user remove: x?[32m?[2A  active\nwarning: ?2J\n"}}, // an error may have lines
	} {
		args := append(test.args, "--config", config)
		t.Run(strings.Join(test.args, " "), func(t *testing.T) {
			var out, stderr bytes.Buffer
			if code := run(t.Context(), args, stdio{strings.NewReader(""), &out, &stderr}); code != test.code || out.String() != test.pipe {
				t.Errorf("exit code %d, printed is\n%q\nwant\n%q", code, &out, test.pipe)
			}
			if strings.ContainsAny(out.String()+stderr.String(), "\x1b\r\u009b") {
				t.Errorf("escape sequences in %q or %q", &out, &stderr)
			}
			seen, code := clitest.Terminal{Width: 200}.Run(t, "bkrpd", args...)
			rest := seen
			for _, want := range test.terminal {
				_, after, found := strings.Cut("\n"+rest, want)
				if !found {
					t.Fatalf("exit code %d, %q is missing, or not where it should be, in\n%q", code, want, seen)
				}
				rest = after
			}
			for _, own := range []string{"1", "2", "31", "32", "33", "0"} {
				seen = strings.ReplaceAll(seen, "\x1b["+own+"m", "")
			}
			if strings.ContainsAny(strings.ReplaceAll(seen, "\r\x1b[K", ""), "\x1b\r\t\u009b") {
				t.Errorf("escape sequences in %q", seen)
			}
			for _, env := range []string{"NO_COLOR=1", "TERM=dumb"} {
				if seen, _ := (clitest.Terminal{Width: 200, Env: []string{env}}).Run(t, "bkrpd", args...); strings.Contains(strings.ReplaceAll(seen, "\r\x1b[K", ""), "\x1b") {
					t.Errorf("%s: escape sequences in %q", env, seen)
				}
			}
		})
	}
}

// TestDrillTable: the result of each key, in colours if there are any.
func TestDrillTable(t *testing.T) {
	r := &drillReport{File: hostile, Keys: []drilledKey{
		{Key: backup.Key{Kind: "ClientWrap", Current: true}, Result: resultOpens, OK: true},
		{Key: backup.Key{Kind: "ClientWrap"}, Result: resultToken, OK: true},
		{Key: backup.Key{Kind: hostile}, Result: hostile},
	}}
	for when, want := range map[string]string{
		"auto":   "\tyes\topens\n00000000-0000-0000-0000-000000000000\tClientWrap\tactive\t\tneeds its token\n00000000-0000-0000-0000-000000000000\t" + shown + "\tactive\t\t" + shown + "\n",
		"always": "\tyes\t\x1b[32mopens\x1b[0m\n00000000-0000-0000-0000-000000000000\tClientWrap\tactive\t\t\x1b[33mneeds its token\x1b[0m\n00000000-0000-0000-0000-000000000000\t" + shown + "\tactive\t\t\x1b[31m" + shown + "\x1b[0m\n",
	} {
		var out bytes.Buffer
		root := newRootCommand(stdio{strings.NewReader(""), &out, &out})
		if err := root.PersistentFlags().Set("color", when); err != nil {
			t.Fatal(err)
		}
		if err := r.print(root.OutOrStdout()); err != nil || !strings.Contains(out.String(), want) || strings.Contains(out.String(), "\x1b[2A") {
			t.Errorf("%s: %v, %q, want %q", when, err, &out, want)
		}
	}
}

// Whatever the daemon takes long for, a terminal shows that it is asked for, and a
// pipe does not.
func TestAdminProgress(t *testing.T) {
	config := newConfig(t)
	seen, piped := make(chan struct{}), make(chan struct{})
	fakeDaemon(t, config, func(verb adminVerb) *adminResponse {
		select {
		case <-seen:
		case <-time.After(time.Minute): // the test fails then, and does not hang
		}
		return answers()[verb]
	})
	var out, stderr bytes.Buffer
	go func() { // asks before, and is answered when the terminal has shown it
		defer close(piped)
		run(t.Context(), []string{"user", "list", "--config", config}, stdio{strings.NewReader(""), &out, &stderr})
	}()
	told := false
	text, code := clitest.Terminal{Width: 80, Seen: func(text string) {
		if !told && strings.Contains(text, "\r\x1b[Kuser list, ") {
			told = true
			close(seen)
		}
	}}.Run(t, "bkrpd", "user", "list", "--config", config)
	if code != 0 || !told || !strings.HasSuffix(text, "s\r\x1b[K\x1b[1m"+shown+"\x1b[0m  S-1-5-21-1-2-3-1100\n") {
		t.Errorf("exit code %d, shown is %q", code, text)
	}
	if <-piped; out.String() != shown+"\tS-1-5-21-1-2-3-1100\n" || stderr.Len() > 0 {
		t.Errorf("in the pipe is %q, %q", &out, &stderr)
	}
}

// A restore counts what it writes.
func TestCountedBackend(t *testing.T) {
	c := countedBackend{Backend: keystore.NewMemory()}
	defer c.Close()
	for i, name := range []string{"a", "b"} {
		if _, err := c.CompareAndSwap(t.Context(), name, 0, []byte("x")); err != nil || c.writes.Load() != int64(i+1) {
			t.Errorf("%v, %d writes", err, c.writes.Load())
		}
	}
	if value, _, err := c.Get(t.Context(), "b"); err != nil || string(value) != "x" {
		t.Errorf("%q, %v", value, err)
	}
}
