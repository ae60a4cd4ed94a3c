package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"

	"github.com/seed05845750/bkrp/internal/cli"
	"github.com/seed05845750/bkrp/internal/cli/clitest"
	"github.com/seed05845750/bkrp/internal/keyform"
	"github.com/seed05845750/bkrp/keystore"
)

const jsonPassword = "Correct.Horse.1"

// json runs a command with --json, decodes what it prints, and returns what it says
// to people. No secret may be in either.
func (k *keysTest) json(v any, command string, arg ...string) (stderr string) {
	k.Helper()
	var out, errs bytes.Buffer
	arg = append(append(strings.Fields(command)[1:], arg...), "--json")
	if code := run(k.Context(), arg, stdio{strings.NewReader(jsonPassword + "\n"), &out, &errs}); code != cli.ExitOK {
		k.Fatalf("%q: exit code %d: %s", arg, code, &errs)
	}
	clitest.DecodeJSON(k.T, command, out.String(), v)
	for _, secret := range []string{jsonPassword, "AGE-SECRET", "bkrpshare1", "PRIVATE KEY"} {
		if strings.Contains(out.String()+errs.String(), secret) {
			k.Errorf("%q: there is a secret, %s", arg, secret)
		}
	}
	return errs.String()
}

// same fails the test unless both are the same.
func (k *keysTest) same(what string, want, got any) {
	k.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		k.Errorf("%s: %s", what, diff)
	}
}

// jsonDomain is a keystore.Domain as JSON has it.
type jsonDomain struct{ DNSName, NetBIOSName, SID string }

func TestJSONOfInit(t *testing.T) {
	k := newKeysTest(t)
	var made struct {
		Config, Store, KEK string
		Domain             jsonDomain
	}
	stderr := k.json(&made, "bkrpd init", "--dir", k.path("j"), "--domain", "Json.Example", "--sid", "S-1-5-21-1-2-3")
	k.same("domain", jsonDomain{"json.example", "JSON", "S-1-5-21-1-2-3"}, made.Domain)
	k.same("places", []string{k.path("j/bkrpd.toml"), k.path("j/bkrpd.db"), "file:" + k.path("j/kek.bin")},
		[]string{made.Config, made.Store, made.KEK})
	k.read(made.Config)
	k.read(made.Store)
	if !strings.Contains(stderr, "add users with: ") {
		t.Errorf("the hint is missing: %s", stderr)
	}
}

func TestJSONOfUsers(t *testing.T) {
	k := newKeysTest(t, "--sid", "S-1-5-21-1-2-3")
	type user struct{ Name, SID string }
	var one user
	k.json(&one, "bkrpd user add", "alice", "--config", k.config)
	k.same("add", user{"alice", "S-1-5-21-1-2-3-1100"}, one)
	one = user{}
	k.json(&one, "bkrpd user passwd", "alice", "--config", k.config)
	k.same("passwd", user{Name: "alice"}, one)
	var list struct{ Users []user }
	k.json(&list, "bkrpd user list", "--config", k.config)
	k.same("list", []user{{"alice", "S-1-5-21-1-2-3-1100"}}, list.Users)
	one = user{}
	k.json(&one, "bkrpd user remove", "alice", "--config", k.config)
	k.same("remove", user{Name: "alice"}, one)
	k.json(&list, "bkrpd user list", "--config", k.config)
	k.same("list", []user{}, list.Users)
}

// jsonRotation is what rotate and rollback print.
type jsonRotation struct {
	Kind, Phase, Next, Previous, Current string
	Resumed                              bool
}

func TestJSONOfRotations(t *testing.T) {
	k := newKeysTest(t)
	rotate := func(want jsonRotation, command string, arg ...string) (got jsonRotation) {
		t.Helper()
		k.json(&got, command, append(arg, "--config", k.config)...)
		if want.Next == "" {
			want.Next = got.Next
		}
		if want.Phase == "preferred" {
			want.Current = got.Next
		}
		k.same(command, want, got)
		return got
	}
	const rotating = "bkrpd keys rotate"
	first := rotate(jsonRotation{Kind: "ClientWrap", Phase: "preferred"}, rotating, "client")
	begun := rotate(jsonRotation{Kind: "ClientWrap", Phase: "created", Previous: first.Next, Current: first.Next}, rotating, "client", "--phase", "create")
	rotate(jsonRotation{Kind: "ClientWrap", Phase: "preferred", Next: begun.Next, Previous: first.Next, Resumed: true}, rotating, "client")
	rotate(jsonRotation{Kind: "ClientWrap", Phase: "rolled back", Next: begun.Next, Previous: first.Next, Current: first.Next}, "bkrpd keys rollback", "client")

	var keys struct{ Keys []keyEntry }
	k.json(&keys, "bkrpd keys list", "--config", k.config)
	if len(keys.Keys) != 2 {
		t.Fatalf("%d keys", len(keys.Keys))
	}
	for _, e := range keys.Keys {
		k.same("current", e.GUID.String() == first.Next, e.Current)
	}
	var who struct{ Callers []callerEntry }
	k.json(&who, "bkrpd keys who", first.Next, "--config", k.config)
	k.same("who", []callerEntry{}, who.Callers)
	for _, test := range []struct {
		command string
		state   keystore.KeyState
	}{
		{"bkrpd keys retire", keystore.KeyRetired}, {"bkrpd keys lock", keystore.KeyLocked},
		{"bkrpd keys show", keystore.KeyLocked}, {"bkrpd keys activate", keystore.KeyActive},
	} {
		var e keyEntry
		k.json(&e, test.command, begun.Next, "--config", k.config)
		if e.GUID.String() != begun.Next || e.State != test.state || e.Kind != "ClientWrap" || len(e.Certificate) != 64 || e.Created.IsZero() {
			t.Errorf("%s: %+v", test.command, e)
		}
	}
}

