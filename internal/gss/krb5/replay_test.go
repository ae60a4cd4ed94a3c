package krb5

import (
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/internal/gss"
)

func TestReplayCacheIsAtomic(t *testing.T) {
	c := newReplayCache(DefaultClockSkew, maxReplay)
	now := time.Unix(1e9, 0)
	for n := range uint32(200) {
		id := binary.BigEndian.AppendUint32(nil, n)
		var admitted atomic.Int32
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if c.admit("alice", id, now, now) == nil {
					admitted.Add(1)
				}
			})
		}
		all.Wait()
		if admitted.Load() != 1 {
			t.Fatalf("request %d was admitted %d times", n, admitted.Load())
		}
	}
}

func TestReplayCacheForgets(t *testing.T) {
	c := newReplayCache(DefaultClockSkew, 100)
	now := time.Unix(1e9, 0)
	for n := range uint32(100) {
		id := binary.BigEndian.AppendUint32(nil, n)
		if err := c.admit(string(id), id, now, now); err != nil {
			t.Fatal(err)
		}
	}
	one := []byte("one more")
	if err := c.admit("alice", one, now, now); !errors.Is(err, errReplayFull) {
		t.Errorf("with a full cache: %v", err)
	}
	// As long as the time of a request lets it in, it is remembered.
	if err := c.admit("alice", []byte{0, 0, 0, 0}, now, now.Add(DefaultClockSkew)); !errors.Is(err, errReplay) {
		t.Errorf("at the end of the skew: %v", err)
	}
	later := now.Add(DefaultClockSkew + 2*time.Minute)
	if err := c.admit("alice", one, later, later); err != nil || c.size != 1 || len(c.minutes) != 1 {
		t.Errorf("after the skew: %v, %d remembered", err, c.size)
	}
}

// One client has a share of the cache and leaves the others theirs.
func TestReplayCacheIsShared(t *testing.T) {
	c := newReplayCache(DefaultClockSkew, 100)
	now := time.Unix(1e9, 0)
	// As far apart as the skew lets them be.
	made := func(n uint32) time.Time { return now.Add(time.Duration(n%2) * DefaultClockSkew) }
	for n := range uint32(100) {
		err := c.admit("mallory", binary.BigEndian.AppendUint32(nil, n), made(n), now)
		if n < 100/replayShare && err != nil || n >= 100/replayShare && !errors.Is(err, errReplayMany) {
			t.Fatalf("request %d: %v", n, err)
		}
	}
	if err := c.admit("mallory", []byte{0, 0, 0, 0}, now, now); !errors.Is(err, errReplay) {
		t.Errorf("again: %v", err)
	}
	if err := c.admit("alice", []byte("alice's"), now, now); err != nil {
		t.Errorf("another client: %v", err)
	}
	later := now.Add(2*DefaultClockSkew + 3*time.Minute)
	if err := c.admit("mallory", []byte("later"), later, later); err != nil || c.size != 1 {
		t.Errorf("after the skew: %v, %d remembered", err, c.size)
	}
}

// A minute is remembered longer than its requests are let in, so that no logon
// whose look at the clock lies a little back finds it forgotten.
func TestReplayCacheOverlaps(t *testing.T) {
	c := newReplayCache(DefaultClockSkew, 100)
	made := time.Unix(1e9/60*60+59, 0)
	if err := c.admit("alice", []byte("first"), made, made); err != nil {
		t.Fatal(err)
	}
	if err := c.admit("bob", []byte("bob's"), made, made.Add(DefaultClockSkew+2*time.Second)); err != nil {
		t.Fatal(err)
	}
	if err := c.admit("alice", []byte("first"), made, made.Add(DefaultClockSkew)); !errors.Is(err, errReplay) {
		t.Errorf("played again: %v", err)
	}
}

// The share is that of an account, in whatever case its name stands in a ticket:
// there are KDCs that write what they are asked for.
func TestReplayShareIsOfTheAccount(t *testing.T) {
	f := forge(t)
	a := f.acceptor(t, Config{})
	a.replay = newReplayCache(DefaultClockSkew, 2*replayShare)
	name := f.part.client.parts[0]
	for n := range 2 * replayShare {
		as := []byte(name)
		for bit := range 3 {
			if n>>bit&1 == 1 {
				as[bit] ^= 'a' ^ 'A'
			}
		}
		f.part.client.parts = []string{string(as)}
		f.auth.client = f.part.client
		f.auth.seq = newSequence()
		_, _, err := a.Accept(gss.AcceptOptions{}).Step(t.Context(), f.seal(t, true))
		if n < 2 && err != nil || n >= 2 && !errors.Is(err, errReplayMany) {
			t.Errorf("request %d, of %s: %v", n, as, err)
		}
	}
	if a.replay.size != 2 {
		t.Errorf("%d of %d requests remembered are one account's", a.replay.size, a.replay.max)
	}
}
