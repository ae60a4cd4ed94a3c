package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/seed05845750/bkrp/internal/cli"
)

// maxInput bounds what is read from a file or from standard input, in octets:
// no server takes more.
const maxInput = 16 << 20

// readInput reads the file, or in when its name is "" or "-".
func readInput(name string, in io.Reader) ([]byte, error) {
	what := "standard input"
	if name != "" && name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in, what = f, name
	}
	b, err := io.ReadAll(io.LimitReader(in, maxInput+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", what, err)
	}
	if len(b) > maxInput {
		clear(b)
		return nil, fmt.Errorf("reading %s: it is longer than %d octets", what, maxInput)
	}
	return b, nil
}

// writeOutput writes b to the file with mode 0600, or to out when its name is
// "" or "-". A file appears whole or not at all; the target of a symbolic link
// is replaced, not the link. What is there and is no file, such as /dev/null or
// a pipe, is written to, and so is out by the name of /dev/stdout.
func writeOutput(name string, out io.Writer, b []byte) error {
	if name == "" || name == "-" {
		_, err := out.Write(b)
		return err
	}
	if info, err := os.Stat(name); err == nil {
		if isFile(out, info) {
			_, err := out.Write(b)
			return err
		}
		if !info.Mode().IsRegular() {
			return writeInto(name, b)
		}
		if name, err = filepath.EvalSymlinks(name); err != nil {
			return err
		}
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".bkrp-*") // mode 0600
	if err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	defer os.Remove(f.Name()) // gone already when all went well
	if _, err := f.Write(b); err != nil {
		f.Close()
		return fmt.Errorf("writing %s: %w", name, err)
	}
	if err := f.Sync(); err != nil {
		f.Close()
		return fmt.Errorf("writing %s: %w", name, err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	return os.Rename(f.Name(), name)
}

// toFile is nil unless JSON is to be printed to out where what has the name goes:
// what is a payload and what describes it do not mix.
func toFile(asJSON bool, name string, out io.Writer) error {
	info, err := os.Stat(name)
	if asJSON && (name == "" || name == "-" || err == nil && isFile(out, info)) {
		return cli.Usagef("--json: it goes to standard output; name another file by -o")
	}
	return nil
}

// isFile tells whether out is the file that info describes.
func isFile(out io.Writer, info os.FileInfo) bool {
	f := cli.File(out)
	if f == nil {
		return false
	}
	own, err := f.Stat()
	return err == nil && os.SameFile(own, info)
}

// writeInto writes b to a device or a pipe.
func writeInto(name string, b []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Close())
}