// What there is none of is an empty list.
func TestJSONOfNothing(t *testing.T) {
	k := newKeysTest(t)
	for _, test := range []struct{ command, name string }{
		{"bkrpd keys list", "keys"}, {"bkrpd keys replicas", "replicas"}, {"bkrpd user list", "users"},
	} {
		var got map[string][]json.RawMessage
		k.json(&got, test.command, "--config", k.config)
		if list, ok := got[test.name]; !ok || list == nil || len(list) != 0 {
			t.Errorf("%s: %v", test.command, got)
		}
	}
}

// jsonKeys is what import and export print of keys.
type jsonKeys struct {
	Format, Out string
	Keys        []struct {
		GUID, Kind string
		Current    bool
	}
	Left []string
}

func TestJSONOfKeyFiles(t *testing.T) {
	k := newKeysTest(t)
	k.keysOK("rotate", "server")
	k.keysOK("rotate", "client")
	var out jsonKeys
	k.json(&out, "bkrpd keys export", "--all", "--output", k.path("all.age"), "--to", k.recipient("id"), "--config", k.config)
	if out.Format != "age" || out.Out != k.path("all.age") || len(out.Keys) != 2 || out.Left == nil || len(out.Left) != 0 {
		t.Fatalf("%+v", out)
	}
	for _, key := range out.Keys {
		if !key.Current || key.Kind != string(keyform.ClientWrap) && key.Kind != string(keyform.ServerWrap) {
			t.Errorf("%+v", key)
		}
	}
	k.read(out.Out)

	other := newKeysTest(t)
	var in jsonKeys
	stderr := other.json(&in, "bkrpd keys import", out.Out, "--identity", k.path("id"), "--current", "--config", other.config)
	k.same("import", jsonKeys{Format: "age", Keys: out.Keys}, in)
	if !strings.Contains(stderr, "warning: the keys are of the domain ") {
		t.Errorf("the warning is missing: %s", stderr)
	}

	var one jsonKeys
	stderr = k.json(&one, "bkrpd keys export", out.Keys[0].GUID, "--format", "lsa", "--plaintext", "-o", k.path("one"), "--config", k.config)
	k.same("one", out.Keys[:1], one.Keys)
	if !strings.Contains(stderr, "note: the GUID is not in the name") {
		t.Errorf("the note is missing: %s", stderr)
	}
}

// jsonRekey is what rekey prints.
type jsonRekey struct {
	UnderWay bool
	KEKs     []kekState
	Moved    int
	Set      string
}

func TestJSONOfRekey(t *testing.T) {
	k := newKeysTest(t)
	k.keysOK("rotate", "client")
	rekey := func(arg ...string) (r jsonRekey, stderr string) {
		t.Helper()
		stderr = k.json(&r, "bkrpd rekey", append(arg, "--config", k.config)...)
		return r, stderr
	}
	before, _ := rekey("--status")
	if len(before.KEKs) != 1 {
		t.Fatalf("%+v", before)
	}
	old := before.KEKs[0].KEK
	k.same("before", jsonRekey{KEKs: []kekState{{old, "only", true}}}, before)

	begun, stderr := rekey("--to", "file:"+k.path("new.bin"), "--create")
	if len(begun.KEKs) != 2 || begun.Moved == 0 || !strings.Contains(stderr, "next:\n") {
		t.Fatalf("%+v, %s", begun, stderr)
	}
	next := begun.KEKs[1].KEK
	both := []kekState{{old, "old", true}, {next, "new", false}}
	k.same("begun", jsonRekey{UnderWay: true, KEKs: both, Moved: begun.Moved, Set: "file:" + k.path("new.bin")}, begun)
	status, _ := rekey("--status")
	k.same("status", jsonRekey{UnderWay: true, KEKs: both}, status)
	abandoned, _ := rekey("--abandon")
	k.same("abandoned", []kekState{{old, "only", true}}, abandoned.KEKs)

	begun, _ = rekey("--to", begun.Set)
	next = begun.KEKs[1].KEK
	config := bytes.Replace(k.read(k.config), []byte("file:kek.bin"), []byte(begun.Set), 1)
	k.write(filepath.Join("d", configName), config)
	finished, _ := rekey("--finish")
	k.same("finished", jsonRekey{KEKs: []kekState{{next, "only", true}}}, finished)
}

