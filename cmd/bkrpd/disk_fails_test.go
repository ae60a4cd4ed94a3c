package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// failDirectory has the synchronising of directories fail, and returns which were
// asked for.
func failDirectory(t *testing.T, fault error) *[]string {
	t.Helper()
	asked, whole := new([]string), syncDirectory
	syncDirectory = func(path string) error {
		*asked = append(*asked, path)
		return errors.Join(fault, whole(path))
	}
	t.Cleanup(func() { syncDirectory = whole })
	return asked
}

// A backup whose name may not be on the disk is no backup: its shares are thrown
// away, so that nothing may be left that looks like one.
func TestBackupOnDiskThatFails(t *testing.T) {
	fault := errors.New("input/output error")
	failDirectory(t, fault)
	dir := t.TempDir()
	path := filepath.Join(dir, "b.bkrp")
	if err := writeBackup(path, []byte("content"), func() error { return nil }); !errors.Is(err, fault) {
		t.Errorf("writing it: %v", err)
	}
	err := writeNewFile(path, func(w io.Writer) error {
		_, err := w.Write([]byte("key"))
		return err
	})
	if !errors.Is(err, fault) {
		t.Errorf("writing another file: %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("there is %v, %v", left, err)
	}
}

// What init has made is there after the power went: the names of the directories
// that it made, of the store, and of the configuration.
func TestInitIsOnTheDisk(t *testing.T) {
	asked := failDirectory(t, nil)
	top := t.TempDir()
	dir := filepath.Join(top, "a", "b")
	if _, err := initDomain(t.Context(), initOptions{Dir: dir, Domain: "bkrp.example"}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{top, filepath.Dir(dir), dir} {
		if !slices.Contains(*asked, want) {
			t.Errorf("%s was not synchronised; these were: %q", want, *asked)
		}
	}
}
