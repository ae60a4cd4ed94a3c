package bkrp

import (
	"bytes"
	"crypto/rand"
	"flag"
	"math"
	mrand "math/rand/v2"
	"slices"
	"testing"
	"time"
)

var (
	timingPairs = flag.Int("timing.pairs", 0, "pairs that TestTiming measures for each question; 0 skips it, 100000 tells")
	timingRSA   = flag.Bool("timing.rsa", false, "let TestTiming do the RSA operation each time too")
)

// maxT is the value of Welch's t beyond which two sets of times are taken to
// differ, by the custom of leakage assessment.
const maxT = 4.5

// timingQuestions are pairs of blobs which an attacker would like to tell
// apart by the time their refusal takes.
var timingQuestions = []struct {
	name    string
	version uint32
	a, b    func(c *crafted)
}{
	{"bad padding or bad hash", 2, badPadding, badHash},
	{"bad padding or bad hash", 3, badPadding, badHash},
	{"no end of padding or bad hash", 2, noEnd, badHash},
	{"bad padding or bad secret format", 3, badPadding, badSecretFormat},
	{"bad AccessCheck format or bad hash", 2, badCheckFormat, badHash},
	{"short or long message", 2, shortMessage, badSecretFormat},
	{"bad hash or bad hash", 2, badHash, badHash}, // the measure of the measurement
}

func badPadding(c *crafted)      { c.pad()[1] = 1 }
func noEnd(c *crafted)           { c.em = bytes.Repeat([]byte{2}, modulusSize); c.em[0] = 0 }
func badHash(c *crafted)         { c.check[len(c.check)-1] ^= 1 }
func badSecretFormat(c *crafted) { c.secret[4] ^= 1 }
func badCheckFormat(c *crafted)  { c.check[9+nonceSize] = 15; c.rehash() }
func shortMessage(c *crafted)    { c.secret = c.secret[:3] }

// TestTiming asks, by Welch's t-test over interleaved measurements, whether
// the time of a refusal tells what was wrong. It takes long and wants a
// quiet machine:
//
//	go test -run TestTiming -timing.pairs=100000
//	go test -run TestTiming -timing.pairs=100000 -timing.rsa -timeout 1h
//
// The first leaves the RSA operation out, whose noise would drown the rest.
func TestTiming(t *testing.T) {
	if *timingPairs == 0 {
		t.Skip("a measurement, to be run by hand: -timing.pairs=100000")
	}
	for _, q := range timingQuestions {
		t.Run(q.name, func(t *testing.T) {
			a := newTimed(t, q.version, q.a)
			b := newTimed(t, q.version, q.b)
			as, bs := make([]float64, *timingPairs), make([]float64, *timingPairs)
			for i := range *timingPairs {
				if mrand.Uint32()&1 == 0 {
					as[i], bs[i] = a.measure(i), b.measure(i)
				} else {
					bs[i], as[i] = b.measure(i), a.measure(i)
				}
			}
			as, bs = crop(as, bs)
			v := welch(as, bs)
			t.Logf("version %d: means %.0f ns and %.0f ns, t = %.2f over %d and %d", q.version, mean(as), mean(bs), v, len(as), len(bs))
			if math.Abs(v) > maxT {
				t.Errorf("the two can be told apart: |t| > %v", maxT)
			}
		})
	}
}

// timed is a kind of blob to be opened again and again: many of a kind, so that
// no single key of 3DES decides.
type timed struct {
	t     *testing.T
	blobs []*ClientWrapped
	ems   [][]byte
	key   *KeyPair
}

func newTimed(t *testing.T, version uint32, spoil func(*crafted)) *timed {
	m := &timed{t: t, key: generated(t)}
	for range 256 {
		c := craft(t, version)
		rand.Read(c.check[8 : 8+nonceSize])
		c.rehash()
		spoil(c)
		m.ems = append(m.ems, bytes.Clone(c.pad()))
		m.blobs = append(m.blobs, c.blob(t, m.key))
	}
	return m
}

// measure is how many nanoseconds one refusal takes.
func (m *timed) measure(i int) float64 {
	blob := m.blobs[i%len(m.blobs)]
	em := bytes.Clone(m.ems[i%len(m.ems)])
	raw := func([]byte) ([]byte, error) { return em, nil }
	if *timingRSA {
		raw = m.key.DecryptRaw
	}
	start := time.Now()
	_, err := blob.Open(raw, m.key.RejectionKey())
	d := time.Since(start)
	if err != ErrClientSecret {
		m.t.Fatalf("got %v", err)
	}
	return float64(d.Nanoseconds())
}

// crop leaves out what the machine's other business made slow: everything
// above the 95th percentile of both together.
func crop(as, bs []float64) (x, y []float64) {
	all := slices.Sorted(slices.Values(append(slices.Clone(as), bs...)))
	limit := all[len(all)*95/100]
	above := func(v float64) bool { return v > limit }
	return slices.DeleteFunc(as, above), slices.DeleteFunc(bs, above)
}

func mean(v []float64) float64 {
	var sum float64
	for _, x := range v {
		sum += x
	}
	return sum / float64(len(v))
}

func variance(v []float64) float64 {
	m, sum := mean(v), 0.0
	for _, x := range v {
		sum += (x - m) * (x - m)
	}
	return sum / float64(len(v)-1)
}

// welch is Welch's t of two samples.
func welch(a, b []float64) float64 {
	return (mean(a) - mean(b)) / math.Sqrt(variance(a)/float64(len(a))+variance(b)/float64(len(b)))
}

func TestWelch(t *testing.T) {
	a := []float64{27.5, 21.0, 19.0, 23.6, 17.0, 17.9, 16.9, 20.1, 21.9, 22.6, 23.1, 19.6, 19.0, 21.7, 21.4}
	b := []float64{27.1, 22.0, 20.8, 23.4, 23.4, 23.5, 25.8, 22.0, 24.8, 20.2, 21.9, 22.1, 22.9, 30.0, 23.9}
	if v := welch(a, b); math.Abs(v+2.8353) > 0.001 {
		t.Errorf("t = %v", v)
	}
}
