package hsm

import "time"

// RenewAtOnce lets the next failure set the library up again, however short a
// time ago that was done.
func (t *Token) RenewAtOnce() {
	t.module.mu.Lock()
	defer t.module.mu.Unlock()
	t.module.last = time.Time{}
}
