package boltstore

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/seed05845750/bkrp/keystore"
	bolt "go.etcd.io/bbolt"
)

// sample returns the octets of a store whose tree has branch pages and whose
// list of free pages is not empty.
func sample(t testing.TB, entries int) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sample.db")
	s, err := Create(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	s.db.NoSync = true // a thousand writes; the file is only looked at
	for i := range entries {
		if _, err := s.CompareAndSwap(t.Context(), fmt.Sprintf("%04d", i*7%entries), 0, bytes.Repeat([]byte{byte(i)}, i*3)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// use opens a file as a store and reads and writes in it.
func use(t *testing.T, b []byte) error {
	t.Helper()
	path := filepath.Join(t.TempDir(), "used.db")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(path, Options{})
	if err != nil {
		return err
	}
	_, listErr := s.List(t.Context(), "")
	_, rev, getErr := s.Get(t.Context(), "0001")
	var swapErr error
	if getErr == nil {
		_, swapErr = s.CompareAndSwap(t.Context(), "0001", rev, []byte("new"))
	}
	return errors.Join(listErr, getErr, swapErr, s.Close())
}

func TestCheckAcceptsWhatBoltWrites(t *testing.T) {
	for _, n := range []int{0, 1, 2, 50, 400} {
		b := sample(t, n)
		if err := check(bytes.NewReader(b), int64(len(b))); err != nil {
			t.Errorf("%d entries: %v", n, err)
		}
	}
}

func TestCheckTruncated(t *testing.T) {
	b := sample(t, 300)
	m, err := readMeta(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	inUse := int(m.pages) * int(m.pageSize)
	for n := range inUse {
		if n%509 != 0 && n != inUse-1 {
			continue
		}
		if err := check(bytes.NewReader(b[:n]), int64(n)); !errors.Is(err, keystore.ErrCorrupt) {
			t.Fatalf("first %d of %d octets: %v, want ErrCorrupt", n, inUse, err)
		}
	}
}

func TestForeignFiles(t *testing.T) {
	text := bytes.Repeat([]byte("this is not a store\n"), 4000)
	if err := use(t, text); !errors.Is(err, keystore.ErrCorrupt) {
		t.Errorf("a text file: %v, want ErrCorrupt", err)
	}
	path := filepath.Join(t.TempDir(), "other.db")
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, Options{}); !errors.Is(err, keystore.ErrCorrupt) {
		t.Errorf("somebody else's bbolt file: %v, want ErrCorrupt", err)
	}
}

// Whatever octets are wrong, opening and using the file ends with an error or
// goes well, and no goroutine panics or faults.
func TestDamagedFiles(t *testing.T) {
	b := sample(t, 120)
	random := rand.New(rand.NewPCG(1, 2))
	refused := 0
	for range 600 {
		damaged := bytes.Clone(b)
		// Most of a file is values; page headers and elements stand in front.
		page := random.IntN(len(b) / os.Getpagesize())
		at := page*os.Getpagesize() + random.IntN(64)
		for i := range 1 + random.IntN(4) {
			damaged[(at+i)%len(b)] = byte(random.Uint32())
		}
		err := use(t, damaged)
		if err != nil {
			refused++
			if !errors.Is(err, keystore.ErrCorrupt) && !errors.Is(err, keystore.ErrNotFound) {
				t.Fatalf("octets at %d: %v, want ErrCorrupt", at, err)
			}
		}
	}
	if refused == 0 {
		t.Error("none of 600 damaged files was refused")
	}
	t.Logf("%d of 600 damaged files were refused", refused)
}

// smallSample is a store with small pages, so that a fuzzer gets somewhere.
func smallSample(f *testing.F, entries int) []byte {
	f.Helper()
	path := filepath.Join(f.TempDir(), "small.db")
	db, err := bolt.Open(path, 0o600, &bolt.Options{PageSize: minPageSize})
	if err != nil {
		f.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucket(bucket)
		for i := 0; i < entries && err == nil; i++ {
			_, err = swap(b, fmt.Sprintf("%04d", i), 0, bytes.Repeat([]byte{1}, i))
		}
		return err
	})
	if err != nil {
		f.Fatal(err)
	}
	if err := db.Close(); err != nil {
		f.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	m, err := readMeta(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		f.Fatal(err)
	}
	return b[:int(m.pages)*int(m.pageSize)]
}

func FuzzCheck(f *testing.F) {
	for _, n := range []int{0, 3, 60} {
		f.Add(smallSample(f, n))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<16 {
			return
		}
		if err := check(bytes.NewReader(b), int64(len(b))); err != nil {
			if !errors.Is(err, keystore.ErrCorrupt) {
				t.Fatalf("error is %v, want ErrCorrupt", err)
			}
			return
		}
		// What the check accepts bbolt can use, or says why not.
		_ = use(t, b)
	})
}

// A file of which one meta page is damaged is not opened at the change before the
// last: it says which, and the other one can be put in its place.
func TestOneMetaPage(t *testing.T) {
	whole := sample(t, 20)
	page := os.Getpagesize()
	for bad := range 2 {
		for at := pageHeaderSize; at < pageHeaderSize+metaSize; at++ {
			b := bytes.Clone(whole)
			b[bad*page+at] ^= 1
			err := check(bytes.NewReader(b), int64(len(b)))
			if !errors.Is(err, keystore.ErrCorrupt) || !strings.Contains(err.Error(), fmt.Sprintf("meta page %d is damaged", bad)) {
				t.Fatalf("octet %d of page %d: %v", at, bad, err)
			}
			copy(b[bad*page+8:(bad+1)*page], whole[(1-bad)*page+8:(2-bad)*page]) // all but the page's number
			if at == pageHeaderSize {
				if err := use(t, b); err != nil {
					t.Errorf("with the other one in the place of page %d: %v", bad, err)
				}
			}
		}
	}
}

// Whatever is written, replaced and deleted while others read, the file is whole
// each time it is opened again.
func TestCheckAcceptsLongUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "used.db")
	s, err := Create(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(3, 4))
	for range 8 {
		s.db.NoSync = true // the disk does not matter
		reading := make(chan struct{})
		var readers sync.WaitGroup
		readers.Go(func() {
			for {
				select {
				case <-reading:
					return
				default:
				}
				if _, err := s.List(t.Context(), ""); err != nil {
					t.Error(err)
					return
				}
			}
		})
		for range 400 {
			name := fmt.Sprintf("%03d", random.IntN(300))
			_, rev, err := s.Get(t.Context(), name)
			if err != nil && !errors.Is(err, keystore.ErrNotFound) {
				t.Fatal(err)
			}
			value := bytes.Repeat([]byte{1}, random.IntN(9000))
			if random.IntN(3) == 0 {
				value = nil
			}
			if _, err := s.CompareAndSwap(t.Context(), name, rev, value); err != nil {
				t.Fatal(err)
			}
		}
		close(reading)
		readers.Wait()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if s, err = Open(path, Options{}); err != nil {
			t.Fatal(err)
		}
	}
	// As a bucket of many pages gets small, and empty.
	entries, err := s.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range entries {
		if _, err := s.CompareAndSwap(t.Context(), e.Name, e.Revision, nil); err != nil {
			t.Fatal(err)
		}
		if left := len(entries) - 1 - i; left%40 != 0 && left > 4 {
			continue
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := check(bytes.NewReader(b), int64(len(b))); err != nil {
			t.Fatalf("with %d entries left: %v", len(entries)-1-i, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
