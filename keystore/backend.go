package keystore

import (
	"context"
	"errors"
)

var (
	// ErrNotFound says that a name is definitely absent. Anything that keeps
	// a backend from knowing so is another error.
	ErrNotFound = errors.New("keystore: no such entry")
	// ErrConflict says that an entry was not at the revision that the caller
	// took it to be; nothing has been written.
	ErrConflict = errors.New("keystore: entry was changed by somebody else")
	// ErrTooLarge says that a name is empty, or a name or value over its limit;
	// nothing has been written.
	ErrTooLarge = errors.New("keystore: name or value is too large")
	// ErrClosed says that the backend or store has been closed.
	ErrClosed = errors.New("keystore: closed")
)

// Limits that every Backend keeps.
const (
	// MaxNameSize is the longest name, in octets.
	MaxNameSize = 512
	// MaxValueSize is the longest value, in octets.
	MaxValueSize = 1 << 20
)

// Revision identifies one value of one entry. A backend never gives a
// revision twice to the same name, also across deletion and restarts; 0 means
// that the entry is absent.
type Revision uint64

// Entry is a value with its name and revision.
type Entry struct {
	Name     string
	Value    []byte
	Revision Revision
}

// AnyName is what Watch reports where any entry may have changed.
const AnyName = ""

// Backend keeps named octet strings. It sees sealed values only, unless it is
// given to OpenDomain, and compares names octet by octet: the Store folds them
// to one form.
//
// All methods are safe for concurrent use and return once ctx is done, except
// that a write which can no longer be called off may finish first. The caller
// owns the slices that are returned, and keeps those it passes in.
type Backend interface {
	// Get returns the value of an entry and its revision. ErrNotFound is
	// returned only if the entry is definitely absent. A backend which can tell
	// that the value is not what was written returns ErrCorrupt, with the revision
	// if it is known, for the entry to be written anew.
	Get(ctx context.Context, name string) (value []byte, rev Revision, err error)

	// CompareAndSwap sets the value of the entry if its revision is old, with
	// old == 0 meaning that there must be no such entry. A nil value deletes
	// the entry (an empty one does not), and the new revision is then 0.
	//
	// When it returns without error the change survives the end of the
	// process and of the machine. On ErrConflict and ErrTooLarge nothing has
	// changed; on any other error the change may or may not have been made.
	CompareAndSwap(ctx context.Context, name string, old Revision, value []byte) (Revision, error)

	// List returns the entries whose names begin with prefix, sorted by name. One
	// that Get would say to be corrupt has an empty value, if its revision is known.
	List(ctx context.Context, prefix string) ([]Entry, error)

	// Watch tells of changes, whoever made them, until ctx is done or the
	// watch breaks; it returns why, never nil. It calls changed with AnyName
	// once the watch stands, and again whenever it may have missed something:
	// whatever was read before may then be out of date. Each change after
	// that is reported by name, once or more often, not before it can be read.
	// changed is called by one goroutine at a time and does not block.
	Watch(ctx context.Context, changed func(name string)) error

	// Close ends all watches and releases what the backend holds. Methods
	// called after it return ErrClosed.
	Close() error
}
