package bkrpclient_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/bkrpclient"
)

func TestKeyDir(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "keys")
	keys := &bkrpclient.KeyDir{Path: dir}
	if _, _, err := keys.Load(t.Context(), dnsDomain); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
	der, fetched := certificate(t), time.Now().Truncate(time.Second)
	for _, name := range []string{dnsDomain, dnsDomain + "+mutual", dnsDomain + "+S-1-5-21-1-2-3", dnsDomain + "+S-1-5-21-1-2-3+mutual"} {
		if err := keys.Store(t.Context(), name, der, fetched); err != nil {
			t.Fatal(err)
		}
		got, at, err := keys.Load(t.Context(), name)
		if err != nil || !bytes.Equal(got, der) || !at.Equal(fetched) {
			t.Errorf("%s: %d octets of %v, %v", name, len(got), at, err)
		}
	}
	file := filepath.Join(dir, dnsDomain+".pem")
	for path, want := range map[string]fs.FileMode{dir: 0o700, file: 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	if _, _, err := keys.Load(t.Context(), "other.example"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	t.Run("a name that leads elsewhere", func(t *testing.T) {
		for _, name := range []string{"", "..", "../x", "a/b", ".x", "x+mutual+mutual", "x+", "x+S-1", "x+s-1-5-21-1", "x+S-1-5-21-1/..", "x+S-1-5-21-1+S-1-5-21-1"} {
			if err := keys.Store(t.Context(), name, der, fetched); err == nil {
				t.Errorf("%q is stored", name)
			}
			if _, _, err := keys.Load(t.Context(), name); err == nil {
				t.Errorf("%q is loaded", name)
			}
		}
	})
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(){
		"others may write the file":      func() { os.Chmod(file, 0o622) },
		"others may write the directory": func() { os.Chmod(dir, 0o777) },
		"a key of another domain":        func() { os.WriteFile(file, []byte(strings.Replace(string(text), dnsDomain, "b.example", 1)), 0o600) },
		"no date": func() {
			os.WriteFile(file, []byte(strings.Replace(string(text), "Fetched: 2", "Fetched: x", 1)), 0o600)
		},
		"no PEM":  func() { os.WriteFile(file, der, 0o600) },
		"nothing": func() { os.WriteFile(file, nil, 0o600) },
		"half":    func() { os.WriteFile(file, text[:len(text)/2], 0o600) },
		"huge": func() {
			os.WriteFile(file, append(bytes.Repeat([]byte("a line before it\n"), 1<<16), text...), 0o600)
		},
		"a link to what others may write": func() {
			theirs := filepath.Join(t.TempDir(), "theirs")
			os.WriteFile(theirs, text, 0o600)
			os.Chmod(theirs, 0o666)
			os.Remove(file)
			os.Symlink(theirs, file)
		},
		"a directory": func() {
			os.Remove(file)
			os.Mkdir(file, 0o700)
		},
	} {
		t.Run(name, func(t *testing.T) {
			change()
			if der, _, err := keys.Load(t.Context(), dnsDomain); err == nil || der != nil || errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%d octets, %v", len(der), err)
			}
			os.Chmod(dir, 0o700)
			os.RemoveAll(file)
			if err := os.WriteFile(file, text, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, _, err := keys.Load(t.Context(), dnsDomain); err != nil {
				t.Fatal(err)
			}
		})
	}
	t.Run("a directory that others may write gets none", func(t *testing.T) {
		open := t.TempDir()
		os.Chmod(open, 0o777)
		if err := (&bkrpclient.KeyDir{Path: open}).Store(t.Context(), dnsDomain, der, fetched); err == nil {
			t.Error("stored")
		}
		if left, err := os.ReadDir(open); err != nil || len(left) != 0 {
			t.Errorf("%v, %v", left, err)
		}
	})
	t.Run("another owner", func(t *testing.T) {
		if os.Geteuid() != 0 {
			t.Skip("only root gives files away")
		}
		if err := os.Chown(file, 1, 1); err != nil {
			t.Fatal(err)
		}
		defer os.Chown(file, 0, 0)
		if der, _, err := keys.Load(t.Context(), dnsDomain); err == nil || der != nil {
			t.Errorf("%d octets", len(der))
		}
	})
	t.Run("a link is replaced and not followed", func(t *testing.T) {
		theirs := filepath.Join(t.TempDir(), "theirs")
		os.WriteFile(theirs, []byte("theirs"), 0o600)
		os.Remove(file)
		os.Symlink(theirs, file)
		if err := keys.Store(t.Context(), dnsDomain, der, fetched); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(theirs); err != nil || string(b) != "theirs" {
			t.Errorf("%q, %v", b, err)
		}
	})
	t.Run("many at once", func(t *testing.T) {
		var running sync.WaitGroup
		for range 8 {
			running.Go(func() {
				own := &bkrpclient.KeyDir{Path: dir}
				for range 20 {
					if err := own.Store(t.Context(), dnsDomain, der, fetched); err != nil {
						t.Error(err)
					}
					if got, _, err := own.Load(t.Context(), dnsDomain); err != nil || !bytes.Equal(got, der) {
						t.Errorf("%d octets, %v", len(got), err)
					}
				}
			})
		}
		running.Wait()
		if left, err := filepath.Glob(filepath.Join(dir, ".key-*")); err != nil || len(left) != 0 {
			t.Errorf("%v, %v", left, err)
		}
	})
	t.Run("a directory that cannot be made", func(t *testing.T) {
		if err := (&bkrpclient.KeyDir{Path: filepath.Join(file, "below")}).Store(t.Context(), dnsDomain, der, fetched); err == nil {
			t.Error("stored")
		}
	})
}
