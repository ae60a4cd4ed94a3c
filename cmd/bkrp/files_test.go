package main

import (
	"bytes"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestWriteOutput(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	link := filepath.Join(dir, "link")
	if err := os.Symlink("file", link); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{file, link} {
		if err := os.WriteFile(file, []byte("what was there before"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := writeOutput(name, io.Discard, []byte("secret")); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(file)
		if err != nil || string(b) != "secret" {
			t.Errorf("%s: %q, %v", name, b, err)
		}
		if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: mode %v, %v", name, info.Mode(), err)
		}
	}
	if info, err := os.Lstat(link); err != nil || info.Mode().Type() != fs.ModeSymlink {
		t.Errorf("the link was replaced: %v, %v", info, err)
	}
}

// A device or a pipe stays what it is: root would otherwise lose /dev/null.
func TestWriteOutputIntoPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	name := filepath.Join(t.TempDir(), "out")
	if err := os.Symlink("/dev/null", name); err != nil {
		t.Fatal(err)
	}
	if err := writeOutput(name, w, []byte("secret")); err != nil {
		t.Fatal(err)
	}
	if target, err := os.Readlink(name); err != nil || target != "/dev/null" {
		t.Errorf("the way to the device was replaced: %q, %v", target, err)
	}
	if info, err := os.Stat("/dev/null"); err != nil || info.Mode()&fs.ModeDevice == 0 {
		t.Errorf("the device was replaced: %v, %v", info, err)
	}
	w.Close()
	if b, err := io.ReadAll(r); err != nil || len(b) != 0 {
		t.Errorf("standard output got %q, %v", b, err)
	}
}

// Standard output by another name goes on where it stands.
func TestWriteOutputToStandardOutputByName(t *testing.T) {
	name := filepath.Join(t.TempDir(), "out")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	io.WriteString(f, "before, ")
	if err := writeOutput(name, f, []byte("secret, ")); err != nil {
		t.Fatal(err)
	}
	io.WriteString(f, "after")
	if b, err := os.ReadFile(name); err != nil || !bytes.Equal(b, []byte("before, secret, after")) {
		t.Errorf("%q, %v", b, err)
	}
}
