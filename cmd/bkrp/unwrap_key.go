package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/cli"
	"github.com/seed05845750/bkrp/internal/keyform"
)

const keyFileFlag = "key-file"

// keyFlags name a file with keys of a domain, which opens wrapped secrets without
// a server, whoever they belong to.
type keyFlags struct {
	file       string
	identities []string
}

func (f *keyFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.file, keyFileFlag, "", "open it here, by this file with the domain's key: LSA secret, PVK, PEM, or keys exported by bkrpd")
	cmd.Flags().StringArrayVar(&f.identities, "identity", nil, "file (mode 0600) with age identities that open an encrypted --key-file; may be given again")
}

// check finds an identity that there is no use for.
func (f *keyFlags) check() error {
	if f.file == "" && len(f.identities) != 0 {
		return cli.Usagef("--identity: it goes with --" + keyFileFlag)
	}
	return nil
}

// opened is a wrapped secret that was opened. Whose it is, is zero where nobody says.
type opened struct {
	*wrapped
	owner  dtyp.SID
	by     string // the key's kind and GUID
	secret []byte
}

// open opens a wrapped secret. The caller clears the result.
func (f *keyFlags) open(blob []byte, stderr io.Writer) (*opened, error) {
	w, err := parseWrapped(blob)
	if err != nil {
		return nil, err
	}
	b, open, err := readKeyFile(f.file)
	if err != nil {
		return nil, fmt.Errorf("--%s: %w", keyFileFlag, err)
	}
	defer clear(b)
	keys, err := f.parse(b, open, w, stderr)
	defer func() {
		for _, k := range keys.list {
			k.Clear()
		}
	}()
	if err != nil {
		return nil, fmt.Errorf("--%s %s: %w", keyFileFlag, f.file, err)
	}
	return f.openBy(keys, w)
}

// keyRing is what a file of keys holds.
type keyRing struct {
	list []*keyform.Key
	// nameless says that the file holds one key without its GUID, for which that
	// of the wrapped secret stands.
	nameless bool
}

func (f *keyFlags) parse(b []byte, open bool, w *wrapped, stderr io.Writer) (keys keyRing, err error) {
	form, err := keyform.Detect(b)
	if err != nil {
		return keys, err
	}
	if form == keyform.Age {
		keys.list, err = f.openBundle(b)
		return keys, err
	}
	if len(f.identities) != 0 {
		return keys, cli.Usagef("--identity: the file is in the form %s and not encrypted", form)
	}
	if open {
		cli.Warnf(stderr, "others may read %s, and the key in it is in the clear", f.file)
	}
	key, err := keyform.Parse(form, b, keyform.Given{})
	if errors.Is(err, keyform.ErrNoGUID) {
		// The certificate that comes with it is of no use here and is not shown.
		keys.nameless = true
		key, err = keyform.Parse(form, b, keyform.Given{GUID: w.key, Domain: "unwrap.invalid", Now: time.Unix(0, 0)})
	}
	if err == nil {
		keys.list = []*keyform.Key{key}
	}
	return keys, err
}

func (f *keyFlags) openBundle(b []byte) ([]*keyform.Key, error) {
	if len(f.identities) == 0 {
		return nil, cli.Usagef("the keys are encrypted: name the file of an age identity that opens them by --identity")
	}
	var identities []age.Identity
	for _, path := range f.identities {
		text, open, err := readKeyFile(path)
		if err != nil {
			return nil, fmt.Errorf("--identity: %w", err)
		}
		defer clear(text)
		if open {
			return nil, fmt.Errorf("--identity: others may read %s: chmod 600 it", path)
		}
		ids, err := age.ParseIdentities(bytes.NewReader(text))
		if err != nil { // the error of age may quote a line, which is a secret
			return nil, fmt.Errorf("--identity: %s is no list of age identities, one AGE-SECRET-KEY-... a line", path)
		}
		identities = append(identities, ids...)
	}
	bundle, err := keyform.OpenBundle(b, identities...)
	if err != nil {
		return nil, err
	}
	return bundle.Keys, nil
}

