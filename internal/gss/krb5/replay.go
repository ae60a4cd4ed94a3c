package krb5

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/seed05845750/bkrp/internal/gss"
)

const (
	// maxReplay bounds the requests that are remembered: some 40 MiB in all, 100
	// if each is of another account, and at 5 minutes of skew 2500 new ones in a
	// second.
	maxReplay = 1 << 20
	// replayShare is the part of them that one account may have, a fourth: with
	// one ticket anybody can make requests as fast as they are answered, and
	// is not to keep out all the others by it.
	replayShare = 4
)

var (
	errReplay     = fmt.Errorf("krb5: the request was seen before: %w", gss.ErrLogon)
	errReplayFull = errors.New("krb5: too many logons to remember them all; set back the clock skew or spread the load")
	errReplayMany = errors.New("krb5: too many logons of this account to remember them all; see what it does, or set back the clock skew")
)

// accountID is a hash of what an account is told from others by, which may be
// long.
type accountID [16]byte

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
	minutes map[int64]*replayMinute
}

// replayMinute is the requests of one minute, and how many of them each account
// made.
type replayMinute struct {
	seen     map[requestID]struct{}
	accounts map[accountID]int
}

func newReplayCache(skew time.Duration, most int) *replayCache {
	return &replayCache{skew: skew, max: most, minutes: make(map[int64]*replayMinute)}
}

// admit remembers a request that was made at made, by the clock of the client,
// which is within the skew of now. It fails when the request was admitted
// before, and when there is no room for it: one that is not remembered is not
// let in.
func (c *replayCache) admit(account string, sealed []byte, made, now time.Time) error {
	hash := sha256.Sum256(sealed)
	id := requestID(hash[:])
	hash = sha256.Sum256([]byte(account))
	who := accountID(hash[:])
	minute := made.Unix() / 60
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.minutes[minute]
	if m != nil {
		if _, ok := m.seen[id]; ok {
			return errReplay
		}
	}
	c.forget(now)
	if c.size >= c.max {
		return errReplayFull
	}
	if c.sizeOf(who) >= c.max/replayShare {
		return errReplayMany
	}
	if m = c.minutes[minute]; m == nil {
		m = &replayMinute{make(map[requestID]struct{}), make(map[accountID]int)}
		c.minutes[minute] = m
	}
	m.seen[id] = struct{}{}
	m.accounts[who]++
	c.size++
	return nil
}

// sizeOf is how many requests of an account are remembered.
func (c *replayCache) sizeOf(who accountID) (n int) {
	for _, m := range c.minutes {
		n += m.accounts[who]
	}
	return n
}

// forget drops the minutes that end before the skew begins, one minute later
// than they have to be remembered: another logon may have looked at the clock
// just before, or the clock was set back a little. The skew bounds how many
// there are.
func (c *replayCache) forget(now time.Time) {
	for minute, m := range c.minutes {
		if time.Unix((minute+2)*60, 0).Before(now.Add(-c.skew)) {
			c.size -= len(m.seen)
			delete(c.minutes, minute)
		}
	}
}
