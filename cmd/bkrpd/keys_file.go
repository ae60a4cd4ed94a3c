package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"filippo.io/age"
)

// readFile reads a file of at most limit octets. open says that others than its
// owner may read it.
func readFile(path string, limit int64) (b []byte, open bool, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, false, err
	}
	if info.Size() > limit {
		return nil, false, fmt.Errorf("%s has %d octets; %d are the most that are read", path, info.Size(), limit)
	}
	// With room for all of it, nothing has to be copied, and the buffer is the
	// only one.
	buffer := bytes.NewBuffer(make([]byte, 0, info.Size()+bytes.MinRead))
	n, err := buffer.ReadFrom(io.LimitReader(f, limit+1))
	if err == nil && n > limit {
		err = fmt.Errorf("%s is longer than %d octets", path, limit)
	}
	if err != nil {
		clear(buffer.Bytes())
		return nil, false, err
	}
	return buffer.Bytes(), info.Mode().Perm()&0o077 != 0, nil
}

// writeNewFile makes a file of mode 0600, which is on the disk when it returns. A
// file that exists is left alone; one that could not be written whole is
// removed.
func writeNewFile(path string, write func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = syncDirectory(filepath.Dir(path))
	}
	if err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// parseIdentities reads age identities, one a line.
func parseIdentities(b []byte) ([]age.Identity, error) {
	return age.ParseIdentities(bytes.NewReader(b))
}
