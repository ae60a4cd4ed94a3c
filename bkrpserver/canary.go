package bkrpserver

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/keystore"
)

// errCanary says that a secret did not come back as it was wrapped, or came back
// for somebody else.
var errCanary = errors.New("bkrpserver: what was wrapped under the key does not come back as it was")

// sidCanary owns the secrets of canaries. It is nobody's: no call is let in with
// it (mayCall), so that such a secret is of use to nobody.
var sidCanary = sidNobody

// CheckKey proves that a key opens what is wrapped under it: it wraps a fresh
// secret under the key and opens it as a call does, for its owner and, which has
// to be refused, for somebody else. It is no call: it stands neither in the
// audit trail nor in the use of the key, and nobody is given anything. A
// subprotocol that is switched off is proved nevertheless. The errors are those
// of the store, such as keystore.ErrNoKey, keystore.ErrKeyLocked and
// keystore.ErrNoToken, and others that say that the key does not work.
func (s *Service) CheckKey(ctx context.Context, kind keystore.KeyKind, guid dtyp.GUID) error {
	secret := make([]byte, 32)
	rand.Read(secret)
	defer clear(secret)
	blob, err := s.wrapCanary(ctx, kind, guid, secret)
	if err != nil {
		return err
	}
	prover := *s
	prover.ServerWrap, prover.ClientWrap = On, On
	got, err := prover.openCanary(ctx, sidCanary, blob)
	if err != nil {
		return err
	}
	defer clear(got)
	if kind == keystore.ClientWrap {
		secret = bkrp.AppendUnwrapped(nil, secret) // 2.2.1, as restore answers
		defer clear(secret)
	}
	if !bytes.Equal(got, secret) {
		return errCanary
	}
	other, err := prover.openCanary(ctx, sidEveryone, blob)
	clear(other)
	if !errors.Is(err, errOtherOwner) {
		return fmt.Errorf("%w: it was not refused to another SID: %w", errCanary, err)
	}
	return nil
}

// openCanary is BACKUPKEY_RESTORE_GUID behind the place where callers are
// authorised and counted.
func (s *Service) openCanary(ctx context.Context, sid dtyp.SID, blob []byte) ([]byte, error) {
	ev := &Event{Time: time.Now(), Caller: Caller{SID: sid}, Action: bkrp.ActionRestore}
	return s.restore(ctx, ev, blob)
}

// wrapCanary wraps a secret under a key, whether or not it is the current one.
func (s *Service) wrapCanary(ctx context.Context, kind keystore.KeyKind, guid dtyp.GUID, secret []byte) ([]byte, error) {
	if kind == keystore.ServerWrap {
		key, err := s.Store.ServerWrapKey(ctx, guid)
		if err != nil {
			return nil, err
		}
		return bkrp.WrapServer(derive(key, s.SrvKey), guid, sidCanary, secret)
	}
	key, err := s.Store.ClientWrapKey(ctx, guid)
	if err != nil {
		return nil, err
	}
	certificate, err := bkrp.ParseCertificate(key.Certificate())
	if err != nil {
		return nil, err
	}
	return bkrp.WrapClient(certificate, sidCanary, secret, bkrp.ClientWrappedVersion3)
}

// Health is what a server has found out about itself.
type Health struct {
	// Keys has one element for each kind of key that is served, as the last
	// canary left it; none before the first one, and without canaries.
	Keys []KeyHealth
}

// OK says that nothing is known to be wrong.
func (h *Health) OK() bool {
	for _, k := range h.Keys {
		if k.Err != nil {
			return false
		}
	}
	return true
}

// KeyHealth is what came of a canary.
type KeyHealth struct {
	Kind keystore.KeyKind
	// Key is the current key, zero if there is none yet or it could not be
	// told.
	Key dtyp.GUID
	// Checked is when, and Since when it first came out as it does now.
	Checked, Since time.Time
	// NoKey says that there is no key yet: it is made at the first use.
	NoKey bool
	// Err is why the key does not work; nil if it does, or is not there yet.
	Err error
}

// canaryTime bounds one canary: no call would wait longer.
const canaryTime = 30 * time.Second