// jsonBackup is what the commands about backups print.
type jsonBackup struct {
	File, Out, Into, Program, Taken, Store, Created string
	OK                                              bool
	Version, Entries, Octets, Accounts              int
	Domain                                          jsonDomain
	Keys                                            []struct {
		GUID, Kind, State, Result string
		Current, InToken, OK      bool
	}
	Damaged, Problems []string
	Shares            *struct {
		Split  string
		Needed int
		Files  []string
	}
}

func TestJSONOfBackups(t *testing.T) {
	k := newKeysTest(t)
	k.keysOK("rotate", "client")
	file := k.path("b.bkrp")
	var taken jsonBackup
	stderr := k.json(&taken, "bkrpd backup", "-o", file, "--split", "2/3", "--shares-dir", k.path("shares"), "--config", k.config)
	if !strings.Contains(stderr, "try it: bkrpd drill "+file+"\n") {
		t.Errorf("the hint is missing: %s", stderr)
	}
	if taken.Out != file || taken.Domain.DNSName != "bkrp.example" || taken.Accounts != 0 || taken.Problems == nil ||
		len(taken.Keys) != 1 || taken.Keys[0].Kind != "ClientWrap" || taken.Keys[0].State != "active" || !taken.Keys[0].Current {
		t.Errorf("%+v", taken)
	}
	s := taken.Shares
	if s == nil || s.Needed != 2 || len(s.Files) != 3 || !strings.HasPrefix(filepath.Base(s.Files[0]), s.Split+"-share-1-of-3") {
		t.Fatalf("shares: %+v", s)
	}
	shares := []string{"--share-file", s.Files[0], "--share-file", s.Files[2]}

	// The others say of its content what it said.
	content := taken
	content.Out, content.Shares = "", nil
	var drilled jsonBackup
	k.json(&drilled, "bkrpd drill", append(shares, file)...)
	want := content
	want.File, want.OK = file, true
	want.Keys = append(want.Keys[:0:0], want.Keys...)
	want.Keys[0].Result, want.Keys[0].OK = "opens", true
	k.same("drill", want, drilled)

	config := k.elsewhere("restored")
	var restored jsonBackup
	k.json(&restored, "bkrpd restore", append(shares, file, "--config", config)...)
	want = content
	want.File, want.Into = file, filepath.Join(filepath.Dir(config), "bkrpd.db")
	k.same("restore", want, restored)

	var combined struct{ File, Out, Split, Recipient string }
	k.json(&combined, "bkrpd combine", append(shares, file, "-o", k.path("identity"))...)
	k.same("combine", []string{file, k.path("identity"), s.Split}, []string{combined.File, combined.Out, combined.Split})
	ids, err := parseIdentities(k.read(k.path("identity")))
	if err != nil {
		t.Fatal(err)
	}
	if id, ok := ids[0].(*age.X25519Identity); !ok || id.Recipient().String() != combined.Recipient {
		t.Errorf("the recipient is %s", combined.Recipient)
	}
}

// What standard output has for itself is not mixed with JSON, and what fails prints
// none; the exit codes are those without --json.
func TestJSONIsRefused(t *testing.T) {
	k := newKeysTest(t)
	k.keysOK("rotate", "client")
	to := k.recipient("id")
	unknown := "01234567-89ab-cdef-0123-456789abcdef"
	for _, test := range []struct {
		code int
		why  string
		args []string
	}{
		{cli.ExitUsage, "--json: ", []string{"keys", "export", "--all", "-o", "-", "--to", to, "--config", k.config}},
		{cli.ExitUsage, "--shares-dir", []string{"backup", "-o", k.path("b"), "--split", "2/3", "--config", k.config}},
		{cli.ExitUsage, "by -o", []string{"combine", k.path("b")}},
		{cli.ExitUsage, "by -o", []string{"combine", k.path("b"), "-o", "-"}},
		{cli.ExitError, "file already exists", []string{"combine", k.path("b"), "-o", k.path("id")}},
		{cli.ExitError, "no such key", []string{"keys", "retire", unknown, "--config", k.config}},
		{cli.ExitError, "no such key", []string{"keys", "export", unknown, "--to", to, "-o", k.path("none"), "--config", k.config}},
		{cli.ExitError, "no such account", []string{"user", "remove", "nobody", "--config", k.config}},
		{cli.ExitError, "under way", []string{"rekey", "--finish", "--config", k.config}},
		{cli.ExitError, "holds a domain already", []string{"init", "--dir", k.path("d"), "--domain", "bkrp.example"}},
	} {
		code, stdout, stderr := k.run(append(test.args, "--json")...)
		if code != test.code || stdout != "" || !strings.Contains(stderr, test.why) {
			t.Errorf("%q: exit code %d, want %d and %q: %s%s", test.args, code, test.code, test.why, stdout, stderr)
		}
	}
	for _, name := range []string{"b", "none"} {
		if _, err := os.Lstat(k.path(name)); err == nil {
			t.Errorf("%s was made", name)
		}
	}
}
