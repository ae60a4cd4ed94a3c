package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/term"
)

const promptEnv = "CLI_TEST_PROMPT"

func TestMain(m *testing.M) {
	if os.Getenv(promptEnv) != "" {
		p, err := ReadPassword(os.Stdout, os.Stdin, "Password: ")
		fmt.Printf("%d %v\n", len(p), err)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// Whoever gives up at the prompt finds the terminal showing again what is
// typed, and the shell sees by which signal the program ended. One that was
// started with the signal ignored ends all the same.
func TestReadPasswordInterrupted(t *testing.T) {
	defer signal.Reset(os.Interrupt)
	t.Run("by default", func(t *testing.T) {
		signal.Notify(make(chan os.Signal, 1), os.Interrupt) // or a child ignores what this process was started to
		interrupt(t, func(s syscall.WaitStatus) bool { return s.Signal() == syscall.SIGINT })
	})
	t.Run("ignored", func(t *testing.T) {
		signal.Ignore(os.Interrupt)
		interrupt(t, func(s syscall.WaitStatus) bool { return s.ExitStatus() == ExitError })
	})
}

// interrupt types Ctrl-C at the prompt of a process, which ends as wanted.
func interrupt(t *testing.T, wanted func(syscall.WaitStatus) bool) {
	master, slave := openTerminal(t)
	before, err := term.GetState(int(slave.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), promptEnv+"=1")
	cmd.Stdin = slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	prompt := make([]byte, len("Password: "))
	if _, err := io.ReadFull(out, prompt); err != nil {
		t.Fatal(err)
	}
	for { // the prompt comes just before the terminal stops showing
		now, err := term.GetState(int(slave.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		if *now != *before {
			break
		}
	}
	if _, err := master.Write([]byte{3}); err != nil { // Ctrl-C
		t.Fatal(err)
	}
	rest, _ := io.ReadAll(out)
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || !wanted(exit.Sys().(syscall.WaitStatus)) {
		t.Errorf("ended with %v; it printed %q", err, rest)
	}
	if strings.TrimSpace(string(rest)) != "" {
		t.Errorf("printed %q after the interrupt", rest)
	}
	after, err := term.GetState(int(slave.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	if *after != *before {
		t.Error("the terminal is not as it was")
	}
}

// openTerminal makes a pseudo-terminal.
func openTerminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	var number, unlocked int32
	for request, arg := range map[uintptr]*int32{syscall.TIOCSPTLCK: &unlocked, syscall.TIOCGPTN: &number} {
		if _, _, e := syscall.Syscall(syscall.SYS_IOCTL, master.Fd(), request, uintptr(unsafe.Pointer(arg))); e != 0 {
			t.Skipf("no pseudo-terminals: %v", e)
		}
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals: %v", err)
	}
	t.Cleanup(func() { slave.Close() })
	return master, slave
}
