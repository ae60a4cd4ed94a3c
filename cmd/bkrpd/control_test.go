package main

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/keystore"
)

// What stands at the control socket's path is removed only when it is a socket
// that nobody listens on: it may be the store, or another daemon's.
func TestListenControlReplacesDeadSocketsOnly(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	t.Run("file", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "kek.bin")
		if err := os.WriteFile(path, []byte("key"), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := listenControl(path, nil, log)
		if err == nil {
			c.close(t.Context())
			t.Fatal("a file was replaced")
		}
		if b, err := os.ReadFile(path); err != nil || string(b) != "key" {
			t.Errorf("the file is now %q, %v", b, err)
		}
	})
	t.Run("living daemon", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "s")
		first, err := listenControl(path, nil, log)
		if err != nil {
			t.Fatal(err)
		}
		defer first.close(t.Context())
		if second, err := listenControl(path, nil, log); err == nil {
			second.close(t.Context())
			t.Fatal("a living daemon's socket was replaced")
		}
		if c, err := net.Dial("unix", path); err != nil {
			t.Errorf("the first daemon is cut off: %v", err)
		} else {
			c.Close()
		}
	})
	t.Run("dead daemon", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "s")
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		l.(*net.UnixListener).SetUnlinkOnClose(false)
		l.Close()
		c, err := listenControl(path, nil, log)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Lstat(path); err != nil || info.Mode() != fs.ModeSocket|0o600 {
			t.Errorf("the socket is %v, %v", info, err)
		}
		if err := c.close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A path that no socket can have is said to be so by the daemon, and does not
// keep the admin commands from a store that no daemon has open.
func TestControlPathTooLong(t *testing.T) {
	path := filepath.Join(t.TempDir(), strings.Repeat("x", 200))
	if _, err := listenControl(path, nil, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "set control to a shorter one") {
		t.Errorf("listening: %v", err)
	}
	if _, err := askDaemon(t.Context(), path, &adminRequest{Verb: verbUserList}); !errors.Is(err, errNoDaemon) {
		t.Errorf("asking: %v", err)
	}
}

// slowBackend takes its time for every list.
type slowBackend struct {
	keystore.Backend
	delay time.Duration
}

func (b slowBackend) List(ctx context.Context, prefix string) ([]keystore.Entry, error) {
	select {
	case <-time.After(b.delay):
		return b.Backend.List(ctx, prefix)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Doing a request may take longer than it may take to arrive: a token makes a key
// in a minute, and an import has thousands.
func TestLongRequest(t *testing.T) {
	// On a busy machine it may not arrive in time either; more time is given then.
	for limit := 50 * time.Millisecond; ; limit *= 5 {
		err := longRequest(t, limit)
		if err == nil {
			return
		}
		if limit > 10*time.Second {
			t.Fatalf("a long request: %v", err)
		}
	}
}

// longRequest makes a request that takes longer than limit, which is the time
// for it to arrive.
func longRequest(t *testing.T, limit time.Duration) error {
	backend, sealer := keystore.NewMemory(), keystore.NewThrowAwaySealer()
	defer backend.Close()
	domain := keystore.Domain{SID: dtyp.MustParseSID("S-1-5-21-1-2-3"), DNSName: "example.com", NetBIOSName: "EXAMPLE"}
	if err := keystore.Create(t.Context(), backend, sealer, domain); err != nil {
		t.Fatal(err)
	}
	store, err := keystore.Open(t.Context(), slowBackend{backend, 4 * limit}, sealer, keystore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	c := serveControl(l, store, slog.New(slog.DiscardHandler), limit)
	defer c.close(t.Context())
	resp, err := askDaemon(t.Context(), path, &adminRequest{Verb: verbUserList})
	if err == nil && resp.Error != "" {
		err = errors.New(resp.Error)
	}
	return err
}
