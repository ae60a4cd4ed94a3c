package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/seed05845750/bkrp/internal/cli"
	"github.com/seed05845750/bkrp/internal/cli/clitest"
)

// someCalls is a line of progress after the first call, which may take a while.
var someCalls = regexp.MustCompile(`: [1-9][0-9]* calls`)

// On a terminal the run shows how far it is, and Ctrl-C ends it with what it has
// measured.
func TestBenchTerminal(t *testing.T) {
	master, slave := clitest.OpenTerminal(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	args := append(benchArgs(t, startServer(t)), "--duration", "1h", "--json")
	var out bytes.Buffer
	cmd := &exec.Cmd{
		Path: self, Args: append([]string{"bkrp"}, args...), // the name has TestMain run the command
		Stdin: slave, Stdout: &out, Stderr: slave,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true, Setctty: true},
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	var shown []byte
	for interrupted := false; ; {
		var b [256]byte
		n, err := master.Read(b[:])
		if err != nil {
			break // nobody has the terminal open any more
		}
		shown = append(shown, b[:n]...)
		if !interrupted && someCalls.Match(shown) {
			if _, err := master.Write([]byte{3}); err != nil { // Ctrl-C
				t.Fatal(err)
			}
			interrupted = true
		}
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != cli.ExitError {
		t.Errorf("ended with %v, want exit code %d", err, cli.ExitError)
	}
	if !strings.Contains(string(shown), "of 1h0m0s") || !strings.Contains(string(shown), "bench: interrupted") {
		t.Errorf("shown on the terminal: %q", shown)
	}
	var report benchReport
	if err := json.Unmarshal(out.Bytes(), &report); err != nil || !report.Interrupted || report.Servers[0].Calls == 0 || report.Servers[0].Failed != 0 {
		t.Errorf("%v, %q", err, &out)
	}
}
