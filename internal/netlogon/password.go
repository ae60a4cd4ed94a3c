package netlogon

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"unicode/utf8"

	"github.com/seed05845750/bkrp/internal/nthash"
)

var errPassword = errors.New("netlogon: the machine account's password cannot be read")

// maxPassword bounds the first line of the password's file, in octets.
const maxPassword = 4096

// readHash takes the NT hash of the password that is the first line of a file
// that nobody else may read.
func readHash(path string) (hash [16]byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return hash, fmt.Errorf("%w: %w", errPassword, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return hash, fmt.Errorf("%w: %w", errPassword, err)
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 {
		return hash, fmt.Errorf("%w: %s has mode %v, others may read it: chmod 600 it", errPassword, path, info.Mode())
	}
	b := make([]byte, maxPassword+1)
	defer clear(b)
	n, err := io.ReadFull(f, b)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return hash, fmt.Errorf("%w: %w", errPassword, err)
	}
	line, _, _ := bytes.Cut(b[:n], []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	if len(line) == 0 || len(line) > maxPassword || !utf8.Valid(line) {
		return hash, fmt.Errorf("%w: the first line of %s has %d octets; it takes 1 to %d, in UTF-8", errPassword, path, len(line), maxPassword)
	}
	return nthash.Sum(string(line)), nil
}
