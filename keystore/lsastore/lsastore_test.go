package lsastore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/dcerpc"
	"github.com/seed05845750/bkrp/internal/lsaclient"
	"github.com/seed05845750/bkrp/keystore"
)

const aKey = keystore.SecretPrefix + "01234567-89ab-cdef-0123-456789abcdef"

// eachServer runs a test with the two methods of LSAD that Samba does not have,
// and without them.
func eachServer(t *testing.T, run func(t *testing.T, f *fakeLSA)) {
	for _, samba := range []bool{false, true} {
		t.Run(fmt.Sprintf("samba=%v", samba), func(t *testing.T) {
			f := newFake(t)
			f.samba = samba
			run(t, f)
		})
	}
}

func TestEntries(t *testing.T) {
	eachServer(t, func(t *testing.T, f *fakeLSA) {
		b, ctx := f.backend(t), t.Context()
		if _, _, err := b.Get(ctx, aKey); !errors.Is(err, keystore.ErrNotFound) {
			t.Fatalf("absent: %v", err)
		}
		value := bytes.Repeat([]byte("key pair"), 300)
		rev, err := b.CompareAndSwap(ctx, aKey, 0, value)
		if err != nil || rev == 0 {
			t.Fatalf("create: %d, %v", rev, err)
		}
		if got, r, err := b.Get(ctx, aKey); err != nil || r != rev || !bytes.Equal(got, value) {
			t.Fatalf("get: %d, %v; want %d", r, err, rev)
		}
		for _, old := range []keystore.Revision{0, rev + 1} {
			if _, err := b.CompareAndSwap(ctx, aKey, old, []byte("other")); !errors.Is(err, keystore.ErrConflict) {
				t.Errorf("swap from %d: %v", old, err)
			}
		}
		next, err := b.CompareAndSwap(ctx, aKey, rev, []byte("other"))
		if err != nil || next == rev {
			t.Errorf("swap: %d, %v", next, err)
		}
		if _, err := b.CompareAndSwap(ctx, keystore.CurrentClientSecret, rev, []byte("x")); !errors.Is(err, keystore.ErrConflict) {
			t.Errorf("swap of what is not there: %v", err)
		}
		if f.dials != 1 {
			t.Errorf("%d connections", f.dials)
		}
	})
}

func TestWhatIsNotKept(t *testing.T) {
	f := newFake(t)
	b, ctx := f.backend(t), t.Context()
	if _, _, err := b.Get(ctx, "account/ALICE"); !errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("Get of an account: %v", err)
	}
	if list, err := b.List(ctx, "account/"); err != nil || len(list) != 0 {
		t.Errorf("List of accounts: %v, %v", list, err)
	}
	for _, prefix := range []string{"", "G$", keystore.SecretPrefix, keystore.CurrentClientSecret} {
		if _, err := b.List(ctx, prefix); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("List(%q): %v", prefix, err)
		}
	}
	for name, value := range map[string][]byte{"account/ALICE": {1}, keystore.SecretPrefix + `a\b`: {1}, aKey: nil} {
		if _, err := b.CompareAndSwap(ctx, name, 0, value); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("write of %d octets to %s: %v", len(value), name, err)
		}
	}
	if _, err := b.CompareAndSwap(ctx, aKey, 0, make([]byte, maxValue+1)); !errors.Is(err, keystore.ErrTooLarge) {
		t.Errorf("a long value: %v", err)
	}
	if len(f.log) != 0 {
		t.Errorf("the server was asked: %v", f.log)
	}
}

// nothing but STATUS_OBJECT_NAME_NOT_FOUND of a secret that does not open
// is absence, and only absence leads to a new key.
func TestNoKeyWhereOneCannotTell(t *testing.T) {
	on := func(op uint16, err error) func(uint16) error {
		return func(called uint16) error {
			if called == op {
				return err
			}
			return nil
		}
	}
	for name, fault := range map[string]func(uint16) error{
		"retrieve denied":        on(opRetrieve, lsaclient.StatusAccessDenied),
		"retrieve fails":         on(opRetrieve, statusInternalError),
		"retrieve faults":        on(opRetrieve, dcerpc.FaultUnspecified),
		"open denied":            on(opOpen, lsaclient.StatusAccessDenied),
		"open fails":             on(opOpen, statusInternalError),
		"open faults":            on(opOpen, dcerpc.FaultOpRange),
		"connection cut":         on(opOpen, errCut),
		"connection cut at once": on(opPolicy, errCut),
		"policy denied":          on(opPolicy, lsaclient.StatusAccessDenied),
	} {
		t.Run(name, func(t *testing.T) {
			eachServer(t, func(t *testing.T, f *fakeLSA) {
				if f.samba && strings.HasPrefix(name, "retrieve") {
					return
				}
				f.fault = fault
				refuses(t, f)
			})
		})
	}
	t.Run("an object without a value", func(t *testing.T) {
		eachServer(t, func(t *testing.T, f *fakeLSA) {
			f.secrets[keystore.CurrentClientSecret] = nil
			f.secrets[keystore.CurrentServerSecret] = nil
			if err := refuses(t, f); !errors.Is(err, ErrNoValue) {
				t.Errorf("%v, want ErrNoValue", err)
			}
		})
	})
	t.Run("an object that is gone once it is opened", func(t *testing.T) {
		f := newFake(t)
		f.samba = true
		f.secrets[keystore.CurrentClientSecret] = nil
		f.secrets[keystore.CurrentServerSecret] = nil
		f.fault = on(opQuery, lsaclient.StatusNameNotFound)
		refuses(t, f)
	})
}

