package bkrpclient

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/dclocator"
)

// KeyDir is a KeyCache in a directory, a PEM file for each key. Files and a
// directory that others than the caller, or root, own or can write are refused.
type KeyDir struct {
	// Path is the directory, which Store makes if it is not there.
	Path string
}

// errUnsafeKey is a kept key that somebody else could have put there.
var errUnsafeKey = errors.New("others than its owner can write it, or its owner is somebody else: remove it")

const (
	keyDirSuffix = ".pem"
	// maxKeyFile is longer than any certificate of a domain, in octets.
	maxKeyFile = 64 << 10

	pemCertificate = "CERTIFICATE"
	pemDomain      = "Domain"
	pemFetched     = "Fetched"
)

// file is the path of a key's file. A name is DOMAIN, DOMAIN+SID, or either with
// "+mutual" behind it.
func (k *KeyDir) file(name string) (string, error) {
	domain, users, hasUsers := strings.Cut(strings.TrimSuffix(name, mutualSuffix), "+")
	sid, err := dtyp.ParseSID(users)
	if !dclocator.ValidName(domain) || hasUsers && (err != nil || sid.String() != users) {
		return "", fmt.Errorf("bkrpclient: %q is no name of a key", name)
	}
	return filepath.Join(k.Path, name+keyDirSuffix), nil
}

// Load reads the file of a key.
func (k *KeyDir) Load(_ context.Context, name string) (der []byte, fetched time.Time, err error) {
	path, err := k.file(name)
	if err != nil {
		return nil, fetched, err
	}
	text, err := k.read(path)
	if err != nil {
		return nil, fetched, fmt.Errorf("reading the domain's key: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != pemCertificate || block.Headers[pemDomain] != name {
		return nil, fetched, fmt.Errorf("reading the domain's key: %s is not a key of %s", path, name)
	}
	if fetched, err = time.Parse(time.RFC3339, block.Headers[pemFetched]); err != nil {
		return nil, fetched, fmt.Errorf("reading the domain's key: %s does not say when it was fetched", path)
	}
	return block.Bytes, fetched, nil
}

// checkDir refuses a directory in which others could put a key in the place of ours.
func (k *KeyDir) checkDir() error {
	dir, err := os.Stat(k.Path)
	if err != nil {
		return err
	}
	if !onlyOurs(dir) {
		return &fs.PathError{Op: "open", Path: k.Path, Err: errUnsafeKey}
	}
	return nil
}

func (k *KeyDir) read(path string) ([]byte, error) {
	if err := k.checkDir(); err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || !onlyOurs(info) {
		return nil, &fs.PathError{Op: "open", Path: path, Err: errUnsafeKey}
	}
	return io.ReadAll(io.LimitReader(f, maxKeyFile))
}

// Store writes the file of a key anew, mode 0600.
func (k *KeyDir) Store(_ context.Context, name string, der []byte, fetched time.Time) error {
	path, err := k.file(name)
	if err != nil {
		return err
	}
	var text bytes.Buffer
	block := &pem.Block{Type: pemCertificate, Bytes: der, Headers: map[string]string{
		pemDomain: name, pemFetched: fetched.UTC().Format(time.RFC3339),
	}}
	if err := pem.Encode(&text, block); err != nil {
		return fmt.Errorf("keeping the domain's key: %w", err)
	}
	if err := k.write(path, text.Bytes()); err != nil {
		return fmt.Errorf("keeping the domain's key: %w", err)
	}
	return nil
}

// write puts a whole file in the place of the present one.
func (k *KeyDir) write(path string, text []byte) error {
	if err := os.MkdirAll(k.Path, 0o700); err != nil {
		return err
	}
	if err := k.checkDir(); err != nil {
		return err
	}
	f, err := os.CreateTemp(k.Path, ".key-*")
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err := errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
