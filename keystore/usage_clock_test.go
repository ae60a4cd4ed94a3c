package keystore_test

import (
	"slices"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/keystore"
)

// A clock that was years off for a while, ahead or behind, takes neither the days
// from before nor those after: who uses a key, and how much, is known again as
// soon as the clock is right.
func TestUsageWhileClockIsOff(t *testing.T) {
	const years = 10 * 365 * 24 * time.Hour
	for name, off := range map[string]time.Duration{"ahead": years, "behind": -years, "before 1970": -6 * years} {
		t.Run(name, func(t *testing.T) {
			s, b, kek, c := newCounting(t)
			key := currentServerKey(t, s)
			for n := range 3 { // before
				key.Used(user(1), keystore.UseUnwrap)
				mustUsage(t, s, key.GUID())
				c.advance(time.Duration(n%2+1) * 24 * time.Hour)
				mustUsage(t, s, key.GUID())
			}
			c.advance(off)
			mustUsage(t, s, key.GUID()) // a writing takes the day
			key.Used(user(1), keystore.UseUnwrap)
			key.Used(user(2), keystore.UseUnwrap)
			mustUsage(t, s, key.GUID())
			c.advance(-off)
			mustUsage(t, s, key.GUID())
			key.Used(user(1), keystore.UseUnwrap)
			mustUsage(t, s, key.GUID())

			for _, s := range []*keystore.Store{s, openCounting(t, b, kek, "reader", c)} {
				u := mustUsage(t, s, key.GUID())
				var days []string
				for _, d := range u.Days {
					days = append(days, d.Day.Format("01-02"))
				}
				if want := []string{"03-01", "03-02", "03-04", "03-05"}; !slices.Equal(days, want) || u.Unwraps != 6 || u.Lost || len(u.Damaged) > 0 {
					t.Errorf("days are %v, want %v; %+v", days, want, u)
				}
				if !u.LastUsed.Equal(c.time()) {
					t.Errorf("last used at %v, want %v", u.LastUsed, c.time())
				}
				if got := sids(mustCallers(t, s, key.GUID())); len(got) != 2 || got[0] != "1 2026-03-05" {
					t.Errorf("callers are %v", got)
				}
			}
			// And on the days after, in the same process.
			c.advance(24 * time.Hour)
			mustUsage(t, s, key.GUID())
			key.Used(user(1), keystore.UseUnwrap)
			if got := sids(mustCallers(t, s, key.GUID())); got[0] != "1 2026-03-06" {
				t.Errorf("a day later callers are %v", got)
			}
		})
	}
}

// However often the clock jumps, a record has the days of 90 at most.
func TestUsageOfManyClocks(t *testing.T) {
	s, _, _, c := newCounting(t)
	key := currentServerKey(t, s)
	for n := range 200 {
		key.Used(user(1), keystore.UseUnwrap)
		mustUsage(t, s, key.GUID())
		if n%2 == 0 {
			c.advance(1000 * 24 * time.Hour)
		} else {
			c.advance(-999 * 24 * time.Hour)
		}
		mustUsage(t, s, key.GUID())
	}
	u := mustUsage(t, s, key.GUID())
	if u.Unwraps != 200 || u.Lost || len(u.Damaged) > 0 {
		t.Errorf("%+v", u)
	}
	if n := len(u.Days); n < 40 || n > 90 {
		t.Errorf("%d days", n)
	}
}

// A clock that is set back does not keep the alarm quiet until it has come where
// it was.
func TestRetiredUseAfterClockIsSetBack(t *testing.T) {
	s, _, _, c := newCounting(t)
	key := currentServerKey(t, s)
	c.advance(10 * 365 * 24 * time.Hour)
	if uses, due := key.RetiredUse(c.time(), time.Minute); uses != 1 || !due {
		t.Errorf("the first use: %d, %v", uses, due)
	}
	c.advance(-10 * 365 * 24 * time.Hour)
	if uses, due := key.RetiredUse(c.time(), time.Minute); uses != 1 || !due {
		t.Errorf("a use after the clock was set back: %d, %v", uses, due)
	}
	if _, due := key.RetiredUse(c.time(), time.Minute); due {
		t.Error("the use after it raises another alarm")
	}
}
