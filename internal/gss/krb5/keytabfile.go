package krb5

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
)

// keytabFile is a keytab that is read again when its file is replaced or
// changed, which is looked for at each logon.
type keytabFile struct {
	path string
	log  *slog.Logger

	mu sync.Mutex
	// seen is the file as it was when it was last read or given up, and keys
	// what was in it when it last was in order.
	seen os.FileInfo
	keys keytab
}

// openKeytab reads the file for the first time. It is an error if it cannot be
// read or has no key of use.
func openKeytab(path string, log *slog.Logger) (*keytabFile, error) {
	f := &keytabFile{path: path, log: log}
	var err error
	if f.keys, f.seen, err = readKeytab(path); err != nil {
		return nil, err
	}
	return f, nil
}

func readKeytab(path string) (keytab, os.FileInfo, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("opening the keytab: %w", err)
	}
	defer file.Close()
	// Asked of the open file, so that it describes what is read.
	info, err := file.Stat()
	if err != nil {
		return nil, nil, fmt.Errorf("opening the keytab: %w", err)
	}
	b, err := io.ReadAll(io.LimitReader(file, maxKeytab+1))
	if err != nil {
		return nil, info, fmt.Errorf("reading the keytab %s: %w", path, err)
	}
	if len(b) > maxKeytab {
		return nil, info, fmt.Errorf("reading the keytab %s: %w: longer than %d octets", path, errKeytab, maxKeytab)
	}
	keys, err := parseKeytab(b)
	if err == nil && len(keys) == 0 {
		err = fmt.Errorf("%w: no key of a type that is supported", errKeytab)
	}
	if err != nil {
		return nil, info, fmt.Errorf("reading the keytab %s: %w", path, err)
	}
	return keys, info, nil
}

// current is the keytab as it is now. While the file is not there or not in
// order, in the middle of being replaced say, it is the one before.
func (f *keytabFile) current() keytab {
	info, err := os.Stat(f.path)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil && unchanged(f.seen, info) {
		return f.keys
	}
	if err != nil && f.seen == nil {
		return f.keys // which was said when it went away
	}
	keys, info, err := readKeytab(f.path)
	f.seen = info
	if err != nil {
		f.log.Warn("keytab not usable, going on with the keys of the last one", "err", err)
		return f.keys
	}
	f.log.Info("keytab read again", "path", f.path, "keys", len(keys))
	f.keys = keys
	return keys
}

func unchanged(a, b os.FileInfo) bool {
	return a != nil && os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}
