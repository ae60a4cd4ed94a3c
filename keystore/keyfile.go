package keystore

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// ErrKeyFile is what every error about a key file that is not usable wraps.
var ErrKeyFile = errors.New("keystore: key file is not usable")

const (
	keyFileMagic   = "bkrp-kek-1"
	keyFileIDSize  = 16
	maxKeyFileSize = 4096
)

// KeyFile is a Sealer whose KEK of 32 random octets stands in a file. The
// file is text: lines beginning with # are comments, the others are
//
//	bkrp-kek-1
//	id 32 hexadecimal digits
//	key 43 characters of unpadded base64
//
// The id is the beginning of a SHA-256 hash of the key, so that it names the
// key without telling it and shows a damaged file.
type KeyFile struct {
	key [keySize]byte
	id  [keyFileIDSize]byte
}

// CreateKeyFile draws a new KEK and writes it to a new file of mode 0600,
// which is on the disk when it returns. An existing file is left alone and is
// an error (fs.ErrExist): it may be the only key to a store.
func CreateKeyFile(path string) (*KeyFile, error) {
	k := newKeyFile()
	// Under another name until it is whole: whoever is killed meanwhile leaves no
	// part of a key file behind at path.
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".partial-*") // of mode 0600
	if err != nil {
		return nil, fmt.Errorf("keystore: creating key file: %w", err)
	}
	if err = k.writeTo(f); err == nil {
		err = link(f.Name(), path) // replaces nothing
		if err != nil && !errors.Is(err, fs.ErrExist) {
			err = k.writeNew(path) // there are file systems without links, as on USB sticks
		}
	}
	if err = errors.Join(err, os.Remove(f.Name()), syncDir(dir)); err != nil {
		return nil, fmt.Errorf("keystore: creating key file: %w", err)
	}
	return k, nil
}

// link is os.Link, except in tests of file systems that have none.
var link = os.Link

// writeNew writes the key to a new file, which is removed if it is not whole.
func (k *KeyFile) writeNew(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := k.writeTo(f); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// writeTo writes the key to a file, synchronises it and closes it.
func (k *KeyFile) writeTo(f *os.File) error {
	_, err := f.WriteString(k.text())
	return errors.Join(err, f.Sync(), f.Close())
}

func newKeyFile() *KeyFile {
	k := new(KeyFile)
	rand.Read(k.key[:])
	k.id = keyFileID(k.key)
	return k
}

// NewThrowAwaySealer is a Sealer with a KEK that is drawn for it and stands
// nowhere else: what it seals is lost with it. It is for stores in memory.
func NewThrowAwaySealer() Sealer { return newKeyFile() }

// ReadKeyFile reads the KEK from a file that nobody but its owner may read.
// A file that others may read, or that is damaged, is ErrKeyFile.
func ReadKeyFile(path string) (*KeyFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("keystore: opening key file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("keystore: opening key file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %s is not a regular file", ErrKeyFile, path)
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 && runtime.GOOS != "windows" {
		return nil, fmt.Errorf("%w: %s has mode %#o and others may use it; chmod 600 it", ErrKeyFile, path, perm)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFileSize+1))
	defer clear(text)
	if err != nil {
		return nil, fmt.Errorf("keystore: reading key file: %w", err)
	}
	k, err := parseKeyFile(text)
	if err != nil {
		return nil, fmt.Errorf("%w (%s)", err, path)
	}
	return k, nil
}

// parseKeyFile reads the text of a key file.
func parseKeyFile(text []byte) (*KeyFile, error) {
	if len(text) > maxKeyFileSize {
		return nil, fmt.Errorf("%w: longer than %d octets", ErrKeyFile, maxKeyFileSize)
	}
	var lines []string
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line != "" && line[0] != '#' {
			lines = append(lines, line)
		}
	}
	if len(lines) != 3 || lines[0] != keyFileMagic {
		return nil, fmt.Errorf("%w: does not have the three lines of a %s file", ErrKeyFile, keyFileMagic)
	}
	idText, idOK := strings.CutPrefix(lines[1], "id ")
	keyText, keyOK := strings.CutPrefix(lines[2], "key ")
	id, idErr := hex.DecodeString(idText)
	key, keyErr := base64.RawStdEncoding.Strict().DecodeString(keyText)
	defer clear(key)
	if !idOK || !keyOK || idErr != nil || keyErr != nil || len(id) != keyFileIDSize || len(key) != keySize {
		return nil, fmt.Errorf("%w: the id or the key line is damaged", ErrKeyFile)
	}
	k := &KeyFile{key: [keySize]byte(key)}
	k.id = keyFileID(k.key)
	if subtle.ConstantTimeCompare(k.id[:], id) != 1 {
		return nil, fmt.Errorf("%w: the key is not the one that the id names; a character was changed", ErrKeyFile)
	}
	return k, nil
}

// text is the content of the file.
func (k *KeyFile) text() string {
	return "# Key-encryption key of a BackupKey store. Whoever has this file and the store\n" +
		"# can read every key in it; without this file nobody can.\n" +
		keyFileMagic + "\n" +
		"id " + hex.EncodeToString(k.id[:]) + "\n" +
		"key " + base64.RawStdEncoding.EncodeToString(k.key[:]) + "\n"
}

// keyFileID is the identity of a KEK.
func keyFileID(key [keySize]byte) (id [keyFileIDSize]byte) {
	h := sha256.New()
	h.Write([]byte("bkrp keystore key file id\x00"))
	h.Write(key[:])
	copy(id[:], h.Sum(nil))
	return id
}

// KeyID is "file:" and the id of the key.
func (k *KeyFile) KeyID() string { return "file:" + hex.EncodeToString(k.id[:]) }

// String is KeyID; the key is not printed.
func (k *KeyFile) String() string { return k.KeyID() }

// GoString is KeyID; the key is not printed.
func (k *KeyFile) GoString() string { return k.KeyID() }

// LogValue is KeyID; the key is not logged.
func (k *KeyFile) LogValue() slog.Value { return slog.StringValue(k.KeyID()) }

// Seal implements Sealer. The result is kind, version, 16 octets of key id,
// nonce, ciphertext and tag.
func (k *KeyFile) Seal(_ context.Context, plaintext, associatedData []byte) ([]byte, error) {
	header := append([]byte{sealedByKeyFile, sealedVersion}, k.id[:]...)
	return sealUnder(k.key[:], header, plaintext, associatedData)
}

// Open implements Sealer.
func (k *KeyFile) Open(_ context.Context, sealed, associatedData []byte) ([]byte, error) {
	if err := checkSealedBy(sealed, sealedByKeyFile); err != nil {
		return nil, err
	}
	const header = 2 + keyFileIDSize
	if len(sealed) < header {
		return nil, fmt.Errorf("%w: sealed data key is cut short", ErrCorrupt)
	}
	if id := sealed[2:header]; string(id) != string(k.id[:]) {
		return nil, fmt.Errorf("%w: the store asks for file:%x, this is %s", ErrWrongKEK, id, k.KeyID())
	}
	return openUnder(k.key[:], sealed, header, associatedData)
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
