package keystore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
)

// ErrUsageBehind says that what this server has counted last could not be written
// down, as on a disk that is full. The numbers that come with it are those from
// before.
var ErrUsageBehind = errors.New("keystore: the latest use of keys could not be written down")

// Usage is how a key was used, by all servers together.
type Usage struct {
	// Since is when counting began, zero if the key was never used.
	Since time.Time
	// Wraps, Unwraps and Retrieves are how often it was used, successful uses
	// only.
	Wraps, Unwraps, Retrieves uint64
	// LastUsed is when it was used last, to about Options.UsageFlush.
	LastUsed time.Time
	// Days are the days with unwraps, in order, of the last 90.
	Days []DayUsage
	// Damaged names the entries that could not be read, and Lost says that
	// there once were some: the key was used more often than it says here.
	Damaged []string
	Lost    bool
}

// DayUsage is the unwraps of one day.
type DayUsage struct {
	Day     time.Time // its beginning in UTC
	Unwraps uint64
}

// Usage returns how a key was used. What other servers have not written down yet
// (Options.UsageFlush) is not in it. A key that was never used has the zero
// Usage. With ErrUsageBehind the Usage is good, and from before.
func (s *Store) Usage(ctx context.Context, guid dtyp.GUID) (Usage, error) {
	all, err := s.usages(ctx, usePrefix+guid.String()+"/")
	return all[guid], err
}

// Usages is Usage of every key that was used.
func (s *Store) Usages(ctx context.Context) (map[dtyp.GUID]Usage, error) {
	return s.usages(ctx, usePrefix)
}

func (s *Store) usages(ctx context.Context, prefix string) (map[dtyp.GUID]Usage, error) {
	if s.vault.bare {
		return nil, fmt.Errorf("counting the use of keys: %w", ErrDomainKeys)
	}
	behind := s.catchUp(ctx)
	entries, err := s.vault.backend.List(ctx, prefix)
	if err != nil {
		return nil, fmt.Errorf("listing the use of keys: %w", err)
	}
	sums := make(map[dtyp.GUID]*useSum)
	all := make(map[dtyp.GUID]Usage)
	now := s.now()
	for _, e := range entries {
		guid, ok := useGUID(e.Name)
		if !ok {
			continue
		}
		u := all[guid]
		var r *useRecord
		value, err := s.vault.openNewer(ctx, e.Name, e.Value)
		if err == nil {
			r, err = parseUseRecord(e.Name, value)
		}
		if err != nil && !errors.Is(err, ErrCorrupt) {
			return nil, err
		}
		if err != nil {
			u.Damaged = append(u.Damaged, e.Name)
		} else {
			if sums[guid] == nil {
				sums[guid] = &useSum{days: make(map[int32]uint64)}
			}
			sums[guid].add(&r.useCount, now)
			if u.Since.IsZero() || r.Since.Before(u.Since) {
				u.Since = r.Since
			}
			u.Lost = u.Lost || r.Lost
		}
		all[guid] = u
	}
	for guid, sum := range sums {
		u := all[guid]
		u.Wraps, u.Unwraps, u.Retrieves, u.LastUsed = sum.Wraps, sum.Unwraps, sum.Retrieves, sum.Last
		for _, day := range slices.Sorted(maps.Keys(sum.days)) {
			u.Days = append(u.Days, DayUsage{dayTime(day), sum.days[day]})
		}
		all[guid] = u
	}
	return all, behind
}

// useSum is the uses of a key by several servers.
type useSum struct {
	useCount // without Days
	days     map[int32]uint64
}

// add adds those of one server, as far as they can be: neither a time nor a day
// after tomorrow is one, but that of a clock which was wrong.
func (s *useSum) add(r *useCount, now time.Time) {
	s.Wraps += r.Wraps
	s.Unwraps += r.Unwraps
	s.Retrieves += r.Retrieves
	s.Last = later(s.Last, r.Last, now)
	for _, d := range r.Days {
		if today := dayOf(now); d.Day >= today-maxUseDays && d.Day <= today+1 {
			s.days[d.Day] += d.Unwraps
		}
	}
}

