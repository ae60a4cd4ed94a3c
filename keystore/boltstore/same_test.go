package boltstore

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/seed05845750/bkrp/keystore"
)

// put sets an entry to something, whatever was there.
func put(t *testing.T, s *Store, name string, size int) error {
	t.Helper()
	_, rev, err := s.Get(t.Context(), name)
	if err != nil && !errors.Is(err, keystore.ErrNotFound) {
		t.Fatal(err)
	}
	_, err = s.CompareAndSwap(t.Context(), name, rev, bytes.Repeat([]byte{byte(size)}, size))
	return err
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What is written to a file that has another in its place, or none, is lost when
// the process ends. It is therefore not written; what is there can be read.
func TestReplacedWhileOpen(t *testing.T) {
	for name, replace := range map[string]func(path string, old []byte) error{
		"another file moved over it": func(path string, old []byte) error {
			return errors.Join(os.WriteFile(path+".old", old, 0o600), os.Rename(path+".old", path))
		},
		"removed": func(path string, _ []byte) error { return os.Remove(path) },
	} {
		t.Run(name, func(t *testing.T) {
			s, path := newStore(t)
			if err := put(t, s, "a", 1); err != nil {
				t.Fatal(err)
			}
			old := mustRead(t, path)
			if err := put(t, s, "b", 1); err != nil {
				t.Fatal(err)
			}
			if err := replace(path, old); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := put(t, s, "c", 1); !errors.Is(err, ErrReplaced) {
					t.Errorf("writing: %v, want ErrReplaced", err)
				}
			}
			if _, _, err := s.Get(t.Context(), "b"); err != nil {
				t.Errorf("reading: %v", err)
			}
			if _, _, err := s.Get(t.Context(), "c"); !errors.Is(err, keystore.ErrNotFound) {
				t.Errorf("what was refused has been written: %v", err)
			}
		})
	}
	t.Run("by a path that is relative", func(t *testing.T) {
		t.Chdir(t.TempDir())
		s, err := Create("keys.db", Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		t.Chdir(t.TempDir())
		if err := put(t, s, "a", 1); err != nil {
			t.Error(err)
		}
	})
}

// An older copy that is written over the file is seen as such: what was
// acknowledged since is not in it.
func TestSetBackWhileOpen(t *testing.T) {
	s, path := newStore(t)
	var old []byte
	for i := range 20 {
		if i == 10 {
			old = mustRead(t, path)
		}
		if err := put(t, s, fmt.Sprint(i), 100); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(old); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Get(t.Context(), "15"); !errors.Is(err, ErrReplaced) {
		t.Errorf("reading: %v, want ErrReplaced", err)
	}
	if _, err := s.CompareAndSwap(t.Context(), "15", 0, []byte("another")); !errors.Is(err, ErrReplaced) {
		t.Errorf("writing: %v, want ErrReplaced", err)
	}
	if now := mustRead(t, path); !bytes.Equal(now[:len(old)], old) {
		t.Error("something was written over the older copy")
	}
}

// disk is what is on the disk of a file whose meta pages are not all there yet.
func disk(t *testing.T, path string, metas []byte) []byte {
	t.Helper()
	image := mustRead(t, path)
	copy(image, metas)
	return image
}

func checkImage(image []byte) error { return check(bytes.NewReader(image), int64(len(image))) }

// When the meta page of a change could not be synchronised, it is written once
// more before the next change: or a crash then would find neither change on the
// disk, and what the change before stands on overwritten.
func TestMetaPageNotSynchronised(t *testing.T) {
	s, path := newStore(t)
	for i := range 50 {
		if err := put(t, s, fmt.Sprintf("%02d", i), 300); err != nil {
			t.Fatal(err)
		}
	}
	harmful := false
	for i := range 10 {
		size := 2 * s.pageSize
		before := mustRead(t, path)[:size]
		if err := put(t, s, fmt.Sprintf("%02d", i), 301+i); err != nil { // its meta page is not on the disk
			t.Fatal(err)
		}
		s.unsure = true
		after := before
		s.settle = func() error {
			err := s.rewriteMeta()
			after = mustRead(t, path)[:size]
			return err
		}
		if err := put(t, s, fmt.Sprintf("%02d", 20+i), 301+i); err != nil { // and a crash before its meta page is
			t.Fatal(err)
		}
		harmful = harmful || checkImage(disk(t, path, before)) != nil
		if err := checkImage(disk(t, path, after)); err != nil {
			t.Errorf("change %d: what is on the disk: %v", i, err)
		}
	}
	if !harmful {
		t.Error("the disk would have been whole without writing the meta pages once more: this test shows nothing")
	}
}

// As long as they cannot be written, nothing is.
func TestMetaPagesStayUnwritten(t *testing.T) {
	s, path := newStore(t)
	if err := put(t, s, "a", 1); err != nil {
		t.Fatal(err)
	}
	before := mustRead(t, path)
	fault := errors.New("input/output error")
	s.unsure, s.settle = true, func() error { return fault }
	for range 2 {
		if err := put(t, s, "a", 2); !errors.Is(err, fault) {
			t.Errorf("writing: %v", err)
		}
	}
	if !bytes.Equal(mustRead(t, path), before) {
		t.Error("something was written")
	}
	if value, _, err := s.Get(t.Context(), "a"); err != nil || len(value) != 1 {
		t.Errorf("reading: %x, %v", value, err)
	}
	s.settle = s.rewriteMeta
	if err := put(t, s, "a", 2); err != nil || s.unsure {
		t.Errorf("writing when they can: %v, unsure %v", err, s.unsure)
	}
}

// A change that ends with an error of the system's is one of which one cannot be
// sure; one that was refused is not.
func TestChangeIsUnsure(t *testing.T) {
	s, _ := newStore(t)
	if err := put(t, s, "a", 1); err != nil {
		t.Fatal(err)
	}
	if _, err := s.CompareAndSwap(t.Context(), "a", 0, []byte("x")); !errors.Is(err, keystore.ErrConflict) || s.unsure {
		t.Errorf("a conflict: %v, unsure %v", err, s.unsure)
	}
	if err := s.file.Close(); err != nil { // as a disk that is gone
		t.Fatal(err)
	}
	if err := put(t, s, "a", 2); err == nil || !s.unsure {
		t.Errorf("a write to a file that is gone: %v, unsure %v", err, s.unsure)
	}
}
