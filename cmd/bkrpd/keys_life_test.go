package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/keystore"
)

// lame is a backend that has not got the keys made after it was set up, as one
// does whose server hangs.
type lame struct {
	keystore.Backend
	known map[string]bool
}

func (l *lame) Get(ctx context.Context, name string) ([]byte, keystore.Revision, error) {
	if strings.HasPrefix(name, keystore.SecretPrefix) && !l.known[name] {
		return nil, 0, errors.New("it hangs")
	}
	return l.Backend.Get(ctx, name)
}

// cluster is a store that two servers have open, and a session that asks the
// first one.
type cluster struct {
	session *session
	second  *keystore.Store
	stdout  bytes.Buffer
	stderr  bytes.Buffer
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	ctx, backend := t.Context(), keystore.NewMemory()
	kek, err := keystore.CreateKeyFile(filepath.Join(t.TempDir(), "kek.bin"))
	if err != nil {
		t.Fatal(err)
	}
	d := keystore.Domain{DNSName: "example.com", NetBIOSName: "EXAMPLE", SID: dtyp.MustParseSID("S-1-5-21-1-2-3")}
	if err := keystore.Create(ctx, backend, kek, d); err != nil {
		t.Fatal(err)
	}
	open := func(b keystore.Backend, name string) *keystore.Store {
		s, err := keystore.Open(ctx, b, kek, keystore.Options{Replica: name, Heartbeat: 20 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	first := open(backend, "first")
	key, err := first.CurrentServerWrapKey(ctx)
	if err != nil {
		t.Fatal(err)
	}
	c := new(cluster)
	c.second = open(&lame{backend, map[string]bool{
		keystore.SecretPrefix + key.GUID().String(): true, keystore.CurrentServerSecret: true, keystore.CurrentClientSecret: true,
	}}, "second")
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		if all, err := first.Replicas(ctx); err == nil && len(all) == 2 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the servers do not report")
		}
	}
	cfg := defaultConfig()
	c.session = newSession(stdio{out: &c.stdout, err: &c.stderr}, &cfg)
	c.session.store = first
	return c
}

func (c *cluster) rotate(ctx context.Context, phase string, wait time.Duration) error {
	r := rotation{session: c.session, kind: keystore.ServerWrap, name: "server", wait: wait}
	return r.run(ctx, phase)
}

// A rotation names the servers that have not got the new key, and changes
// nothing for the clients while there are any. It goes on when there are none.
// The heartbeats are those of a bubble: no server passes for dead because this
// machine is busy.
func TestRotateWaitsForServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		before, err := c.second.CurrentServerWrapKey(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			err := c.rotate(t.Context(), "", time.Millisecond)
			if err == nil || !strings.Contains(err.Error(), "second did not get key") || !strings.Contains(err.Error(), "bkrpd keys rollback server") {
				t.Fatalf("rotating: %v", err)
			}
		}
		if !strings.Contains(c.stderr.String(), "waiting for ") || !strings.Contains(c.stdout.String(), "going on with ServerWrap key") {
			t.Errorf("it said %q, %q", c.stdout.String(), c.stderr.String())
		}
		if err := c.rotate(t.Context(), phasePrefer, 0); err == nil || !strings.Contains(err.Error(), "is not served by ") || !strings.Contains(err.Error(), "second") {
			t.Errorf("preferring: %v", err)
		}
		if now, err := c.session.store.CurrentServerWrapKey(t.Context()); err != nil || now.GUID() != before.GUID() {
			t.Errorf("the current key has changed: %v", err)
		}
		if err := c.second.Close(); err != nil { // a server that ends holds up nobody
			t.Fatal(err)
		}
		if err := c.rotate(t.Context(), "", time.Minute); err != nil {
			t.Fatal(err)
		}
		if now, err := c.session.store.CurrentServerWrapKey(t.Context()); err != nil || now.GUID() == before.GUID() {
			t.Errorf("the current key has not changed: %v", err)
		}
	})
}

