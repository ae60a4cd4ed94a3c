package main

import (
	"net"
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
