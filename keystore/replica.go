package keystore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
)

// DefaultHeartbeat is how often a replica says that it lives.
const DefaultHeartbeat = 5 * time.Second

// missedBeats is how many heartbeats a replica misses before it is taken for
// dead.
const missedBeats = 4

// forgetReplica is for how many heartbeats a dead replica's entry is kept.
const forgetReplica = 720

const replicaPrefix = "replica/"

// Replica is a server that has the store open, as it reports itself.
type Replica struct {
	// ID is drawn when the server starts.
	ID dtyp.GUID
	// Name is what the operator calls it: Options.Replica.
	Name string
	// Started is when it opened the store.
	Started time.Time
	// Live says whether it has been heard of lately. No clocks are compared: a
	// replica is taken for dead when its report has not changed for four
	// heartbeats, and until that time has gone by it is taken for alive.
	Live bool
	// Serves are the keys of rotations under way that it has in memory.
	Serves []dtyp.GUID
	// kekSeal names the seal of the header that its configured KEK opens.
	kekSeal string
}

// replicaRecord is a Replica in its entry, as JSON.
type replicaRecord struct {
	Version   int           `json:"version"`
	Name      string        `json:"name"`
	Started   time.Time     `json:"started"`
	Beat      uint64        `json:"beat"` // counts, so that each report is another one
	Heartbeat time.Duration `json:"heartbeat"`
	Serves    []dtyp.GUID   `json:"serves,omitempty"`
	KEKSeal   string        `json:"kekSeal,omitempty"`
}

const (
	replicaVersion = 1
	// The interval that a replica reports about itself is believed within these.
	minHeartbeat, maxHeartbeat = 10 * time.Millisecond, time.Minute
)

// replicas is what a Store knows of all replicas, and its own report.
type replicas struct {
	id        dtyp.GUID
	name      string // "" for a Store that is no replica
	heartbeat time.Duration
	started   time.Time
	wake      chan struct{} // to report at once

	told map[KeyKind]string // what is wrong with a rotation; of the goroutine that reports

	mu      sync.Mutex
	beat    uint64
	kekSeal string
	seen    map[dtyp.GUID]sighting
}

// sighting is when a replica's report was seen to change.
type sighting struct {
	rev Revision
	at  time.Time
}

func (r *replicas) init(o Options, now time.Time) {
	r.id, r.name, r.heartbeat, r.started = randomGUID(), o.Replica, o.Heartbeat, now.UTC().Truncate(time.Second)
	if r.heartbeat <= 0 {
		r.heartbeat = DefaultHeartbeat
	}
	r.heartbeat = min(max(r.heartbeat, minHeartbeat), maxHeartbeat) // who reports less often is taken for dead
	r.wake, r.seen, r.told = make(chan struct{}, 1), make(map[dtyp.GUID]sighting), make(map[KeyKind]string)
}

// isNews reports whether what is wrong with a rotation, if anything, has not been
// told at the heartbeat before.
func (r *replicas) isNews(kind KeyKind, err error) bool {
	text := ""
	if err != nil {
		text = err.Error()
	}
	old := r.told[kind]
	r.told[kind] = text
	return text != "" && text != old
}

// poke has the replica report without waiting for its next heartbeat.
func (r *replicas) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// look notes a report and tells whether its replica lives.
func (r *replicas) look(id dtyp.GUID, rev Revision, heartbeat time.Duration) (live bool, silent time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	last, known := r.seen[id]
	if !known || last.rev != rev {
		last = sighting{rev, time.Now()}
		r.seen[id] = last
	}
	silent = time.Since(last.at)
	return silent < missedBeats*min(max(heartbeat, minHeartbeat), maxHeartbeat), silent
}

// Replicas returns the servers that have the store open and report it, sorted
// by name. A server of which nothing has been heard for long is left out.
func (s *Store) Replicas(ctx context.Context) ([]Replica, error) {
	if s.vault.bare {
		return nil, nil
	}
	entries, err := s.vault.backend.List(ctx, replicaPrefix)
	if err != nil {
		return nil, fmt.Errorf("listing the replicas: %w", err)
	}
	var list []Replica
	for _, e := range entries {
		id, err := dtyp.ParseGUID(strings.TrimPrefix(e.Name, replicaPrefix))
		if err != nil {
			continue
		}
		var r replicaRecord
		value, err := s.vault.openNewer(ctx, e.Name, e.Value)
		if err == nil && (strictJSON(value, &r) != nil || r.Version != replicaVersion) {
			err = fmt.Errorf("%w: %s is not readable", ErrCorrupt, e.Name)
		}
		if err != nil {
			// Its next report replaces it; until then it serves nothing.
			s.log.Warn("the report of a replica is damaged", "entry", e.Name, "err", err)
			r = replicaRecord{Name: "unknown (" + id.String() + ")", Heartbeat: DefaultHeartbeat}
		}
		live, silent := s.replicas.look(id, e.Revision, r.Heartbeat)
		if silent > forgetReplica*max(r.Heartbeat, minHeartbeat) {
			_, _ = s.vault.backend.CompareAndSwap(ctx, e.Name, e.Revision, nil) // or it stays a while longer
			continue
		}
		list = append(list, Replica{
			ID: id, Name: r.Name, Started: r.Started, Live: live, Serves: r.Serves, kekSeal: r.KEKSeal,
		})
	}
	slices.SortFunc(list, func(a, b Replica) int {
		if c := strings.Compare(a.Name, b.Name); c != 0 {
			return c
		}
		return strings.Compare(a.ID.String(), b.ID.String())
	})
	return list, nil
}

