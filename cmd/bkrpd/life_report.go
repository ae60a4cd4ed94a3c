package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/keystore"
)

// keyEntry is what is known about a key, as --json prints it.
type keyEntry struct {
	GUID    dtyp.GUID         `json:"guid"`
	Kind    string            `json:"kind"` // "" if it cannot be read
	State   keystore.KeyState `json:"state"`
	Since   time.Time         `json:"stateSince,omitzero"`
	Current bool              `json:"current"`
	Created time.Time         `json:"created,omitzero"`
	// Certificate is the SHA-256 of a ClientWrap key's certificate.
	Certificate string `json:"certificateSHA256,omitempty"`

	Wraps        uint64    `json:"wraps"`
	Unwraps      uint64    `json:"unwraps"`
	Retrieves    uint64    `json:"retrieves"`
	CountedSince time.Time `json:"countedSince,omitzero"`
	LastUsed     time.Time `json:"lastUsed,omitzero"`
	// PerDay is the mean of unwraps in the last 30 days, or since counting began
	// if that is less. Days are those with any, in "keys show" only.
	PerDay float64    `json:"unwrapsPerDay"`
	Days   []dayEntry `json:"days,omitempty"`
	// Callers is how many there were; More says that there were others, too many
	// to remember.
	Callers int  `json:"callers"`
	More    bool `json:"callersMore,omitempty"`
	// Damaged names the records of use that cannot be read, and Lost says that
	// there once were some: the numbers are then too low.
	Damaged []string `json:"damaged,omitempty"`
	Lost    bool     `json:"lost,omitempty"`
	// Error says why the key cannot be read.
	Error string `json:"error,omitempty"`
}

type dayEntry struct {
	Day     string `json:"day"` // 2006-01-02, UTC
	Unwraps uint64 `json:"unwraps"`
}

// callersEntry is who used a key.
type callersEntry struct {
	List    []callerEntry `json:"callers"`
	More    bool          `json:"more,omitempty"`
	Damaged []string      `json:"damaged,omitempty"`
	Lost    bool          `json:"lost,omitempty"`
}

type callerEntry struct {
	SID     dtyp.SID `json:"sid"`
	LastDay string   `json:"lastUsed"`          // 2006-01-02, UTC
	Account string   `json:"account,omitempty"` // of the accounts in the store
}

// replicaEntry is a server, as it reports itself.
type replicaEntry struct {
	Name    string      `json:"name"`
	Started time.Time   `json:"started"`
	Live    bool        `json:"live"`
	Serves  []dtyp.GUID `json:"serves,omitempty"`
}

// behind notes that the numbers are from before what the server counted last, and
// gives every other error back.
func (r *lifeResponse) behind(err error) error {
	if errors.Is(err, keystore.ErrUsageBehind) {
		r.Behind = err.Error()
		return nil
	}
	return err
}

func listKeys(ctx context.Context, store *keystore.Store, _ *lifeRequest) (*lifeResponse, error) {
	keys, err := store.Keys(ctx)
	if err != nil {
		return nil, err
	}
	resp := new(lifeResponse)
	usages, err := store.Usages(ctx)
	if err := resp.behind(err); err != nil {
		return nil, err
	}
	for _, k := range keys {
		e := entryOf(&k)
		if u, used := usages[k.GUID]; used {
			e.addUsage(&u)
			callers, err := store.Callers(ctx, k.GUID)
			if err := resp.behind(err); err != nil {
				return nil, err
			}
			e.addCallers(callers)
		}
		resp.Keys = append(resp.Keys, e)
	}
	return resp, nil
}

func showKey(ctx context.Context, store *keystore.Store, req *lifeRequest) (*lifeResponse, error) {
	k, err := store.KeyInfo(ctx, req.GUID)
	if err != nil {
		return nil, err
	}
	resp := new(lifeResponse)
	u, err := store.Usage(ctx, req.GUID)
	if err := resp.behind(err); err != nil {
		return nil, err
	}
	callers, err := store.Callers(ctx, req.GUID)
	if err := resp.behind(err); err != nil {
		return nil, err
	}
	e := entryOf(&k)
	e.addUsage(&u)
	e.addCallers(callers)
	for _, d := range u.Days {
		e.Days = append(e.Days, dayEntry{d.Day.Format(time.DateOnly), d.Unwraps})
	}
	resp.Keys = []keyEntry{e}
	return resp, nil
}

func entryOf(k *keystore.KeyInfo) keyEntry {
	e := keyEntry{GUID: k.GUID, State: k.State, Since: k.Since, Current: k.Current, Created: k.Created}
	if k.Kind != 0 {
		e.Kind = k.Kind.String()
	}
	if len(k.Certificate) > 0 {
		sum := sha256.Sum256(k.Certificate)
		e.Certificate = hex.EncodeToString(sum[:])
	}
	if k.Err != nil {
		e.Error = k.Err.Error()
	}
	return e
}

func (e *keyEntry) addUsage(u *keystore.Usage) {
	e.Wraps, e.Unwraps, e.Retrieves = u.Wraps, u.Unwraps, u.Retrieves
	e.CountedSince, e.LastUsed, e.Damaged, e.Lost = u.Since, u.LastUsed, u.Damaged, u.Lost
	e.PerDay = perDay(u, time.Now())
}

// perDay is the mean of unwraps a day in the last 30 days, or since counting
// began.
func perDay(u *keystore.Usage, now time.Time) float64 {
	const day, days = 24 * time.Hour, 30
	today := now.UTC().Truncate(day)
	first := today.Add(-(days - 1) * day)
	if u.Since.After(first) {
		first = u.Since.UTC().Truncate(day)
	}
	var sum uint64
	for _, d := range u.Days {
		if !d.Day.Before(first) {
			sum += d.Unwraps
		}
	}
	return float64(sum) / float64(max(1, today.Sub(first)/day+1))
}

func (e *keyEntry) addCallers(c *keystore.Callers) {
	e.Callers, e.More, e.Lost = len(c.List), c.More, e.Lost || c.Lost
	e.Damaged = append(e.Damaged, c.Damaged...)
}

func whoUsed(ctx context.Context, store *keystore.Store, req *lifeRequest) (*lifeResponse, error) {
	if _, err := store.KeyInfo(ctx, req.GUID); err != nil {
		return nil, err
	}
	resp := new(lifeResponse)
	c, err := store.Callers(ctx, req.GUID)
	if err := resp.behind(err); err != nil {
		return nil, err
	}
	accounts, err := store.Accounts(ctx)
	if err != nil {
		return nil, err
	}
	names := make(map[dtyp.SID]string, len(accounts))
	for _, a := range accounts {
		names[a.SID] = a.Name
	}
	e := &callersEntry{List: make([]callerEntry, len(c.List)), More: c.More, Damaged: c.Damaged, Lost: c.Lost}
	for i, k := range c.List {
		e.List[i] = callerEntry{k.SID, k.LastDay.Format(time.DateOnly), names[k.SID]}
	}
	resp.Callers = e
	return resp, nil
}

func listReplicas(ctx context.Context, store *keystore.Store, _ *lifeRequest) (*lifeResponse, error) {
	all, err := store.Replicas(ctx)
	if err != nil {
		return nil, err
	}
	resp := new(lifeResponse)
	for _, r := range all {
		resp.Replicas = append(resp.Replicas, replicaEntry{r.Name, r.Started, r.Live, r.Serves})
	}
	return resp, nil
}
