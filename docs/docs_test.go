// Package docs_test runs the documents of this folder and the README: a command or
// a piece of Go in them that does not do what is said about it fails a test. Those
// that take a real peer are run by interop, and the code of testing.md by bkrptest.
package docs_test

import (
	"os"
	"os/exec"
	"regexp"
	"sync"
	"testing"

	"github.com/seed05845750/bkrp/internal/doctest"
)

var built struct {
	sync.Mutex
	dir string
}

func TestMain(m *testing.M) {
	code := m.Run()
	if built.dir != "" {
		os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

// programs builds both programs, once, and gives the directory they are in.
func programs(t *testing.T) string {
	t.Helper()
	built.Lock()
	defer built.Unlock()
	if built.dir != "" {
		return built.dir
	}
	dir, err := os.MkdirTemp("", "bkrp-docs-")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("go", "build", "-o", dir, "../cmd/bkrp", "../cmd/bkrpd").CombinedOutput(); err != nil {
		os.RemoveAll(dir)
		t.Fatalf("building the programs: %v\n%s", err, out)
	}
	built.dir = dir
	return dir
}

// newShell is a shell in a new directory, which is its home as well, that finds both
// programs.
func newShell(t *testing.T, env ...string) (sh *doctest.Shell, dir string) {
	t.Helper()
	dir = t.TempDir()
	env = append([]string{"PATH=" + programs(t) + ":" + os.Getenv("PATH"), "HOME=" + dir}, env...)
	return doctest.NewShell(t, dir, env), dir
}

// write makes a file that is its owner's alone.
func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// want demands that a text has something that matches.
func want(t *testing.T, what, text, expression string) {
	t.Helper()
	if !regexp.MustCompile("(?m)" + expression).MatchString(text) {
		t.Errorf("%s: nothing is as %s in\n%s", what, expression, text)
	}
}
