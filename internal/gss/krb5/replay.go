package krb5

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/seed05845750/bkrp/internal/gss"
)

// maxReplay bounds the requests that are remembered: 32 octets each, some
// 40 MiB in all, and at 5 minutes of skew 3000 new ones in a second.
const maxReplay = 1 << 20

var (
	errReplay     = fmt.Errorf("krb5: the request was seen before: %w", gss.ErrLogon)
	errReplayFull = errors.New("krb5: too many logons to remember them all; set back the clock skew or spread the load")
)

// requestID is a hash of the sealed authenticator, which no two requests
// share: it has a random confounder under a MAC.
type requestID [16]byte

// replayCache remembers requests for as long as their time would let them in
// (RFC 4120 3.2.3). It is safe for concurrent use.
//
// It begins empty when the server starts. A request from before that, played
// again, gives whoever plays it nothing but a context whose key he does not
// have, and no call is served without it.
type replayCache struct {
	skew time.Duration
	max  int

	mu   sync.Mutex
	size int
	// minutes holds the requests by the minute that they say they were made
	// in, so that they are forgotten by the minute.
	minutes map[int64]map[requestID]struct{}
}

func newReplayCache(skew time.Duration, most int) *replayCache {
	return &replayCache{skew: skew, max: most, minutes: make(map[int64]map[requestID]struct{})}
}

// admit remembers a request that was made at made, by the client, which is
// within the skew of now. It fails when the request was admitted before, and
// when there is no room for it: one that is not remembered is not let in.
func (c *replayCache) admit(sealed []byte, made, now time.Time) error {
	hash := sha256.Sum256(sealed)
	id := requestID(hash[:])
	minute := made.Unix() / 60
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.minutes[minute][id]; ok {
		return errReplay
	}
	c.forget(now)
	if c.size >= c.max {
		return errReplayFull
	}
	if c.minutes[minute] == nil {
		c.minutes[minute] = make(map[requestID]struct{})
	}
	c.minutes[minute][id] = struct{}{}
	c.size++
	return nil
}

// forget drops the minutes that end before the skew begins. The skew bounds
// how many there are.
func (c *replayCache) forget(now time.Time) {
	for minute, ids := range c.minutes {
		if time.Unix((minute+1)*60, 0).Before(now.Add(-c.skew)) {
			c.size -= len(ids)
			delete(c.minutes, minute)
		}
	}
}
