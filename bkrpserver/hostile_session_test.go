package bkrpserver_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/seed05845750/bkrp/internal/dcerpc"
	"github.com/seed05845750/bkrp/internal/smb2/wire"
)

// takeOver logs on in ways that end sessions: with the id of another session
// as the previous one, or anew on a session that stands ([MS-SMB2] 3.3.5.5.2,
// 3.3.5.5.3).
func (h *hostileRun) takeOver(m *mutator) error {
	h.spoilt.Add(1)
	a, err := h.withPendingRead(m)
	if err != nil {
		return err
	}
	defer a.close()
	switch m.IntN(4) {
	case 0:
		return h.again(a, m)
	case 1:
		b, err := h.withPendingRead(m)
		if err != nil {
			return err
		}
		defer b.close()
		return endEachOther(a, b)
	}
	user := []string{aliceName, bobName}[m.IntN(2)]
	b, err := dialHostile(h.addr)
	if err != nil {
		return err
	}
	defer b.close()
	if err := b.negotiate(wire.Dialect210); err != nil {
		return err
	}
	b.previous = a.session
	if st, err := b.authenticate(user, domainPassword, false); err != nil || st != wire.StatusSuccess {
		return fmt.Errorf("logon of %s with a previous session: %v, %w", user, st, err)
	}
	alive := false
	err = a.barrier(func(hd wire.Header, _ []byte) {
		alive = alive || hd.Command == wire.Echo && hd.Status == wire.StatusSuccess
	})
	switch {
	case user == bobName && !alive:
		return fmt.Errorf("bob has ended a session of alice: %w", err)
	case user == aliceName && alive:
		return errors.New("a previous session of the same user goes on")
	}
	return survived(err)
}

// withPendingRead is alice, who waits for what a pipe will not say.
func (h *hostileRun) withPendingRead(m *mutator) (*hostileClient, error) {
	c, err := logonHostile(h.addr, manners[m.IntN(len(manners))])
	if err != nil {
		return nil, err
	}
	var id wire.FileID
	if err = c.connectTree(); err == nil {
		if id, err = c.open("protected_storage"); err == nil {
			q := wire.ReadRequest{FileID: id, Length: 4280}
			err = c.send(c.message(wire.Read, q.Append(nil)))
		}
	}
	if err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// endEachOther has two connections log on anew at the same time, each with the
// other's session as its previous one.
func endEachOther(a, b *hostileClient) error {
	a.previous, b.previous = b.session, a.session
	var running sync.WaitGroup
	errs := make([]error, 2)
	for i, c := range []*hostileClient{a, b} {
		running.Go(func() {
			c.leaveSession()
			// The READ of the session before may be answered for its end, in
			// a cipher that the client has forgotten: what counts is the end.
			if _, err := c.authenticate(aliceName, domainPassword, false); errors.Is(err, errHang) {
				errs[i] = err
				return
			}
			errs[i] = c.finish()
		})
	}
	running.Wait()
	return errors.Join(errs...)
}

// again authenticates once more on a session, now and then as somebody else or
// with spoilt tokens.
func (h *hostileRun) again(c *hostileClient, m *mutator) error {
	user := aliceName
	switch m.IntN(3) {
	case 0:
		user = bobName
	case 1:
		c.mangle = func(_ int, token []byte) []byte {
			token = m.mutate(token)
			return token[:min(len(token), 0xffff-96)]
		}
	}
	st, err := c.authenticate(user, domainPassword, false)
	if user == bobName && err == nil && st == wire.StatusSuccess {
		return errors.New("bob has taken over a session of alice")
	}
	if user == aliceName && c.mangle == nil && (err != nil || st != wire.StatusSuccess) {
		return fmt.Errorf("alice, once more: %v, %w", st, err)
	}
	if errors.Is(err, errHang) {
		return err
	}
	if err := c.barrier(nil); err != nil {
		return survived(err)
	}
	return c.finish()
}

// plainBind is the bind of a client without authentication, as our own makes
// it.
func plainBind() []byte {
	var sent bytes.Buffer
	c := dcerpc.NewClient(&sink{&sent}, dcerpc.ClientConfig{Interface: backupKeySyntax, Level: dcerpc.LevelNone})
	_ = c.Bind(context.Background()) // ends when nothing answers
	return sent.Bytes()
}

// sink keeps what is written and has nothing to read.
type sink struct{ w io.Writer }

func (s *sink) Write(b []byte) (int, error) { return s.w.Write(b) }
func (s *sink) Read([]byte) (int, error)    { return 0, io.EOF }
func (s *sink) Close() error                { return nil }
