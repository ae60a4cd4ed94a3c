package npa

import (
	"fmt"
	"net"
	"os"
	"syscall"
)

// peerUID is the user that the peer of a Unix socket ran as when it connected.
func peerUID(conn *net.UnixConn) (uid uint32, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("npa: asking who the peer is: %w", err)
	}
	var cred *syscall.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); err != nil {
		return 0, fmt.Errorf("npa: asking who the peer is: %w", err)
	}
	if credErr != nil {
		return 0, fmt.Errorf("npa: asking who the peer is: %w", credErr)
	}
	return cred.Uid, nil
}

// claimDirectory opens the directory of the sockets and holds it against other
// programs like this one until the file is closed. Samba does not look at the
// lock; two of us would take the pipes from each other for ever.
func claimDirectory(name string, uid uint32) (*os.File, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("npa: opening Samba's directory of pipes (start Samba once, it makes it): %w", err)
	}
	info, err := f.Stat()
	if err == nil {
		err = checkDirectory(name, info, uid)
	}
	if err == nil {
		if err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == syscall.EWOULDBLOCK {
			err = fmt.Errorf("npa: another server of this kind has the pipes in %s", name)
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// checkDirectory refuses a directory where others could put a socket of their
// own in the place of ours.
func checkDirectory(name string, info os.FileInfo, uid uint32) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.IsDir() || !ok:
		return fmt.Errorf("npa: %s is no directory", name)
	case st.Uid != uid:
		return fmt.Errorf("npa: %s belongs to user %d, not to %d: it is not Samba's", name, st.Uid, uid)
	case info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("npa: others may use %s (mode %v): chmod 700 it, as Samba has it", name, info.Mode().Perm())
	}
	return nil
}
