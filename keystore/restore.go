package keystore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

var (
	// ErrRestoring says that a store was being restored from a backup and is not
	// whole yet. Nothing serves it until the same backup has been restored to
	// the end.
	ErrRestoring = errors.New("keystore: the store is not whole: its restore was interrupted; restore the same backup again")
	// ErrNotEmpty says that a backup cannot be restored over what is there.
	ErrNotEmpty = errors.New("keystore: there is something in this store already; a backup is restored into an empty one")
)

// RestoredRIDs is by how much Restore raises the counter of RIDs. Accounts that
// were added after the backup was taken are not in it, and secrets may be bound
// to their SIDs nevertheless: nobody may be given one of these a second time.
const RestoredRIDs = 100_000

// Restore fills an empty store with what is in a dump: a backend without
// entries, or a store which was created and never used. What comes of it is a
// store of its own, with a new identity and a new data key under sealer, so that
// no server and no value of the old one is taken for one of it.
//
// It may be interrupted at any point, and is completed by restoring the same
// dump again. Until then Open refuses the store with ErrRestoring. Before it
// returns without error, everything has been read again from the backend and
// compared. What was damaged in the dump is as unusable as before.
//
// The errors are ErrNotEmpty, ErrRestoring where another dump is being restored,
// ErrWrongKEK where the store was begun under another KEK, and others.
func Restore(ctx context.Context, backend Backend, sealer Sealer, d *Dump) error {
	domain, err := d.Domain.check()
	if err != nil {
		return err
	}
	r := &restore{backend: backend, inner: sealedHeader{Domain: domain, Created: d.Created, Restoring: d.digest()}}
	if err := r.take(d); err != nil {
		return err
	}
	defer clear(r.rid)
	if err := r.begin(ctx, sealer); err != nil {
		return err
	}
	for _, e := range r.entries {
		if err := r.write(ctx, e); err != nil {
			return err
		}
	}
	if err := r.verify(ctx); err != nil {
		return fmt.Errorf("reading what was restored: %w", err)
	}
	return r.finish(ctx)
}

// restore is a restore under way.
type restore struct {
	backend Backend
	entries []DumpEntry
	rid     []byte
	inner   sealedHeader
	vault   *vault
	header  *header
}

// digest names the contents of a dump.
func (d *Dump) digest() []byte {
	h := sha256.New()
	h.Write(d.Store[:])
	var size [8]byte
	for _, e := range d.Entries {
		binary.LittleEndian.PutUint32(size[:], uint32(len(e.Name)))
		binary.LittleEndian.PutUint32(size[4:], uint32(len(e.Value)))
		h.Write(size[:])
		h.Write([]byte(e.Name))
		h.Write(e.Value)
	}
	return h.Sum(nil)
}

// take takes the entries of a dump, with the counter of RIDs raised.
func (r *restore) take(d *Dump) error {
	next := uint32(firstRID)
	if value, found := d.find(ridName); found && len(value) == 4 {
		next = binary.LittleEndian.Uint32(value)
	} else if found {
		next = 0 // damaged, and stays so: how many were given out is not known
	}
	for i, e := range d.Entries {
		if e.Name == headerName || i > 0 && e.Name <= d.Entries[i-1].Name {
			return fmt.Errorf("%w: the dump has %q out of its place", ErrCorrupt, e.Name)
		}
		if e.Name != ridName {
			r.entries = append(r.entries, DumpEntry{e.Name, orEmpty(e.Value)})
		}
	}
	if next != 0 {
		// Beyond the last RID no account is added any more; none is given twice.
		next = max(next, min(next+RestoredRIDs, lastRID+1))
		r.rid = binary.LittleEndian.AppendUint32(nil, next)
	}
	r.entries = append(r.entries, DumpEntry{ridName, orEmpty(r.rid)})
	return nil
}

// orEmpty makes of no octets a value of length 0: nil would delete.
func orEmpty(value []byte) []byte {
	if value == nil {
		return []byte{}
	}
	return value
}

