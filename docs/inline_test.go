package docs_test

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/seed05845750/bkrp/bkrptest"
	"github.com/seed05845750/bkrp/internal/doctest"
)

// typed are programs whose name, at the beginning of a piece of code in prose, makes
// a command of it.
var typed = []string{
	"bkrp", "bkrpd", "CGO_ENABLED=1", "go", "git", "script/test", "./script/test", "script/install-peers", "export", "rm", "sh", "sudo", "systemctl", "apt-get",
	"age", "age-keygen", "cryptsetup", "kinit", "net", "samba-tool", "smbtorture", "softhsm2-util", "testparm",
}

// inlineCommands are the commands in prose that are more than the name of a verb of
// ours or of an option of it: run by the test, or the reason why not.
var inlineCommands = map[string]string{
	"export PATH":          "the line in the README's block, which TestReadme runs",
	"bkrp --help":          "run",
	"bkrpd --help":         "run",
	"bkrp completion bash": "run",
	"bkrp man DIR":         "run",
	"bkrpd man DIR":        "run",
	"script/test --help":   "run",
	`bkrp doctor --server $SERVER -U "$OWNER"`: "run",
	"./script/test":                  "it runs this test",
	"./script/test --quick":          "the same without peers",
	"systemctl restart samba-ad-dc":  "the tests' domain controller is no service of systemd; TestSambaDocument of interop restarts it",
	"go test":                        "the name of the command",
	"go test ./...":                  "script/test does it",
	"script/test --fuzz":             "it takes hours; each fuzz target has seeds that the usual tests run",
	"bkrp help output":               "run",
	"bkrpd help output":              "run",
	"go test -bench Used ./keystore": "go test",
	"CGO_ENABLED=1 go test -tags pkcs11 -bench Raw ./keystore/hsm": "go test",
	"go test -bench . ./bkrpserver":                                "go test",
	"go test ./interop -run 'TestSpeed$' -speed 5s":                "go test",
	"go test ./interop -run 'TestBench$' -v -load 10s":             "go test",
	"go test -run TestTiming -timing.pairs=100000 .":               "go test",
	"age-keygen -o me.key":                                         "a program of age's; TestBackup makes the same key by its library",
	"cryptsetup open --key-file=-":                                 "it opens a disk; TestClient looks at what standard output gets",
	"samba-tool user setpassword":                                  "TestSambaDocument of interop runs it with its arguments",
	"smbtorture rpc.backupkey":                                     "the name of the suite, which interop runs",
}

// TestInlineCommands: commands in the prose of a document are there, and so are the
// options that it speaks of.
func TestInlineCommands(t *testing.T) {
	manual := readManual(t)
	used := make(map[string]bool)
	for _, name := range documents(t) {
		for _, span := range doctest.Read(t, filepath.Join("..", name)).Spans() {
			words := strings.Fields(span.Text)
			if len(words) == 0 {
				continue
			}
			if strings.HasPrefix(words[0], "--") {
				if flag, _, _ := strings.Cut(words[0], "="); !manual.flags[flag] {
					t.Errorf("%s, line %d: %s is no option of any command", name, span.Line, flag)
				}
				continue
			}
			if _, ok := inlineCommands[span.Text]; ok {
				used[span.Text] = true
				continue
			}
			if len(words) < 2 || !slices.Contains(typed, words[0]) {
				continue
			}
			if words[0] != "bkrp" && words[0] != "bkrpd" {
				t.Errorf("%s, line %d: no test runs `%s`", name, span.Line, span.Text)
			} else if problem := manual.lacks(words); problem != "" {
				t.Errorf("%s, line %d: `%s`: %s", name, span.Line, span.Text, problem)
			}
		}
	}
	for command := range inlineCommands {
		if !used[command] {
			t.Errorf("no document speaks of `%s`", command)
		}
	}
	runInline(t)
}