// openBy opens the secret by that of the keys that it names.
func (f *keyFlags) openBy(keys keyRing, w *wrapped) (*opened, error) {
	var names []string
	for _, k := range keys.list {
		if k.Kind != w.kind || k.GUID != w.key {
			names = append(names, k.String())
			continue
		}
		sid, secret, err := w.open(k.Secret)
		switch {
		case err == nil:
			return &opened{wrapped: w, owner: sid, by: k.String(), secret: secret}, nil
		case !keys.nameless:
			return nil, fmt.Errorf("opening it by %v of %s: %w", k, f.file, err)
		}
		return nil, fmt.Errorf("it needs %s key %v, and the key in %s is another one (or the secret is damaged): %w",
			w.kind, w.key, f.nameless(), err)
	}
	if keys.nameless {
		return nil, fmt.Errorf("it needs %s key %v, and %s holds a key of the other kind", w.kind, w.key, f.file)
	}
	return nil, fmt.Errorf("it needs %s key %v, and %s holds %s", w.kind, w.key, f.file, someOf(names))
}

// nameless names a file that does not say which key it holds, with what its name
// says of that.
func (f *keyFlags) nameless() string {
	if guid, ok := keyform.GUIDInName(filepath.Base(f.file)); ok {
		return fmt.Sprintf("%s, by its name %v,", f.file, guid)
	}
	return f.file
}

// someOf lists names, not all of very many.
func someOf(names []string) string {
	const most = 8
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

// wrapped is a wrapped secret of either kind.
type wrapped struct {
	kind    keyform.Kind
	version uint32 // of its form
	key     dtyp.GUID
	// open opens it by its key as an LSA secret.
	open func(key []byte) (owner dtyp.SID, secret []byte, err error)
}

func parseWrapped(blob []byte) (*wrapped, error) {
	if len(blob) < 4 {
		return nil, fmt.Errorf("%w: %d octets are no wrapped secret", bkrp.ErrFormat, len(blob))
	}
	switch binary.LittleEndian.Uint32(blob) {
	case bkrp.ServerWrappedVersion:
		s, err := bkrp.ParseServerWrapped(blob)
		if err != nil {
			return nil, err
		}
		return &wrapped{keyform.ServerWrap, bkrp.ServerWrappedVersion, s.KeyGUID, func(key []byte) (dtyp.SID, []byte, error) { return openServerWrapped(s, key) }}, nil
	case bkrp.ClientWrappedVersion2, bkrp.ClientWrappedVersion3:
		c, err := bkrp.ParseClientWrapped(blob)
		if err != nil {
			return nil, err
		}
		return &wrapped{keyform.ClientWrap, c.Version, c.KeyGUID, func(key []byte) (dtyp.SID, []byte, error) { return openClientWrapped(c, key) }}, nil
	}
	return nil, fmt.Errorf("%w: it is no wrapped secret, which begins with version 1, 2 or 3", bkrp.ErrFormat)
}

func openClientWrapped(w *bkrp.ClientWrapped, key []byte) (dtyp.SID, []byte, error) {
	pair, err := bkrp.ParseKeyPair(key)
	if err != nil {
		return dtyp.SID{}, nil, err
	}
	defer pair.Clear()
	s, err := w.Open(pair.DecryptRaw, pair.RejectionKey())
	if err != nil {
		return dtyp.SID{}, nil, err
	}
	clear(s.Nonce)
	return s.SID, s.Secret, nil
}

// openServerWrapped tries both forms of SrvKey, as a server does.
func openServerWrapped(w *bkrp.ServerWrapped, key []byte) (dtyp.SID, []byte, error) {
	k, err := bkrp.ParseServerKey(key)
	if err != nil {
		return dtyp.SID{}, nil, err
	}
	defer k.Clear()
	form := bkrp.SrvKeyFull
	derive := func(salt []byte) [20]byte { return k.Derive(form, salt) }
	sid, secret, err := w.Open(derive)
	if errors.Is(err, bkrp.ErrServerMAC) {
		form = form.Other()
		sid, secret, err = w.Open(derive)
	}
	return sid, secret, err
}

// readKeyFile reads a file of keys at once, so that no part of it stays behind in
// an outgrown buffer, and says whether others may read it.
func readKeyFile(name string) (b []byte, open bool, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, false, err
	}
	room := min(info.Size(), keyform.MaxSize) + bytes.MinRead
	buffer := bytes.NewBuffer(make([]byte, 0, room))
	n, err := buffer.ReadFrom(io.LimitReader(f, keyform.MaxSize+1))
	if err == nil && n > keyform.MaxSize {
		err = fmt.Errorf("%s is longer than %d octets", name, keyform.MaxSize)
	}
	if err != nil {
		clear(buffer.Bytes())
		return nil, false, err
	}
	return buffer.Bytes(), info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0, nil
}
