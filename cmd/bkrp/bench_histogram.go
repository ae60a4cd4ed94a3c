package main

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// Every power of two is cut into 2^histogramBits buckets of one width, so that a
// value is known to 1 part in 128. What takes longer than maxLatency is counted
// in the last bucket.
const (
	histogramBits = 7
	maxLatency    = time.Hour
)

// histogramError is by how much a percentile may be too high, as a part of it. It
// is never too low.
const histogramError = 1.0 / (1 << histogramBits)

// histogramBuckets covers maxLatency in nanoseconds: 2^42 is 73 minutes.
const histogramBuckets = (42 - histogramBits + 1) << histogramBits

// histogram counts durations in buckets whose width grows with the duration. It
// has 36 KiB, however many are counted, and takes counts from many goroutines.
type histogram struct {
	buckets [histogramBuckets]atomic.Uint64
	max     atomic.Int64 // exact, in nanoseconds
}

// add counts one duration.
func (h *histogram) add(d time.Duration) {
	d = max(d, 0)
	h.buckets[histogramBucket(min(d, maxLatency))].Add(1)
	for {
		old := h.max.Load()
		if int64(d) <= old || h.max.CompareAndSwap(old, int64(d)) {
			return
		}
	}
}

// histogramBucket is where a duration is counted. Below 2^histogramBits every
// nanosecond has a bucket of its own.
func histogramBucket(d time.Duration) int {
	v := uint64(d)
	shift := max(bits.Len64(v)-histogramBits-1, 0)
	return shift<<histogramBits + int(v>>shift)
}

// histogramTop is the longest duration that is counted in a bucket.
func histogramTop(bucket int) time.Duration {
	shift := max(bucket>>histogramBits-1, 0)
	return time.Duration(uint64(bucket-shift<<histogramBits+1)<<shift - 1)
}

// merge adds the counts of another histogram to those of h.
func (h *histogram) merge(other *histogram) {
	for i := range other.buckets {
		if n := other.buckets[i].Load(); n > 0 {
			h.buckets[i].Add(n)
		}
	}
	if m := other.max.Load(); m > h.max.Load() {
		h.max.Store(m)
	}
}

// count is how many durations were counted.
func (h *histogram) count() (n uint64) {
	for i := range h.buckets {
		n += h.buckets[i].Load()
	}
	return n
}

// quantile is a duration that at least that part, 0 to 1, of those that were
// counted did not exceed; 0 if there are none.
func (h *histogram) quantile(part float64) time.Duration {
	rank := max(uint64(math.Ceil(part*float64(h.count()))), 1)
	longest := time.Duration(h.max.Load())
	var seen uint64
	for i := range h.buckets {
		if seen += h.buckets[i].Load(); seen >= rank {
			if i == histogramBucket(maxLatency) {
				break // anything from here on
			}
			return min(histogramTop(i), longest)
		}
	}
	return longest
}
