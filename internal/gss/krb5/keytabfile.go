package krb5

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"
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
	// fault is what was last found wrong with it, and said when.
	fault string
	said  time.Time
}

// repeatFault is how long the same fault of a keytab is not logged again: one
// that cannot be opened is tried at each logon.
const repeatFault = 10 * time.Minute

// openKeytab reads the file for the first time. It is an error if it cannot be
// read, has no key of use, or is not kept as a secret.
func openKeytab(path string, log *slog.Logger) (*keytabFile, error) {
	f := &keytabFile{path: path, log: log}
	var err error
	if f.keys, f.seen, err = f.read(); err != nil {
		return nil, err
	}
	return f, nil
}

func (f *keytabFile) read() (keytab, os.FileInfo, error) {
	file, err := os.Open(f.path)
	if err != nil {
		return nil, nil, fmt.Errorf("opening the keytab: %w", err)
	}
	defer file.Close()
	// Asked of the open file, so that it describes what is read.
	info, err := file.Stat()
	if err != nil {
		return nil, nil, fmt.Errorf("opening the keytab: %w", err)
	}
	keys, err := f.parse(file, info)
	if err != nil {
		return nil, info, fmt.Errorf("reading the keytab %s: %w", f.path, err)
	}
	return keys, info, nil
}

func (f *keytabFile) parse(file io.Reader, info os.FileInfo) (keytab, error) {
	groupReads, err := checkKeytabMode(f.path, info.Mode())
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(file, maxKeytab+1))
	defer clear(b)
	if err != nil {
		return nil, err
	}
	if len(b) > maxKeytab {
		return nil, fmt.Errorf("%w: longer than %d octets", errKeytab, maxKeytab)
	}
	entries, err := parseKeytab(b)
	if err != nil {
		return nil, err
	}
	keys, users, err := keytab(entries).vet()
	if err != nil {
		return nil, err
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%w: no key of a service and of a type that is supported", errKeytab)
	}
	if groupReads {
		f.log.Warn("a group may read the keytab, and whoever reads it may be anybody to this server", "path", f.path, "mode", info.Mode().Perm())
	}
	if len(users) > 0 {
		f.log.Warn("the keytab has keys of users, which are left out; export the server's own principals only",
			"path", f.path, "users", users[:min(len(users), 8)], "count", len(users))
	}
	return keys, nil
}

// current is the keytab as it is now. While the file is not there or not in
// order, in the middle of being replaced say, it is the one before.
func (f *keytabFile) current(now time.Time) keytab {
	info, err := os.Stat(f.path)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil && unchanged(f.seen, info) {
		return f.keys
	}
	keys, info, err := f.read()
	f.seen = info
	if err != nil {
		if fault := err.Error(); fault != f.fault || now.Sub(f.said) >= repeatFault {
			f.fault, f.said = fault, now
			f.log.Warn("keytab not usable, going on with the keys of the last one", "err", err)
		}
		return f.keys
	}
	f.fault = ""
	f.log.Info("keytab read again", "path", f.path, "keys", len(keys))
	f.keys = keys
	return keys
}

func unchanged(a, b os.FileInfo) bool {
	return a != nil && os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size() && a.Mode() == b.Mode()
}