func openDomain(t *testing.T, b *Backend) *keystore.Store {
	t.Helper()
	s, err := keystore.OpenDomain(t.Context(), b, keystore.Domain{
		DNSName: "bkrp.test", NetBIOSName: "BKRP", SID: dtyp.MustParseSID("S-1-5-21-1-2-3"),
	}, keystore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// refuses checks that a store has no current keys and makes none.
func refuses(t *testing.T, f *fakeLSA) error {
	t.Helper()
	s := openDomain(t, f.backend(t))
	_, clientErr := s.CurrentClientWrapKey(t.Context())
	_, err := s.CurrentServerWrapKey(t.Context())
	if clientErr == nil || err == nil {
		t.Errorf("current keys: %v, %v", clientErr, err)
	}
	if errors.Is(err, keystore.ErrNotFound) || errors.Is(err, keystore.ErrNoKey) {
		t.Errorf("it looks like absence: %v", err)
	}
	if n := f.count(opCreate) + f.count(opStore); n != 0 {
		t.Errorf("%d tries to make a key", n)
	}
	return err
}

// The key's object is there before the pointer to it.
func TestKeyBeforePointer(t *testing.T) {
	eachServer(t, func(t *testing.T, f *fakeLSA) {
		s := openDomain(t, f.backend(t))
		key, err := s.CurrentServerWrapKey(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		want := []string{keystore.SecretPrefix + key.GUID().String(), keystore.CurrentServerSecret}
		if len(f.names) != 2 || f.names[0] != want[0] || f.names[1] != want[1] {
			t.Errorf("written: %q, want %q", f.names, want)
		}
	})
}

// a key is created by one writer, and a pointer belongs to the last.
func TestWriters(t *testing.T) {
	eachServer(t, func(t *testing.T, f *fakeLSA) {
		const writers = 8
		var wg sync.WaitGroup
		won := make(chan []byte, writers)
		for i := range writers {
			b := f.backend(t)
			wg.Go(func() {
				value := bytes.Repeat([]byte{byte(i + 1)}, 16)
				_, err := b.CompareAndSwap(t.Context(), aKey, 0, value)
				switch {
				case err == nil:
					won <- value
				case !errors.Is(err, keystore.ErrConflict) && !errors.Is(err, ErrNoValue):
					// ErrNoValue: created by another, and not written yet.
					t.Errorf("writer %d: %v", i, err)
				}
			})
		}
		wg.Wait()
		close(won)
		if len(won) != 1 || !bytes.Equal(<-won, f.secrets[aKey]) {
			t.Error("not just one writer has won")
		}
	})
	t.Run("somebody writes after us", func(t *testing.T) {
		eachServer(t, func(t *testing.T, f *fakeLSA) {
			b := f.backend(t)
			rev, err := b.CompareAndSwap(t.Context(), keystore.CurrentClientSecret, 0, []byte("the first pointer"))
			if err != nil {
				t.Fatal(err)
			}
			f.after = func(op uint16) {
				if op == opSet || op == opStore {
					f.secrets[keystore.CurrentClientSecret] = []byte("another's pointer")
				}
			}
			_, err = b.CompareAndSwap(t.Context(), keystore.CurrentClientSecret, rev, []byte("our new pointer"))
			if !errors.Is(err, keystore.ErrConflict) {
				t.Errorf("%v, want ErrConflict", err)
			}
		})
	})
}

func TestConnectionLost(t *testing.T) {
	t.Run("while idle", func(t *testing.T) {
		f := newFake(t)
		f.secrets[aKey] = []byte("value")
		b := f.backend(t)
		for range 3 {
			if _, _, err := b.Get(t.Context(), aKey); err != nil {
				t.Fatal(err)
			}
			f.cut()
		}
		if f.dials != 3 {
			t.Errorf("%d connections, want 3", f.dials)
		}
	})
	t.Run("while a value is written", func(t *testing.T) {
		eachServer(t, func(t *testing.T, f *fakeLSA) {
			b := f.backend(t)
			if _, _, err := b.Get(t.Context(), aKey); !errors.Is(err, keystore.ErrNotFound) {
				t.Fatal(err)
			}
			f.fault = func(op uint16) error {
				if op == opSet {
					return errCut
				}
				return nil
			}
			_, err := b.CompareAndSwap(t.Context(), aKey, 0, []byte("value"))
			if err == nil || errors.Is(err, keystore.ErrConflict) || f.count(opSet) != 1 {
				t.Errorf("%v after %d writes", err, f.count(opSet))
			}
		})
	})
}

// A password that is not right any more does not lock the account out.
func TestRefusedLogonIsNotRepeated(t *testing.T) {
	f := newFake(t)
	tries := 0
	b := newBackend(time.Hour, time.Minute, func(context.Context) (*conn, error) {
		tries++
		return nil, ErrLogon
	})
	t.Cleanup(func() { b.Close() })
	for range 5 {
		if _, _, err := b.Get(t.Context(), aKey); !errors.Is(err, ErrLogon) {
			t.Fatal(err)
		}
	}
	if tries != 1 {
		t.Errorf("%d logons", tries)
	}

	var p pause
	now := time.Unix(1000, 0)
	for _, want := range []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute} {
		p.note(now, ErrLogon)
		if p.over(now.Add(want-1)) == nil || p.over(now.Add(want)) != nil {
			t.Errorf("not a pause of %v", want)
		}
	}
	for range 20 {
		p.note(now, ErrLogon)
	}
	if p.over(now.Add(lastPause)) != nil {
		t.Error("the pause is longer than the last one")
	}
	p.note(now, nil)
	if p.over(now) != nil {
		t.Error("there is a pause after a logon")
	}
	b.dial = f.dial
	b.pause = p
	if _, _, err := b.Get(t.Context(), aKey); !errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("after the pause: %v", err)
	}
}

func TestTime(t *testing.T) {
	hang := func(t *testing.T) (*Backend, func()) {
		f := newFake(t)
		release := make(chan struct{})
		f.fault = func(op uint16) error {
			if op == opOpen {
				<-release
			}
			return nil
		}
		return f.backend(t), func() { close(release) }
	}
	t.Run("of the caller", func(t *testing.T) {
		b, release := hang(t)
		defer release()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if _, _, err := b.Get(ctx, aKey); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
	})
	t.Run("of the backend", func(t *testing.T) {
		b, release := hang(t)
		defer release()
		b.timeout = 20 * time.Millisecond
		if _, _, err := b.Get(t.Context(), aKey); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
	})
	t.Run("Close ends what is under way", func(t *testing.T) {
		b, release := hang(t)
		defer release()
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if _, _, err := b.Get(context.Background(), aKey); !errors.Is(err, keystore.ErrClosed) {
					t.Errorf("%v", err)
				}
			})
		}
		wg.Go(func() {
			if err := b.Watch(context.Background(), func(string) {}); !errors.Is(err, keystore.ErrClosed) {
				t.Errorf("%v", err)
			}
		})
		b.Close()
		wg.Wait()
		if _, _, err := b.Get(t.Context(), aKey); !errors.Is(err, keystore.ErrClosed) {
			t.Errorf("%v", err)
		}
	})
}