// canary wraps and opens a secret under the current keys, every so often.
type canary struct {
	service *Service
	log     *slog.Logger
	stop    context.CancelFunc
	done    sync.WaitGroup

	mu   sync.Mutex
	keys []KeyHealth
}

// startCanary begins at once, and does nothing at intervals of 0.
func startCanary(service *Service, log *slog.Logger, every time.Duration) *canary {
	c := &canary{service: service, log: log, stop: func() {}}
	if every <= 0 {
		return c
	}
	ctx, stop := context.WithCancel(context.Background()) // it lives as long as the Server
	c.stop = stop
	c.done.Go(func() { c.run(ctx, every) })
	return c
}

func (c *canary) close() {
	c.stop()
	c.done.Wait()
}

func (c *canary) run(ctx context.Context, every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		c.check(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// check tries the current key of each kind that is served.
func (c *canary) check(ctx context.Context) {
	var keys []KeyHealth
	for _, k := range []struct {
		kind keystore.KeyKind
		how  Subprotocol
	}{{keystore.ClientWrap, c.service.ClientWrap}, {keystore.ServerWrap, c.service.ServerWrap}} {
		if k.how != Off {
			keys = append(keys, c.checkKind(ctx, k.kind))
		}
	}
	if ctx.Err() != nil {
		return // the server ends, and that is no finding
	}
	c.mu.Lock()
	old := c.keys
	c.mu.Unlock()
	for i := range keys {
		now := &keys[i]
		var before KeyHealth
		if i < len(old) {
			before = old[i]
		}
		if before.Key == now.Key && (before.Err == nil) == (now.Err == nil) && !before.Since.IsZero() {
			now.Since = before.Since
		}
		c.report(before, *now)
	}
	c.mu.Lock()
	c.keys = keys
	c.mu.Unlock()
}

func (c *canary) checkKind(ctx context.Context, kind keystore.KeyKind) KeyHealth {
	ctx, cancel := context.WithTimeout(ctx, canaryTime)
	defer cancel()
	h := KeyHealth{Kind: kind, Checked: time.Now()}
	h.Since = h.Checked
	h.Key, h.Err = c.service.Store.CurrentKey(ctx, kind)
	if errors.Is(h.Err, keystore.ErrNoKey) {
		h.NoKey, h.Err = true, nil
		return h
	}
	if h.Err == nil {
		h.Err = c.service.CheckKey(ctx, kind, h.Key)
	}
	return h
}

// report tells the operator of what does not work, each time, and once when it
// works again.
func (c *canary) report(before, now KeyHealth) {
	kind := now.Kind.String()
	switch {
	case now.Err != nil:
		c.log.Error("canary", "kind", kind, "key", keyName(now.Key), "since", now.Since, "error", now.Err, "do", canaryAdvice(now.Err))
	case before.Err != nil && now.NoKey:
		c.log.Warn("canary: the key that did not work is no longer the current one, and there is no other yet", "kind", kind)
	case before.Err != nil:
		c.log.Info("canary: the current key works again", "kind", kind, "key", now.Key.String(), "failed_since", before.Since)
	}
}

func keyName(guid dtyp.GUID) string {
	if guid.IsZero() {
		return "unknown"
	}
	return guid.String()
}

// canaryAdvice says what an operator can do.
func canaryAdvice(err error) string {
	switch {
	case errors.Is(err, keystore.ErrCorrupt), errors.Is(err, keystore.ErrMalformedKey), errors.Is(err, errCanary):
		return "the key or the pointer to it is damaged: make another key current (bkrpd keys rotate), and restore this one from a backup; secrets under it cannot be opened until then"
	case errors.Is(err, keystore.ErrKeyLocked):
		return "the current key is locked: make it active again, or make another one current"
	case errors.Is(err, keystore.ErrNoToken):
		return "configure the token that the key was made in"
	}
	return "look after what keeps the store, or the token: it does not answer; what is in memory goes on being served"
}

// Health returns what the server has found out about itself: what came of the
// last canary.
func (s *Server) Health() Health {
	s.canary.mu.Lock()
	defer s.canary.mu.Unlock()
	return Health{Keys: append([]KeyHealth(nil), s.canary.keys...)}
}
