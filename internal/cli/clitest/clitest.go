// Package clitest tests what the programs that package cli runs have in common:
// help, manual pages, shell completion.
package clitest

import (
	"bytes"
	"context"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/seed05845750/bkrp/internal/cli"
)

// Program makes the commands of a program anew.
type Program func(stdin io.Reader, stdout, stderr io.Writer) *cobra.Command

// run carries out one command line.
func (p Program) run(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	code = cli.Run(context.Background(), p(strings.NewReader(""), &out, &errs), args, cli.Failures{})
	return out.String(), errs.String(), code
}

// Test tests the program. Its commands have --json, but for those below noJSON, by
// their names without the program's, each with the reason.
func Test(t *testing.T, p Program, noJSON map[string]string) {
	t.Run("help", p.testHelp)
	t.Run("json", func(t *testing.T) { p.testJSON(t, noJSON) })
	t.Run("flags", p.testFlags)
	t.Run("topics", p.testTopics)
	t.Run("completion", p.testCompletion)
	t.Run("man", p.testMan)
}

// walk calls visit for a command and for those below it.
func walk(cmd *cobra.Command, visit func(*cobra.Command)) {
	visit(cmd)
	for _, c := range cmd.Commands() {
		walk(c, visit)
	}
}

// testHelp demands an explanation and an example of every command, and an example
// that is one.
func (p Program) testHelp(t *testing.T) {
	root := p(nil, io.Discard, io.Discard)
	walk(root, func(cmd *cobra.Command) {
		path := cmd.CommandPath()
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: the short help is %q", path, cmd.Short)
		}
		if strings.TrimSpace(cmd.Long) == "" {
			t.Errorf("%s has no long help", path)
		}
		if cmd.Runnable() && !strings.Contains(cmd.Example, path) && !strings.Contains(cmd.Example, root.Name()+" ") {
			t.Errorf("%s has no example of itself: %q", path, cmd.Example)
		}
		for line := range strings.Lines(cmd.Long) {
			if strings.HasPrefix(line, "\t") || len([]rune(line)) > 100 {
				t.Errorf("%s: a line that no terminal shows well: %q", path, line)
			}
		}
		for line := range strings.Lines(cmd.Example) {
			if !strings.HasPrefix(line, "  ") && strings.TrimSpace(line) != "" {
				t.Errorf("%s: a line of the example that is not indented: %q", path, line)
			}
		}
	})
}

// noJSON is why commands that every program has are without --json.
var noJSON = map[string]string{
	"help":            "it is for people",
	"completion bash": "what it prints is for the shell",
	"completion zsh":  "what it prints is for the shell",
	"completion fish": "what it prints is for the shell",
	"man":             "it prints nothing",
}

// testJSON demands --json of every command that does something, but for those that
// have a reason to be without, and a section of docs/json.md on what it prints.
func (p Program) testJSON(t *testing.T, own map[string]string) {
	without := maps.Clone(noJSON)
	maps.Copy(without, own)
	root := p(nil, io.Discard, io.Discard)
	walk(root, func(cmd *cobra.Command) {
		if !cmd.Runnable() || cmd.HasSubCommands() { // a topic, or a list of commands
			return
		}
		name := strings.TrimPrefix(cmd.CommandPath(), root.Name()+" ")
		reason, excepted := without[name]
		delete(without, name)
		switch has := cmd.Flags().Lookup("json") != nil; {
		case has && excepted:
			t.Errorf("%s has --json, and is among those that do not: %s", name, reason)
		case !has && reason == "":
			t.Errorf("%s has no --json, and no reason to be without", name)
		case has:
			jsonSection(t, cmd.CommandPath())
		}
	})
	for name := range without {
		t.Errorf("%s is no command, and is among those without --json", name)
	}
}

