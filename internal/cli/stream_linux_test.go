package cli

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/spf13/cobra"
)

// setWidth sets how many cells a line of the terminal has.
func setWidth(t *testing.T, terminal *os.File, width uint16) {
	t.Helper()
	size := [4]uint16{24, width}
	if _, _, e := syscall.Syscall(syscall.SYS_IOCTL, terminal.Fd(), syscall.TIOCSWINSZ, uintptr(unsafe.Pointer(&size))); e != 0 {
		t.Fatal(e)
	}
}

// reader reads what a terminal shows.
type reader struct {
	t      *testing.T
	master *os.File
	raw    string
	shown  string // raw, with lines ended as in files
}

// until reads until the terminal has shown want.
func (r *reader) until(want string) {
	r.t.Helper()
	for !strings.Contains(r.shown, want) {
		var b [256]byte
		n, err := r.master.Read(b[:])
		if err != nil {
			r.t.Fatalf("%v after %q, without %q", err, r.shown, want)
		}
		r.raw += string(b[:n])
		r.shown = strings.ReplaceAll(r.raw, "\r\n", "\n")
	}
}

// court is a program that prints an error and a table.
func court(stdout, stderr *os.File) *cobra.Command {
	root := &cobra.Command{Use: "court", Long: "Court is a program.", Args: cobra.NoArgs}
	out, errs := Streams(stdout, stderr)
	root.SetOut(out)
	root.SetErr(errs)
	root.RunE = func(*cobra.Command, []string) error {
		table := NewTable("CASE")
		table.Row(Red.Cell("guilty"))
		table.Print(out)
		Warnf(errs, "judge %s", "away\x1b[2J")
		return errors.New("no\njury \x1b[31m")
	}
	Prepare(root, "6")
	return root
}

// TestColor: colours are on terminals that have them, if their user does, and
// elsewhere only where they are asked for. The words are always there.
func TestColor(t *testing.T) {
	const (
		colored = "\x1b[1mCASE\x1b[0m\n\x1b[31mguilty\x1b[0m\n\x1b[33mwarning:\x1b[0m judge away?[2J\n\x1b[31mcourt:\x1b[0m no\njury ?[31m\n"
		plain   = "CASE\nguilty\nwarning: judge away?[2J\ncourt: no\njury ?[31m\n"
	)
	for name, test := range map[string]struct {
		term, noColor string
		args          []string
		terminal      string // what it shows
		file          string // what is in one
	}{
		"terminal":            {"xterm", "", nil, colored, plain},
		"NO_COLOR":            {"xterm", "0", nil, plain, plain},
		"dumb":                {"dumb", "", nil, plain, plain},
		"no TERM":             {"", "", nil, plain, plain},
		"never":               {"xterm", "", []string{"--color", "never"}, plain, plain},
		"always":              {"xterm", "", []string{"--color", "always"}, colored, colored},
		"always and NO_COLOR": {"dumb", "1", []string{"--color=always"}, colored, colored},
		"auto":                {"xterm", "", []string{"--color", "auto"}, colored, plain},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("TERM", test.term)
			t.Setenv("NO_COLOR", test.noColor)
			master, slave := openTerminal(t)
			if code := Run(t.Context(), court(slave, slave), test.args, Failures{}); code != ExitError {
				t.Errorf("exit code %d", code)
			}
			r := reader{t: t, master: master}
			if r.until("jury ?[31m\n"); r.shown != test.terminal {
				t.Errorf("the terminal shows %q, want %q", r.shown, test.terminal)
			}
			file, err := os.Create(filepath.Join(t.TempDir(), "file"))
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			if code := Run(t.Context(), court(file, file), test.args, Failures{}); code != ExitError {
				t.Errorf("exit code %d", code)
			}
			if b, err := os.ReadFile(file.Name()); err != nil || string(b) != test.file {
				t.Errorf("%v, in the file is %q, want %q", err, b, test.file)
			}
		})
	}
}

// Each stream is looked at by itself.
func TestColorOfEach(t *testing.T) {
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	master, slave := openTerminal(t)
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	Run(t.Context(), court(out, slave), nil, Failures{})
	r := reader{t: t, master: master}
	if r.until("jury ?[31m\n"); !strings.HasPrefix(r.shown, "\x1b[33mwarning:\x1b[0m ") {
		t.Errorf("the terminal shows %q", r.shown)
	}
	if b, err := os.ReadFile(out.Name()); err != nil || string(b) != "CASE\nguilty\n" {
		t.Errorf("%v, %q", err, b)
	}
}