// later is the later one of two times, but one that has not come yet only if there
// is no other. Clocks of servers may differ by a day.
func later(a, b, now time.Time) time.Time {
	limit := now.Add(secondsPerDay * time.Second)
	switch {
	case a.IsZero():
		return b
	case b.IsZero():
		return a
	case a.After(limit) != b.After(limit):
		if a.After(limit) {
			return b
		}
		return a
	case a.After(b):
		return a
	}
	return b
}

// catchUp writes down what this server has counted. The error is ErrUsageBehind.
func (s *Store) catchUp(ctx context.Context) error {
	if err := s.flushUse(ctx); err != nil {
		return fmt.Errorf("%w: %w", ErrUsageBehind, err)
	}
	return nil
}

// Callers is who used a key, on all servers together.
type Callers struct {
	// List is sorted by SID.
	List []KeyCaller
	// More says that there were more than are remembered.
	More bool
	// Damaged names the entries that could not be read, and Lost says that
	// there once were some: there are callers that are not in List.
	Damaged []string
	Lost    bool
}

// KeyCaller is who used a key, and the day of the last time.
type KeyCaller struct {
	SID     dtyp.SID
	LastDay time.Time // its beginning in UTC
}

// Callers returns who used a key. What other servers have not written down yet
// (Options.UsageFlush) is not in it. With ErrUsageBehind they are good, and from
// before.
func (s *Store) Callers(ctx context.Context, guid dtyp.GUID) (*Callers, error) {
	if s.vault.bare {
		return nil, fmt.Errorf("counting the use of keys: %w", ErrDomainKeys)
	}
	behind := s.catchUp(ctx)
	prefix := whoPrefix + guid.String() + "/"
	entries, err := s.vault.backend.List(ctx, prefix)
	if err != nil {
		return nil, fmt.Errorf("listing the callers of key %v: %w", guid, err)
	}
	c := new(Callers)
	days := make(map[dtyp.SID]uint16)
	for _, e := range entries {
		if server, _, ok := strings.Cut(e.Name[len(prefix):], "/"); !ok || !isServerName(server) {
			continue
		}
		var r *whoRecord
		value, err := s.vault.openNewer(ctx, e.Name, e.Value)
		if err == nil {
			r, err = parseWhoRecord(e.Name, value)
		}
		if errors.Is(err, ErrCorrupt) {
			c.Damaged = append(c.Damaged, e.Name)
			continue
		}
		if err != nil {
			return nil, err
		}
		c.More, c.Lost = c.More || r.more, c.Lost || r.lost
		for sid, day := range r.days {
			days[sid] = laterDay(days[sid], day, dayOf(s.now()))
		}
	}
	c.List = sortedCallers(days)
	return c, behind
}

// laterDay is later for days.
func laterDay(a, b uint16, today int32) uint16 {
	if aheadA, aheadB := int32(a) > today+1, int32(b) > today+1; a != 0 && b != 0 && aheadA != aheadB {
		return min(a, b)
	}
	return max(a, b)
}

// sortedCallers are the callers by SID, as its numbers go.
func sortedCallers(days map[dtyp.SID]uint16) []KeyCaller {
	type entry struct {
		caller KeyCaller
		sub    []uint32
	}
	list := make([]entry, 0, len(days))
	for sid, day := range days {
		list = append(list, entry{KeyCaller{sid, dayTime(int32(day))}, sid.SubAuthorities()})
	}
	slices.SortFunc(list, func(a, b entry) int {
		if c := cmp.Compare(a.caller.SID.Authority(), b.caller.SID.Authority()); c != 0 {
			return c
		}
		return slices.Compare(a.sub, b.sub)
	})
	callers := make([]KeyCaller, len(list))
	for i, e := range list {
		callers[i] = e.caller
	}
	return callers
}
