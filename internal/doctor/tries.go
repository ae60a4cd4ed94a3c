package doctor

import (
	"strings"
	"sync"
)

// maxRefused is how many servers of a domain may refuse a log-on before the
// others are not asked: each refusal counts against the account, which the domain
// may lock. A client's call takes as many (C-3.2.4-18).
const maxRefused = 2

// tries has the servers of a domain be asked to log the caller on one after the
// other until one of them does: from then on the password is known to be right.
type tries struct {
	mu      sync.Mutex // held while a log-on is under way that may count
	proved  bool
	refused []string // who refused
}

// take waits for the turn to log on; done is told whether that was refused, and
// whether it went well. Where enough have refused, done is nil and by says who.
func (t *tries) take(host string) (done func(refused, well bool), by string) {
	if t == nil {
		return func(bool, bool) {}, ""
	}
	t.mu.Lock()
	if t.proved {
		t.mu.Unlock()
		return func(bool, bool) {}, ""
	}
	if len(t.refused) >= maxRefused {
		by = strings.Join(t.refused, " and ")
		t.mu.Unlock()
		return nil, by
	}
	return func(refused, well bool) {
		if refused {
			t.refused = append(t.refused, host)
		}
		t.proved = well
		t.mu.Unlock()
	}, ""
}