// report tells of this replica until ctx is done, and then that it has ended.
func (s *Store) report(ctx context.Context) {
	ticker := time.NewTicker(s.replicas.heartbeat)
	defer ticker.Stop()
	failing := false
	for ctx.Err() == nil {
		err := s.reportOnce(ctx)
		if err == nil {
			_, err = s.Replicas(ctx) // so that the dead are known as such when it matters
		}
		if err != nil && ctx.Err() == nil && !failing {
			s.log.Warn("this replica cannot report to the others; trying again at each heartbeat", "err", err)
		}
		failing = err != nil
		select {
		case <-ctx.Done():
		case <-ticker.C:
		case <-s.replicas.wake:
		}
	}
	// A replica that ends in order holds up nobody.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	entry := replicaPrefix + s.replicas.id.String()
	if _, rev, err := s.vault.backend.Get(ctx, entry); err == nil {
		_, _ = s.vault.backend.CompareAndSwap(ctx, entry, rev, nil)
	}
}

// reportOnce takes the keys of rotations into memory, and then says so.
func (s *Store) reportOnce(ctx context.Context) error {
	serves, err := s.rotationKeys(ctx)
	if err != nil {
		return err
	}
	kekSeal, err := s.configuredSeal(ctx)
	if err != nil {
		return err
	}
	s.replicas.mu.Lock()
	s.replicas.beat++
	beat := s.replicas.beat
	s.replicas.mu.Unlock()
	value, err := json.Marshal(replicaRecord{
		Version: replicaVersion, Name: s.replicas.name, Started: s.replicas.started,
		Beat: beat, Heartbeat: s.replicas.heartbeat, Serves: serves, KEKSeal: kekSeal,
	})
	if err != nil {
		return fmt.Errorf("keystore: writing a report: %w", err)
	}
	return s.vault.put(ctx, replicaPrefix+s.replicas.id.String(), value)
}

// rotationKeys are the keys of rotations under way that could be taken into
// memory. A new one whose private half is in a token has been tried: this server's
// token may be another one, or away.
func (s *Store) rotationKeys(ctx context.Context) ([]dtyp.GUID, error) {
	var serves []dtyp.GUID
	for _, kind := range []KeyKind{ClientWrap, ServerWrap} {
		r, err := s.Rotation(ctx, kind)
		if errors.Is(err, ErrNoRotation) || err == nil && r.Phase == RotationRolledBack {
			continue
		}
		if errors.Is(err, ErrCorrupt) {
			// A replica that reports nothing is taken for dead, and nobody waits for it.
			if s.replicas.isNews(kind, err) {
				s.log.Error("the record of a rotation is damaged: begin a new one", "kind", kind.String(), "err", err)
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		if kind == ClientWrap {
			err = s.tryRotationKey(ctx, &r)
		} else {
			_, err = s.server.key(ctx, r.Next)
		}
		if errors.Is(err, ErrKeyLocked) { // since, by somebody who knows
			continue
		}
		if s.replicas.isNews(kind, err) {
			s.log.Warn("the key of a rotation cannot be served", "key", r.Next, "err", err)
		}
		if err != nil {
			continue
		}
		serves = append(serves, r.Next)
	}
	return serves, nil
}

func (s *Store) tryRotationKey(ctx context.Context, r *Rotation) error {
	k, err := s.client.key(ctx, r.Next)
	if err != nil || k.try == nil || r.Phase != RotationCreated {
		return err
	}
	// A token that hangs must not make the others take this server for dead.
	ctx, cancel := context.WithTimeout(ctx, s.replicas.heartbeat)
	defer cancel()
	return k.try(ctx)
}

// configuredSeal names the seal of the header that the configured KEK opens, ""
// if it opens none. The configuration is asked only during a rekey.
func (s *Store) configuredSeal(ctx context.Context) (string, error) {
	h, _, err := readHeader(ctx, s.vault.backend)
	if err != nil {
		return "", err
	}
	s.replicas.mu.Lock()
	name := s.replicas.kekSeal
	s.replicas.mu.Unlock()
	if len(h.Seals) == 1 && name == sealName(&h.Seals[0]) {
		return name, nil
	}
	configured := s.atHand()[0]
	if s.sealer != nil {
		if configured, err = s.sealer(ctx); err != nil {
			s.log.Warn("the configured key-encryption key cannot be had", "err", err)
			return "", nil
		}
	}
	i, _, err := openedBy(ctx, h.Seals, configured, h.ID)
	if i < 0 {
		s.log.Error("the configured key-encryption key does not open the store: this server could not start again", "err", err)
		return "", nil
	}
	name = sealName(&h.Seals[i])
	s.replicas.mu.Lock()
	s.replicas.kekSeal = name
	s.replicas.mu.Unlock()
	return name, nil
}

// sealName tells the seals of a header apart.
func sealName(s *seal) string {
	sum := sha256.Sum256(s.DataKeys)
	return hex.EncodeToString(sum[:8])
}