// The mean of unwraps is over 30 days, or over those since counting began, and
// today is one of them.
func TestUnwrapsPerDay(t *testing.T) {
	now := time.Date(2026, 6, 30, 0, 0, 1, 0, time.UTC)
	days := func(ago ...int) (list []keystore.DayUsage) {
		for _, n := range ago {
			list = append(list, keystore.DayUsage{Day: now.Truncate(24*time.Hour).AddDate(0, 0, -n), Unwraps: 30})
		}
		return list
	}
	for name, c := range map[string]struct {
		since int // days ago
		days  []keystore.DayUsage
		want  string
	}{
		"never":             {since: 0, want: "0"},
		"today":             {0, days(0), "30"},
		"since yesterday":   {1, days(1), "15"},
		"for long":          {80, days(60, 29, 0), "2.0"},
		"long ago":          {80, days(60, 30), "0"},
		"one in 30 days":    {80, []keystore.DayUsage{{Day: now.Truncate(24 * time.Hour), Unwraps: 1}}, "<0.1"},
		"three in 30 days":  {80, []keystore.DayUsage{{Day: now.Truncate(24 * time.Hour), Unwraps: 3}}, "0.1"},
		"clock of a server": {-1, days(-1), "30"},
	} {
		u := &keystore.Usage{Since: now.AddDate(0, 0, -c.since), Days: c.days}
		if got := rateText(perDay(u, now)); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// What is damaged or lost is told beside the numbers.
func TestPrintDamaged(t *testing.T) {
	var out, errs bytes.Buffer
	std := stdio{out: &out, err: &errs}
	k := keyEntry{GUID: dtyp.GUID{1}, Callers: 7, More: true, Lost: true, Damaged: []string{"use/x/y"}, Error: "keystore: store is corrupt"}
	if err := printKeys(std, []keyEntry{k}); err != nil {
		t.Fatal(err)
	}
	if err := printCallers(std, &callersEntry{More: true, Lost: true, Damaged: []string{"who/x/y/00"}}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"damaged", "never", "unknown", "7 or more"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in\n%s", want, out.String())
		}
	}
	for _, want := range []string{"store is corrupt", "use/x/y is damaged", "was lost", "who/x/y/00 is damaged", "more callers than are remembered"} {
		if !strings.Contains(errs.String(), want) {
			t.Errorf("%q is missing in\n%s", want, errs.String())
		}
	}
}

// What cannot be put on the trail is said not to be.
func TestLifeNeedsTrail(t *testing.T) {
	c := newCluster(t)
	kind := keystore.ServerWrap
	req := &adminRequest{Verb: verbKeysCreate, Life: &lifeRequest{Kind: &kind}}
	resp := administer(t.Context(), c.session.store, req, &keyAudit{Log: slog.New(failing{slog.DiscardHandler})})
	if !strings.Contains(resp.Error, "the audit trail could not be written") {
		t.Errorf("the answer is %+v", resp)
	}
	for verb := range lifeVerbs { // a request without what it needs is an error, and no panic
		if resp := administer(t.Context(), c.session.store, &adminRequest{Verb: verb}, &keyAudit{Log: slog.New(slog.DiscardHandler)}); resp == nil {
			t.Errorf("%s: no answer", verb)
		}
	}
}

// A rotation that was interrupted is resumed; one that was overtaken, so that it
// cannot be ended any more, is not.
func TestRotationIsResumedOrBegunAnew(t *testing.T) {
	ctx, backend, sealer := t.Context(), keystore.NewMemory(), keystore.NewThrowAwaySealer()
	d := keystore.Domain{DNSName: "example.com", NetBIOSName: "EXAMPLE", SID: dtyp.MustParseSID("S-1-5-21-1-2-3")}
	if err := keystore.Create(ctx, backend, sealer, d); err != nil {
		t.Fatal(err)
	}
	store, err := keystore.Open(ctx, backend, sealer, keystore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if _, err := store.CurrentServerWrapKey(ctx); err != nil {
		t.Fatal(err)
	}
	kind := keystore.ServerWrap
	begin := func() *rotationEntry {
		t.Helper()
		resp, err := createRotation(ctx, store, &lifeRequest{Kind: &kind, Resume: true})
		if err != nil {
			t.Fatal(err)
		}
		return resp.Rotation
	}
	first := begin()
	if again := begin(); first.Resumed || !again.Resumed || again.Next != first.Next {
		t.Errorf("begun %+v, and then %+v", first, again)
	}
	if _, err := createRotation(ctx, store, &lifeRequest{Kind: &kind}); !errors.Is(err, keystore.ErrRotation) {
		t.Errorf("without resuming: %v", err)
	}
	if _, err := store.RotateServerWrapKey(ctx); err != nil {
		t.Fatal(err)
	}
	if fresh := begin(); fresh.Resumed || fresh.Next == first.Next {
		t.Errorf("after it was overtaken: %+v", fresh)
	}
	if _, err := store.PreferRotation(ctx, kind); err != nil {
		t.Error(err)
	}
}
