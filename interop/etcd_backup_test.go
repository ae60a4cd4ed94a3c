package interop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/seed05845750/bkrp/keystore"
	"github.com/seed05845750/bkrp/keystore/keystoretest"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// A store in etcd is dumped at one moment while it is in use, restored into a
// cluster although that is interrupted, and each value that is damaged there is
// named.
func TestEtcdBackup(t *testing.T) {
	e := startEtcd(t)
	ctx := t.Context()
	kek := keystore.NewThrowAwaySealer()
	first := openEtcd(t, etcdOptions(e, "first/"))
	domain := keystore.Domain{DNSName: "backup.example", NetBIOSName: "BACKUP", SID: keystore.RandomDomainSID()}
	if err := keystore.Create(ctx, first, kek, domain); err != nil {
		t.Fatal(err)
	}
	store, err := keystore.Open(ctx, first, kek, keystore.Options{Replica: "one"})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if _, err := store.CurrentClientWrapKey(ctx); err != nil {
		t.Fatal(err)
	}
	dump := dumpInUse(t, store)

	second := openEtcd(t, etcdOptions(e, "second/"))
	for n := range 6 { // each time it comes further
		faults := keystoretest.NewFaults(second, func(i int, _ keystoretest.Call) error {
			if i >= 3+n*len(dump.Entries)/7 {
				return keystoretest.ErrFault
			}
			return nil
		})
		faults.After = n%2 == 1
		if err := keystore.Restore(ctx, faults, kek, dump); !errors.Is(err, keystoretest.ErrFault) {
			t.Fatalf("interrupted: %v", err)
		}
		if _, err := keystore.Open(ctx, second, kek, keystore.Options{}); !errors.Is(err, keystore.ErrRestoring) {
			t.Fatalf("half a store: %v, want ErrRestoring", err)
		}
	}
	if err := keystore.Restore(ctx, second, kek, dump); err != nil {
		t.Fatal(err)
	}
	restored, err := keystore.Open(ctx, second, kek, keystore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	again, err := restored.Dump(ctx)
	if err = errors.Join(err, restored.Close()); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(again.Keys()) != fmt.Sprint(dump.Keys()) || len(again.Check()) != 0 {
		t.Errorf("restored %v, of %v; %v", again.Keys(), dump.Keys(), again.Check())
	}

	client := etcdClient(t, e, "", "")
	got, err := client.Get(ctx, "second/", clientv3.WithPrefix())
	if err != nil || len(got.Kvs) < len(dump.Entries) {
		t.Fatalf("%d entries in etcd, %v", len(got.Kvs), err)
	}
	for _, kv := range got.Kvs {
		name := strings.TrimPrefix(string(kv.Key), "second/")
		if name == "store" {
			continue // nothing opens without the header
		}
		for _, at := range []int{len(kv.Value) - 1, len(kv.Value) / 2} {
			altered := bytes.Clone(kv.Value)
			altered[at] ^= 1
			if _, err := client.Put(ctx, string(kv.Key), string(altered)); err != nil {
				t.Fatal(err)
			}
			checkEtcdDamage(t, second, kek, name, len(again.Entries))
		}
		if _, err := client.Put(ctx, string(kv.Key), string(kv.Value)); err != nil {
			t.Fatal(err)
		}
	}
}

// checkEtcdDamage checks a store of which one entry is damaged.
func checkEtcdDamage(t *testing.T, b keystore.Backend, kek keystore.Sealer, name string, entries int) {
	t.Helper()
	s, err := keystore.Open(t.Context(), b, kek, keystore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	d, err := s.Dump(t.Context())
	if err != nil || len(d.Entries) != entries || len(d.Damaged) != 1 || d.Damaged[0] != name {
		t.Errorf("with %s damaged: %v, %v", name, d, err)
	}
}

// dumpInUse dumps a store many times while keys are rotated and accounts come and
// go, and returns the last dump.
func dumpInUse(t *testing.T, s *keystore.Store) (last *keystore.Dump) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var working sync.WaitGroup
	working.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			name := fmt.Sprint("user", i%3)
			if i%2 == 0 {
				_, err := s.AddAccount(t.Context(), name, "x")
				_, keyErr := s.RotateServerWrapKey(t.Context())
				if err != nil && !errors.Is(err, keystore.ErrAccountExists) || keyErr != nil {
					t.Errorf("in use: %v, %v", err, keyErr)
					return
				}
			} else if err := s.RemoveAccount(t.Context(), name); err != nil && !errors.Is(err, keystore.ErrNoAccount) {
				t.Error(err)
				return
			}
		}
	})
	defer working.Wait()
	defer stop()
	for range 20 {
		d, err := s.Dump(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if errs := d.Check(); len(errs) > 0 || len(d.Damaged) > 0 {
			t.Fatalf("a dump is of no one moment: %v, %q", errs, d.Damaged)
		}
		last = d
	}
	return last
}
