package keystore

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
)

// Use is what a key is used for.
type Use uint8

const (
	// UseWrap is a secret wrapped by the server ([MS-BKRP] 3.1.4.1.1).
	UseWrap Use = iota
	// UseUnwrap is a secret unwrapped for its owner (3.1.4.1.2, 3.1.4.1.4).
	UseUnwrap
	// UseRetrieve is the public key given to a client (3.1.4.1.3), which wraps
	// as often as it likes.
	UseRetrieve

	numUses
)

const (
	// DefaultUsageFlush is how often the use of keys is written down.
	DefaultUsageFlush = 10 * time.Second
	// MaxCallers is how many callers of a key are remembered in one day, and
	// about how many in all.
	MaxCallers = 1_000_000
)

// usage counts the use of keys. What is counted is in memory until it is written
// down, every so often and at Close; a key may be forgotten and read again in
// the meantime.
type usage struct {
	server string        // the entries of this server are named after it
	writer dtyp.GUID     // drawn at the start
	every  time.Duration // between two writings
	seed   maphash.Seed
	today  atomic.Int32 // see dayOf; brought up to date at each writing
	wrote  atomic.Int64 // octets, since countUse looked last

	turn turns // of those who write
	mu   sync.Mutex
	keys map[dtyp.GUID]*keyUse
}

func (u *usage) init(o Options, now time.Time) {
	u.server, u.writer, u.every, u.seed = serverName(o.Replica), randomGUID(), o.UsageFlush, maphash.MakeSeed()
	if u.every <= 0 {
		u.every = DefaultUsageFlush
	}
	u.today.Store(dayOf(now))
	u.keys = make(map[dtyp.GUID]*keyUse)
}

// of returns what counts the use of a key: nil where nothing does, which is
// over the secrets of a domain.
func (u *usage) of(guid dtyp.GUID) *keyUse {
	if u.keys == nil {
		return nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	k := u.keys[guid]
	if k == nil {
		k = &keyUse{usage: u, guid: guid}
		u.keys[guid] = k
	}
	return k
}

// all returns what counts the use of each key.
func (u *usage) all() []*keyUse {
	u.mu.Lock()
	defer u.mu.Unlock()
	list := make([]*keyUse, 0, len(u.keys))
	for _, k := range u.keys {
		list = append(list, k)
	}
	return list
}

// dayOf numbers the days of UTC from 1 January 1970 on; those before are that one.
func dayOf(t time.Time) int32 { return int32(max(0, t.Unix()/secondsPerDay)) }

const secondsPerDay = 24 * 60 * 60

// dayTime is the inverse of dayOf: the day's beginning.
func dayTime(day int32) time.Time { return time.Unix(int64(day)*secondsPerDay, 0).UTC() }

// keyUse counts the use of one key.
type keyUse struct {
	usage *usage
	guid  dtyp.GUID

	counts  [numUses]atomic.Uint64 // since the store was opened
	callers atomic.Pointer[callerTable]

	alarmed atomic.Int64 // when the last alarm was raised, in nanoseconds; 0 is never
	silent  atomic.Uint64

	mu       sync.Mutex  // held by those who add a caller
	fresh    []*dtyp.SID // since what was counted was taken last
	overflow bool

	pending pendingUse // of the goroutine that has the turn to write
}

// used counts one use. It takes no lock, unless it is the caller's first one of
// the day, and touches nothing but memory.
func (k *keyUse) used(sid dtyp.SID, use Use) {
	if k == nil || use >= numUses {
		return
	}
	k.counts[use].Add(1)
	if sid.IsZero() {
		return
	}
	day, hash := k.usage.today.Load(), maphash.Comparable(k.usage.seed, sid)
	if t := k.callers.Load(); t != nil && t.covers(day) && (t.full.Load() || t.has(hash, &sid)) {
		return
	}
	k.addCaller(sid, hash, day)
}

// addCaller notes a caller's first use on a day.
func (k *keyUse) addCaller(sid dtyp.SID, hash uint64, day int32) {
	k.mu.Lock()
	defer k.mu.Unlock()
	t := k.callers.Load()
	if t == nil || !t.covers(day) {
		t = newCallerTable(day, minCallerSlots)
	}
	if t.has(hash, &sid) {
		return
	}
	if t.n >= MaxCallers || len(k.fresh) >= MaxCallers {
		k.overflow = true
		t.full.Store(t.n >= MaxCallers)
		k.callers.Store(t)
		return
	}
	if 4*(t.n+1) > 3*len(t.slots) {
		t = t.grown(k.usage.seed)
	}
	t.add(hash, &sid)
	k.fresh = append(k.fresh, &sid)
	k.callers.Store(t)
}

// retiredUse counts one use of a retired key, and says whether an alarm is due:
// there has been none for as long as every. uses is how many there were since.
func (k *keyUse) retiredUse(now time.Time, every time.Duration) (uses uint64, due bool) {
	if k == nil {
		return 1, true
	}
	k.silent.Add(1)
	last := k.alarmed.Load()
	quiet := now.UnixNano() - last // negative where the clock was set back
	if last != 0 && 0 <= quiet && quiet < int64(every) || !k.alarmed.CompareAndSwap(last, now.UnixNano()) {
		return 0, false
	}
	return k.silent.Swap(0), true
}

// callerTable is the callers of one key on one day. It is read without a lock:
// slots are filled and never emptied, and a quarter of them stays empty.
type callerTable struct {
	day   int32
	full  atomic.Bool
	slots []atomic.Pointer[dtyp.SID] // a power of two of them
	n     int                        // filled; of those who add
}

const minCallerSlots = 16

// covers says whether the table is the one for a day. It may be that of the day
// after, for somebody who took the day a moment before; a later one is of a clock
// that was ahead.
func (t *callerTable) covers(day int32) bool { return t.day == day || t.day == day+1 }

func newCallerTable(day int32, slots int) *callerTable {
	return &callerTable{day: day, slots: make([]atomic.Pointer[dtyp.SID], slots)}
}

func (t *callerTable) has(hash uint64, sid *dtyp.SID) bool {
	mask := uint64(len(t.slots) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		p := t.slots[i].Load()
		if p == nil {
			return false
		}
		if *p == *sid {
			return true
		}
	}
}

func (t *callerTable) add(hash uint64, sid *dtyp.SID) {
	mask := uint64(len(t.slots) - 1)
	i := hash & mask
	for t.slots[i].Load() != nil {
		i = (i + 1) & mask
	}
	t.slots[i].Store(sid)
	t.n++
}

// grown is a table of the same callers with room for more.
func (t *callerTable) grown(seed maphash.Seed) *callerTable {
	larger := newCallerTable(t.day, 2*len(t.slots))
	for i := range t.slots {
		if sid := t.slots[i].Load(); sid != nil {
			larger.add(maphash.Comparable(seed, *sid), sid)
		}
	}
	return larger
}