// S-3.1.6-01: what others write to the directory is seen.
func TestWatch(t *testing.T) {
	f := newFake(t)
	b := f.backend(t)
	ctx, cancel := context.WithCancel(t.Context())
	seen := make(chan string, 16)
	done := make(chan error)
	go func() { done <- b.Watch(ctx, func(name string) { seen <- name }) }()
	if name := <-seen; name != keystore.AnyName {
		t.Fatalf("first %q", name)
	}
	for _, name := range []string{keystore.CurrentServerSecret, keystore.CurrentClientSecret, keystore.CurrentServerSecret} {
		f.mu.Lock()
		f.secrets[name] = append(bytes.Clone(f.secrets[name]), 1)
		f.mu.Unlock()
		if got := <-seen; got != name {
			t.Fatalf("%q changed, and %q was told", name, got)
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	f.fault = func(uint16) error { return lsaclient.StatusAccessDenied }
	if err := b.Watch(t.Context(), func(string) { t.Error("a watch stands on what cannot be read") }); err == nil || errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("%v", err)
	}
}

func TestDamagedValue(t *testing.T) {
	f := newFake(t)
	b := newBackend(time.Hour, time.Minute, func(ctx context.Context) (*conn, error) {
		c, err := f.dial(ctx)
		if err == nil { // the two ends have not the same session key
			c.lsa = lsaclient.New(c.rpc, []byte("fedcba9876543210"))
		}
		return c, err
	})
	t.Cleanup(func() { b.Close() })
	f.secrets[aKey] = []byte("value")
	if got, _, err := b.Get(t.Context(), aKey); err == nil || errors.Is(err, keystore.ErrNotFound) || got != nil {
		t.Errorf("%x, %v", got, err)
	}
}

func TestPasswordStaysHidden(t *testing.T) {
	c := Config{Server: "dc", User: "u", Password: "hunter2"}
	if text := fmt.Sprintf("%v %+v %#v %s", c, c, c, c.Password); strings.Contains(text, "hunter2") {
		t.Error(text)
	}
	if _, err := c.Password.MarshalText(); err == nil {
		t.Error("a password is marshalled")
	}
}

func TestServerAddresses(t *testing.T) {
	for _, server := range []string{":445", "[::1", "dc1:smb", "dc1:0", `\\dc1`} {
		_, err := Open(t.Context(), Config{Server: server, User: "Administrator"})
		if err == nil || !strings.Contains(err.Error(), "HOST:PORT") {
			t.Errorf("%q: %v", server, err)
		}
	}
}
