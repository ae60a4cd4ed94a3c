package keystore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
)

var (
	// ErrNoRotation says that no rotation has been begun.
	ErrNoRotation = errors.New("keystore: no rotation has been begun")
	// ErrRotation says that a rotation cannot go on as things stand.
	ErrRotation = errors.New("keystore: the rotation cannot go on now")
)

// KeyKind is a kind of key.
type KeyKind uint8

const (
	// ClientWrap is an RSA key pair ([MS-BKRP] 3.1.1.2).
	ClientWrap KeyKind = iota + 1
	// ServerWrap is a symmetric key (3.1.1.1).
	ServerWrap
)

// String is "ClientWrap" or "ServerWrap".
func (k KeyKind) String() string {
	switch k {
	case ClientWrap:
		return "ClientWrap"
	case ServerWrap:
		return "ServerWrap"
	}
	return fmt.Sprintf("KeyKind(%d)", uint8(k))
}

// MarshalText is String.
func (k KeyKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads what String writes, in any case.
func (k *KeyKind) UnmarshalText(b []byte) error {
	for _, kind := range []KeyKind{ClientWrap, ServerWrap} {
		if strings.EqualFold(kind.String(), string(b)) {
			*k = kind
			return nil
		}
	}
	return fmt.Errorf(`keystore: %q is no kind of key: it is "ClientWrap" or "ServerWrap"`, b)
}

// pointer is the secret with the GUID of the current key.
func (k KeyKind) pointer() string {
	if k == ClientWrap {
		return CurrentClientSecret
	}
	return CurrentServerSecret
}

// RotationPhase is how far a rotation has come.
type RotationPhase string

const (
	// RotationCreated: the new key is there, and the old one still current.
	RotationCreated RotationPhase = "created"
	// RotationPreferred: the new key is current.
	RotationPreferred RotationPhase = "preferred"
	// RotationRolledBack: the old key is current, and the new one stays for
	// what may have been wrapped under it.
	RotationRolledBack RotationPhase = "rolled back"
)

// Rotation is the latest rotation of the keys of one kind.
type Rotation struct {
	Kind  KeyKind
	Phase RotationPhase
	// Next is the key that was made for it; Previous was current before, zero
	// if there was none.
	Next, Previous dtyp.GUID
	// Since is when it came to this phase, to the second.
	Since time.Time
}

const rotationPrefix = "rotation/"

func rotationEntry(kind KeyKind) string { return rotationPrefix + kind.String() }

// rotationRecord is a Rotation in its entry, as JSON.
type rotationRecord struct {
	Version  int           `json:"version"`
	Phase    RotationPhase `json:"phase"`
	Next     dtyp.GUID     `json:"next"`
	Previous dtyp.GUID     `json:"previous"`
	Since    time.Time     `json:"since"`
}

const rotationVersion = 1

// Rotation returns the latest rotation of the keys of one kind, in whatever
// phase it is. The error is ErrNoRotation where there has been none.
func (s *Store) Rotation(ctx context.Context, kind KeyKind) (Rotation, error) {
	r, _, err := s.readRotation(ctx, kind)
	return r, err
}

func (s *Store) readRotation(ctx context.Context, kind KeyKind) (Rotation, Revision, error) {
	if s.vault.bare {
		return Rotation{}, 0, ErrNoRotation
	}
	entry := rotationEntry(kind)
	value, rev, err := s.vault.get(ctx, entry)
	if errors.Is(err, ErrNotFound) {
		return Rotation{}, 0, fmt.Errorf("%w: of %v keys", ErrNoRotation, kind)
	}
	if err != nil {
		return Rotation{}, rev, err
	}
	r, err := parseRotation(entry, kind, value)
	return r, rev, err
}

func parseRotation(entry string, kind KeyKind, value []byte) (Rotation, error) {
	var r rotationRecord
	if err := strictJSON(value, &r); err != nil || r.Version != rotationVersion || r.Next.IsZero() ||
		!slices.Contains([]RotationPhase{RotationCreated, RotationPreferred, RotationRolledBack}, r.Phase) {
		return Rotation{}, fmt.Errorf("%w: %s is not readable", ErrCorrupt, entry)
	}
	return Rotation{Kind: kind, Phase: r.Phase, Next: r.Next, Previous: r.Previous, Since: r.Since}, nil
}

func (s *Store) writeRotation(ctx context.Context, old Revision, r Rotation) (Rotation, error) {
	r.Since = s.now().UTC().Truncate(time.Second)
	value, err := json.Marshal(rotationRecord{
		Version: rotationVersion, Phase: r.Phase, Next: r.Next, Previous: r.Previous, Since: r.Since,
	})
	if err != nil {
		return Rotation{}, fmt.Errorf("keystore: writing a rotation: %w", err)
	}
	_, err = s.vault.swap(ctx, rotationEntry(r.Kind), old, value)
	s.replicas.poke()
	if errors.Is(err, ErrConflict) {
		return Rotation{}, fmt.Errorf("%w: somebody else is at it: %w", ErrRotation, err)
	}
	if err != nil {
		return Rotation{}, err
	}
	s.log.Info("rotation of keys", "kind", r.Kind.String(), "phase", string(r.Phase), "next", r.Next, "previous", r.Previous)
	return r, nil
}

// BeginRotation makes the key of a rotation and has every replica take it into
// memory; the old one stays current. Where the pointer to the current key is
// damaged there is none, and PreferRotation writes it anew. While another rotation has not been ended
// by PreferRotation or RollBackRotation, nor by another key that was made current,
// it is ErrRotation.
func (s *Store) BeginRotation(ctx context.Context, kind KeyKind) (Rotation, error) {
	if s.vault.bare {
		return Rotation{}, fmt.Errorf("rotating %v keys in phases: %w", kind, ErrDomainKeys)
	}
	last, rev, err := s.readRotation(ctx, kind)
	if err != nil && !errors.Is(err, ErrNoRotation) && !errors.Is(err, ErrCorrupt) {
		return Rotation{}, err
	}
	begun := err == nil && last.Phase == RotationCreated
	next := Rotation{Kind: kind, Phase: RotationCreated}
	if next.Previous, err = s.pointerOf(ctx, kind); errors.Is(err, ErrCorrupt) {
		// This is how it is mended. What it led to is not known.
		s.log.Error("the pointer to the current key is damaged; the rotation goes on without a key before it", "kind", kind.String(), "err", err)
	} else if err != nil {
		return Rotation{}, err
	}
	if begun && !last.overtakenBy(next.Previous) {
		return Rotation{}, fmt.Errorf("%w: that to key %v has not been ended", ErrRotation, last.Next)
	}
	if next.Next, err = s.addKey(ctx, kind); err != nil {
		return Rotation{}, err
	}
	return s.writeRotation(ctx, rev, next)
}

// overtakenBy reports whether the current key is neither of the rotation's, so
// that it cannot go on. One that was begun without a current key goes on from
// that which the first caller made since.
func (r *Rotation) overtakenBy(current dtyp.GUID) bool {
	return current != r.Next && current != r.Previous && !r.Previous.IsZero()
}

// pointerOf is the GUID of the current key of one kind, zero where there is
// none.
func (s *Store) pointerOf(ctx context.Context, kind KeyKind) (dtyp.GUID, error) {
	value, _, err := s.vault.get(ctx, kind.pointer())
	if errors.Is(err, ErrNotFound) || err == nil && len(value) != dtyp.GUIDSize {
		return dtyp.GUID{}, nil
	}
	if err != nil {
		return dtyp.GUID{}, err
	}
	return dtyp.GUID(value), nil
}

// addKey makes a key and does not make it current.
func (s *Store) addKey(ctx context.Context, kind KeyKind) (dtyp.GUID, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), creationTime)
	defer cancel()
	if kind == ClientWrap {
		k, err := s.client.add(ctx)
		if err != nil {
			return dtyp.GUID{}, err
		}
		return k.GUID(), nil
	}
	k, err := s.server.add(ctx)
	if err != nil {
		return dtyp.GUID{}, err
	}
	return k.GUID(), nil
}

