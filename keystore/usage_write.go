package keystore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
)

const (
	// lastFlush is how long Close takes at most to write down what was counted.
	lastFlush = 5 * time.Second
	// flushFailures is how many entries may fail before the rest is left for
	// the next time: the backend is away then.
	flushFailures = 4
	// flushRate is how many octets a second the use of keys may have written on
	// the average: a caller more has the whole bucket written anew, and etcd keeps
	// what was there before until it is compacted.
	flushRate = 8 << 10
)

// pendingUse is what was counted of a key and is not, as far as one knows, in
// the store.
type pendingUse struct {
	taken [numUses]uint64 // of keyUse.counts
	next  useCount        // not written yet
	sent  useCount        // written, and whether it is in the store is not known
	seq   uint64          // of sent
	who   map[uint8]map[dtyp.SID]int32
	n     int // callers in who
	more  bool
}

// take moves what was counted since it was called last into what is pending.
func (k *keyUse) take(now time.Time) {
	var d useCount
	for use, into := range [numUses]*uint64{UseWrap: &d.Wraps, UseUnwrap: &d.Unwraps, UseRetrieve: &d.Retrieves} {
		n := k.counts[use].Load()
		*into = n - k.pending.taken[use]
		k.pending.taken[use] = n
	}
	day := k.usage.today.Load()
	if d.Unwraps > 0 {
		d.Days = []dayCount{{Day: day, Unwraps: d.Unwraps}}
	}
	if d.Wraps+d.Unwraps+d.Retrieves > 0 {
		d.Last = now.UTC().Truncate(time.Second)
		k.pending.next.add(&d)
	}
	k.mu.Lock()
	fresh, overflow := k.fresh, k.overflow
	k.fresh, k.overflow = nil, false
	k.mu.Unlock()
	k.pending.more = k.pending.more || overflow
	for _, sid := range fresh {
		k.pending.addCaller(*sid, day)
	}
}

// addCaller keeps a caller for the next writing, and no more than MaxCallers of
// them: the backend may be away for days.
func (p *pendingUse) addCaller(sid dtyp.SID, day int32) {
	n := whoBucket(sid)
	bucket := p.who[n]
	if bucket == nil {
		if p.who == nil {
			p.who = make(map[uint8]map[dtyp.SID]int32)
		}
		bucket = make(map[dtyp.SID]int32)
		p.who[n] = bucket
	}
	if _, there := bucket[sid]; !there {
		if p.n >= MaxCallers {
			p.more = true
			return
		}
		p.n++
	}
	bucket[sid] = max(bucket[sid], day)
}

// countUse writes down the use of keys until ctx is done, and then once more.
func (s *Store) countUse(ctx context.Context) {
	ticker := time.NewTicker(s.usage.every)
	defer ticker.Stop()
	failing := false
	var rest time.Time
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			continue
		case <-ticker.C:
		}
		// A new day's use is not to be counted as the old one's.
		if time.Now().Before(rest) && dayOf(s.now()) == s.usage.today.Load() {
			continue
		}
		err := s.flushUse(ctx)
		rest = time.Now().Add(flushRest(s.usage.wrote.Swap(0), s.usage.every))
		if err != nil && ctx.Err() == nil && !failing {
			s.log.Warn("the use of keys cannot be written down; it is kept in memory until it can", "err", err)
		}
		failing = err != nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastFlush)
	defer cancel()
	if err := s.flushUse(ctx); err != nil {
		s.log.Warn("the latest use of keys is lost", "err", err)
	}
}

// flushRest is for how long nothing is written after that many octets were, if
// it is tried every so often.
func flushRest(wrote int64, every time.Duration) time.Duration {
	return max(0, time.Duration(wrote/flushRate)*time.Second-every)
}

// flushUse writes down what was counted.
func (s *Store) flushUse(ctx context.Context) error {
	release, err := s.usage.turn.take(ctx, usePrefix)
	if err != nil {
		return err
	}
	defer release()
	now := s.now()
	keys := s.usage.all()
	for _, k := range keys {
		k.take(now)
	}
	s.usage.today.Store(dayOf(now))
	var failed []error
	for _, k := range keys {
		if err := errors.Join(s.writeUse(ctx, k, now), s.writeCallers(ctx, k)); err != nil {
			failed = append(failed, err)
		}
		if len(failed) >= flushFailures || len(failed) > 0 && ctx.Err() != nil {
			break
		}
	}
	return errors.Join(failed...)
}

