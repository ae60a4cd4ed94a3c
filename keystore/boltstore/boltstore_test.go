package boltstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/keystore"
	"github.com/seed05845750/bkrp/keystore/keystoretest"
	bolt "go.etcd.io/bbolt"
)

// newStore creates a store that is closed with the test.
func newStore(t *testing.T) (*Store, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "dir", "keys.db")
	s, err := Create(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s, path
}

func TestConformance(t *testing.T) {
	open := func(t *testing.T) keystore.Backend {
		s, _ := newStore(t)
		return s
	}
	reopen := func(t *testing.T, b keystore.Backend) keystore.Backend {
		path := b.(*Store).db.Path()
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		s, err := Open(path, Options{})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	keystoretest.TestBackend(t, open, reopen)
}

func TestFilePermissions(t *testing.T) {
	s, path := newStore(t)
	for name, want := range map[string]fs.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %#o, want %#o", name, got, want)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, Options{}); !errors.Is(err, ErrPermissions) {
		t.Errorf("opening a file that others may read: %v, want ErrPermissions", err)
	}
}

func TestInUse(t *testing.T) {
	s, path := newStore(t)
	for range 2 { // the second attempt shows that the first left no lock behind
		if _, err := Open(path, Options{LockTimeout: time.Millisecond}); !errors.Is(err, ErrInUse) {
			t.Fatalf("opening a file that is open: %v, want ErrInUse", err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestCreateAndOpenRefuse(t *testing.T) {
	s, path := newStore(t)
	if _, err := Create(path, Options{}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("creating over a store: %v, want fs.ErrExist", err)
	}
	absent := filepath.Join(t.TempDir(), "absent.db")
	if _, err := Open(absent, Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("opening an absent file: %v, want fs.ErrNotExist", err)
	}
	if _, err := os.Stat(absent); !errors.Is(err, fs.ErrNotExist) {
		t.Error("opening an absent file made one")
	}
	if _, err := Open(filepath.Dir(path), Options{}); err == nil {
		t.Error("a directory was opened as a store")
	}
	// A crash between the creation of the file and its first write.
	empty := filepath.Join(t.TempDir(), "empty.db")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(empty, Options{}); !errors.Is(err, keystore.ErrCorrupt) {
		t.Errorf("opening an empty file: %v, want ErrCorrupt", err)
	}
	again, err := Create(empty, Options{})
	if err != nil {
		t.Fatalf("creating over an empty file: %v", err)
	}
	// A crash between the file's first write and the bucket's.
	bare := filepath.Join(t.TempDir(), "bare.db")
	db, err := bolt.Open(bare, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	finished, err := Create(bare, Options{})
	if err != nil {
		t.Fatalf("creating over an unfinished file: %v", err)
	}
	if err := errors.Join(finished.Close(), again.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
}

// The file does not grow when entries are replaced.
func TestSizeIsBounded(t *testing.T) {
	s, path := newStore(t)
	var rev keystore.Revision
	var err error
	for range 400 {
		if rev, err = s.CompareAndSwap(t.Context(), "a", rev, make([]byte, 2000)); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > 256<<10 {
		t.Errorf("file has %d octets after 400 writes of one entry of 2000", info.Size())
	}
}

// A file that is truncated while it is open gives errors, and no fault.
func TestTruncatedWhileOpen(t *testing.T) {
	s, path := newStore(t)
	for i := range 200 {
		if _, err := s.CompareAndSwap(t.Context(), fmt.Sprint(i), 0, make([]byte, 2000)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Truncate(path, 8192); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Get(t.Context(), "150"); !errors.Is(err, keystore.ErrCorrupt) {
		t.Errorf("Get: %v, want ErrCorrupt", err)
	}
	if _, err := s.CompareAndSwap(t.Context(), "150", 0, []byte("x")); !errors.Is(err, keystore.ErrCorrupt) {
		t.Errorf("CompareAndSwap: %v, want ErrCorrupt", err)
	}
	if _, err := s.List(t.Context(), ""); !errors.Is(err, keystore.ErrCorrupt) {
		t.Errorf("List: %v, want ErrCorrupt", err)
	}
}