// runInline runs those that are to be run, and looks for the tests, benchmarks and
// flags of those that begin with go test.
func runInline(t *testing.T) {
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	d := bkrptest.NewDomain(t)
	alice := d.User("alice")
	sh, dir := newShell(t, "SERVER="+d.Addr(), `OWNER=`+d.NetBIOSName+`\`+alice.Name, "BKRP_PASSWORD_FILE=password", "DIR=man")
	write(t, filepath.Join(dir, "password"), string(alice.Password)+"\n")
	for command, how := range inlineCommands {
		switch how {
		case "run":
			text := strings.Replace(command, "script/test", filepath.Join(root, "script/test"), 1)
			if out := sh.Must(strings.Replace(text, " DIR", " $DIR", 1), ""); out == "" && !strings.Contains(command, " man ") {
				t.Errorf("%s prints nothing", command)
			}
		case "go test":
			_, args, _ := strings.Cut(command, "go test ")
			goTestIsThere(t, strings.Fields(args))
		}
	}
}

// goTestIsThere demands that a package has what the arguments of go test name.
func goTestIsThere(t *testing.T, args []string) {
	t.Helper()
	i := slices.IndexFunc(args, func(arg string) bool { return strings.HasPrefix(arg, ".") && arg != "." })
	dir := ".."
	if i >= 0 {
		dir = filepath.Join("..", args[i])
	}
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	var code bytes.Buffer
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		code.Write(text)
	}
	has := func(expression string) {
		t.Helper()
		if !regexp.MustCompile(expression).Match(code.Bytes()) {
			t.Errorf("go test %q: %s has nothing as %s", args, dir, expression)
		}
	}
	for i, arg := range args {
		flag, _, _ := strings.Cut(arg, "=")
		switch flag {
		case "-v", "-tags":
		case "-run":
			has(`(?m)^func ` + strings.TrimSuffix(strings.Trim(args[i+1], "'"), "$") + `[(A-Z]`)
		case "-bench":
			has(`(?m)^func Benchmark.*` + args[i+1])
		default:
			if name, ok := strings.CutPrefix(flag, "-"); ok {
				has(`flag\.\w+\("` + regexp.QuoteMeta(name) + `"`)
			}
		}
	}
}

// manual is what the manual pages of both commands have.
type manual struct {
	pages map[string]string // by the command, such as "bkrpd keys list"
	flags map[string]bool
}

func readManual(t *testing.T) manual {
	t.Helper()
	sh, dir := newShell(t)
	m := manual{pages: make(map[string]string), flags: make(map[string]bool)}
	for _, program := range []string{"bkrp", "bkrpd"} {
		sh.Must(program+" man man", "")
	}
	files, err := filepath.Glob(filepath.Join(dir, "man", "*.[18]"))
	if err != nil || len(files) < 30 {
		t.Fatalf("%d pages, %v", len(files), err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		page := strings.ReplaceAll(string(text), `\-`, "-")
		m.pages[strings.ReplaceAll(strings.TrimSuffix(filepath.Base(name), filepath.Ext(name)), "-", " ")] = page
		for _, flag := range regexp.MustCompile(`--[a-z][a-z0-9-]*`).FindAllString(page, -1) {
			m.flags[flag] = true
		}
	}
	return m
}

// lacks says what of a command line there is not, or "". A flag without a verb is
// one that some command has.
func (m manual) lacks(words []string) string {
	verb, flags := words[:1], words[1:]
	for len(flags) > 0 && regexp.MustCompile(`^[a-z]+$`).MatchString(flags[0]) {
		verb, flags = append(verb, flags[0]), flags[1:]
	}
	page, ok := m.pages[strings.Join(verb, " ")]
	if !ok {
		return "there is no such command"
	}
	for _, flag := range flags {
		if !strings.HasPrefix(flag, "--") {
			continue
		}
		if len(verb) == 1 && !m.flags[flag] || len(verb) > 1 && !strings.Contains(page, flag) {
			return "it has no option " + flag
		}
	}
	return ""
}
