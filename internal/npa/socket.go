package npa

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

// socket is the path of one pipe, and our listener on it while we have it.
type socket struct {
	pipe, path string

	mu       sync.Mutex
	listener *net.UnixListener
	// file is the listener's file. Its inode stays ours as long as the listener
	// is open, whatever becomes of the path.
	file os.FileInfo

	// done is closed by release.
	done   chan struct{}
	closed bool
}

func newSocket(dir, pipe string) *socket {
	return &socket{pipe: pipe, path: filepath.Join(dir, pipe), done: make(chan struct{})}
}

// current is our listener.
func (s *socket) current() *net.UnixListener {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.listener
}

// take makes a listener and puts it in the place of whatever socket is at the
// path, a dead one or Samba's, in one step: no open of the pipe falls between
// the two. It returns nil without an error after release.
func (s *socket) take() (*net.UnixListener, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, nil
	}
	if info, err := os.Lstat(s.path); err == nil && info.Mode().Type() != fs.ModeSocket {
		return nil, fmt.Errorf("npa: %s is there and is no socket: remove it, or correct the directory", s.path)
	}
	ln, file, err := listen(filepath.Join(filepath.Dir(s.path), "."+s.pipe+".new"), s.path)
	if err != nil {
		return nil, fmt.Errorf("npa: taking the pipe %s: %w", s.pipe, err)
	}
	if s.listener != nil {
		s.listener.Close()
	}
	s.listener, s.file = ln, file
	return ln, nil
}

// listen binds a socket at temp and moves it to path. The directory lets in
// nobody but its owner.
func listen(temp, path string) (ln *net.UnixListener, file os.FileInfo, err error) {
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	ln, err = net.ListenUnix("unix", &net.UnixAddr{Name: temp, Net: "unix"})
	if errors.Is(err, syscall.EINVAL) {
		return nil, nil, fmt.Errorf("%d octets are too long for a socket's path; give Samba a shorter ncalrpc dir: %w", len(temp), err)
	}
	if err != nil {
		return nil, nil, err
	}
	ln.SetUnlinkOnClose(false) // it would remove what is at temp by then
	if err = os.Chmod(temp, 0o600); err == nil {
		if file, err = os.Lstat(temp); err == nil {
			err = os.Rename(temp, path)
		}
	}
	if err != nil {
		return nil, nil, errors.Join(err, os.Remove(temp), ln.Close())
	}
	return ln, file, nil
}

// lost reports whether the path is not our socket any more: Samba, when it
// starts, puts its own there for every pipe that one of its services names, and
// protected_storage is also one of the directory replication service.
func (s *socket) lost() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.closed && !s.ours()
}

func (s *socket) ours() bool {
	info, err := os.Lstat(s.path)
	return err == nil && s.file != nil && os.SameFile(info, s.file)
}

// release gives the path up, and removes it if it is still ours.
func (s *socket) release() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	close(s.done)
	if s.listener == nil {
		return nil
	}
	var err error
	if s.ours() {
		err = os.Remove(s.path)
	}
	return errors.Join(err, s.listener.Close())
}
