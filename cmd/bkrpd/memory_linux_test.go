package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// serveWithLock starts a daemon with memory.lock set, limited to little locked
// memory if asked to, and returns it when it listens. Where it ends before that
// the process is nil, and what it wrote is returned.
func serveWithLock(t *testing.T, lock string, limited bool) (*os.Process, string) {
	t.Helper()
	dir := t.TempDir()
	bkrpd := func(args ...string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), "bkrpd", args...)
		cmd.Env = append(os.Environ(), "BKRPD_MEMORY_LOCK="+lock)
		return cmd
	}
	if out, err := bkrpd("init", "--dir", dir, "--domain", "bkrp.example").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cmd := bkrpd("serve", "--config", filepath.Join(dir, "bkrpd.toml"), "--listen", "127.0.0.1:0")
	if limited {
		without := []string{"--bounding-set=-ipc_lock", "--inh-caps=-ipc_lock", "prlimit", "--memlock=65536:65536"}
		args := append(without, cmd.Args...)
		environment := cmd.Env
		cmd = exec.CommandContext(t.Context(), "setpriv", args...)
		cmd.Env = environment
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	if !lines.Scan() {
		_ = cmd.Wait()
		return nil, stderr.String()
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	return cmd.Process, lines.Text()
}

// lockedKiB is how much of a process's memory is locked, and whether a core
// image could be written of it.
func lockedKiB(t *testing.T, p *os.Process) (locked int, core bool) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Pid))
	if err != nil {
		t.Fatal(err)
	}
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", p.Pid))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`VmLck:\s+(\d+) kB`).FindSubmatch(status)
	if found == nil {
		t.Fatalf("no VmLck in %s", status)
	}
	if _, err := fmt.Sscan(string(found[1]), &locked); err != nil {
		t.Fatal(err)
	}
	return locked, !regexp.MustCompile(`Max core file size\s+0\s+0\s`).Match(limits)
}

func TestMemoryIsGuarded(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("locking memory without a limit takes root")
	}
	p, _ := serveWithLock(t, "require", false)
	if p == nil {
		t.Fatal("the daemon does not start with memory.lock = require")
	}
	if locked, core := lockedKiB(t, p); locked < 1024 || core {
		t.Errorf("%d KiB are locked, core images: %v", locked, core)
	}
	p, _ = serveWithLock(t, "off", false)
	if p == nil {
		t.Fatal("the daemon does not start with memory.lock = off")
	}
	if locked, core := lockedKiB(t, p); locked != 0 || core {
		t.Errorf("with off %d KiB are locked, core images: %v", locked, core)
	}

	if p, text := serveWithLock(t, "require", true); p != nil || !strings.Contains(text, "LimitMEMLOCK=infinity") {
		t.Errorf("under a limit, with require, the daemon says %q", text)
	}
	p, text := serveWithLock(t, "auto", true)
	if p == nil {
		t.Fatalf("under a limit, with auto, the daemon does not start: %s", text)
	}
	if locked, core := lockedKiB(t, p); locked != 0 || core {
		t.Errorf("under a limit %d KiB are locked, core images: %v", locked, core)
	}
}

// Every command may come to have keys in its memory, of which no core image is
// written, whatever limit it was started with.
func TestCommandsLeaveNoCore(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "bkrpd", "init", "--dir", dir, "--domain", "bkrp.example").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	in, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	defer write.Close()
	// It begins its work when the password comes, and not before.
	script := `ulimit -S -c "$(ulimit -H -c)"; exec bkrpd user add alice --config "$1"`
	cmd := exec.CommandContext(t.Context(), "sh", "-c", script, "sh", filepath.Join(dir, "bkrpd.toml"))
	cmd.Stdin = in
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Error("core images can be written of bkrpd user add")
			break
		}
		name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", cmd.Process.Pid))
		if string(name) == "bkrpd\n" {
			if _, core := lockedKiB(t, cmd.Process); !core {
				break
			}
		}
	}
	write.Close()
	if err := cmd.Wait(); err != nil {
		// user add has no password, and says so.
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 1 {
			t.Error(err)
		}
	}
}
