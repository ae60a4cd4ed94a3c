package doctest

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

const sample = `# A title

Prose with ` + "`some code`" + ` and ` + "`code over\ntwo lines`" + `.

## Commands

    one 'and
      more'
    two |
      three

    four \
      five
Not code:
    since it goes on with the line before.

1. In a list:

       six

   ` + "```toml" + `
   key = "value"

   [table]
   ` + "```" + `

## Go

` + "```go" + `
func six() {
	return
}
` + "```" + `
`

// watched is a test that a test looks at.
type watched struct {
	testing.TB
	failures []string
	cleanups []func()
	skipped  bool
}

func (w *watched) Helper()          {}
func (w *watched) Skipped() bool    { return w.skipped }
func (w *watched) Cleanup(f func()) { w.cleanups = append(w.cleanups, f) }
func (w *watched) Errorf(format string, args ...any) {
	w.failures = append(w.failures, fmt.Sprintf(format, args...))
}

func (w *watched) Fatalf(format string, args ...any) {
	w.Errorf(format, args...)
	panic(w)
}

// watch runs f as a test would be run, and gives what it failed with.
func watch(t *testing.T, f func(w *watched)) []string {
	t.Helper()
	w := &watched{TB: t}
	func() {
		defer func() {
			if r := recover(); r != nil && r != any(w) {
				panic(r)
			}
		}()
		f(w)
	}()
	for i := len(w.cleanups) - 1; i >= 0; i-- {
		w.cleanups[i]()
	}
	return w.failures
}

func wantFailure(t *testing.T, failures []string, part string) {
	t.Helper()
	if len(failures) != 1 || !strings.Contains(failures[0], part) {
		t.Errorf("failures %q, want one with %q", failures, part)
	}
}

func writeSample(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "sample.md")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestRead(t *testing.T) {
	d := Read(t, writeSample(t, sample))
	want := []Block{
		{8, "Commands", "", "one 'and\n  more'\ntwo |\n  three\n\nfour \\\n  five\n", false},
		{20, "Commands", "", "six\n", false},
		{23, "Commands", "toml", "key = \"value\"\n\n[table]\n", false},
		{31, "Go", "go", "func six() {\n\treturn\n}\n", false},
	}
	var got []Block
	for _, b := range d.Blocks {
		got = append(got, *b)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("blocks %+v, want\n%+v", got, want)
	}
	spans := []Span{{3, "some code"}, {3, "code over two lines"}}
	if got := d.Spans(); !reflect.DeepEqual(got, spans) {
		t.Errorf("spans %+v, want %+v", got, spans)
	}
	commands := []Command{{8, "one 'and"}, {9, "  more'"}, {10, "two |\n  three"}, {13, "four \\\n  five"}}
	if got := d.Blocks[0].commands(); !reflect.DeepEqual(got, commands) {
		t.Errorf("commands %+v, want %+v", got, commands)
	}
	if _, err := parse("```sh\nls\n"); err == nil {
		t.Error("a block without an end is read")
	}
}

// What a test does not account for is an error, and so is what it expects and is not
// there.
func TestAccount(t *testing.T) {
	name := writeSample(t, "# A\n\n    true\n\n# B\n\n    false\n")
	for want, use := range map[string]func(d *Document){
		`line 7, under "B": the block that begins "false": no test runs it`: func(d *Document) { d.Take("true") },
		`no block begins "neither"`:                                         func(d *Document) { d.Exempt("", "all"); d.Take("neither") },
		`two blocks begin ""`:                                               func(d *Document) { defer d.Exempt("", "all"); d.Take("") },
		`the reason is ""`:                                                  func(d *Document) { d.Exempt("", "") },
		`0 blocks begin "neither"`:                                          func(d *Document) { defer d.Exempt("", "all"); d.Exempt("neither", "why") },
		`there is no command "neither"`:                                     func(d *Document) { d.Exempt("", "all"); d.Follow(Script{Steps: map[string]Step{"neither": {}}}) },
		`no command has "neither"`:                                          func(d *Document) { d.Exempt("", "all"); d.Follow(Script{Replace: []string{"neither", ""}}) },
		`it is not what runs in doctest`:                                    func(d *Document) { d.Exempt("", "all"); d.Blocks[0].Language = "go"; d.Go("doctest_test.go") },
	} {
		wantFailure(t, watch(t, func(w *watched) { use(Open(w, name)) }), want)
	}
	if failures := watch(t, func(w *watched) { Open(w, name); w.skipped = true }); failures != nil {
		t.Errorf("a test that was skipped fails with %q", failures)
	}
}

func TestFollow(t *testing.T) {
	text := `
    DIR=/there/sub
    umask 077; cat > $DIR/made   # from standard input
    cd $DIR
    cat made |
      tr a-z A-Z
    not run
    serve it
    exit_code() { return $1; }; exit_code 3
`
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	sh := NewShell(t, dir, []string{"PATH=" + os.Getenv("PATH")})
	var order []string
	Open(t, writeSample(t, text)).Follow(Script{Shell: sh, Replace: []string{"/there", dir}, Steps: map[string]Step{
		"umask 077; …": {Stdin: "what came in"},
		"cat made |\n  tr a-z A-Z": {
			Before: func() { order = append(order, "before") },
			After:  func(r Result) { order = append(order, r.Stdout) },
		},
		"not run":      {Exempt: "it cannot be"},
		"serve it":     {Instead: func(command string) { order = append(order, command) }},
		"exit_code()…": {Code: 3},
	}})
	if want := []string{"before", "WHAT CAME IN", "serve it"}; !reflect.DeepEqual(order, want) {
		t.Errorf("%q, want %q", order, want)
	}
	if info, err := os.Stat(filepath.Join(dir, "sub", "made")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

func TestFollowFails(t *testing.T) {
	for text, want := range map[string]string{
		"    echo no >&2; false\n": "line 1: echo no >&2; false\nexit code 1, want 0\nno",
		"    false | true\n":       "exit code 1",
		"    echo $UNSET\n":        "UNSET: unbound variable",
		"    exit 0\n":             "the shell ended",
		"    true\n    true\n":     "for one command only",
	} {
		name := writeSample(t, text)
		wantFailure(t, watch(t, func(w *watched) {
			sh := NewShell(w, t.TempDir(), []string{"PATH=" + os.Getenv("PATH")})
			steps := map[string]Step{}
			if strings.Contains(want, "only") {
				steps["true"] = Step{}
			}
			Open(w, name).Follow(Script{Shell: sh, Steps: steps})
		}), want)
	}
}

func TestServe(t *testing.T) {
	sh := NewShell(t, t.TempDir(), []string{"PATH=" + os.Getenv("PATH")})
	sh.Must("export WHAT='to everybody'; mkdir there && cd there", "")
	const serve = `bash -c 'trap "echo bye >&2; exit 0" INT; echo "$WHAT in ${PWD##*/}"; while true; do sleep 0.05; done'`
	s := sh.Serve(serve)
	if s.Said != "to everybody in there" || s.PID() <= 0 {
		t.Errorf("it says %q", s.Said)
	}
	s.Stop()
	if s.Log() != "bye\n" {
		t.Errorf("it logs %q", s.Log())
	}
	wantFailure(t, watch(t, func(w *watched) {
		sh := NewShell(w, t.TempDir(), []string{"PATH=" + os.Getenv("PATH")})
		sh.Serve(`bash -c 'echo why >&2'`)
	}), "ended without a word: why")
}
