package bkrpserver_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/bkrpserver"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/keystore"
	"github.com/seed05845750/bkrp/keystore/keystoretest"
)

func TestCheckKey(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	client, err := f.Store.CurrentClientWrapKey(ctx)
	if err != nil {
		t.Fatal(err)
	}
	old, err := f.Store.CurrentServerWrapKey(ctx)
	if err != nil {
		t.Fatal(err)
	}
	current, err := f.Store.RotateServerWrapKey(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Store.SetKeyState(ctx, old.GUID(), keystore.KeyRetired); err != nil {
		t.Fatal(err)
	}
	for _, how := range []bkrpserver.Subprotocol{bkrpserver.On, bkrpserver.UnwrapOnly, bkrpserver.Off} {
		f.ServerWrap, f.ClientWrap = how, how
		for _, err := range []error{
			f.CheckKey(ctx, keystore.ClientWrap, client.GUID()),
			f.CheckKey(ctx, keystore.ServerWrap, current.GUID()),
			f.CheckKey(ctx, keystore.ServerWrap, old.GUID()),
		} {
			if err != nil {
				t.Error(err)
			}
		}
	}
	t.Run("is no call", func(t *testing.T) {
		if len(f.events) != 0 || strings.Contains(f.log.String(), "retired") {
			t.Errorf("%d audit records; log %s", len(f.events), f.log.String())
		}
		usages, err := f.Store.Usages(ctx)
		if err != nil || len(usages) != 0 {
			t.Errorf("use of keys is %v, %v", usages, err)
		}
	})
	t.Run("refused", func(t *testing.T) {
		if err := f.CheckKey(ctx, keystore.ServerWrap, client.GUID()); !errors.Is(err, keystore.ErrMalformedKey) {
			t.Errorf("a key of the other kind: %v", err)
		}
		if err := f.CheckKey(ctx, keystore.ClientWrap, dtyp.MustParseGUID("11111111-2222-3333-4444-555555555555")); !errors.Is(err, keystore.ErrNoKey) {
			t.Errorf("no key: %v", err)
		}
		if err := f.Store.SetKeyState(ctx, old.GUID(), keystore.KeyLocked); err != nil {
			t.Fatal(err)
		}
		if err := f.CheckKey(ctx, keystore.ServerWrap, old.GUID()); !errors.Is(err, keystore.ErrKeyLocked) {
			t.Errorf("a locked key: %v", err)
		}
	})
}

// lockedLog is a log that a server writes and a test reads.
type lockedLog struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// canaryServer is a server with canaries every few milliseconds.
func canaryServer(t *testing.T, service *bkrpserver.Service, log *lockedLog) *bkrpserver.Server {
	t.Helper()
	s, err := bkrpserver.New(bkrpserver.Config{
		Service: service, CanaryInterval: 2 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	return s
}

// wait waits until the server's health is as wanted.
func wait(t *testing.T, s *bkrpserver.Server, what string, is func(bkrpserver.Health) bool) bkrpserver.Health {
	t.Helper()
	for range 3000 {
		if h := s.Health(); len(h.Keys) > 0 && is(h) {
			return h
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("health is never %s; it is %+v", what, s.Health())
	return bkrpserver.Health{}
}

func TestCanary(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	var log lockedLog
	s := canaryServer(t, f.Service, &log)

	h := wait(t, s, "without keys", func(h bkrpserver.Health) bool { return len(h.Keys) == 2 })
	for _, k := range h.Keys {
		if !k.NoKey || k.Err != nil || !k.Key.IsZero() || k.Checked.IsZero() {
			t.Errorf("before the first key: %+v", k)
		}
	}
	if !h.OK() {
		t.Error("a server without keys is not well")
	}
	if names, err := f.Store.SecretNames(ctx); err != nil || len(names) != 0 {
		t.Fatalf("canaries made %q, %v", names, err)
	}

	key, err := f.Store.CurrentServerWrapKey(ctx)
	if err != nil {
		t.Fatal(err)
	}
	h = wait(t, s, "with a key", func(h bkrpserver.Health) bool { return h.Keys[1].Key == key.GUID() })
	if !h.OK() || h.Keys[1].Kind != keystore.ServerWrap || h.Keys[1].NoKey {
		t.Errorf("with a key: %+v", h.Keys[1])
	}
	if log := log.String(); strings.Contains(log, "canary") {
		t.Errorf("a canary that lives is in the log: %s", log)
	}

	// The pointer is damaged, and put right again.
	pointer, rev, err := f.backend.Get(ctx, keystore.CurrentServerSecret)
	if err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Clone(pointer)
	damaged[len(damaged)-1] ^= 1
	if rev, err = f.backend.CompareAndSwap(ctx, keystore.CurrentServerSecret, rev, damaged); err != nil {
		t.Fatal(err)
	}
	h = wait(t, s, "failing", func(h bkrpserver.Health) bool { return h.Keys[1].Err != nil })
	if h.OK() || !errors.Is(h.Keys[1].Err, keystore.ErrCorrupt) || h.Keys[0].Err != nil {
		t.Errorf("with a damaged pointer: %+v", h.Keys)
	}
	if _, err = f.backend.CompareAndSwap(ctx, keystore.CurrentServerSecret, rev, pointer); err != nil {
		t.Fatal(err)
	}
	wait(t, s, "well again", func(h bkrpserver.Health) bool { return h.OK() && h.Keys[1].Key == key.GUID() })
	for _, want := range []string{"level=ERROR msg=canary kind=ServerWrap", "damaged: make another key current", "the current key works again"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no %q in the log: %s", want, log.String())
		}
	}
	if len(f.events) != 0 {
		t.Errorf("%d canaries are in the audit trail", len(f.events))
	}
	if usages, err := f.Store.Usages(ctx); err != nil || len(usages) != 0 {
		t.Errorf("canaries count as use: %v, %v", usages, err)
	}
}

// While the backend is away, keys in memory are served, and the canary lives.
func TestCanaryWithoutBackend(t *testing.T) {
	f := newFixture(t)
	sealer, memory := keystore.NewThrowAwaySealer(), keystore.NewMemory()
	if err := keystore.Create(t.Context(), memory, sealer, f.Store.Domain()); err != nil {
		t.Fatal(err)
	}
	backend := keystoretest.NewFaults(memory, nil)
	store, err := keystore.Open(t.Context(), backend, sealer, keystore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	key, err := store.CurrentServerWrapKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f.Service.Store, f.Service.ClientWrap = store, bkrpserver.Off
	var log lockedLog
	s := canaryServer(t, f.Service, &log)
	wait(t, s, "well", func(h bkrpserver.Health) bool { return h.OK() && h.Keys[0].Key == key.GUID() })
	backend.SetFail(func(int, keystoretest.Call) error { return keystoretest.ErrFault })
	since := time.Now()
	h := wait(t, s, "checked again", func(h bkrpserver.Health) bool { return h.Keys[0].Checked.After(since) })
	if len(h.Keys) != 1 || !h.OK() {
		t.Errorf("%+v; %s", h.Keys, log.String())
	}
}

func TestCanaryOff(t *testing.T) {
	f := newFixture(t)
	s, err := bkrpserver.New(bkrpserver.Config{Service: f.Service})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if h := s.Health(); len(h.Keys) != 0 || !h.OK() {
		t.Errorf("%+v", h)
	}
}
