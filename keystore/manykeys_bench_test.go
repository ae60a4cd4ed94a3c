package keystore_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/keystore"
	"github.com/seed05845750/bkrp/keystore/boltstore"
)

// BenchmarkManyKeys is what the number of keys costs, half of them RSA pairs:
// the start of a daemon up to its first current key, the time after which all
// keys are in memory and what they take there, and the look-up of one, from the
// file and from memory.
func BenchmarkManyKeys(b *testing.B) {
	for _, n := range []int{10, 1000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			path, kek, guids := manyKeys(b, n)
			b.Run("start", func(b *testing.B) {
				for b.Loop() {
					s, stop := startOn(b, path, kek, false)
					if _, err := s.CurrentServerWrapKey(b.Context()); err != nil {
						b.Fatal(err)
					}
					stop()
				}
			})
			b.Run("preload", func(b *testing.B) {
				for b.Loop() {
					runtime.GC()
					var before, after runtime.MemStats
					runtime.ReadMemStats(&before)
					s, stop := startOn(b, path, kek, true)
					for !s.InMemory(guids[0]) || !s.InMemory(guids[len(guids)-1]) || s.KeysInMemory() < n {
						time.Sleep(time.Millisecond)
					}
					b.StopTimer()
					runtime.GC()
					runtime.ReadMemStats(&after)
					b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(n), "B/key")
					stop()
					b.StartTimer()
				}
			})
			b.Run("look-up/file", func(b *testing.B) {
				s, stop := startOn(b, path, kek, false)
				defer stop()
				for i := 0; b.Loop(); i++ {
					lookUp(b, s, guids, i)
					b.StopTimer()
					s.Forget(guids[i%len(guids)])
					b.StartTimer()
				}
			})
			b.Run("look-up/memory", func(b *testing.B) {
				s, stop := startOn(b, path, kek, true)
				defer stop()
				for s.KeysInMemory() < n {
					time.Sleep(time.Millisecond)
				}
				for i := 0; b.Loop(); i++ {
					lookUp(b, s, guids, i)
				}
			})
		})
	}
}

// lookUp takes key number i of those of manyKeys.
func lookUp(b *testing.B, s *keystore.Store, guids []dtyp.GUID, i int) {
	var err error
	if i %= len(guids); i%2 == 0 {
		_, err = s.ServerWrapKey(b.Context(), guids[i])
	} else {
		_, err = s.ClientWrapKey(b.Context(), guids[i])
	}
	if err != nil {
		b.Fatal(err)
	}
}

func startOn(b *testing.B, path string, kek keystore.Sealer, preload bool) (*keystore.Store, func()) {
	b.Helper()
	file, err := boltstore.Open(path, boltstore.Options{})
	if err != nil {
		b.Fatal(err)
	}
	s, err := keystore.Open(b.Context(), file, kek, keystore.Options{Preload: preload})
	if err != nil {
		b.Fatal(err)
	}
	return s, func() {
		if err := errors.Join(s.Close(), file.Close()); err != nil {
			b.Error(err)
		}
	}
}

// manyKeys makes a file with n keys, those with odd numbers pairs. The pairs share one
// RSA key, since another one for each would take hours.
func manyKeys(b *testing.B, n int) (path string, kek keystore.Sealer, guids []dtyp.GUID) {
	b.Helper()
	memory, kek := keystore.NewMemory(), newKEK(b)
	ctx := b.Context()
	if err := keystore.Create(ctx, memory, kek, testDomain); err != nil {
		b.Fatal(err)
	}
	s := openStore(b, memory, kek)
	pair, err := pairs.next(testDomain.DNSName, time.Now())
	if err != nil {
		b.Fatal(err)
	}
	pvk := pair.AppendPVK(nil)
	for i := range n {
		if i%2 == 0 {
			k, err := s.RotateServerWrapKey(ctx)
			if err != nil {
				b.Fatal(err)
			}
			guids = append(guids, k.GUID())
			continue
		}
		other, err := bkrp.KeyPairFromPVK(pvk, bkrp.NewKeyGUID(), testDomain.DNSName, time.Now())
		if err != nil {
			b.Fatal(err)
		}
		if _, err := s.ImportKeyPair(ctx, other, false); err != nil {
			b.Fatal(err)
		}
		guids = append(guids, other.GUID())
	}
	path = filepath.Join(b.TempDir(), "keys.db")
	file, err := boltstore.Create(path, boltstore.Options{})
	if err != nil {
		b.Fatal(err)
	}
	entries, err := memory.List(ctx, "")
	if err != nil {
		b.Fatal(err)
	}
	for _, e := range entries {
		if _, err := file.CompareAndSwap(ctx, e.Name, 0, e.Value); err != nil {
			b.Fatal(err)
		}
	}
	if err := file.Close(); err != nil {
		b.Fatal(err)
	}
	return path, kek, guids
}
