package krb5

import (
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"
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
				if c.admit(id, now, now) == nil {
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
		if err := c.admit(binary.BigEndian.AppendUint32(nil, n), now, now); err != nil {
			t.Fatal(err)
		}
	}
	one := []byte("one more")
	if err := c.admit(one, now, now); !errors.Is(err, errReplayFull) {
		t.Errorf("with a full cache: %v", err)
	}
	// As long as the time of a request lets it in, it is remembered.
	if err := c.admit([]byte{0, 0, 0, 0}, now, now.Add(DefaultClockSkew)); !errors.Is(err, errReplay) {
		t.Errorf("at the end of the skew: %v", err)
	}
	later := now.Add(DefaultClockSkew + 2*time.Minute)
	if err := c.admit(one, later, later); err != nil || c.size != 1 || len(c.minutes) != 1 {
		t.Errorf("after the skew: %v, %d remembered", err, c.size)
	}
}
