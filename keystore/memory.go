package keystore

import (
	"bytes"
	"context"
	"sort"
	"strings"
	"sync"

	"github.com/seed05845750/bkrp/keystore/internal/feed"
)

// memory is a Backend in the process's own memory.
type memory struct {
	mu      sync.Mutex
	entries map[string]Entry
	last    Revision
	closed  bool

	feed feed.Feed
}

// NewMemory returns an empty Backend which lasts as long as the process. It
// is for tests and for servers that are thrown away.
func NewMemory() Backend {
	return &memory{entries: make(map[string]Entry)}
}

// Get implements Backend.
func (m *memory) Get(ctx context.Context, name string) ([]byte, Revision, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.usable(ctx); err != nil {
		return nil, 0, err
	}
	e, ok := m.entries[name]
	if !ok {
		return nil, 0, ErrNotFound
	}
	return bytes.Clone(e.Value), e.Revision, nil
}

// CompareAndSwap implements Backend.
func (m *memory) CompareAndSwap(ctx context.Context, name string, old Revision, value []byte) (Revision, error) {
	if name == AnyName || len(name) > MaxNameSize || len(value) > MaxValueSize {
		return 0, ErrTooLarge
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.usable(ctx); err != nil {
		return 0, err
	}
	if m.entries[name].Revision != old {
		return 0, ErrConflict
	}
	if value == nil {
		if old != 0 {
			delete(m.entries, name)
			m.feed.Publish(name)
		}
		return 0, nil
	}
	m.last++
	m.entries[name] = Entry{Name: name, Value: bytes.Clone(value), Revision: m.last}
	m.feed.Publish(name)
	return m.last, nil
}

// List implements Backend.
func (m *memory) List(ctx context.Context, prefix string) ([]Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.usable(ctx); err != nil {
		return nil, err
	}
	var list []Entry
	for name, e := range m.entries {
		if strings.HasPrefix(name, prefix) {
			e.Value = bytes.Clone(e.Value)
			list = append(list, e)
		}
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Name < list[j].Name })
	return list, nil
}

// Watch implements Backend.
func (m *memory) Watch(ctx context.Context, changed func(name string)) error {
	err := m.feed.Follow(ctx, changed)
	if err == feed.ErrClosed {
		return ErrClosed
	}
	return err
}

// Close implements Backend. What was stored is gone.
func (m *memory) Close() error {
	m.mu.Lock()
	m.closed, m.entries = true, nil
	m.mu.Unlock()
	m.feed.Close()
	return nil
}

// usable says why the backend cannot serve a call; m.mu is held.
func (m *memory) usable(ctx context.Context) error {
	if m.closed {
		return ErrClosed
	}
	return ctx.Err()
}
