// Package boltstore keeps a keystore in one bbolt file on one machine. One
// process at a time has it open; every write is on the disk when it returns.
//
// The file is checked page by page before it is mapped, so that one which is
// foreign, truncated or damaged is an error and not a crash. While it is open,
// nothing is written to it any more once it was replaced, removed or set back to
// an older copy (ErrReplaced). The values in it are sealed by package keystore;
// this package knows nothing of keys.
package boltstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed05845750/bkrp/keystore"
	"github.com/seed05845750/bkrp/keystore/internal/feed"
	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

var (
	// ErrInUse says that another process has the file open. Stop it, or let
	// it do what is wanted.
	ErrInUse = errors.New("boltstore: file is in use by another process")
	// ErrPermissions says that others than the owner may use the file.
	ErrPermissions = errors.New("boltstore: others may use the file")
)

// Options are what opening takes besides the path. The zero Options are
// usable.
type Options struct {
	// LockTimeout is how long to wait for another process that has the file
	// open. Default: 2 seconds.
	LockTimeout time.Duration
}

// defaultLockTimeout covers a daemon that is being restarted.
const defaultLockTimeout = 2 * time.Second

// bucket holds the entries: the name, and 8 octets of revision (big-endian)
// in front of the value. The bucket's sequence is the last revision given.
var bucket = []byte("keystore.v1")

const revisionSize = 8

// Store is a keystore.Backend in a file.
type Store struct {
	db   *bolt.DB
	file *os.File // what db has open
	path string   // of file, absolute
	feed feed.Feed

	pageSize int // of the file, in octets

	// committed is the number of the last change, as bbolt counts them.
	committed atomic.Uint64

	// broken says that bbolt panicked. It may have kept a lock of its own, so
	// it is not called again, and writing keeps others out of that lock.
	broken  atomic.Bool
	writing sync.Mutex
	// unsure says that the last change ended with an error, or was another
	// process's, so that it may be on the disk or not; settle makes sure of it. Both
	// belong to who has writing.
	unsure bool
	settle func() error

	closing sync.Once
	err     error // of closing
}

var _ keystore.Backend = (*Store)(nil)

// Create makes a new file of mode 0600, and its directory with mode 0700 if
// it is not there. A file that is there is an error (fs.ErrExist) and is left
// alone, unless it is what an earlier Create left that was killed.
func Create(path string, o Options) (*Store, error) {
	dir := filepath.Dir(path)
	_, absent := os.Stat(dir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("boltstore: creating the directory: %w", err)
	}
	if absent != nil {
		if err := syncDir(filepath.Dir(dir)); err != nil {
			return nil, fmt.Errorf("boltstore: creating the directory: %w", err)
		}
	}
	s, err := open(path, o, true)
	if err != nil {
		if info, statErr := os.Stat(path); statErr == nil && info.Size() != 0 {
			err = fmt.Errorf("%w: %w", fs.ErrExist, err)
		}
		return nil, err
	}
	err = s.update(func(tx *bolt.Tx) error {
		if name, _ := tx.Cursor().First(); name != nil {
			return fs.ErrExist
		}
		_, err := tx.CreateBucket(bucket)
		return err
	})
	// The file's own contents are synchronised by now, its name is not.
	if err := errors.Join(err, syncDir(dir)); err != nil {
		return nil, errors.Join(fmt.Errorf("boltstore: creating %s: %w", path, err), s.Close())
	}
	return s, nil
}

