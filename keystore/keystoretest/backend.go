// Package keystoretest checks backends of package keystore, and makes them
// fail on purpose.
//
// [TestBackend] is the contract of keystore.Backend as a test; a backend that
// passes it can be put below a Store. [Faults] stands between a Store and a
// backend and fails where a test wants it to.
package keystoretest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/keystore"
)

// patience is how long a test waits for what a correct backend does at once.
const patience = 30 * time.Second

// Open opens a new, empty backend.
type Open func(t *testing.T) keystore.Backend

// TestBackend checks the contract of keystore.Backend. open returns a new,
// empty backend for each *testing.T. If the backend is durable, reopen closes
// the one it is given and returns one on the same entries; otherwise it is
// nil.
func TestBackend(t *testing.T, open Open, reopen func(*testing.T, keystore.Backend) keystore.Backend) {
	tests := []struct {
		name string
		run  func(*testing.T, keystore.Backend)
	}{
		{"absent is ErrNotFound", testAbsent},
		{"compare and swap", testSwap},
		{"deletion", testDelete},
		{"empty value is not absent", testEmptyValue},
		{"names are octets", testNames},
		{"limits", testLimits},
		{"slices are not shared", testAliasing},
		{"list", testList},
		{"one of many swaps wins", testContention},
		{"watch reports", testWatch},
		{"watch ends with its context", testWatchContext},
		{"watch and lagging follower", testWatchLag},
		{"done context", testContext},
		{"close", testClose},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := open(t)
			t.Cleanup(func() { _ = b.Close() })
			test.run(t, b)
		})
	}
	if reopen != nil {
		t.Run("entries and revisions survive", func(t *testing.T) { testReopen(t, open(t), reopen) })
	}
}

// put writes a value and fails the test if that fails.
func put(t *testing.T, b keystore.Backend, name string, old keystore.Revision, value []byte) keystore.Revision {
	t.Helper()
	rev, err := b.CompareAndSwap(t.Context(), name, old, value)
	if err != nil {
		t.Fatalf("CompareAndSwap(%q, %d): %v", name, old, err)
	}
	return rev
}

// expect checks the value and revision of an entry; revision 0 is absence.
func expect(t *testing.T, b keystore.Backend, name string, value []byte, rev keystore.Revision) {
	t.Helper()
	got, gotRev, err := b.Get(t.Context(), name)
	if rev == 0 {
		if !errors.Is(err, keystore.ErrNotFound) {
			t.Fatalf("Get(%q) = %q, %d, %v; want ErrNotFound", name, got, gotRev, err)
		}
		return
	}
	if err != nil || !bytes.Equal(got, value) || gotRev != rev {
		t.Fatalf("Get(%q) = %q, %d, %v; want %q, %d", name, got, gotRev, err, value, rev)
	}
}

func testAbsent(t *testing.T, b keystore.Backend) {
	expect(t, b, "a", nil, 0)
	list, err := b.List(t.Context(), "")
	if err != nil || len(list) != 0 {
		t.Fatalf("List of an empty backend = %v, %v", list, err)
	}
}

func testSwap(t *testing.T, b keystore.Backend) {
	first := put(t, b, "a", 0, []byte("1"))
	if first == 0 {
		t.Fatal("an entry has revision 0")
	}
	for _, old := range []keystore.Revision{0, first + 1, ^keystore.Revision(0)} {
		rev, err := b.CompareAndSwap(t.Context(), "a", old, []byte("x"))
		if !errors.Is(err, keystore.ErrConflict) || rev != 0 {
			t.Fatalf("swap from revision %d = %d, %v; want ErrConflict", old, rev, err)
		}
	}
	if _, err := b.CompareAndSwap(t.Context(), "b", first, []byte("x")); !errors.Is(err, keystore.ErrConflict) {
		t.Fatalf("swap of an absent entry from a revision: %v, want ErrConflict", err)
	}
	expect(t, b, "a", []byte("1"), first)
	expect(t, b, "b", nil, 0)

	second := put(t, b, "a", first, []byte("2"))
	same := put(t, b, "a", second, []byte("2"))
	if second == first || same == second {
		t.Fatalf("revisions %d, %d, %d are not distinct", first, second, same)
	}
	expect(t, b, "a", []byte("2"), same)
}

func testDelete(t *testing.T, b keystore.Backend) {
	first := put(t, b, "a", 0, []byte("1"))
	if _, err := b.CompareAndSwap(t.Context(), "a", first+1, nil); !errors.Is(err, keystore.ErrConflict) {
		t.Fatalf("deletion at a wrong revision: %v, want ErrConflict", err)
	}
	if rev := put(t, b, "a", first, nil); rev != 0 {
		t.Fatalf("revision after deletion is %d", rev)
	}
	expect(t, b, "a", nil, 0)
	if _, err := b.CompareAndSwap(t.Context(), "a", first, nil); !errors.Is(err, keystore.ErrConflict) {
		t.Fatalf("second deletion: %v, want ErrConflict", err)
	}
	if rev := put(t, b, "a", 0, nil); rev != 0 {
		t.Fatalf("deletion of nothing gives revision %d", rev)
	}
	again := put(t, b, "a", 0, []byte("1"))
	if again == first {
		t.Fatalf("revision %d was given twice", again)
	}
	expect(t, b, "a", []byte("1"), again)
}

