// Package docs_test runs the documents of this folder and the README: a command or
// a piece of Go in them that does not do what is said about it fails a test. Those
// that are about one program or package are run where that is: by cmd/bkrpd,
// bkrptest and interop.
package docs_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// blocks are the blocks of a language in a document, of which there are at least
// some.
func blocks(t *testing.T, document, language string, least int) (list []string) {
	t.Helper()
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllSubmatch(text, -1) {
		list = append(list, string(b[1]))
	}
	if len(list) < least {
		t.Fatalf("%s has %d blocks of %s", document, len(list), language)
	}
	return list
}

// goIsRun demands that the Go in a document is in a file that is compiled and run.
func goIsRun(t *testing.T, document, file string, least int) {
	t.Helper()
	code, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range blocks(t, document, "go", least) {
		if !bytes.Contains(code, []byte(b)) {
			first, _, _ := strings.Cut(b, "\n")
			t.Errorf("%s: the block that begins %q is not what runs in %s", document, first, file)
		}
	}
}

// programs builds both programs and returns the directory they are in.
func programs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", dir, "../cmd/bkrp", "../cmd/bkrpd").CombinedOutput(); err != nil {
		t.Fatalf("building the programs: %v\n%s", err, out)
	}
	return dir
}

// shell runs commands in a directory.
type shell struct {
	dir string
	env []string
}

func (s shell) command(t *testing.T, script string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "set -eu\n"+script)
	cmd.Dir, cmd.Env = s.dir, s.env
	return cmd
}

// run returns what the commands write to standard output.
func (s shell) run(t *testing.T, script, stdin string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := s.command(t, script)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s\n%v: %s", script, err, &stderr)
	}
	return stdout.String()
}

// TestLinks follows the links between documents.
func TestLinks(t *testing.T) {
	documents, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	documents = append(documents, "../README.md", "../ARCHITECTURE.md", "../SECURITY.md", "../CHANGELOG.md")
	link := regexp.MustCompile(`\]\(([^):#]+)(#[^)]*)?\)`)
	links := 0
	for _, d := range documents {
		text, err := os.ReadFile(d)
		if err != nil {
			t.Error(err)
		}
		for _, m := range link.FindAllSubmatch(text, -1) {
			links++
			if _, err := os.Stat(filepath.Join(filepath.Dir(d), string(m[1]))); err != nil {
				t.Errorf("%s: a link leads nowhere: %v", d, err)
			}
		}
	}
	if links < 20 {
		t.Errorf("%d links in %d documents", links, len(documents))
	}
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range documents[:len(documents)-4] {
		if !bytes.Contains(readme, []byte("- [docs/"+d+"](docs/"+d+")")) {
			t.Errorf("the README does not list docs/%s", d)
		}
	}
}
