package main

import (
	"math"
	"slices"
	"sync"
	"testing"
	"time"
)

// Every bucket holds what lies between the bucket before and itself, is no wider
// than the error allows, and no duration is without one.
func TestHistogramBuckets(t *testing.T) {
	below := time.Duration(-1)
	for b := range histogramBuckets {
		top := histogramTop(b)
		if got := histogramBucket(below + 1); got != b {
			t.Fatalf("%v is in bucket %d, not %d", below+1, got, b)
		}
		if got := histogramBucket(top); got != b {
			t.Fatalf("%v is in bucket %d, not %d", top, got, b)
		}
		if width := top - below; width > 1 && float64(width) > histogramError*float64(below+1) {
			t.Fatalf("bucket %d from %v to %v is wider than %v of it", b, below+1, top, histogramError)
		}
		below = top
	}
	if below < maxLatency {
		t.Errorf("the last bucket ends at %v, before %v", below, maxLatency)
	}
}

// Against the durations themselves, sorted.
func TestHistogramQuantile(t *testing.T) {
	h := new(histogram)
	if got := h.quantile(0.5); got != 0 {
		t.Errorf("of nothing: %v", got)
	}
	var all []time.Duration
	d := time.Duration(1)
	for i := range 5000 {
		d = d*7919%(10*time.Second) + time.Duration(i)
		all = append(all, d)
	}
	var group sync.WaitGroup
	for part := range slices.Chunk(all, 1250) { // as many workers do
		group.Go(func() {
			for _, d := range part {
				h.add(d)
			}
		})
	}
	group.Wait()
	slices.Sort(all)
	if h.count() != uint64(len(all)) {
		t.Errorf("%d are counted, not %d", h.count(), len(all))
	}
	for _, q := range []float64{0, 0.001, 0.5, 0.9, 0.99, 0.999, 1} {
		want := all[max(int(math.Ceil(q*float64(len(all)))), 1)-1]
		if got := h.quantile(q); got < want || float64(got) > float64(want)*(1+histogramError)+1 {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
	if got := h.quantile(1); got != all[len(all)-1] {
		t.Errorf("the longest is %v, want exactly %v", got, all[len(all)-1])
	}
	more := new(histogram)
	more.add(3 * maxLatency)
	more.add(-time.Second)
	h.merge(more)
	if got := h.quantile(1); got != 3*maxLatency || h.count() != uint64(len(all))+2 {
		t.Errorf("with one of %v and one of less than nothing: longest %v of %d", 3*maxLatency, got, h.count())
	}
}
