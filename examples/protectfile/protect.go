package main

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/dpapi"
)

// maxFile is the longest file that is sealed, in octets: it is encrypted in one
// piece.
const maxFile = 1 << 30

// seal encrypts the file under a master key of its own, and has that wrapped for
// the caller. The master key is gone when it returns; before anything is written
// the domain has shown that it gives it back.
func seal(ctx context.Context, client *bkrpclient.Client, name string) error {
	plain, err := readFile(name)
	if err != nil {
		return err
	}
	defer clear(plain)
	key := dpapi.GenerateMasterKey()
	defer key.Clear()
	wrapped, err := client.Wrap(ctx, key.Octets(), bkrpclient.WrapOptions{})
	if err != nil {
		return fmt.Errorf("wrapping the master key: %w", err)
	}
	file := &dpapi.MasterKeyFile{Version: 2, GUID: key.GUID, DomainKey: wrapped}
	if err := prove(ctx, client, file, key); err != nil {
		return err
	}
	aead, err := cipherOf(key)
	if err != nil {
		return err
	}
	encoded, err := file.AppendBinary(nil)
	if err != nil {
		return err
	}
	if err := writeNew(name+".mkf", encoded); err != nil {
		return err
	}
	if err := writeNew(name+".sealed", aead.Seal(nil, nil, plain, key.GUID[:])); err != nil {
		return errors.Join(err, os.Remove(name+".mkf")) // it is the key of nothing
	}
	return nil
}

// prove has the master key recovered before anything depends on it. The server
// that cannot do it today will not do it on the day that matters.
func prove(ctx context.Context, client *bkrpclient.Client, file *dpapi.MasterKeyFile, key *dpapi.MasterKey) error {
	again, err := file.Recover(ctx, client.Unwrap)
	if err != nil {
		return err
	}
	defer again.Clear()
	if subtle.ConstantTimeCompare(again.Octets(), key.Octets()) != 1 {
		return errors.New("the domain gives back another master key than it was given")
	}
	return nil
}

// open has the master key recovered with the caller's own rights, and writes what
// the file held.
func open(ctx context.Context, client *bkrpclient.Client, name string, out io.Writer) error {
	encoded, err := readFile(name + ".mkf")
	if err != nil {
		return err
	}
	sealed, err := readFile(name + ".sealed")
	if err != nil {
		return err
	}
	file, err := dpapi.ParseFile(encoded)
	if err != nil {
		return err
	}
	key, err := file.Recover(ctx, client.Unwrap)
	if err != nil {
		return err
	}
	defer key.Clear()
	aead, err := cipherOf(key)
	if err != nil {
		return err
	}
	plain, err := aead.Open(nil, nil, sealed, key.GUID[:])
	if err != nil {
		return fmt.Errorf("%s.sealed was altered, or is not of %v", name, key)
	}
	defer clear(plain)
	_, err = out.Write(plain)
	return err
}

// cipherOf is AES-256-GCM under a key that is made of the master key; it draws a
// nonce for each message and puts it in front.
func cipherOf(key *dpapi.MasterKey) (cipher.AEAD, error) {
	derived, err := hkdf.Key(sha256.New, key.Octets(), key.GUID[:], "protectfile 1", 32)
	if err != nil {
		return nil, err
	}
	defer clear(derived)
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var b bytes.Buffer
	n, err := b.ReadFrom(io.LimitReader(f, maxFile+1))
	if err == nil && n > maxFile {
		err = fmt.Errorf("%s is longer than %d octets", name, maxFile)
	}
	if err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// writeNew makes a file that is on the disk when it returns, and leaves one that
// exists alone: the key of an earlier file would be lost with it.
func writeNew(name string, b []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	return nil
}
