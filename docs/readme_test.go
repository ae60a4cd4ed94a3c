package docs_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed05845750/bkrp/internal/doctest"
)

// TestReadme goes the way of the README's reader, in one shell, from the
// demonstration to a secret that was unwrapped. This tree stands for the clone, and
// the server's port is another one.
func TestReadme(t *testing.T) {
	doc := doctest.Open(t, "../README.md")
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	password := filepath.Join(home, "password")
	write(t, password, "Correct.Horse.1\n")
	sh := doctest.NewShell(t, home, append(doctest.GoEnvironment(t),
		"PATH="+os.Getenv("PATH"), "HOME="+home, "GOPATH="+home+"/go", "GOBIN=", "BKRP_PASSWORD_FILE="+password))

	replace := []string{
		"git clone https://github.com/seed05845750/bkrp && cd bkrp", "cd " + root,
		"127.0.0.1:4445", "", // where the server listens
	}
	var server *doctest.Server
	doc.Follow(doctest.Script{Shell: sh, Replace: replace, Steps: map[string]doctest.Step{
		"git clone …":   {After: func(r doctest.Result) { want(t, "the demonstration", r.Stdout, "^All of it held") }},
		"./script/test": {Exempt: "it runs this test"},
		"bkrpd init …": {After: func(doctest.Result) {
			config := sh.Must("cat ~/bkrp-example/bkrpd.toml", "")
			want(t, "the configuration", config, `^listen = \["127\.0\.0\.1:4445"\]$`)
			sh.Must("test -s ~/bkrp-example/kek.bin", "")
		}},
		"bkrpd user add alice …": {Stdin: "Correct.Horse.1\n"},
		"bkrpd serve …": {Instead: func(command string) {
			server = sh.Serve(command + " --listen 127.0.0.1:0")
			address, ok := strings.CutPrefix(server.Said, "listening on ")
			if !ok || !strings.Contains(doc.Text, "It says `listening on 127.0.0.1:4445`") {
				t.Fatalf("it says %q", server.Said)
			}
			replace[3] = address
			sh.Must("cd", "") // the client's files are to be nowhere else
		}},
		"bkrp unwrap …": {After: func(r doctest.Result) {
			if r.Stdout != "correct horse battery staple" {
				t.Errorf("what was unwrapped is %q", r.Stdout)
			}
		}},
		"bkrp inspect disk.wrapped": {After: func(r doctest.Result) { want(t, "inspect", r.Stdout, "^Client-Side-Wrapped Secret") }},
		"rm -r …":                   {Before: func() { server.Stop() }},
	}})
}