func testEmptyValue(t *testing.T, b keystore.Backend) {
	rev := put(t, b, "a", 0, []byte{})
	expect(t, b, "a", []byte{}, rev)
	if _, err := b.CompareAndSwap(t.Context(), "a", 0, []byte("x")); !errors.Is(err, keystore.ErrConflict) {
		t.Fatalf("an empty value counts as absent: %v", err)
	}
}

func testNames(t *testing.T, b keystore.Backend) {
	names := []string{"a", "A", "a/", "a/b", "G$BCKUPKEY_P", "\x00", "\xff\xfe", "ä", strings.Repeat("n", keystore.MaxNameSize)}
	revs := make([]keystore.Revision, len(names))
	for i, name := range names {
		revs[i] = put(t, b, name, 0, []byte(name))
	}
	for i, name := range names {
		expect(t, b, name, []byte(name), revs[i])
	}
}

func testLimits(t *testing.T, b keystore.Backend) {
	largest := bytes.Repeat([]byte{7}, keystore.MaxValueSize)
	rev := put(t, b, "a", 0, largest)
	expect(t, b, "a", largest, rev)
	for _, test := range []struct {
		name  string
		value []byte
	}{
		{"b", make([]byte, keystore.MaxValueSize+1)},
		{strings.Repeat("n", keystore.MaxNameSize+1), []byte("x")},
		{"", []byte("x")},
	} {
		if _, err := b.CompareAndSwap(t.Context(), test.name, 0, test.value); !errors.Is(err, keystore.ErrTooLarge) {
			t.Fatalf("name of %d and value of %d octets: %v, want ErrTooLarge", len(test.name), len(test.value), err)
		}
	}
	expect(t, b, "b", nil, 0)
}

func testAliasing(t *testing.T, b keystore.Backend) {
	value := []byte("before")
	rev := put(t, b, "a", 0, value)
	copy(value, "after!")
	expect(t, b, "a", []byte("before"), rev)
	got, _, err := b.Get(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	copy(got, "after!")
	list, err := b.List(t.Context(), "a")
	if err != nil || len(list) != 1 {
		t.Fatalf("List = %v, %v", list, err)
	}
	copy(list[0].Value, "after!")
	expect(t, b, "a", []byte("before"), rev)
}

func testList(t *testing.T, b keystore.Backend) {
	var want []string
	for i := range 300 {
		name := fmt.Sprintf("p/%03d", i)
		want = append(want, name)
		put(t, b, name, 0, []byte(name))
	}
	for _, name := range []string{"p", "p0", "o/1", "q"} {
		put(t, b, name, 0, []byte("x"))
	}
	list, err := b.List(t.Context(), "p/")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name)
		expect(t, b, e.Name, e.Value, e.Revision)
	}
	if !slices.Equal(names, want) {
		t.Fatalf("List gives %d names %q", len(names), names)
	}
	if all, err := b.List(t.Context(), ""); err != nil || len(all) != len(want)+4 {
		t.Fatalf("List of everything has %d entries, %v", len(all), err)
	}
}

func testContention(t *testing.T, b keystore.Backend) {
	const writers, rounds = 16, 20
	var old keystore.Revision
	for round := range rounds {
		var wins sync.Map
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				value := fmt.Appendf(nil, "%d by %d", round, w)
				rev, err := b.CompareAndSwap(t.Context(), "a", old, value)
				if err == nil {
					wins.Store(rev, value)
				} else if !errors.Is(err, keystore.ErrConflict) {
					t.Errorf("writer %d: %v", w, err)
				}
			})
		}
		wg.Wait()
		won := 0
		wins.Range(func(rev, value any) bool {
			won++
			old = rev.(keystore.Revision)
			expect(t, b, "a", value.([]byte), old)
			return true
		})
		if won != 1 {
			t.Fatalf("round %d: %d of %d writers won", round, won, writers)
		}
	}
}

// follow watches b and gives what is reported to a channel with room for all
// of it. The watch ends with the test.
func follow(t *testing.T, b keystore.Backend) <-chan string {
	ctx, cancel := context.WithCancel(context.Background())
	names := make(chan string, 1<<16)
	done := make(chan error, 1)
	go func() { done <- b.Watch(ctx, func(name string) { names <- name }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err == nil {
			t.Error("Watch returned without a reason")
		}
	})
	return names
}

// await waits until name is reported, or AnyName.
func await(t *testing.T, names <-chan string, name string) {
	t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case got := <-names:
			if got == name || got == keystore.AnyName {
				return
			}
		case <-timeout:
			t.Fatalf("change of %q was not reported", name)
		}
	}
}

