package hsm

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"runtime"
)

// maxPIN bounds a PIN, in octets.
const maxPIN = 256

// readPIN reads the first line of a file that nobody but its owner may read.
// Errors wrap ErrPIN.
func readPIN(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPIN, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPIN, err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %s is not a regular file", ErrPIN, path)
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 && runtime.GOOS != "windows" {
		return nil, fmt.Errorf("%w: others may use %s (mode %#o): chmod 600 it", ErrPIN, path, perm)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxPIN+2))
	if err != nil {
		return nil, fmt.Errorf("%w: reading %s: %w", ErrPIN, path, err)
	}
	pin, _, _ := bytes.Cut(b, []byte("\n"))
	pin = bytes.TrimSuffix(pin, []byte("\r"))
	if len(pin) == 0 || len(pin) > maxPIN {
		clear(b)
		return nil, fmt.Errorf("%w: the first line of %s has to be a PIN of 1 to %d octets", ErrPIN, path, maxPIN)
	}
	return pin, nil
}
