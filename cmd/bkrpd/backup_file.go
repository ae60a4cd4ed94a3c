package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/seed05845750/bkrp/internal/cli"
)

// writeBackup makes the file of a backup, of mode 0600, which is on the disk when
// it returns. It gets its name last, after show: a crash leaves nothing that
// looks like a backup and that nobody could open. show is not called before all
// of the file is on the disk; when it fails there is no file. A file that exists
// is left alone.
func writeBackup(path string, content []byte, show func() error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".partial-*") // mode 0600, O_EXCL
	if err != nil {
		return err
	}
	defer func() {
		if left := os.Remove(f.Name()); err != nil { // or it is a second name of a good file
			err = errors.Join(err, left)
		}
	}()
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := show(); err != nil {
		return fmt.Errorf("showing the shares: %w", err)
	}
	// Unlike a rename, a link does not replace a file that has come meanwhile.
	err = os.Link(f.Name(), path)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		err = copyNew(path, content) // there are file systems without links
	}
	if err != nil {
		return fmt.Errorf("naming the file (shares that were shown for it open nothing): %w", err)
	}
	if err := syncDirectory(filepath.Dir(path)); err != nil {
		// Whoever is told so throws the shares away.
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

func copyNew(path string, content []byte) error {
	return writeNewFile(path, func(w io.Writer) error {
		_, err := w.Write(content)
		return err
	})
}

// syncDirectory makes the names in a directory durable. It is another one in tests
// of disks that fail.
var syncDirectory = func(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// printShares writes all shares to w.
func printShares(w io.Writer, p *backupPlan) error {
	var all bytes.Buffer
	defer func() { clear(all.Bytes()) }()
	for i, s := range p.shares {
		if i > 0 {
			all.WriteByte('\n')
		}
		all.Write(shareText(p, s))
	}
	if _, err := w.Write(all.Bytes()); err != nil {
		return err
	}
	if f := cli.File(w); f != nil {
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			return f.Sync()
		}
	}
	return nil
}

// writeShares writes each share to a new file, and returns which. The caller
// removes them after an error.
func writeShares(p *backupPlan) (made []string, err error) {
	if err := os.MkdirAll(p.sharesDir, 0o700); err != nil {
		return nil, err
	}
	for _, s := range p.shares {
		path := filepath.Join(p.sharesDir, fmt.Sprintf("%s-share-%d-of-%d.txt", s.SplitID(), s.Index(), s.N()))
		text := shareText(p, s)
		err := copyNew(path, text)
		clear(text)
		if err != nil {
			return made, err
		}
		made = append(made, path)
	}
	return made, nil
}

func removeAll(paths []string) error {
	var errs []error
	for _, path := range paths {
		errs = append(errs, os.Remove(path))
	}
	return errors.Join(errs...)
}
