package lsastore

import (
	"errors"
	"time"
)

// How long no logon is tried after one that was refused, at first and at most.
// A password that is no longer right would otherwise lock the account out, at
// each call a little more.
const (
	firstPause = time.Minute
	lastPause  = time.Hour
)

// pause keeps a refused logon from being tried again too soon.
type pause struct {
	refused error // nil if the last logon was not refused
	until   time.Time
	length  time.Duration
}

// over is nil, or why there is no logon to be tried yet.
func (p *pause) over(now time.Time) error {
	if p.refused != nil && now.Before(p.until) {
		return p.refused
	}
	return nil
}

// note takes how a logon ended.
func (p *pause) note(now time.Time, err error) {
	switch {
	case err == nil:
		*p = pause{}
	case errors.Is(err, ErrLogon):
		p.length = min(max(2*p.length, firstPause), lastPause)
		p.refused, p.until = err, now.Add(p.length)
	}
}