// Open opens a file that Create made. The errors are fs.ErrNotExist, ErrInUse,
// ErrPermissions, and keystore.ErrCorrupt if it is not such a file or no
// longer a whole one.
func Open(path string, o Options) (*Store, error) {
	s, err := open(path, o, false)
	if err != nil {
		return nil, err
	}
	err = s.view(func(tx *bolt.Tx) error {
		if tx.Bucket(bucket) == nil {
			return fmt.Errorf("%w: %s is a bbolt file without a key store in it", keystore.ErrCorrupt, path)
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// open opens the file and checks it under its lock before bbolt maps it.
func open(path string, o Options, create bool) (*Store, error) {
	if o.LockTimeout <= 0 {
		o.LockTimeout = defaultLockTimeout
	}
	var file *os.File
	openFile := func(name string, flag int, mode os.FileMode) (*os.File, error) {
		if !create {
			flag &^= os.O_CREATE
		}
		f, err := os.OpenFile(name, flag, mode)
		if err != nil {
			return nil, err
		}
		if err := vet(f, o.LockTimeout, create); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		file = f
		return f, nil
	}
	var db *bolt.DB
	_, err := guard(func() (err error) {
		db, err = bolt.Open(path, 0o600, &bolt.Options{
			Timeout:      o.LockTimeout,
			OpenFile:     openFile,
			NoStatistics: true,
		})
		return err
	})
	if err == nil {
		s := &Store{db: db, file: file, path: path}
		if absolute, err := filepath.Abs(path); err == nil {
			s.path = absolute
		}
		if err := s.start(); err != nil {
			return nil, errors.Join(fmt.Errorf("boltstore: opening %s: %w", path, err), s.Close())
		}
		return s, nil
	}
	if file != nil {
		_ = file.Close() // bbolt may have given up without closing it; the lock must go
	}
	return nil, fmt.Errorf("boltstore: opening %s: %w", path, classify(err))
}

// vet checks an open file before bbolt sees it.
func vet(f *os.File, timeout time.Duration, create bool) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%w: it is not a regular file", keystore.ErrCorrupt)
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 && runtime.GOOS != "windows" {
		return fmt.Errorf("%w: its mode is %#o; chmod 600 it", ErrPermissions, perm)
	}
	// bbolt takes the same lock again, which does nothing; but it would do so
	// only after the check, and another process might be writing meanwhile.
	if err := lock(f, timeout); err != nil {
		return err
	}
	if info, err = f.Stat(); err != nil {
		return err
	}
	if info.Size() == 0 && create {
		return nil
	}
	return check(f, info.Size())
}

// classify gives bbolt's errors the names that callers know.
func classify(err error) error {
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return ErrInUse
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrVersionMismatch),
		errors.Is(err, bolterrors.ErrChecksum):
		return fmt.Errorf("%w: %w", keystore.ErrCorrupt, err)
	case errors.Is(err, bolterrors.ErrDatabaseNotOpen), errors.Is(err, os.ErrClosed):
		return keystore.ErrClosed
	}
	return err
}

// guard runs f and turns a panic, and the fault of a mapped page that is no
// longer in the file, into an error: bbolt has no other way of saying that a
// file was damaged while it was open.
func guard(f func() error) (panicked bool, err error) {
	old := debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(old)
	defer func() {
		if p := recover(); p != nil {
			panicked, err = true, fmt.Errorf("%w: bbolt stopped: %v", keystore.ErrCorrupt, p)
		}
	}()
	return false, f()
}

// call runs f, unless bbolt has panicked before.
func (s *Store) call(f func() error) error {
	if s.broken.Load() {
		return fmt.Errorf("%w: bbolt stopped; open the store anew", keystore.ErrCorrupt)
	}
	panicked, err := guard(f)
	if panicked {
		s.broken.Store(true)
	}
	return classify(err)
}

// Get implements keystore.Backend.
func (s *Store) Get(ctx context.Context, name string) (value []byte, rev keystore.Revision, err error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	err = s.view(func(tx *bolt.Tx) error {
		raw := tx.Bucket(bucket).Get([]byte(name))
		if raw == nil {
			return keystore.ErrNotFound
		}
		rev, value, err = cut(name, raw)
		value = append([]byte{}, value...)
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	return value, rev, nil
}

// cut splits what is stored into revision and value, which is not copied.
func cut(name string, raw []byte) (keystore.Revision, []byte, error) {
	if len(raw) < revisionSize {
		return 0, nil, fmt.Errorf("%w: entry %q is cut short", keystore.ErrCorrupt, name)
	}
	rev := keystore.Revision(binary.BigEndian.Uint64(raw))
	if rev == 0 {
		return 0, nil, fmt.Errorf("%w: entry %q has revision 0", keystore.ErrCorrupt, name)
	}
	return rev, raw[revisionSize:], nil
}

// CompareAndSwap implements keystore.Backend.
func (s *Store) CompareAndSwap(ctx context.Context, name string, old keystore.Revision, value []byte) (keystore.Revision, error) {
	if name == keystore.AnyName || len(name) > keystore.MaxNameSize || len(value) > keystore.MaxValueSize {
		return 0, keystore.ErrTooLarge
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	var rev keystore.Revision
	err := s.update(func(tx *bolt.Tx) (err error) {
		rev, err = swap(tx.Bucket(bucket), name, old, value)
		return err
	})
	if err != nil {
		return 0, err
	}
	if rev != old {
		s.feed.Publish(name)
	}
	return rev, nil
}

// swap makes the change inside a transaction.
func swap(b *bolt.Bucket, name string, old keystore.Revision, value []byte) (keystore.Revision, error) {
	var present keystore.Revision
	if raw := b.Get([]byte(name)); raw != nil {
		var err error
		if present, _, err = cut(name, raw); err != nil {
			return 0, err
		}
	}
	if present != old {
		return 0, keystore.ErrConflict
	}
	if value == nil {
		return 0, b.Delete([]byte(name))
	}
	rev, err := b.NextSequence()
	if err != nil {
		return 0, err
	}
	raw := binary.BigEndian.AppendUint64(make([]byte, 0, revisionSize+len(value)), rev)
	return keystore.Revision(rev), b.Put([]byte(name), append(raw, value...))
}

// List implements keystore.Backend.
func (s *Store) List(ctx context.Context, prefix string) (list []keystore.Entry, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	err = s.view(func(tx *bolt.Tx) error {
		c := tx.Bucket(bucket).Cursor()
		for k, raw := c.Seek([]byte(prefix)); k != nil && bytes.HasPrefix(k, []byte(prefix)); k, raw = c.Next() {
			rev, value, err := cut(string(k), raw)
			if err != nil {
				return err
			}
			list = append(list, keystore.Entry{Name: string(k), Value: append([]byte{}, value...), Revision: rev})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// Watch implements keystore.Backend. All changes are made through this Store,
// since it alone has the file.
func (s *Store) Watch(ctx context.Context, changed func(name string)) error {
	err := s.feed.Follow(ctx, changed)
	if errors.Is(err, feed.ErrClosed) {
		return keystore.ErrClosed
	}
	return err
}

// Close implements keystore.Backend. It waits for transactions under way.
func (s *Store) Close() error {
	s.closing.Do(func() {
		s.feed.Close()
		s.writing.Lock()
		defer s.writing.Unlock()
		if s.err = s.call(s.db.Close); s.broken.Load() {
			// Without bbolt's help: the lock of the file goes with it.
			s.err = s.file.Close()
		}
	})
	return s.err
}

// syncDir makes the directory entries of dir durable, where the system can.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // directories cannot be synchronised there; NTFS journals them
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