func testWatch(t *testing.T, b keystore.Backend) {
	one, two := follow(t, b), follow(t, b)
	await(t, one, keystore.AnyName)
	await(t, two, keystore.AnyName)
	rev := put(t, b, "a", 0, []byte("1"))
	await(t, one, "a")
	await(t, two, "a")
	rev = put(t, b, "a", rev, []byte("2"))
	await(t, one, "a")
	put(t, b, "a", rev, nil)
	await(t, one, "a")
	put(t, b, "b", 0, []byte("1"))
	await(t, one, "b")
	await(t, two, "b")
}

func testWatchContext(t *testing.T, b keystore.Backend) {
	ctx, cancel := context.WithCancel(t.Context())
	err := b.Watch(ctx, func(string) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("Watch returned %v, want context.Canceled", err)
	}
}

// testWatchLag has a follower that is stuck while many entries change: the
// writers go on, and afterwards it is told of everything or of AnyName.
func testWatchLag(t *testing.T, b keystore.Backend) {
	const changes = 1500
	ctx, cancel := context.WithCancel(context.Background())
	standing, stuck := make(chan struct{}), make(chan struct{})
	seen, complete := make(map[string]bool), make(chan struct{})
	first := true
	done := make(chan error, 1)
	go func() {
		done <- b.Watch(ctx, func(name string) {
			if first {
				first = false
				close(standing)
				<-stuck
				return
			}
			if seen[keystore.AnyName] || len(seen) == changes {
				return
			}
			if seen[name] = true; name == keystore.AnyName || len(seen) == changes {
				close(complete)
			}
		})
	}()
	<-standing
	for i := range changes {
		put(t, b, fmt.Sprintf("n%d", i), 0, []byte("x"))
	}
	close(stuck)
	select {
	case <-complete:
	case <-time.After(patience):
		t.Error("the follower that lagged was not told of all changes")
	}
	cancel()
	<-done
}

func testContext(t *testing.T, b keystore.Backend) {
	rev := put(t, b, "a", 0, []byte("1"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := b.Get(ctx, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("Get: %v, want context.Canceled", err)
	}
	if _, _, err := b.Get(ctx, "absent"); errors.Is(err, keystore.ErrNotFound) || err == nil {
		t.Errorf("Get of an absent entry with a done context: %v; that is no absence (A-37)", err)
	}
	if _, err := b.CompareAndSwap(ctx, "a", rev, []byte("2")); !errors.Is(err, context.Canceled) {
		t.Errorf("CompareAndSwap: %v, want context.Canceled", err)
	}
	if _, err := b.List(ctx, ""); !errors.Is(err, context.Canceled) {
		t.Errorf("List: %v, want context.Canceled", err)
	}
	expect(t, b, "a", []byte("1"), rev)
}

func testClose(t *testing.T, b keystore.Backend) {
	standing, done := make(chan struct{}, 1), make(chan error, 1)
	go func() {
		done <- b.Watch(t.Context(), func(string) {
			select {
			case standing <- struct{}{}:
			default:
			}
		})
	}()
	<-standing
	if err := b.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	if err := <-done; !errors.Is(err, keystore.ErrClosed) {
		t.Errorf("Watch: %v, want ErrClosed", err)
	}
	if _, _, err := b.Get(t.Context(), "a"); !errors.Is(err, keystore.ErrClosed) {
		t.Errorf("Get: %v, want ErrClosed; a closed backend knows of no absence (A-37)", err)
	}
	if _, err := b.CompareAndSwap(t.Context(), "a", 0, []byte("1")); !errors.Is(err, keystore.ErrClosed) {
		t.Errorf("CompareAndSwap: %v, want ErrClosed", err)
	}
	if _, err := b.List(t.Context(), ""); !errors.Is(err, keystore.ErrClosed) {
		t.Errorf("List: %v, want ErrClosed", err)
	}
	if err := b.Watch(t.Context(), func(string) {}); !errors.Is(err, keystore.ErrClosed) {
		t.Errorf("Watch: %v, want ErrClosed", err)
	}
	if err := b.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

func testReopen(t *testing.T, b keystore.Backend, reopen func(*testing.T, keystore.Backend) keystore.Backend) {
	given := make(map[keystore.Revision]bool)
	var kept, gone keystore.Revision
	for i := range 20 {
		kept = put(t, b, "kept", kept, fmt.Appendf(nil, "%d", i))
		gone = put(t, b, "gone", 0, []byte("x"))
		given[kept], given[gone] = true, true
		put(t, b, "gone", gone, nil)
		b = reopen(t, b)
		expect(t, b, "kept", fmt.Appendf(nil, "%d", i), kept)
		expect(t, b, "gone", nil, 0)
	}
	if len(given) != 40 {
		t.Errorf("%d different revisions for 40 writes", len(given))
	}
	if err := b.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}
