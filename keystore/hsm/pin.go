package hsm

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"time"
)

// maxPIN bounds a PIN, in octets.
const maxPIN = 256

// pinFile is the file of a PIN as it was when it was read.
type pinFile struct {
	path     string
	size     int64
	modified time.Time
}

// pinTry is a PIN that was tried at a token.
type pinTry struct {
	module, token string
	pinFile
}

// refusedPINs are the PINs that tokens have refused in this process. They are
// global because the count by which a token locks itself is: it does not matter
// which Token tried. The PINs themselves are not kept.
var refusedPINs = struct {
	sync.Mutex
	what map[pinTry]error
}{what: make(map[pinTry]error)}

// refused is what the token has said of this PIN, nil if it was not tried yet.
func (p pinTry) refused() error {
	refusedPINs.Lock()
	defer refusedPINs.Unlock()
	return refusedPINs.what[p]
}

// refuse keeps the PIN from being tried again.
func (p pinTry) refuse(err error) {
	refusedPINs.Lock()
	defer refusedPINs.Unlock()
	refusedPINs.what[p] = err
}

// readPIN reads the first line of a file that nobody but its owner may read.
// Errors wrap ErrPIN.
func readPIN(path string) ([]byte, pinFile, error) {
	var file pinFile
	fail := func(format string, args ...any) ([]byte, pinFile, error) {
		return nil, file, fmt.Errorf("%w: "+format, append([]any{ErrPIN}, args...)...)
	}
	f, err := os.Open(path)
	if err != nil {
		return fail("%w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fail("%w", err)
	}
	if !info.Mode().IsRegular() {
		return fail("%s is not a regular file", path)
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 && runtime.GOOS != "windows" {
		return fail("others may use %s (mode %#o): chmod 600 it", path, perm)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxPIN+2))
	if err != nil {
		return fail("reading %s: %w", path, err)
	}
	pin, _, _ := bytes.Cut(b, []byte("\n"))
	pin = bytes.TrimSuffix(pin, []byte("\r"))
	if len(pin) == 0 || len(pin) > maxPIN {
		clear(b)
		return fail("the first line of %s has to be a PIN of 1 to %d octets", path, maxPIN)
	}
	file = pinFile{path, info.Size(), info.ModTime()}
	return pin, file, nil
}
