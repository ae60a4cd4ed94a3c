package keystore

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
)

// Each server has entries of its own about the use of a key, so that no two
// write the same one:
//
//	use/GUID/SERVER           how often, as JSON: useRecord
//	who/GUID/SERVER/BUCKET    by whom, in 32 buckets, 00 to 1f: whoRecord
const (
	usePrefix = "use/"
	whoPrefix = "who/"
)

func useEntry(guid dtyp.GUID, server string) string { return usePrefix + guid.String() + "/" + server }

func whoEntry(guid dtyp.GUID, server string, bucket uint8) string {
	return fmt.Sprintf("%s%v/%s/%02x", whoPrefix, guid, server, bucket)
}

// isUsage says whether an entry is of the use of keys, which nobody keeps in
// memory.
func isUsage(name string) bool {
	return strings.HasPrefix(name, usePrefix) || strings.HasPrefix(name, whoPrefix)
}

const maxServerName = 64

// serverName is the name of a replica as it stands in entries. A name that is
// long, or has other characters than those of host names, stands there as a
// hash.
func serverName(replica string) string {
	if replica == "" {
		return "local"
	}
	if isServerName(replica) && replica != "local" {
		return replica
	}
	sum := sha256.Sum256([]byte(replica))
	return "sha256-" + hex.EncodeToString(sum[:16])
}

