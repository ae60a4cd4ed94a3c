package smb2

// window is the command sequence window of a connection ([MS-SMB2] 3.3.1.1,
// 3.3.5.2.3): which message ids the client may still use, each once. Its size
// is fixed, so a client that leaves holes runs out of credits and not the
// server out of memory.
type window struct {
	// low is the lowest id that may still come, high the first one that is
	// not granted.
	low, high uint64
	// available counts the ids of [low, high) that have not come.
	available uint64
	// used is a ring of one bit for each id of [low, high).
	used []uint64
}

// newWindow makes a window with the one id of the first request. It holds
// twice the given number of credits, for requests that overtake each other.
func newWindow(credits int) window {
	return window{high: 1, available: 1, used: make([]uint64, (2*credits+63)/64)}
}

func (w *window) bit(id uint64) (word *uint64, mask uint64) {
	i := id % (64 * uint64(len(w.used)))
	return &w.used[i/64], 1 << (i % 64)
}

// take uses charge ids from id on. It reports false when one of them is not
// granted or was there before.
func (w *window) take(id uint64, charge uint16) bool {
	end := id + uint64(charge)
	if id < w.low || end > w.high || end < id {
		return false
	}
	for i := id; i < end; i++ {
		if word, mask := w.bit(i); *word&mask != 0 {
			return false
		}
	}
	for i := id; i < end; i++ {
		word, mask := w.bit(i)
		*word |= mask
	}
	w.available -= uint64(charge)
	for w.low < w.high {
		word, mask := w.bit(w.low)
		if *word&mask == 0 {
			break
		}
		*word &^= mask
		w.low++
	}
	return true
}

// grant gives up to want credits, at least one where there is room, and never
// more than most at a time in the client's hands.
func (w *window) grant(want uint16, most int) uint16 {
	n := max(uint64(want), 1)
	if w.available >= uint64(most) {
		return 0
	}
	n = min(n, uint64(most)-w.available, 64*uint64(len(w.used))-(w.high-w.low))
	w.high += n
	w.available += n
	return uint16(n)
}
