package main

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// listenAs listens at path as another user, and returns when it does.
func listenAs(t *testing.T, uid int, path string) {
	t.Helper()
	type outcome struct {
		l   net.Listener
		err error
	}
	done := make(chan outcome)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with its user id
		var o outcome
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, ^uintptr(0), uintptr(uid), ^uintptr(0)); errno != 0 {
			o.err = errno
		} else {
			o.l, o.err = net.Listen("unix", path)
		}
		done <- o
	}()
	o := <-done
	if o.err != nil {
		t.Fatal(o.err)
	}
	t.Cleanup(func() { o.l.Close() })
}

// Who takes the place of a daemon that does not run is told nothing, where more
// than the daemon's user may write to the directory.
func TestAskDaemonOfStranger(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("listening as another user takes root")
	}
	const stranger = 65534
	dir, err := os.MkdirTemp("/tmp", "bkrpd") // a short path, which others may enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	listenAs(t, stranger, path)
	req := &adminRequest{Verb: verbUserAdd, Name: "alice", Password: []byte("Correct.Horse.1")}
	_, err = askDaemon(t.Context(), path, req)
	if err == nil || errors.Is(err, errNoDaemon) || !strings.Contains(err.Error(), "user 65534 listens on "+path) {
		t.Errorf("a stranger's socket: %v", err)
	}

	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := os.Chown(dir, stranger, -1); err != nil {
		t.Fatal(err)
	}
	if err := checkListener(conn, path); err != nil {
		t.Errorf("the socket of the directory's owner: %v", err)
	}
}
