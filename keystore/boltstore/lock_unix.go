//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package boltstore

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// lock takes the lock that bbolt takes, which belongs to the open file and
// goes with it.
func lock(f *os.File, timeout time.Duration) error {
	const retry = 20 * time.Millisecond
	deadline := time.Now().Add(timeout)
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, syscall.EINTR):
		case !errors.Is(err, syscall.EWOULDBLOCK):
			return fmt.Errorf("locking: %w", err)
		case time.Now().After(deadline):
			return ErrInUse
		}
		time.Sleep(retry)
	}
}
