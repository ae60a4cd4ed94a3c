package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
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
// "" or "-". A file appears whole or not at all.
func writeOutput(name string, out io.Writer, b []byte) error {
	if name == "" || name == "-" {
		_, err := out.Write(b)
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".bkrp-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already when all went well
	if _, err := f.Write(b); err != nil {
		f.Close()
		return err
	}
	if err := f.Sync(); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}