// setCurrent makes a key the current one of its kind, while holds gives no error.
func (s *Store) setCurrent(ctx context.Context, kind KeyKind, guid dtyp.GUID, holds func(context.Context) error) error {
	if kind == ClientWrap {
		return s.client.setCurrent(ctx, guid, holds)
	}
	return s.server.setCurrent(ctx, guid, holds)
}

// Lacking returns the replicas that live and have not reported to have a key in
// memory.
func (s *Store) Lacking(ctx context.Context, guid dtyp.GUID) ([]Replica, error) {
	all, err := s.Replicas(ctx)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(r Replica) bool { return !r.Live || slices.Contains(r.Serves, guid) }), nil
}

// PreferRotation makes the new key of a rotation the current one. It is
// ErrRotation, and nothing changes, while a replica that lives has not reported
// to serve it. To do it again is no error: it puts right what an interruption
// may have left undone.
func (s *Store) PreferRotation(ctx context.Context, kind KeyKind) (Rotation, error) {
	r, rev, err := s.rotationToEnd(ctx, kind)
	if err != nil {
		return Rotation{}, err
	}
	if r.Phase == RotationRolledBack {
		return Rotation{}, fmt.Errorf("%w: that to key %v was rolled back; begin a new one", ErrRotation, r.Next)
	}
	if err := s.checkActive(ctx, r.Next); err != nil { // and no replica serves it
		return Rotation{}, err
	}
	lacking, err := s.Lacking(ctx, r.Next)
	if err != nil {
		return Rotation{}, err
	}
	if len(lacking) > 0 {
		return Rotation{}, fmt.Errorf("%w: key %v is not served by %s yet", ErrRotation, r.Next, replicaNames(lacking))
	}
	return s.endRotation(ctx, r, rev, RotationPreferred, r.Next)
}

