package keystore_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/keystore"
	"github.com/seed05845750/bkrp/keystore/boltstore"
	"github.com/seed05845750/bkrp/keystore/keystoretest"
)

// clock is a clock that stands until it is set.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) time() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func noon() *clock { return &clock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)} }

// openCounting opens a store that writes its counts when it is asked to, or closed.
func openCounting(t testing.TB, b keystore.Backend, kek keystore.Sealer, replica string, c *clock) *keystore.Store {
	t.Helper()
	s, err := keystore.Open(context.Background(), b, kek, keystore.Options{Replica: replica, UsageFlush: time.Hour, Now: c.time})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func newCounting(t testing.TB) (*keystore.Store, keystore.Backend, keystore.Sealer, *clock) {
	t.Helper()
	_, b, kek := newStore(t)
	c := noon()
	return openCounting(t, b, kek, "", c), b, kek, c
}

func user(n uint32) dtyp.SID {
	sid, _ := testDomain.SID.Child(n)
	return sid
}

func serverKey(t testing.TB, s *keystore.Store, guid dtyp.GUID) *keystore.ServerWrapKey {
	t.Helper()
	k, err := s.ServerWrapKey(context.Background(), guid)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func currentServerKey(t testing.TB, s *keystore.Store) *keystore.ServerWrapKey {
	t.Helper()
	k, err := s.CurrentServerWrapKey(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func mustUsage(t *testing.T, s *keystore.Store, guid dtyp.GUID) keystore.Usage {
	t.Helper()
	u, err := s.Usage(context.Background(), guid)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func mustCallers(t *testing.T, s *keystore.Store, guid dtyp.GUID) *keystore.Callers {
	t.Helper()
	c, err := s.Callers(context.Background(), guid)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func sids(c *keystore.Callers) (list []string) {
	for _, caller := range c.List {
		list = append(list, strings.TrimPrefix(caller.SID.String(), "S-1-5-21-1-2-3-")+" "+caller.LastDay.Format(time.DateOnly))
	}
	return list
}

// What is counted is there after Close, to the last use, and goes on in the next
// process, although keys are forgotten in between.
func TestUsageSurvives(t *testing.T) {
	s, b, kek, c := newCounting(t)
	start := c.time()
	guid := currentServerKey(t, s).GUID()
	if u := mustUsage(t, s, guid); !u.Since.IsZero() || u.Unwraps != 0 {
		t.Errorf("a key that was not used: %+v", u)
	}
	serverKey(t, s, guid).Used(user(1001), keystore.UseWrap)
	if err := s.SetKeyState(t.Context(), guid, keystore.KeyActive); err != nil { // forgets it
		t.Fatal(err)
	}
	for range 3 {
		serverKey(t, s, guid).Used(user(1002), keystore.UseUnwrap)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	c.advance(24 * time.Hour)
	s = openCounting(t, b, kek, "", c)
	serverKey(t, s, guid).Used(user(1002), keystore.UseUnwrap)
	serverKey(t, s, guid).Used(dtyp.SID{}, keystore.UseRetrieve)
	u := mustUsage(t, s, guid)
	if u.Wraps != 1 || u.Unwraps != 4 || u.Retrieves != 1 || !u.Since.Equal(start) || !u.LastUsed.Equal(c.time()) || len(u.Days) != 2 ||
		u.Days[0].Unwraps != 3 || u.Days[1].Unwraps != 1 || u.Days[1].Day.Format(time.DateOnly) != "2026-03-02" || u.Lost || u.Damaged != nil {
		t.Errorf("usage is %+v", u)
	}
	if got := sids(mustCallers(t, s, guid)); !slices.Equal(got, []string{"1001 2026-03-01", "1002 2026-03-02"}) {
		t.Errorf("callers are %q", got)
	}
}

// The counts of all servers are added up, and none writes another one's entry.
func TestUsageOfServers(t *testing.T) {
	_, b, kek := newStore(t)
	c := noon()
	one, two := openCounting(t, b, kek, "one", c), openCounting(t, b, kek, "two/../one", c)
	guid := currentServerKey(t, one).GUID()
	for range 5 {
		serverKey(t, one, guid).Used(user(1001), keystore.UseUnwrap)
		serverKey(t, two, guid).Used(user(1001), keystore.UseUnwrap)
		serverKey(t, two, guid).Used(user(1002), keystore.UseUnwrap)
	}
	mustUsage(t, two, guid) // writes
	u := mustUsage(t, one, guid)
	if u.Unwraps != 15 || len(u.Days) != 1 || u.Days[0].Unwraps != 15 {
		t.Errorf("usage is %+v", u)
	}
	if got := sids(mustCallers(t, one, guid)); len(got) != 2 {
		t.Errorf("callers are %q", got)
	}
	entries, err := b.List(t.Context(), "use/")
	if err != nil || len(entries) != 2 {
		t.Errorf("entries are %v, %v", entries, err)
	}
	all, err := one.Usages(t.Context())
	if err != nil || len(all) != 1 || all[guid].Unwraps != 15 {
		t.Errorf("usages are %+v, %v", all, err)
	}
}

// While the backend is away what is counted stays in memory. A writing whose
// answer was lost is not done twice, and one that somebody else came before is
// done again.
func TestUsageWithFaults(t *testing.T) {
	for name, after := range map[string]bool{"not written": false, "written without answer": true} {
		t.Run(name, func(t *testing.T) {
			_, b, kek := newStore(t)
			f := keystoretest.NewFaults(b, nil)
			f.After = after
			s := openCounting(t, f, kek, "", noon())
			key := currentServerKey(t, s)
			for round := range 3 {
				f.SetFail(func(_ int, c keystoretest.Call) error {
					if c.Operation == keystoretest.Swap {
						return keystoretest.ErrFault
					}
					return nil
				})
				key.Used(user(uint32(1000+round)), keystore.UseUnwrap)
				if _, err := s.Usage(t.Context(), key.GUID()); !errors.Is(err, keystoretest.ErrFault) {
					t.Fatalf("usage: %v", err)
				}
				key.Used(user(1000), keystore.UseWrap)
				f.SetFail(nil)
				if u := mustUsage(t, s, key.GUID()); u.Unwraps != uint64(round+1) || u.Wraps != uint64(round+1) {
					t.Errorf("round %d: %+v", round, u)
				}
			}
			if got := sids(mustCallers(t, s, key.GUID())); len(got) != 3 {
				t.Errorf("callers are %q", got)
			}
		})
	}
	t.Run("conflicts", func(t *testing.T) {
		_, b, kek := newStore(t)
		f := keystoretest.NewFaults(b, nil)
		s := openCounting(t, f, kek, "", noon())
		key := currentServerKey(t, s)
		key.Used(user(1000), keystore.UseUnwrap)
		f.SetFail(keystoretest.ConflictStorm("use/"+key.GUID().String()+"/local", 3))
		if u := mustUsage(t, s, key.GUID()); u.Unwraps != 1 {
			t.Errorf("usage is %+v", u)
		}
	})
}

// A damaged record is named, and costs nothing but itself.
func TestUsageDamaged(t *testing.T) {
	_, b, kek := newStore(t)
	c := noon()
	one, two := openCounting(t, b, kek, "one", c), openCounting(t, b, kek, "two", c)
	guid := currentServerKey(t, one).GUID()
	serverKey(t, one, guid).Used(user(1001), keystore.UseUnwrap)
	serverKey(t, two, guid).Used(user(1002), keystore.UseUnwrap)
	mustUsage(t, one, guid)
	mustUsage(t, two, guid)
	var damaged []string
	for _, prefix := range []string{"use/", "who/"} {
		entries, err := b.List(t.Context(), prefix)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if strings.Contains(e.Name, "/one") {
				e.Value[len(e.Value)-1] ^= 1
				replace(t, b, e.Name, e.Value)
				damaged = append(damaged, e.Name)
			}
		}
	}
	if len(damaged) != 2 {
		t.Fatalf("damaged %q", damaged)
	}
	u, who := mustUsage(t, two, guid), mustCallers(t, two, guid)
	if u.Unwraps != 1 || !slices.Equal(append(u.Damaged, who.Damaged...), damaged) || len(who.List) != 1 {
		t.Errorf("usage is %+v, callers are %+v", u, who)
	}
	// It does not hold up a change of the KEK.
	next := newKEK(t)
	if err := one.BeginRekey(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	if moved, err := one.Reseal(t.Context()); err != nil || moved == 0 {
		t.Errorf("resealing: %d, %v", moved, err)
	}
	serverKey(t, one, guid).Used(user(1003), keystore.UseUnwrap)
	for i := uint32(2000); i < 2200; i++ { // some of them in the damaged bucket
		serverKey(t, one, guid).Used(user(i), keystore.UseUnwrap)
	}
	u, who = mustUsage(t, one, guid), mustCallers(t, one, guid)
	if u.Unwraps != 202 || !u.Lost || u.Damaged != nil || !who.Lost || who.Damaged != nil || len(who.List) != 202 {
		t.Errorf("afterwards usage is %+v, and there are %d callers", u, len(who.List))
	}
}

// Unwraps of 90 days are kept apart, and older ones counted.
func TestUsageDays(t *testing.T) {
	s, _, _, c := newCounting(t)
	key := currentServerKey(t, s)
	for range 100 {
		key.Used(user(1001), keystore.UseUnwrap)
		mustUsage(t, s, key.GUID())
		c.advance(24 * time.Hour)
		mustUsage(t, s, key.GUID())
	}
	if u := mustUsage(t, s, key.GUID()); u.Unwraps != 100 || len(u.Days) != 90 || !u.Days[89].Day.Equal(c.time().Add(-36*time.Hour)) {
		t.Errorf("usage has %d days of %d unwraps, until %v", len(u.Days), u.Unwraps, u.Days[len(u.Days)-1])
	}
}

// Many callers at once are each counted and remembered once, and no value comes
// near the limit of a backend.
func TestUsageManyCallers(t *testing.T) {
	const callers = 20000
	s, b, _, _ := newCounting(t)
	key := currentServerKey(t, s)
	var busy sync.WaitGroup
	for g := range 4 {
		busy.Go(func() {
			for i := range uint32(callers) {
				key.Used(user(1000+(i+uint32(g)*7919)%callers), keystore.UseUnwrap)
			}
		})
	}
	busy.Wait()
	if u := mustUsage(t, s, key.GUID()); u.Unwraps != 4*callers {
		t.Errorf("%d unwraps", u.Unwraps)
	}
	c := mustCallers(t, s, key.GUID())
	if len(c.List) != callers || c.More || c.List[0].SID != user(1000) || c.List[callers-1].SID != user(1000+callers-1) {
		t.Errorf("%d callers", len(c.List))
	}
	entries, err := b.List(t.Context(), "who/")
	if err != nil || len(entries) != 32 {
		t.Fatalf("%d buckets, %v", len(entries), err)
	}
	for _, e := range entries {
		if len(e.Value) > 32*callers/32*2 {
			t.Errorf("%s has %d octets", e.Name, len(e.Value))
		}
	}
}

// An alarm is due at once, and again when it has been quiet for long enough,
// with the number of uses since.
func TestRetiredUse(t *testing.T) {
	s, _, _, c := newCounting(t)
	key := currentServerKey(t, s)
	for i, want := range []uint64{1, 0, 0, 3, 0} {
		if i == 3 {
			c.advance(time.Minute)
		}
		if uses, due := key.RetiredUse(c.time(), time.Minute); uses != want || due != (want > 0) {
			t.Errorf("use %d: %d, %v", i, uses, due)
		}
	}
}

// The secrets of a domain have nothing beside them.
func TestUsageOfDomain(t *testing.T) {
	b := keystore.NewMemory()
	s, err := keystore.OpenDomain(t.Context(), b, testDomain, keystore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	key := currentServerKey(t, s)
	key.Used(user(1001), keystore.UseWrap)
	if _, err := s.Usage(t.Context(), key.GUID()); !errors.Is(err, keystore.ErrDomainKeys) {
		t.Errorf("usage: %v", err)
	}
	if _, err := s.Callers(t.Context(), key.GUID()); !errors.Is(err, keystore.ErrDomainKeys) {
		t.Errorf("callers: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if names, err := s.SecretNames(t.Context()); err != nil || len(names) != 2 {
		t.Errorf("entries are %q, %v", names, err)
	}
	if entries, err := b.List(t.Context(), "use/"); err != nil || len(entries) != 0 {
		t.Errorf("entries are %v, %v", entries, err)
	}
}

// Counting allocates nothing, and does not touch the backend.
func TestUsageHotPath(t *testing.T) {
	b, kek := keystore.NewMemory(), newKEK(t)
	if err := keystore.Create(t.Context(), b, kek, testDomain); err != nil {
		t.Fatal(err)
	}
	f := keystoretest.NewFaults(b, nil)
	s := openCounting(t, f, kek, "", noon())
	key := currentServerKey(t, s)
	sid := user(1001)
	key.Used(sid, keystore.UseUnwrap)
	before := len(f.Calls())
	if n := testing.AllocsPerRun(100, func() { key.Used(sid, keystore.UseUnwrap) }); n != 0 || len(f.Calls()) != before {
		t.Errorf("%v allocations, %d calls of the backend", n, len(f.Calls())-before)
	}
}

func BenchmarkUsed(b *testing.B) {
	s, _, _, _ := newCounting(b)
	key := currentServerKey(b, s)
	for _, callers := range []uint32{1, 10000} {
		b.Run(map[uint32]string{1: "1 caller", 10000: "10000 callers"}[callers], func(b *testing.B) {
			list := make([]dtyp.SID, callers)
			for i := range list {
				list[i] = user(1000 + uint32(i))
				key.Used(list[i], keystore.UseUnwrap)
			}
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for i := 0; pb.Next(); i++ {
					key.Used(list[i%len(list)], keystore.UseUnwrap)
				}
			})
		})
	}
}

// What is counted is written down by itself, every so often.
func TestUsageFlush(t *testing.T) {
	_, b, kek := newStore(t)
	s, err := keystore.Open(t.Context(), b, kek, keystore.Options{UsageFlush: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	other := openCounting(t, b, kek, "other", noon())
	key := currentServerKey(t, s)
	key.Used(user(1001), keystore.UseWrap)
	eventually(t, func() bool { return mustUsage(t, other, key.GUID()).Wraps == 1 })
	eventually(t, func() bool { return len(mustCallers(t, other, key.GUID()).List) == 1 })
}

const usageKillEnv = "BKRP_KEYSTORE_USAGE_DIR" // makes TestUsageKill the process to be killed

// A process that is killed loses what it has counted since it wrote that down
// last, and nothing before.
func TestUsageKill(t *testing.T) {
	if dir := os.Getenv(usageKillEnv); dir != "" {
		countUntilKilled(t, dir)
		return
	}
	const rounds, usesPerLine = 10, 100
	dir := t.TempDir()
	kek, err := keystore.CreateKeyFile(filepath.Join(dir, "kek"))
	if err != nil {
		t.Fatal(err)
	}
	open := func(create bool) keystore.Backend {
		f := boltstore.Open
		if create {
			f = boltstore.Create
		}
		b, err := f(filepath.Join(dir, "keys.db"), boltstore.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	b := open(true)
	if err := keystore.Create(t.Context(), b, kek, testDomain); err != nil {
		t.Fatal(err)
	}
	var before uint64
	for round := range rounds {
		b.Close()
		cmd := exec.Command(os.Args[0], "-test.run=^TestUsageKill$")
		cmd.Env, cmd.Stderr = append(os.Environ(), usageKillEnv+"="+dir), os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines, written := bufio.NewScanner(out), uint64(0)
		for lines.Scan() {
			if _, err := fmt.Sscanf(lines.Text(), "written %d", &written); err != nil {
				t.Errorf("the process says %q", lines.Text())
			}
			if written == uint64(1+round)*usesPerLine {
				_ = cmd.Process.Kill() // and goes on reading what it said until then
			}
		}
		_ = cmd.Wait()
		b = open(false)
		s := openCounting(t, b, kek, "", noon())
		guid := currentServerKey(t, s).GUID()
		u := mustUsage(t, s, guid)
		if got := u.Unwraps - before; written == 0 || got < written || got > written+usesPerLine || len(mustCallers(t, s, guid).List) < 10 {
			t.Errorf("round %d: %d uses are counted, %d were written down", round, got, written)
		}
		before = u.Unwraps
		s.Close()
	}
	b.Close()
}

// countUntilKilled uses the current server key, and says on stdout how often
// once that is written down.
func countUntilKilled(t *testing.T, dir string) {
	kek, err := keystore.ReadKeyFile(filepath.Join(dir, "kek"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := boltstore.Open(filepath.Join(dir, "keys.db"), boltstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := openCounting(t, b, kek, "", noon())
	key := currentServerKey(t, s)
	for n := 1; ; n++ {
		key.Used(user(uint32(1000+n%10)), keystore.UseUnwrap)
		if n%100 == 0 {
			mustUsage(t, s, key.GUID())
			fmt.Printf("written %d\n", n)
		}
	}
}
