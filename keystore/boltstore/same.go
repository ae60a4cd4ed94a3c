package boltstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	bolt "go.etcd.io/bbolt"
)

// ErrReplaced says that the file is no longer the one that was opened, or no
// longer as it was left: somebody has put another one in its place, removed it,
// or written an older copy over it. What would be written now would be lost, so
// that nothing is. Start anew with the file that is to be used.
var ErrReplaced = errors.New("boltstore: the file was replaced, removed or set back while it was open")

// checkPlace looks whether the file's name still leads to it. Where that cannot
// be told, as by somebody who may not search the directory any more, it is nobody's
// fault.
func (s *Store) checkPlace() error {
	named, err := os.Stat(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s is not there", ErrReplaced, s.path)
	}
	if err != nil {
		return nil
	}
	if open, err := s.file.Stat(); err == nil && !os.SameFile(named, open) {
		return fmt.Errorf("%w: %s is another file now", ErrReplaced, s.path)
	}
	return nil
}

// view runs f in a transaction that reads, unless the file was set back.
func (s *Store) view(f func(tx *bolt.Tx) error) error {
	committed := s.committed.Load()
	return s.call(func() error {
		return s.db.View(func(tx *bolt.Tx) error {
			if id := uint64(tx.ID()); id < committed {
				return s.wasSetBack(id, committed)
			}
			return f(tx)
		})
	})
}

// update runs f in a transaction that writes, and synchronises the file.
func (s *Store) update(f func(tx *bolt.Tx) error) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.checkPlace(); err != nil {
		return err
	}
	if s.unsure {
		if err := s.call(s.settle); err != nil {
			return fmt.Errorf("boltstore: writing once more what may not be on the disk: %w", err)
		}
	}
	var done bool // f is, and an error is one of the commit
	var id uint64
	err := s.call(func() error {
		return s.db.Update(func(tx *bolt.Tx) error {
			// A write has the number after the last one's.
			id = uint64(tx.ID())
			if before := s.committed.Load(); !s.unsure && id != before+1 {
				return s.wasSetBack(id-1, before)
			}
			err := f(tx)
			done = err == nil
			return err
		})
	})
	if !done {
		return err
	}
	if s.unsure = err != nil; s.unsure {
		return err
	}
	s.committed.Store(id)
	return s.checkPlace() // or it was written where nobody will find it
}

func (s *Store) wasSetBack(is, was uint64) error {
	return fmt.Errorf("%w: %s is at change %d, and was at %d", ErrReplaced, s.path, is, was)
}

// rewriteMeta writes the meta page of the last change as it is, and synchronises
// the file.
//
// When synchronising fails after the meta page of a change was written, the
// system may take that page for written and forget about it (it is no longer
// "dirty"). bbolt, which reads it back, takes the change for made, and lets the
// next one overwrite pages that only the change before needs: which is the last
// one on the disk. A crash would then leave neither.
func (s *Store) rewriteMeta() error {
	last, err := s.lastChange()
	if err != nil {
		return err
	}
	page, at := make([]byte, s.pageSize), int64(last%2)*int64(s.pageSize)
	if _, err := s.file.ReadAt(page, at); err != nil {
		return err
	}
	if _, err := s.file.WriteAt(page, at); err != nil {
		return err
	}
	return s.file.Sync()
}

// lastChange is the number of the last change in the file.
func (s *Store) lastChange() (id uint64, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		id = uint64(tx.ID())
		return nil
	})
	return id, err
}

// start notes how the file was found. Whether the process before could synchronise
// its last change is not known: it is made sure of before there is another.
func (s *Store) start() error {
	s.settle, s.pageSize, s.unsure = s.rewriteMeta, s.db.Info().PageSize, true
	return s.call(func() error {
		last, err := s.lastChange()
		s.committed.Store(last)
		return err
	})
}
