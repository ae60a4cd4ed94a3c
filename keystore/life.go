package keystore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
)

var (
	// ErrKeyLocked says that a key is kept and may not be used.
	ErrKeyLocked = errors.New("keystore: key is locked")
	// ErrKeyCurrent says that a key is the current one, which can be neither
	// retired nor locked.
	ErrKeyCurrent = errors.New("keystore: key is the current one; make another one current first")
	// ErrKeyState says that a key cannot become the current one, because it was
	// retired or locked.
	ErrKeyState = errors.New("keystore: key is retired or locked")
)

// KeyState is what a key may be used for. It changes by SetKeyState only.
type KeyState uint8

const (
	// KeyActive unwraps, and wraps while it is the current key.
	KeyActive KeyState = iota
	// KeyRetired unwraps. That it still has to is worth an alarm.
	KeyRetired
	// KeyLocked is kept and refused.
	KeyLocked
)

var keyStates = [...]string{"active", "retired", "locked"}

// String is "active", "retired" or "locked".
func (s KeyState) String() string {
	if int(s) < len(keyStates) {
		return keyStates[s]
	}
	return fmt.Sprintf("KeyState(%d)", uint8(s))
}

// MarshalText is String.
func (s KeyState) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText is the inverse of MarshalText.
func (s *KeyState) UnmarshalText(b []byte) error {
	for i, name := range keyStates {
		if name == string(b) {
			*s = KeyState(i)
			return nil
		}
	}
	return fmt.Errorf("keystore: %q is no state of a key", b)
}

// lifePrefix begins the names of the entries with the lives of keys; what
// follows is the GUID.
const lifePrefix = "life/"

func lifeEntry(guid dtyp.GUID) string { return lifePrefix + guid.String() }

// life is what the store knows about a key besides the key. A key without one
// is active and came from nobody knows where.
type life struct {
	Version int       `json:"version"`
	State   KeyState  `json:"state"`
	Created time.Time `json:"created,omitzero"` // zero for imported keys
	Since   time.Time `json:"since,omitzero"`   // when it got its state
}

const lifeVersion = 1

// written is l as it is read again.
func (l life) written() life {
	l.Version = lifeVersion
	return l
}

func parseLife(entry string, value []byte) (l life, err error) {
	if err := strictJSON(value, &l); err != nil || l.Version != lifeVersion {
		return life{}, fmt.Errorf("%w: %s is not readable", ErrCorrupt, entry)
	}
	return l, nil
}

// lifeOf reads the life of a key, and its revision, 0 where it has none.
func (s *Store) lifeOf(ctx context.Context, guid dtyp.GUID) (life, Revision, error) {
	if s.vault.bare {
		return life{}, 0, nil
	}
	entry := lifeEntry(guid)
	value, rev, err := s.vault.get(ctx, entry)
	if errors.Is(err, ErrNotFound) {
		return life{}, 0, nil
	}
	if err != nil {
		return life{}, rev, err
	}
	l, err := parseLife(entry, value)
	return l, rev, err
}

func (s *Store) writeLife(ctx context.Context, guid dtyp.GUID, old Revision, l life) (Revision, error) {
	l.Version = lifeVersion
	value, err := json.Marshal(l)
	if err != nil {
		return 0, fmt.Errorf("keystore: writing the life of key %v: %w", guid, err)
	}
	rev, err := s.vault.swap(ctx, lifeEntry(guid), old, value)
	s.changed(lifeEntry(guid)) // also after an error: it may have been written
	return rev, err
}

// born notes when a key was made. It is known from then on by its name alone,
// so that an entry which is there already is left alone.
func (s *Store) born(ctx context.Context, guid dtyp.GUID) error {
	if s.vault.bare {
		return nil
	}
	now := s.now().UTC().Truncate(time.Second)
	if _, err := s.writeLife(ctx, guid, 0, life{Created: now, Since: now}); err != nil && !errors.Is(err, ErrConflict) {
		return err
	}
	return nil
}

// SetKeyState retires a key, locks it, or makes it active again, in every
// replica that the backend reaches, at once. The key itself stays. The error is
// ErrKeyCurrent for a current key that is not to be active, and ErrNoKey where
// there is none of that GUID.
func (s *Store) SetKeyState(ctx context.Context, guid dtyp.GUID, state KeyState) error {
	if s.vault.bare {
		return fmt.Errorf("setting the state of key %v: %w", guid, ErrDomainKeys)
	}
	if int(state) >= len(keyStates) {
		return fmt.Errorf("keystore: %v is not a state of a key", state)
	}
	if _, _, err := s.vault.backend.Get(ctx, keySecret(guid)); errors.Is(err, ErrNotFound) {
		return fmt.Errorf("%w: %v", ErrNoKey, guid)
	} else if err != nil {
		return fmt.Errorf("reading key %v: %w", guid, err)
	}
	for range pointerAttempts {
		old, rev, err := s.lifeOf(ctx, guid)
		if err != nil && !errors.Is(err, ErrCorrupt) { // what is damaged is written anew
			return err
		}
		if err := s.checkNotCurrent(ctx, guid, state); err != nil {
			return err
		}
		next := old
		next.State, next.Since = state, s.now().UTC().Truncate(time.Second)
		rev, err = s.writeLife(ctx, guid, rev, next)
		if errors.Is(err, ErrConflict) {
			continue
		}
		if err != nil { // it may have been written nevertheless
			now, at, readErr := s.lifeOf(ctx, guid)
			if readErr != nil || now != next.written() {
				return errors.Join(err, readErr)
			}
			rev = at
		}
		// Somebody may have made it the current one in the meantime. Who does so
		// looks at the state once more after it: one of the two sees the other.
		if err := s.checkNotCurrent(ctx, guid, state); err != nil {
			_, undo := s.writeLife(ctx, guid, rev, old)
			return errors.Join(err, undo)
		}
		s.log.Info("changed the state of a key", "key", guid, "state", state.String())
		return nil
	}
	return fmt.Errorf("setting the state of key %v: %w", guid, ErrConflict)
}

// checkNotCurrent refuses to take a current key out of use.
func (s *Store) checkNotCurrent(ctx context.Context, guid dtyp.GUID, state KeyState) error {
	if state == KeyActive {
		return nil
	}
	for _, pointer := range []string{CurrentClientSecret, CurrentServerSecret} {
		value, _, err := s.vault.get(ctx, pointer)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		if err == nil && string(value) == string(guid[:]) {
			return fmt.Errorf("%w: %v", ErrKeyCurrent, guid)
		}
	}
	return nil
}

// checkActive refuses to make a key current that was taken out of use.
func (s *Store) checkActive(ctx context.Context, guid dtyp.GUID) error {
	l, _, err := s.lifeOf(ctx, guid)
	if err == nil && l.State != KeyActive {
		err = fmt.Errorf("%w: %v is %v", ErrKeyState, guid, l.State)
	}
	return err
}

// lifeGUID gives the GUID in the name of a life's entry.
func lifeGUID(name string) (guid dtyp.GUID, ok bool) {
	text, ok := strings.CutPrefix(name, lifePrefix)
	if !ok {
		return dtyp.GUID{}, false
	}
	guid, err := dtyp.ParseGUID(text)
	return guid, err == nil && guid.String() == text
}

// keyOf gives the GUID of the key that an entry has to do with: its secret or
// its life.
func keyOf(name string) (guid dtyp.GUID, ok bool) {
	if guid, ok = secretGUID(name); ok {
		return guid, true
	}
	return lifeGUID(name)
}