func isServerName(s string) bool {
	for _, c := range []byte(s) {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && !('0' <= c && c <= '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return s != "" && len(s) <= maxServerName
}

// useGUID gives the GUID in the name of an entry of usePrefix.
func useGUID(name string) (guid dtyp.GUID, ok bool) {
	text, ok := strings.CutPrefix(name, usePrefix)
	if !ok {
		return dtyp.GUID{}, false
	}
	text, server, ok := strings.Cut(text, "/")
	if !ok || !isServerName(server) {
		return dtyp.GUID{}, false
	}
	guid, err := dtyp.ParseGUID(text)
	return guid, err == nil && guid.String() == text
}

// useRecord is how often one server used a key.
type useRecord struct {
	Version int `json:"version"`
	// Since is when counting began. Lost is set instead of it being earlier:
	// there was a record, and it could not be read.
	Since time.Time `json:"since"`
	Lost  bool      `json:"lost,omitempty"`
	// Writer and Seq name the writing that the record comes from: who does not
	// know whether it was done looks here.
	Writer dtyp.GUID `json:"writer"`
	Seq    uint64    `json:"seq"`
	useCount
}

// useCount is uses of a key.
type useCount struct {
	Wraps     uint64    `json:"wraps,omitempty"`
	Unwraps   uint64    `json:"unwraps,omitempty"`
	Retrieves uint64    `json:"retrieves,omitempty"`
	Last      time.Time `json:"last,omitzero"`
	// Days are days with unwraps, in order, 90 at most: the last ones, and where
	// the clock was off for a while perhaps others.
	Days []dayCount `json:"days,omitempty"`
}

type dayCount struct {
	Day     int32  `json:"day"` // see dayOf
	Unwraps uint64 `json:"unwraps"`
}

const (
	useVersion = 1
	// maxUseDays is for how many days unwraps are kept apart.
	maxUseDays = 90
)

func (c *useCount) empty() bool { return c.Last.IsZero() }

// add adds the uses in d, which are later than those in c. A time that is more
// than a day ahead of them is none that one can believe: the clock was wrong, then
// or now, and the present one is taken.
func (c *useCount) add(d *useCount) {
	c.Wraps += d.Wraps
	c.Unwraps += d.Unwraps
	c.Retrieves += d.Retrieves
	if !d.Last.IsZero() && (d.Last.After(c.Last) || c.Last.Sub(d.Last) > secondsPerDay*time.Second) {
		c.Last = d.Last
	}
	for _, day := range d.Days {
		i, found := slices.BinarySearchFunc(c.Days, day.Day, func(e dayCount, day int32) int { return int(e.Day) - int(day) })
		if !found {
			c.Days = slices.Insert(c.Days, i, dayCount{Day: day.Day})
		}
		c.Days[i].Unwraps += day.Unwraps
		// The one that is furthest away goes: as a rule the oldest, or one of a
		// clock that was off.
		if n := len(c.Days); n > maxUseDays && day.Day-c.Days[0].Day >= c.Days[n-1].Day-day.Day {
			c.Days = c.Days[1:]
		} else if n > maxUseDays {
			c.Days = c.Days[:n-1]
		}
	}
}

func parseUseRecord(entry string, value []byte) (*useRecord, error) {
	r := new(useRecord)
	bad := fmt.Errorf("%w: %s is not readable", ErrCorrupt, entry)
	if err := strictJSON(value, r); err != nil || r.Version != useVersion || len(r.Days) > maxUseDays {
		return nil, bad
	}
	for i, d := range r.Days {
		if d.Day < 0 || i > 0 && d.Day <= r.Days[i-1].Day {
			return nil, bad
		}
	}
	return r, nil
}

func (r *useRecord) marshal() ([]byte, error) {
	r.Version = useVersion
	value, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("keystore: writing the use of a key: %w", err)
	}
	return value, nil
}

// whoRecord is the callers of a key on one server in one bucket, with the day of
// each one's last use. As octets it is
//
//	version   1 octet, 1
//	flags     1 octet: 1 there were more than fit, 2 there were others, lost
//	callers   SID (dtyp.SID.AppendBinary) and day (2 octets, little-endian),
//	          in the order of the SIDs' octets
type whoRecord struct {
	more, lost bool
	days       map[dtyp.SID]uint16
	size       int // as octets
}

const (
	whoVersion    = 1
	whoHeaderSize = 2
	whoDaySize    = 2
	whoMore       = 1
	whoLost       = 2
	// whoBuckets keeps small what one caller more has written anew, and each
	// bucket of a million callers below the limit of a value.
	whoBuckets = 32
	// maxWhoSize leaves room for what sealing adds.
	maxWhoSize = 1_000_000
)

// whoBucket is the bucket that a caller belongs in.
func whoBucket(sid dtyp.SID) uint8 {
	var buf [dtyp.MaxSIDSize]byte
	b, _ := sid.AppendBinary(buf[:0]) // of the zero SID there is nothing to hash
	h := fnv.New64a()
	h.Write(b)
	sum := h.Sum64()
	return uint8((sum ^ sum>>32) % whoBuckets)
}

func newWhoRecord() *whoRecord {
	return &whoRecord{days: make(map[dtyp.SID]uint16), size: whoHeaderSize}
}

// add notes a caller's use on a day, and reports whether that changed anything. A
// day that is ahead of it by more than one is of a clock that was wrong, then or
// now; the present one is taken.
func (r *whoRecord) add(sid dtyp.SID, day int32) (changed bool) {
	last, there := r.days[sid]
	d := uint16(min(max(day, 0), 1<<16-1))
	switch size := sid.Size() + whoDaySize; {
	case there && d <= last && last-d <= 1, !there && sid.IsZero():
		return false
	case !there && r.size+size > maxWhoSize:
		changed = !r.more
		r.more = true
		return changed
	case !there:
		r.size += size
	}
	r.days[sid] = d
	return true
}

func (r *whoRecord) marshal() ([]byte, error) {
	type caller struct{ sid, day []byte }
	list := make([]caller, 0, len(r.days))
	for sid, day := range r.days {
		b, err := sid.AppendBinary(make([]byte, 0, sid.Size()+whoDaySize))
		if err != nil {
			return nil, fmt.Errorf("keystore: writing the callers of a key: %w", err)
		}
		n := len(b)
		b = binary.LittleEndian.AppendUint16(b, day)
		list = append(list, caller{b[:n], b[n:]})
	}
	slices.SortFunc(list, func(a, b caller) int { return bytes.Compare(a.sid, b.sid) })
	var flags byte
	if r.more {
		flags |= whoMore
	}
	if r.lost {
		flags |= whoLost
	}
	out := append(make([]byte, 0, r.size), whoVersion, flags)
	for _, c := range list {
		out = append(append(out, c.sid...), c.day...)
	}
	return out, nil
}

// parseWhoRecord is the inverse of marshal, and takes nothing that marshal does
// not write.
func parseWhoRecord(entry string, value []byte) (*whoRecord, error) {
	bad := fmt.Errorf("%w: %s is not readable", ErrCorrupt, entry)
	if len(value) < whoHeaderSize || len(value) > maxWhoSize || value[0] != whoVersion || value[1]&^(whoMore|whoLost) != 0 {
		return nil, bad
	}
	r := newWhoRecord()
	r.more, r.lost, r.size = value[1]&whoMore != 0, value[1]&whoLost != 0, len(value)
	var last []byte
	for b := value[whoHeaderSize:]; len(b) > 0; {
		sid, rest, err := dtyp.CutSID(b)
		if err != nil || len(rest) < whoDaySize {
			return nil, bad
		}
		text := b[:len(b)-len(rest)]
		if bytes.Compare(last, text) >= 0 {
			return nil, bad
		}
		last = text
		r.days[sid] = binary.LittleEndian.Uint16(rest)
		b = rest[whoDaySize:]
	}
	return r, nil
}