func replicaNames(list []Replica) string {
	names := make([]string, len(list))
	for i, r := range list {
		names[i] = r.Name
	}
	return strings.Join(names, ", ")
}

// RollBackRotation makes the key from before the rotation current again,
// whatever phase it is in. The new key stays, and unwraps what was wrapped
// under it.
func (s *Store) RollBackRotation(ctx context.Context, kind KeyKind) (Rotation, error) {
	r, rev, err := s.rotationToEnd(ctx, kind)
	if err != nil {
		return Rotation{}, err
	}
	if r.Previous.IsZero() {
		return Rotation{}, fmt.Errorf("%w: there was no key before %v to go back to", ErrRotation, r.Next)
	}
	return s.endRotation(ctx, r, rev, RotationRolledBack, r.Previous)
}

// rotationToEnd reads a rotation that may be ended.
func (s *Store) rotationToEnd(ctx context.Context, kind KeyKind) (Rotation, Revision, error) {
	r, rev, err := s.readRotation(ctx, kind)
	if err != nil {
		return Rotation{}, 0, err
	}
	now, err := s.pointerOf(ctx, kind)
	if errors.Is(err, ErrCorrupt) { // it was damaged since, and either end of the rotation mends it
		return r, rev, nil
	}
	if err != nil {
		return Rotation{}, 0, err
	}
	if r.overtakenBy(now) {
		return Rotation{}, 0, fmt.Errorf("%w: meanwhile key %v was made current otherwise; begin a new one", ErrRotation, now)
	}
	if r.Previous.IsZero() && now != r.Next {
		r.Previous = now
	}
	return r, rev, nil
}

// endRotation notes the phase first and moves the pointer then, as long as the
// phase is still that: of two who end a rotation at the same time in different
// ways the later one has it, and the other is told.
func (s *Store) endRotation(ctx context.Context, r Rotation, rev Revision, phase RotationPhase, current dtyp.GUID) (Rotation, error) {
	if err := s.checkActive(ctx, current); err != nil {
		return Rotation{}, err
	}
	r.Phase = phase
	r, err := s.writeRotation(ctx, rev, r)
	if err != nil {
		return Rotation{}, err
	}
	return r, s.setCurrent(ctx, r.Kind, current, func(ctx context.Context) error {
		now, _, err := s.readRotation(ctx, r.Kind)
		if err == nil && (now.Next != r.Next || now.Phase != r.Phase) {
			err = fmt.Errorf("%w: meanwhile somebody else has it %s, to key %v", ErrRotation, now.Phase, now.Next)
		}
		return err
	})
}