// begin writes the header of a store that is not whole, or takes in the one of a
// restore that was interrupted.
func (r *restore) begin(ctx context.Context, sealer Sealer) error {
	there, err := r.backend.List(ctx, "")
	if err != nil {
		return fmt.Errorf("looking into the backend: %w", err)
	}
	var rev Revision
	header := -1
	for i, e := range there {
		if e.Name == headerName {
			header = i
		}
	}
	if len(there) > 0 && header < 0 {
		return ErrNotEmpty
	}
	if header >= 0 {
		e := there[header]
		again, err := r.resume(ctx, e, sealer)
		if err != nil || again {
			return err
		}
		if len(there) > 1 {
			return ErrNotEmpty
		}
		rev = e.Revision
	}
	if r.header, r.vault, err = newHeader(ctx, r.backend, sealer, randomGUID(), r.inner); err != nil {
		return err
	}
	return r.writeHeader(ctx, rev)
}

// resume reports whether the header is that of an interrupted restore of the
// same dump, and goes on with it then. Otherwise it is one of a whole store.
func (r *restore) resume(ctx context.Context, e Entry, sealer Sealer) (bool, error) {
	h, err := parseHeader(e.Value)
	if err != nil {
		return false, err
	}
	v, inner, err := h.unlock(ctx, r.backend, sealer)
	if err != nil {
		return false, err
	}
	switch {
	case len(inner.Restoring) == 0:
		return false, nil
	case !bytes.Equal(inner.Restoring, r.inner.Restoring):
		return false, fmt.Errorf("%w (this is another one)", ErrRestoring)
	}
	r.header, r.vault = h, v
	return true, nil
}

func (r *restore) writeHeader(ctx context.Context, old Revision) error {
	err := r.header.write(ctx, r.backend, old)
	if errors.Is(err, ErrConflict) {
		return fmt.Errorf("%w: somebody else is at it: %w", ErrNotEmpty, err)
	}
	return err
}

// write writes one entry, unless it is there already.
func (r *restore) write(ctx context.Context, e DumpEntry) error {
	_, err := r.vault.swap(ctx, e.Name, 0, e.Value)
	if !errors.Is(err, ErrConflict) {
		return err
	}
	value, _, err := r.vault.get(ctx, e.Name)
	if err != nil {
		return err
	}
	defer clear(value)
	if !bytes.Equal(value, e.Value) {
		return fmt.Errorf("%w: %s is another one than in the backup", ErrNotEmpty, e.Name)
	}
	return nil
}

// verify reads everything again.
func (r *restore) verify(ctx context.Context) error {
	there, err := r.backend.List(ctx, "")
	if err != nil {
		return fmt.Errorf("listing the store: %w", err)
	}
	found := make(map[string][]byte, len(there))
	for _, e := range there {
		found[e.Name] = e.Value
	}
	if _, ok := found[headerName]; !ok || len(found) != len(r.entries)+1 {
		return fmt.Errorf("%w: it has %d entries, and should have %d", ErrNotEmpty, len(found), len(r.entries)+1)
	}
	for _, e := range r.entries {
		sealed, ok := found[e.Name]
		if !ok {
			return fmt.Errorf("%w: %s is not there", ErrCorrupt, e.Name)
		}
		value, err := r.vault.open(e.Name, sealed)
		if err != nil {
			return fmt.Errorf("opening %s: %w", e.Name, err)
		}
		same := bytes.Equal(value, e.Value)
		clear(value)
		if !same {
			return fmt.Errorf("%w: %s is not what was written", ErrCorrupt, e.Name)
		}
	}
	return nil
}

// finish makes the store whole, in one step.
func (r *restore) finish(ctx context.Context) error {
	h, rev, err := readHeader(ctx, r.backend)
	if err != nil {
		return err
	}
	if h.ID != r.header.ID || !bytes.Equal(h.Sealed, r.header.Sealed) {
		return fmt.Errorf("%w: somebody else is at it", ErrNotEmpty)
	}
	r.inner.Restoring = nil
	if err := r.header.sealInner(r.vault, r.inner); err != nil {
		return err
	}
	return r.writeHeader(ctx, rev)
}
