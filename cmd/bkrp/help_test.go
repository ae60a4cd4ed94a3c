package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed05845750/bkrp/internal/cli"
	"github.com/seed05845750/bkrp/internal/cli/clitest"
)

func TestHelp(t *testing.T) { clitest.Test(t, newRootCommand, nil) }

// Each exit code that is documented is given, and for what it is said to be.
func TestExitCodes(t *testing.T) {
	addr := startServer(t)
	dir := t.TempDir()
	for name, text := range map[string]string{
		"alice": passwords["alice"], "bob": passwords["bob"], "wrong": "not " + passwords["alice"], "secret": "a secret",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	wrapped := filepath.Join(dir, "wrapped")
	given := make(map[int]bool)
	for _, test := range []struct {
		code           int
		user, password string
		args           []string
	}{
		{cli.ExitOK, "alice", "alice", []string{"wrap", "-i", filepath.Join(dir, "secret"), "-o", wrapped}},
		{cli.ExitError, "alice", "nobody", []string{"sid"}}, // no such file
		{cli.ExitUsage, "alice", "alice", []string{"sid", "--no-such-flag"}},
		{cli.ExitLogon, "alice", "wrong", []string{"sid"}},
		{cli.ExitRefused, "bob", "bob", []string{"unwrap", "-i", wrapped}},
	} {
		t.Setenv(passwordFileEnv, filepath.Join(dir, test.password))
		var out, stderr bytes.Buffer
		args := append(test.args, "--server", addr, "-U", `BKRP\`+test.user)
		if code := run(t.Context(), args, strings.NewReader(""), &out, &stderr); code != test.code {
			t.Errorf("%q: exit code %d, want %d: %s", test.args, code, test.code, &stderr)
		}
		given[test.code] = true
	}
	for _, c := range cli.ExitCodes() {
		if !given[c.Code] {
			t.Errorf("%d is documented, and no command here ends with it", c.Code)
		}
	}
}