// writeUse adds what is pending to the server's record of a key. What may have
// been written by an attempt whose end is not known is not written twice.
func (s *Store) writeUse(ctx context.Context, k *keyUse, now time.Time) error {
	p := &k.pending
	for !p.sent.empty() || !p.next.empty() {
		if p.sent.empty() {
			p.sent, p.next = p.next, useCount{}
			p.seq++
		}
		if err := s.writeSent(ctx, k, now); err != nil {
			return err
		}
		p.sent = useCount{}
	}
	return nil
}

func (s *Store) writeSent(ctx context.Context, k *keyUse, now time.Time) error {
	p, entry := &k.pending, useEntry(k.guid, s.usage.server)
	for range pointerAttempts {
		value, rev, err := s.vault.get(ctx, entry)
		r := &useRecord{Since: now.UTC().Truncate(time.Second)}
		if err == nil {
			r, err = parseUseRecord(entry, value)
		}
		switch {
		case errors.Is(err, ErrCorrupt):
			if err := s.damagedUse(ctx, entry, err); err != nil {
				return err
			}
			r = &useRecord{Since: now.UTC().Truncate(time.Second), Lost: true}
		case err != nil && !errors.Is(err, ErrNotFound):
			return err
		}
		if r.Writer == s.usage.writer && r.Seq == p.seq {
			return nil
		}
		r.Writer, r.Seq = s.usage.writer, p.seq
		r.add(&p.sent)
		if value, err = r.marshal(); err != nil {
			return err
		}
		s.usage.wrote.Add(int64(len(value)))
		if _, err = s.vault.swap(ctx, entry, rev, value); !errors.Is(err, ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("writing %s: %w", entry, ErrConflict)
}

// writeCallers adds the callers that are pending to the server's buckets. To
// add one again changes nothing.
func (s *Store) writeCallers(ctx context.Context, k *keyUse) error {
	p := &k.pending
	if p.more {
		// Any bucket tells it of all.
		if p.who == nil {
			p.who = make(map[uint8]map[dtyp.SID]int32)
		}
		if p.who[0] == nil {
			p.who[0] = make(map[dtyp.SID]int32)
		}
	}
	for n, bucket := range p.who {
		if err := s.writeBucket(ctx, k, n, bucket); err != nil {
			return err
		}
		delete(p.who, n)
		p.n -= len(bucket)
		if n == 0 {
			p.more = false
		}
	}
	return nil
}

func (s *Store) writeBucket(ctx context.Context, k *keyUse, n uint8, bucket map[dtyp.SID]int32) error {
	entry := whoEntry(k.guid, s.usage.server, n)
	for range pointerAttempts {
		value, rev, err := s.vault.get(ctx, entry)
		r := newWhoRecord()
		if err == nil {
			r, err = parseWhoRecord(entry, value)
		}
		changed := false
		switch {
		case errors.Is(err, ErrCorrupt):
			if err := s.damagedUse(ctx, entry, err); err != nil {
				return err
			}
			r, changed = newWhoRecord(), true
			r.lost = true
		case err != nil && !errors.Is(err, ErrNotFound):
			return err
		}
		for sid, day := range bucket {
			changed = r.add(sid, day) || changed
		}
		if n == 0 && k.pending.more && !r.more {
			r.more, changed = true, true
		}
		if !changed {
			return nil
		}
		if value, err = r.marshal(); err != nil {
			return err
		}
		s.usage.wrote.Add(int64(len(value)))
		if _, err = s.vault.swap(ctx, entry, rev, value); !errors.Is(err, ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("writing %s: %w", entry, ErrConflict)
}

// damagedUse says that a record is to be begun anew. Where more than the record
// may be damaged that is an error.
func (s *Store) damagedUse(ctx context.Context, entry string, damage error) error {
	if err := s.renewDataKeys(ctx); err != nil {
		return err
	}
	s.log.Error("a record of the use of a key is damaged; counting begins anew", "entry", entry, "err", damage)
	return nil
}
