package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
)

// peerUID is the user id of the process at the other end of a Unix socket
// (SO_PEERCRED), -1 if the kernel does not tell.
func peerUID(c net.Conn) int {
	unix, ok := c.(*net.UnixConn)
	if !ok {
		return -1
	}
	raw, err := unix.SyscallConn()
	if err != nil {
		return -1
	}
	uid := -1
	err = raw.Control(func(fd uintptr) {
		if cred, err := syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED); err == nil {
			uid = int(cred.Uid)
		}
	})
	if err != nil {
		return -1
	}
	return uid
}

// checkListener refuses a socket at path that somebody else listens on than root,
// this user, or the owner of its directory: requests have passwords and keys in
// them, and in a directory like /tmp anybody takes the place of a daemon that
// does not run.
func checkListener(c net.Conn, path string) error {
	uid := peerUID(c)
	if uid == 0 || uid == os.Geteuid() {
		return nil
	}
	info, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return err
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok && uid == int(owner.Uid) {
		return nil
	}
	return fmt.Errorf("user %d listens on %s, who is not the owner of its directory: set control to a path in a directory of the daemon's own", uid, path)
}