// testFlags demands that the letters -i and -o stand for the same in every command,
// and that the other programs' names of both are taken.
func (p Program) testFlags(t *testing.T) {
	found := 0
	walk(p(nil, io.Discard, io.Discard), func(cmd *cobra.Command) {
		for letter, names := range map[string][2]string{"i": {"in", "input"}, "o": {"out", "output"}} {
			f := cmd.Flags().ShorthandLookup(letter)
			if f == nil {
				continue
			}
			found++
			if f.Name != names[0] {
				t.Errorf("%s: -%s is --%s, and --%s elsewhere", cmd.CommandPath(), letter, f.Name, names[0])
			}
			if cmd.Flags().Lookup(names[1]) != f {
				t.Errorf("%s does not take --%s for --%s", cmd.CommandPath(), names[1], names[0])
			}
			if usage := cmd.UsageString(); strings.Contains(usage, "--"+names[1]) || !strings.Contains(usage, "--"+names[0]) {
				t.Errorf("%s: --%s alone is to be shown:\n%s", cmd.CommandPath(), names[0], usage)
			}
		}
	})
	if found == 0 {
		t.Error("no command has -o")
	}
}

// testTopics asks for what "help" knows and for what it does not.
func (p Program) testTopics(t *testing.T) {
	out, stderr, code := p.run(t, "help", "exit-codes")
	if code != cli.ExitOK || stderr != "" {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	for _, c := range cli.ExitCodes() {
		if !strings.Contains(out, c.Meaning) {
			t.Errorf("the topic does not say %q:\n%s", c.Meaning, out)
		}
	}
	root, _, _ := p.run(t, "--help")
	for _, want := range []string{"exit-codes", "output", "completion"} {
		if !strings.Contains(root, want) {
			t.Errorf("the help does not point to %s:\n%s", want, root)
		}
	}
	if out, _, code := p.run(t, "help", "nothing-of-that-name"); code != cli.ExitUsage || out != "" {
		t.Errorf("of an unknown topic: exit code %d, %q", code, out)
	}
}

// testCompletion has a script for each shell, has bash read its own, and completes
// a word as those scripts do.
func (p Program) testCompletion(t *testing.T) {
	name := p(nil, io.Discard, io.Discard).Name()
	for _, shell := range []string{"bash", "zsh", "fish"} {
		out, stderr, code := p.run(t, "completion", shell)
		if code != cli.ExitOK || stderr != "" || !strings.Contains(out, name) || !strings.Contains(out, "__complete") {
			t.Errorf("%s: exit code %d, %s, %d octets", shell, code, stderr, len(out))
		}
		program, err := exec.LookPath(shell)
		if err != nil {
			t.Logf("no %s to read its script", shell)
			continue
		}
		cmd := exec.Command(program, "-n")
		cmd.Stdin = strings.NewReader(out)
		if said, err := cmd.CombinedOutput(); err != nil || len(said) > 0 {
			t.Errorf("%s does not take its script: %v, %s", shell, err, said)
		}
	}
	if _, _, code := p.run(t, "completion", "tcsh"); code != cli.ExitUsage {
		t.Errorf("of an unknown shell: exit code %d", code)
	}
	for _, args := range [][]string{{"__complete", "compl"}, {"__complete", "help", "compl"}} {
		if out, _, code := p.run(t, args...); code != cli.ExitOK || !strings.HasPrefix(out, "completion\t") {
			t.Errorf("%q: exit code %d, %q", args, code, out)
		}
	}
}

// testMan writes the manual, and has a formatter read it.
func (p Program) testMan(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "man")
	if _, stderr, code := p.run(t, "man", dir); code != cli.ExitOK {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	pages, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	groff, err := exec.LookPath("groff")
	if err != nil {
		t.Log("no groff to read the pages")
	}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{".TH", `.SH "NAME"`, `.SH "DESCRIPTION"`, `.SH "SEE ALSO"`} {
			if !strings.Contains("\n"+string(text), "\n"+want) {
				t.Errorf("%s has no %s", page, want)
			}
		}
		if groff == "" {
			continue
		}
		cmd := exec.Command(groff, "-man", "-Tutf8", "-ww", page)
		cmd.Stdout = io.Discard
		var warnings bytes.Buffer
		cmd.Stderr = &warnings
		if err := cmd.Run(); err != nil || warnings.Len() > 0 {
			t.Errorf("%s: %v, %s", page, err, &warnings)
		}
	}
	commands := 0
	walk(p(nil, io.Discard, io.Discard), func(cmd *cobra.Command) {
		if !cmd.Hidden {
			commands++
		}
	})
	if len(pages) != commands {
		t.Errorf("%d pages of %d commands", len(pages), commands)
	}
}
