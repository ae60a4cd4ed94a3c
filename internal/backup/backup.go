// Package backup writes and reads backups of a key store: everything in it, as
// it was at one moment, with a list of what that is.
//
// A backup is an age file (age-encryption.org/v1), not armored, which the age
// tool decrypts too. Its recipients are those who can open it, the shares of a
// split key, or both. For shares it has two stanzas: the X25519 one of an
// identity whose 32 octets are the secret of the split (see Identity), and
//
//	-> bkrp-split
//	the split's verifier
//
// which is public and which other programs pass over. It proves each share by
// itself, before anything is opened. Both are bound to the file by age's MAC.
//
// The plaintext is (integers are little-endian)
//
//	magic      16 octets, "bkrp-backup 1" and three line ends
//	manifest   size (4 octets) and so many octets of JSON
//	entries    for each: sizes of name (2) and value (4), name, value;
//	           in the order of their names, none twice
//	end        6 octets of zero
//	digest     32 octets, SHA-256 of all before it
//
// and nothing follows. The manifest is a Manifest as encoding/json writes it.
// It says the same as the entries, and what does not come out the same when it
// is made again of the entries is refused.
package backup

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"filippo.io/age"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/keystore"
)

const (
	// Version is the version of the format.
	Version = 1
	// MaxSize bounds a backup, in octets, written and read.
	MaxSize = 2 << 30
)

var (
	// ErrFormat says that something is not a backup as this package writes it.
	ErrFormat = errors.New("backup: not a whole backup")
	// ErrDamaged says that a backup is not as it was written: altered, or cut
	// off.
	ErrDamaged = errors.New("backup: the file is damaged")
	// ErrIdentity says that no identity opens a backup.
	ErrIdentity = errors.New("backup: none of the identities opens the file: they are others than it was encrypted to, or its header is damaged")
	// ErrNoShares says that a backup was not encrypted to shares.
	ErrNoShares = errors.New("backup: the file was not encrypted to shares, or its header is damaged; it takes an identity")
	// ErrDumpDamaged says that a store had damaged entries when it was read.
	ErrDumpDamaged = errors.New("backup: entries of the store are damaged")
)

// Manifest says what is in a backup.
type Manifest struct {
	Version int `json:"version"`
	// Program is the program that wrote it, with its version.
	Program string `json:"program"`
	// Taken is when, to the second, in UTC.
	Taken time.Time `json:"taken"`
	// Store is the store's identity, and Created when it was created.
	Store   dtyp.GUID       `json:"store"`
	Created time.Time       `json:"created"`
	Domain  keystore.Domain `json:"domain"`
	// Entries is how many entries there are, Octets how long their values are
	// together, and Accounts how many of them are accounts.
	Entries  int   `json:"entries"`
	Octets   int64 `json:"octets"`
	Accounts int   `json:"accounts"`
	Keys     []Key `json:"keys"`
	// Damaged are the names of entries that were damaged in the store and are
	// without content here.
	Damaged []string `json:"damaged,omitempty"`
}

// Key says what key is in a backup.
type Key struct {
	GUID dtyp.GUID `json:"guid"`
	// Kind is "ClientWrap", "ServerWrap", or "damaged" for what is no key of
	// either kind and stands in the place of one.
	Kind string `json:"kind"`
	// State is "active", "retired" or "locked".
	State   keystore.KeyState `json:"state"`
	Current bool              `json:"current,omitempty"`
	// InToken says that the private half is in a token, and not in the backup.
	InToken bool `json:"inToken,omitempty"`
}

// KindDamaged is Key.Kind of what is no key.
const KindDamaged = "damaged"

// Backup is a dump with its manifest.
type Backup struct {
	Manifest Manifest
	Dump     *keystore.Dump
}

// New makes a backup of a dump, which is the backup's from then on.
func New(d *keystore.Dump, program string, taken time.Time) *Backup {
	return &Backup{manifestOf(d, program, taken), d}
}

// Clear overwrites what is in the backup.
func (b *Backup) Clear() {
	if b != nil {
		b.Dump.Clear()
	}
}

func manifestOf(d *keystore.Dump, program string, taken time.Time) Manifest {
	m := Manifest{
		Version: Version, Program: program, Taken: taken.UTC().Truncate(time.Second),
		Store: d.Store, Created: d.Created, Domain: d.Domain,
		Entries: len(d.Entries), Accounts: d.Accounts(), Keys: []Key{}, Damaged: slices.Clone(d.Damaged),
	}
	for _, e := range d.Entries {
		m.Octets += int64(len(e.Value))
	}
	for _, k := range d.Keys() {
		kind := KindDamaged
		if k.Kind != 0 {
			kind = k.Kind.String()
		}
		m.Keys = append(m.Keys, Key{k.GUID, kind, k.State, k.Current, k.InToken})
	}
	return m
}

// Seal writes the backup, encrypted to at least one recipient.
func (b *Backup) Seal(w io.Writer, to ...age.Recipient) error {
	size := int64(len(magic) + maxManifest)
	for _, e := range b.Dump.Entries {
		size += int64(entryHeader + len(e.Name) + len(e.Value))
	}
	if size > MaxSize { // it could be written, and not be read again
		return fmt.Errorf("backup: the store has %d octets, and a backup has %d at most", size, int64(MaxSize))
	}
	sealed, err := age.Encrypt(w, to...)
	if err != nil {
		return fmt.Errorf("backup: encrypting: %w", err)
	}
	if err := errors.Join(b.write(sealed), sealed.Close()); err != nil {
		return fmt.Errorf("backup: writing: %w", err)
	}
	return nil
}

// ageIntro begins every age file of the version that is written here.
const ageIntro = "age-encryption.org/v1\n"

// Open reads a backup from r to its end, and checks everything that can be
// checked without a store. The errors are ErrIdentity, ErrNoShares, ErrDamaged,
// ErrFormat, those of identities, and those of r. The caller clears the backup.
func Open(r io.Reader, identities ...age.Identity) (*Backup, error) {
	head := bufio.NewReader(r)
	if begins, err := head.Peek(len(ageIntro)); string(begins) != ageIntro && (err == nil || err == io.EOF) {
		return nil, fmt.Errorf("%w: in its header: it does not begin as a backup does; is it one?", ErrDamaged)
	}
	opened, err := age.Decrypt(head, identities...)
	var none *age.NoIdentityMatchError
	var shares *SharesError
	switch {
	case errors.As(err, &shares):
		return nil, err
	case errors.As(err, &none):
		return nil, ErrIdentity
	case err != nil:
		return nil, fmt.Errorf("%w: in its header: %w", ErrDamaged, err)
	}
	return parse(opened)
}
