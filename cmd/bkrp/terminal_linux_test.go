package main

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/seed05845750/bkrp/internal/cli"
	"github.com/seed05845750/bkrp/internal/cli/clitest"
)

// style matches the escape sequences of colours and bold type.
var style = regexp.MustCompile(`\x1b\[[0-9]*m`)

// A report on a terminal has our own colours, the words for what they say, and
// nothing that a server says steers it. Findings go on below where they began.
func TestDoctorOnTerminal(t *testing.T) {
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	master, slave := clitest.OpenTerminal(t)
	stdout, _ := cli.Streams(slave, slave)
	if err := printReport(stdout, hostileReport(), false); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	b, _ := io.ReadAll(master) // its end is an error
	shown := strings.ReplaceAll(string(b), "\r\n", "\n")
	want := "\x1b[1mdc1?[2J?]0;title? ok (127.0.0.1:445), 0s\x1b[0m\n" +
		"  pipe   \x1b[33mwarning\x1b[0m  two lines and a tab ?[31m\n" +
		"  logon  \x1b[31mbroken\x1b[0m   x\ufffd31m\n\n" +
		"\x1b[1mbkrp.example\x1b[0m\n" +
		"  dns  \x1b[32mok\x1b[0m  1 server\n\n" +
		"\x1b[1mWhat to do:\x1b[0m\n" +
		"  \x1b[31mbroken\x1b[0m   dc1?[2J?]0;title? ok, logon: second, of dc1?[2J?]0;title? ok\n" +
		"  \x1b[33mwarning\x1b[0m  dc1?[2J?]0;title? ok, pipe: first\n"
	if shown != want {
		t.Errorf("shown is\n%q\nwant\n%q", shown, want)
	}
}

// A server that is named so that it steers the terminal does not, by whatever way
// its name comes back: as a heading, in findings, and in the error.
func TestDoctorHostileName(t *testing.T) {
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"doctor", "--server", "\x1b[31mdc1\x1b[2J.invalid", "-U", `BKRP\alice`}
	for env, colored := range map[string]bool{"TERM=xterm": true, "NO_COLOR=1": false, "TERM=dumb": false} {
		shown, code := clitest.Terminal{Width: 60, Env: []string{env, passwordFileEnv + "=" + password}}.Run(t, "bkrp", args...)
		if code != cli.ExitUsage || !strings.Contains(shown, `"\x1b[31mdc1\x1b[2J.invalid"`) {
			t.Errorf("%s: exit code %d, shown is %q", env, code, shown)
		}
		ours := style.FindAllString(shown, -1)
		if colored != slices.Contains(ours, "\x1b[31m") || !colored && len(ours) > 0 {
			t.Errorf("%s: styles %q", env, ours)
		}
		if rest := strings.ReplaceAll(style.ReplaceAllString(shown, ""), "\r\x1b[K", ""); strings.ContainsAny(rest, "\x1b\r\u009b") {
			t.Errorf("%s: escape sequences are left in %q", env, rest)
		}
		for _, line := range strings.Split(style.ReplaceAllString(shown, ""), "\n") {
			if strings.HasPrefix(line, "  ") && len([]rune(line)) > 60 && strings.Contains(strings.TrimSpace(line[50:]), " ") {
				t.Errorf("%s: %q could have been broken", env, line)
			}
		}
	}
}

// While a server is examined, a terminal shows that it is.
func TestDoctorProgress(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // it takes connections, and answers nothing
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var conns []net.Conn
	accepted := make(chan struct{})
	go func() {
		defer close(accepted)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns = append(conns, c)
		}
	}()
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	doing := "\r\x1b[Kexamining " + l.Addr().String() + ", "
	seen := false
	shown, code := clitest.Terminal{Width: 200, Env: []string{passwordFileEnv + "=" + password}, Seen: func(shown string) {
		if !seen && strings.Contains(shown, doing) {
			seen = true
			l.Close()
			<-accepted
			for _, c := range conns {
				c.Close()
			}
		}
	}}.Run(t, "bkrp", "doctor", "--server", l.Addr().String(), "-U", `BKRP\alice`, "--timeout", "1m")
	if code != exitBroken || !seen {
		t.Errorf("exit code %d, shown is %q", code, shown)
	}
	if end := strings.LastIndex(shown, "examining "); !strings.Contains(shown[end:], "s\r\x1b[K\x1b[1m127.0.0.1") {
		t.Errorf("progress is left, or no report follows: %q", shown[end:])
	}
}

// What a file is has headings that stand out.
func TestInspectOnTerminal(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, make([]byte, 64), 0o600); err != nil {
		t.Fatal(err)
	}
	if shown, code := (clitest.Terminal{}).Run(t, "bkrp", "inspect", key); code != 0 || !strings.HasPrefix(shown, "\x1b[1moctets without any structure\x1b[0m, 64 octets\n  length  64 octets") {
		t.Errorf("exit code %d, shown is %q", code, shown)
	}
	if shown, code := (clitest.Terminal{}).Run(t, "bkrp", "inspect", key+"\x1b[2J"); code != cli.ExitError || !strings.HasPrefix(shown, "\x1b[31mbkrp:\x1b[0m open ") || !strings.Contains(shown, "key?[2J: no such file") {
		t.Errorf("exit code %d, shown is %q", code, shown)
	}
}

// The tables of a measurement are aligned on a terminal, numbers to the right.
func TestBenchOnTerminal(t *testing.T) {
	args := append(benchArgs(t, startServer(t)), "--count", "20", "--mix", "wrap")
	shown, code := clitest.Terminal{Width: 100}.Run(t, "bkrp", args...)
	if i := strings.LastIndex(shown, "\r\x1b[K"); i >= 0 {
		shown = shown[i+len("\r\x1b[K"):] // behind progress, if it took long enough for that
	}
	if code != 0 || !strings.HasPrefix(shown, "\x1b[1mmachine\x1b[0m  ") || !strings.Contains(shown, "\n\x1b[1mload\x1b[0m     wrap=1, 4 connections") {
		t.Errorf("exit code %d, shown is %q", code, shown)
	}
	plain := style.ReplaceAllString(shown, "")
	if !regexp.MustCompile(`(?m)^microseconds  server +calls +p50 +p99 +p99.9 +max\nwrap          127.0.0.1:\d+ +20( +\d+){4}$`).MatchString(plain) || strings.Contains(plain, "\t") {
		t.Errorf("shown is\n%s", plain)
	}
}
