package keystore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/dtyp"
)

// Dump is everything that a store holds, in the clear, as it was at one moment:
// what a backup is made of. What replicas report of themselves is not in it. It
// is worth as much as all keys in it; Clear overwrites it.
type Dump struct {
	// Store is the identity of the store that it was taken from.
	Store dtyp.GUID
	// Created is when that store was created.
	Created time.Time
	// Domain is the domain that it serves.
	Domain Domain
	// Entries are the values under their names, sorted by name. An entry that is
	// in Damaged has no octets.
	Entries []DumpEntry
	// Damaged are the names of the entries that could not be opened, sorted.
	Damaged []string
}

// DumpEntry is one value under its name.
type DumpEntry struct {
	Name  string
	Value []byte
}

// Format writes the name, whatever the verb.
func (e DumpEntry) Format(f fmt.State, _ rune) { fmt.Fprint(f, e.Name) }

// String says how much there is, and nothing of what.
func (d Dump) String() string {
	return fmt.Sprintf("dump of store %v with %d entries", d.Store, len(d.Entries))
}

// Format writes String, whatever the verb.
func (d Dump) Format(f fmt.State, _ rune) { fmt.Fprint(f, d.String()) }

// Clear overwrites the values.
func (d *Dump) Clear() {
	if d == nil {
		return
	}
	for _, e := range d.Entries {
		clear(e.Value)
	}
}

// Dump reads the whole store, at one moment of its backend, while it is in use.
// The use of keys that this server has counted is written down before, if it can
// be. Entries
// that are damaged keep nobody from the others: they are in Dump.Damaged, for
// the caller to refuse. Over the secrets of a domain it is ErrDomainKeys.
func (s *Store) Dump(ctx context.Context) (*Dump, error) {
	if s.vault.bare {
		return nil, fmt.Errorf("reading the whole store: %w", ErrDomainKeys)
	}
	if err := s.flushUse(ctx); err != nil {
		// A store that cannot be written any more needs its backup all the same.
		s.log.Warn("reading the whole store without the latest use of keys, which cannot be written down", "err", err)
	}
	entries, err := s.vault.backend.List(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("listing the store: %w", err)
	}
	d := &Dump{Store: s.id, Created: s.created, Domain: s.domain}
	for _, e := range entries {
		if e.Name == headerName || strings.HasPrefix(e.Name, replicaPrefix) {
			continue
		}
		value, err := s.vault.openNewer(ctx, e.Name, e.Value)
		if errors.Is(err, ErrCorrupt) {
			d.Damaged = append(d.Damaged, e.Name)
			value = nil
		} else if err != nil {
			d.Clear()
			return nil, fmt.Errorf("opening %s: %w", e.Name, err)
		}
		d.Entries = append(d.Entries, DumpEntry{e.Name, value})
	}
	return d, nil
}

// DumpKey is what a dump says of one key.
type DumpKey struct {
	GUID dtyp.GUID
	// Kind is zero for what is no key of either kind, and stands in the place
	// of one.
	Kind KeyKind
	// State is KeyLocked where it could not be read.
	State KeyState
	// Current says that the pointer of its kind names it.
	Current bool
	// InToken says that its private half is in a token, and not in the dump.
	InToken bool
}

// Keys are the keys in the dump, sorted by name.
func (d *Dump) Keys() []DumpKey {
	var keys []DumpKey
	for _, e := range d.Entries {
		guid, ok := secretGUID(e.Name)
		if !ok || keySecret(guid) != e.Name {
			continue
		}
		k := DumpKey{GUID: guid, State: d.state(guid)}
		k.Kind, k.InToken, _ = dumpedKey(guid, e.Value)
		if k.Kind != 0 {
			current, found := d.find(k.Kind.pointer())
			k.Current = found && string(current) == string(guid[:])
		}
		keys = append(keys, k)
	}
	return keys
}

// Accounts is how many accounts are in the dump.
func (d *Dump) Accounts() (n int) {
	for _, e := range d.Entries {
		if strings.HasPrefix(e.Name, accountPrefix) {
			n++
		}
	}
	return n
}

// find is the value under a name.
func (d *Dump) find(name string) (value []byte, found bool) {
	i, found := slices.BinarySearchFunc(d.Entries, name, func(e DumpEntry, name string) int {
		return strings.Compare(e.Name, name)
	})
	if !found {
		return nil, false
	}
	return d.Entries[i].Value, true
}

// state is the state of a key.
func (d *Dump) state(guid dtyp.GUID) KeyState {
	value, found := d.find(lifeEntry(guid))
	if !found {
		return KeyActive
	}
	l, err := parseLife(lifeEntry(guid), value)
	if err != nil {
		return KeyLocked
	}
	return l.State
}

// dumpedKey tells what kind of key a secret is, and proves it.
func dumpedKey(guid dtyp.GUID, secret []byte) (kind KeyKind, inToken bool, err error) {
	if len(secret) == bkrp.ServerKeySize {
		key, err := bkrp.ParseServerKey(secret)
		if err != nil {
			return 0, false, err
		}
		key.Clear()
		return ServerWrap, false, nil
	}
	var named dtyp.GUID
	if isTokenRecord(secret) {
		r, err := parseTokenRecord(secret)
		if err != nil {
			return 0, false, err
		}
		clear(r.rejection[:])
		named, inToken = r.certificate.GUID, true
	} else {
		pair, err := bkrp.ParseKeyPair(secret)
		if err != nil {
			return 0, false, err
		}
		named = pair.GUID()
		pair.Clear()
	}
	if named != guid {
		return 0, false, fmt.Errorf("its certificate names key %v", named)
	}
	return ClientWrap, inToken, nil
}
