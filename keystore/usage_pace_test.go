package keystore

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
)

// What few callers cost is written each time; what very many do, as often as the
// store bears.
func TestFlushRest(t *testing.T) {
	for _, test := range []struct {
		wrote int64
		want  time.Duration
	}{
		{0, 0},
		{DefaultUsageFlush.Milliseconds() * flushRate / 1000, 0},
		{flushRate * 60, 50 * time.Second},
		{whoBuckets * maxWhoSize, (whoBuckets*maxWhoSize/flushRate)*time.Second - DefaultUsageFlush},
	} {
		if got := flushRest(test.wrote, DefaultUsageFlush); got != test.want {
			t.Errorf("after %d octets it rests for %v, want %v", test.wrote, got, test.want)
		}
	}
}

// One caller more of a key that many use has one bucket written, which is
// counted.
func TestFlushCounts(t *testing.T) {
	b, kek := NewMemory(), NewThrowAwaySealer()
	domain := dtyp.MustParseSID("S-1-5-21-1-2-3")
	if err := Create(t.Context(), b, kek, Domain{DNSName: "bkrp.example", NetBIOSName: "BKRP", SID: domain}); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), b, kek, Options{UsageFlush: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	k, err := s.CurrentServerWrapKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	caller := func(rid uint32) dtyp.SID {
		sid, err := domain.Child(rid)
		if err != nil {
			t.Fatal(err)
		}
		return sid
	}
	flush := func() int64 {
		if err := s.flushUse(t.Context()); err != nil {
			t.Fatal(err)
		}
		return s.usage.wrote.Swap(0)
	}
	const callers = 32_000
	for rid := range uint32(callers) {
		k.Used(caller(rid), UseWrap)
	}
	size := int64(caller(0).Size() + binary.Size(uint16(0)))
	if wrote := flush(); wrote < callers*size {
		t.Errorf("%d callers of %d octets cost %d", callers, size, wrote)
	}
	k.Used(caller(callers), UseWrap)
	if wrote, bucket := flush(), callers*size/whoBuckets; wrote < bucket/2 || wrote > 2*bucket {
		t.Errorf("one caller more costs %d octets, a bucket has about %d", wrote, bucket)
	}
	if wrote := flush(); wrote != 0 {
		t.Errorf("nothing new costs %d octets", wrote)
	}
}
