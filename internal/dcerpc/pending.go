package dcerpc

import (
	"sync"

	"github.com/seed05845750/bkrp/dtyp"
)

// pendingShare is the part of Limits.MaxPending that one caller may have, a
// fourth: otherwise anybody with an account could keep all others from calls in
// several fragments, by beginning some and not ending them.
const pendingShare = 4

// pending is how many octets all connections hold by requests of which they
// gather the fragments, and whose they are. It is safe for concurrent use; a
// request in one fragment does not touch it.
type pending struct {
	mu   sync.Mutex
	held int64
	by   map[dtyp.SID]int64
}

// take has a caller hold n octets more; ok is false if that is more than all, or
// he alone, may have.
func (p *pending) take(caller dtyp.SID, n int64, l *Limits) (ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	// One request has its room in any case.
	share := max(l.MaxPending/pendingShare, int64(l.MaxRequest))
	if p.held+n > l.MaxPending || p.by[caller]+n > share {
		return false
	}
	if p.by == nil {
		p.by = make(map[dtyp.SID]int64)
	}
	p.held += n
	p.by[caller] += n
	return true
}

// give takes them back.
func (p *pending) give(caller dtyp.SID, n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held -= n
	if p.by[caller] -= n; p.by[caller] == 0 {
		delete(p.by, caller)
	}
}