func TestColorRefused(t *testing.T) {
	var stderr bytes.Buffer
	root := judge()
	root.SetErr(&stderr)
	if code := Run(t.Context(), root, []string{"judge", "--color", "sometimes"}, Failures{}); code != ExitUsage || !strings.Contains(stderr.String(), "must be auto, always or never") {
		t.Errorf("exit code %d: %s", code, &stderr)
	}
}

// A table has the width of the terminal.
func TestTableOnTerminal(t *testing.T) {
	t.Setenv("TERM", "dumb")
	master, slave := openTerminal(t)
	setWidth(t, slave, 45)
	out, _ := Streams(slave, slave)
	if err := findings().Print(out); err != nil {
		t.Fatal(err)
	}
	r := reader{t: t, master: master}
	r.until("note\n")
	if want := layout(findings(), 45, false); r.shown != want || !strings.Contains(want, "\n               all, and") {
		t.Errorf("the terminal shows\n%s\nwant\n%s", r.shown, want)
	}
}

// Progress stands in one line, which is cut where the terminal ends, is gone while
// something else is printed, and in the end.
func TestProgress(t *testing.T) {
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "1") // is about colours
	master, slave := openTerminal(t)
	setWidth(t, slave, 12)
	out, errs := Streams(slave, slave)
	stop := ShowProgress(errs, func(time.Duration) string { return "counting\x1b[31m sheep" })
	ShowProgress(errs, Doing("never seen"))() // one at a time
	r := reader{t: t, master: master}
	const line = "\r\x1b[Kcounting?[3"
	r.until(line)
	if _, err := out.Write([]byte("a lamb\n")); err != nil {
		t.Fatal(err)
	}
	r.until("a lamb\n" + line)
	stop()
	stop() // once is enough
	out.Write([]byte("asleep\n"))
	r.until("asleep\n")
	shown := strings.ReplaceAll(r.shown, line, "<")
	for strings.Contains(shown, "<<") {
		shown = strings.ReplaceAll(shown, "<<", "<")
	}
	if want := "<\r\x1b[Ka lamb\n<\r\x1b[Kasleep\n"; shown != want {
		t.Errorf("shown was %q, want %q", shown, want)
	}
	ShowProgress(errs, Doing("again"))()
}

// What somebody has begun to print is not erased by progress.
func TestProgressBehindPrompt(t *testing.T) {
	t.Setenv("TERM", "xterm")
	master, slave := openTerminal(t)
	_, errs := Streams(slave, slave)
	asked := make(chan struct{})
	defer ShowProgress(errs, func(time.Duration) string {
		select {
		case asked <- struct{}{}:
		default:
		}
		return "counting"
	})()
	errs.Write([]byte("Password: "))
	for range 2 { // the second time the first line is decided on
		<-asked
	}
	errs.Write([]byte("\n"))
	r := reader{t: t, master: master}
	r.until("counting")
	if !strings.HasPrefix(r.shown, "Password: \n\r\x1b[Kcounting") {
		t.Errorf("shown was %q", r.shown)
	}
}

// A terminal that cannot erase a line has it once; what is no terminal has none.
func TestProgressElsewhere(t *testing.T) {
	t.Setenv("TERM", "dumb")
	master, slave := openTerminal(t)
	_, errs := Streams(slave, slave)
	asked := make(chan struct{})
	stop := ShowProgress(errs, func(time.Duration) string {
		asked <- struct{}{}
		return "counting"
	})
	for range 3 {
		<-asked
	}
	go func() { // for what is asked for until then
		for range asked {
		}
	}()
	stop()
	close(asked)
	errs.Write([]byte("done\n"))
	r := reader{t: t, master: master}
	if r.until("done\n"); r.shown != "counting\ndone\n" {
		t.Errorf("shown was %q", r.shown)
	}

	var b bytes.Buffer
	out, errs := Streams(&b, &b)
	for _, w := range []*Stream{out, errs} {
		ShowProgress(w, func(time.Duration) string { panic("asked how far it is") })()
	}
	if b.Len() > 0 {
		t.Errorf("%q", &b)
	}
}
