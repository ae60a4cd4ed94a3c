package clitest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// OpenTerminal makes a pseudo-terminal, or skips the test where there are none. Reads
// from master end when nobody has slave open any more.
func OpenTerminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	// With Fd reads would not end when it is closed.
	raw, err := master.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var number int
	var failed error
	if err := raw.Control(func(fd uintptr) {
		failed = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0)
		if failed == nil {
			number, failed = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	}); err != nil || failed != nil {
		t.Skipf("no pseudo-terminals: %v, %v", err, failed)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals: %v", err)
	}
	t.Cleanup(func() { slave.Close() })
	return master, slave
}

// Terminal is a command line that is carried out on a terminal.
type Terminal struct {
	// Width is that of the terminal in cells.
	Width uint16
	// Env is set for the program, beside TERM=xterm. NO_COLOR is not, unless here.
	Env []string
	// Seen is called with all that was shown so far, whenever there is more; nil
	// is nobody.
	Seen func(shown string)
}

// Run has the program of this test, whose name has TestMain run a command, carry out
// a command line, with a terminal for all its streams. It gives what was shown, with
// lines ended as in files, and the exit code.
func (term Terminal) Run(t *testing.T, name string, args ...string) (shown string, code int) {
	t.Helper()
	master, slave := OpenTerminal(t)
	if err := unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: term.Width}); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := &exec.Cmd{
		Path: self, Args: append([]string{name}, args...), Stdin: slave, Stdout: slave, Stderr: slave,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true, Setctty: true},
	}
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "NO_COLOR=") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	cmd.Env = append(append(cmd.Env, "TERM=xterm"), term.Env...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	var b [1024]byte
	raw := ""
	for {
		n, err := master.Read(b[:])
		raw += string(b[:n])
		shown = strings.ReplaceAll(raw, "\r\n", "\n")
		if err != nil {
			break // nobody has the terminal open any more
		}
		if term.Seen != nil {
			term.Seen(shown)
		}
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return shown, cmd.ProcessState.ExitCode()
}
