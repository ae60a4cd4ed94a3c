package interop

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/interop/peers"
	"github.com/seed05845750/bkrp/keystore"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// etcdHistory is every change below a prefix, by revision, and when each was
// heard of first. It listens to all members, so that one of them may fail.
type etcdHistory struct {
	prefix  string
	origin  time.Time
	stop    context.CancelFunc
	running sync.WaitGroup
	clients []*clientv3.Client

	mu     sync.Mutex
	events map[int64]*etcdEvent
}

// etcdEvent is a change of one entry; its value is nil where it was deleted.
type etcdEvent struct {
	rev   int64
	name  string
	value []byte
	heard time.Duration
}

// listenToEtcd begins with the first revision there is.
func listenToEtcd(t *testing.T, e *peers.Etcd, prefix string, origin time.Time) *etcdHistory {
	t.Helper()
	cfg, err := e.ClientTLS()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	h := &etcdHistory{prefix: prefix, origin: origin, stop: cancel, events: make(map[int64]*etcdEvent)}
	t.Cleanup(func() { h.close() })
	for _, endpoint := range e.Endpoints() {
		c, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, TLS: cfg, Logger: zap.NewNop(), DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: 2 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		h.clients = append(h.clients, c)
		h.running.Go(func() {
			for resp := range c.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(1)) {
				for _, event := range resp.Events {
					h.add(event)
				}
			}
		})
	}
	return h
}

// close ends the listening.
func (h *etcdHistory) close() {
	h.stop()
	h.running.Wait()
	for _, c := range h.clients {
		_ = c.Close()
	}
	h.clients = nil
}

// add notes an event. One transaction of a store changes one entry.
func (h *etcdHistory) add(event *clientv3.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	rev := event.Kv.ModRevision
	if h.events[rev] != nil {
		return
	}
	e := &etcdEvent{rev: rev, name: strings.TrimPrefix(string(event.Kv.Key), h.prefix), heard: time.Since(h.origin)}
	if event.Type == mvccpb.PUT {
		const head = 1 + 16 // of an entry: its version, and who wrote it
		e.value = event.Kv.Value[min(head, len(event.Kv.Value)):]
	}
	h.events[rev] = e
}

// whole waits until everything has been heard of that etcd has now, and returns
// it by revision.
func (h *etcdHistory) whole(ctx context.Context) ([]*etcdEvent, error) {
	var last int64
	for _, c := range h.clients {
		resp, err := c.Get(ctx, h.prefix, clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByModRevision, clientv3.SortDescend), clientv3.WithLimit(1), clientv3.WithKeysOnly())
		if err != nil {
			return nil, fmt.Errorf("reading the last revision: %w", err)
		}
		for _, kv := range resp.Kvs {
			last = max(last, kv.ModRevision)
		}
	}
	for {
		h.mu.Lock()
		heard := h.events[last] != nil
		var list []*etcdEvent
		for _, e := range h.events {
			list = append(list, e)
		}
		h.mu.Unlock()
		if heard {
			slices.SortFunc(list, func(a, b *etcdEvent) int { return int(a.rev - b.rev) })
			return list, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting to hear of revision %d: %w", last, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// takeIn reads what etcd had into the history: a store is opened on a copy of
// its entries, and asked after each revision that concerns current keys.
func (h *clusterHistory) takeIn(ctx context.Context, kek keystore.Sealer, events []*etcdEvent) error {
	past := &pastBackend{entries: make(map[string]keystore.Entry)}
	var store *keystore.Store
	defer func() {
		if store != nil {
			_ = store.Close()
		}
	}()
	for _, e := range events {
		past.set(e)
		if store == nil {
			var err error
			if store, err = keystore.Open(ctx, past, kek, keystore.Options{}); err != nil {
				return fmt.Errorf("opening the store as it was at revision %d: %w", e.rev, err)
			}
		}
		if err := h.takeInEvent(ctx, store, e); err != nil {
			return fmt.Errorf("revision %d, %s: %w", e.rev, e.name, err)
		}
	}
	return nil
}

func (h *clusterHistory) takeInEvent(ctx context.Context, store *keystore.Store, e *etcdEvent) error {
	for kind, pointer := range map[keystore.KeyKind]string{
		keystore.ClientWrap: keystore.CurrentClientSecret, keystore.ServerWrap: keystore.CurrentServerSecret,
	} {
		switch e.name {
		case pointer:
			value, err := store.Secret(ctx, pointer)
			if err != nil {
				return err
			}
			h.pointers[kind] = append(h.pointers[kind], pointerWrite{
				rev: e.rev, key: dtyp.GUID(value), earliest: h.begun(kind, e.heard), latest: e.heard,
			})
		case "rotation/" + kind.String():
			r, err := store.Rotation(ctx, kind)
			if err != nil {
				return err
			}
			h.rotations[kind] = append(h.rotations[kind], rotationWrite{rev: e.rev, Rotation: r})
		}
	}
	text, _ := strings.CutPrefix(e.name, keystore.SecretPrefix)
	if guid, err := dtyp.ParseGUID(text); err == nil && text != e.name {
		if e.value == nil {
			return errors.New("a key was deleted")
		}
		h.born[guid] = e.rev
	}
	return nil
}

// begun is when the operation began that moved a pointer, which was heard of at
// some time: the last one that was begun before.
func (h *clusterHistory) begun(kind keystore.KeyKind, heard time.Duration) (begun time.Duration) {
	for i := range h.ops {
		if o := &h.ops[i]; o.kind == kind && (o.action == opPrefer || o.action == opRollBack) && o.start <= heard {
			begun = max(begun, o.start)
		}
	}
	return begun
}

// pastBackend is a keystore.Backend with the entries of a moment that has passed.
type pastBackend struct {
	mu      sync.Mutex
	entries map[string]keystore.Entry
}

func (b *pastBackend) set(e *etcdEvent) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e.value == nil {
		delete(b.entries, e.name)
		return
	}
	b.entries[e.name] = keystore.Entry{Name: e.name, Value: e.value, Revision: keystore.Revision(e.rev)}
}

func (b *pastBackend) Get(_ context.Context, name string) ([]byte, keystore.Revision, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e, ok := b.entries[name]
	if !ok {
		return nil, 0, keystore.ErrNotFound
	}
	return slices.Clone(e.Value), e.Revision, nil
}

func (b *pastBackend) CompareAndSwap(context.Context, string, keystore.Revision, []byte) (keystore.Revision, error) {
	return 0, errors.New("the past does not change")
}

func (b *pastBackend) List(_ context.Context, prefix string) (list []keystore.Entry, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, e := range b.entries {
		if strings.HasPrefix(name, prefix) {
			list = append(list, keystore.Entry{Name: name, Value: slices.Clone(e.Value), Revision: e.Revision})
		}
	}
	slices.SortFunc(list, func(a, b keystore.Entry) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

func (b *pastBackend) Watch(ctx context.Context, _ func(string)) error {
	<-ctx.Done()
	return ctx.Err()
}

func (b *pastBackend) Close() error { return nil }
