package bkrpserver_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/seed05845750/bkrp/internal/smb2/wire"
)

// beforeLogon sends the frames of a recording, spoilt, by someone who has not
// logged on.
func (h *hostileRun) beforeLogon(m *mutator) error {
	c, err := dialHostile(h.addr)
	if err != nil {
		return err
	}
	defer c.close()
	frames := h.recordings[m.IntN(len(h.recordings))].client()
	frames = frames[:min(len(frames), 8)]
	if m.one(12) {
		return h.octetByOctet(c, frames[0])
	}
	if m.one(6) {
		frames = m.shuffle(frames)
	}
	x := anonymous{hostileClient: c}
	for i, f := range frames {
		f = x.fit(f)
		if !m.one(3) {
			f = m.mutate(f)
			h.spoilt.Add(1)
		}
		if i > 0 && m.one(16) {
			h.spoilt.Add(1)
			if err := c.sendRaw(m.lie(f)); err != nil {
				return err
			}
			break
		}
		if err := x.exchange(f); err != nil {
			return survived(err)
		}
	}
	return c.finish()
}

// octetByOctet sends a NEGOTIATE as slowly as TCP can; it has to be answered.
func (h *hostileRun) octetByOctet(c *hostileClient, f []byte) error {
	for _, b := range withLength(f) {
		if err := c.sendRaw([]byte{b}); err != nil {
			return err
		}
	}
	got, err := c.receive(hangTime, errHang)
	if err != nil {
		return fmt.Errorf("NEGOTIATE octet by octet: %w", err)
	}
	if hd, err := wire.ParseHeader(got); err != nil || hd.Command != wire.Negotiate || hd.Status != wire.StatusSuccess {
		return fmt.Errorf("NEGOTIATE octet by octet: answered by %v, %v", hd, err)
	}
	return c.finish()
}

// anonymous is a client without a logon that replays recorded frames.
type anonymous struct {
	*hostileClient
	negotiated bool
}

// fit gives a copy of a recorded frame with the ids of this connection.
func (x *anonymous) fit(f []byte) []byte {
	f = bytes.Clone(f)
	hd, err := wire.ParseHeader(f)
	if err != nil {
		x.next = 1 // an SMB1 negotiate stands for message 0
		return f
	}
	binary.LittleEndian.PutUint64(f[wire.OffsetMessageID:], x.next)
	if hd.SessionID != 0 {
		binary.LittleEndian.PutUint64(f[40:], x.session)
	}
	x.next += uint64(max(1, hd.CreditCharge))
	return f
}

// exchange sends a frame and waits until it is worked off: before the end of
// the negotiation each is answered or ends the connection; after it an ECHO
// is, even without a session.
func (x *anonymous) exchange(f []byte) error {
	if err := x.sendRaw(withLength(f)); err != nil {
		return err
	}
	see := func(hd wire.Header, msg []byte) {
		if hd.Command == wire.Negotiate && hd.Status == wire.StatusSuccess {
			r, err := wire.ParseNegotiateResponse(msg)
			x.negotiated = err == nil && r.Dialect != wire.DialectWildcard
		}
		if hd.Command == wire.SessionSetup {
			x.session = hd.SessionID
		}
	}
	if !x.negotiated {
		got, err := x.receive(hangTime, errHang)
		if err != nil {
			return err
		}
		hd, err := wire.ParseHeader(got)
		if err != nil {
			return fmt.Errorf("a response of the server: %w", err)
		}
		see(hd, got)
		return nil
	}
	session := x.session
	x.hostileClient.session = 0
	id := x.next
	echo := x.message(wire.Echo, wire.AppendEmpty(nil))
	x.session = session
	if err := x.sendRaw(withLength(echo)); err != nil {
		return err
	}
	return x.await(id, see)
}

// badTokens logs on with spoilt SPNEGO and NTLM tokens, or with what is not
// the password.
func (h *hostileRun) badTokens(m *mutator) error {
	c, err := dialHostile(h.addr)
	if err != nil {
		return err
	}
	defer c.close()
	if err := c.negotiate(manners[m.IntN(len(manners))].dialect); err != nil {
		return err
	}
	h.spoilt.Add(1)
	if m.one(6) {
		return h.wrongPassword(c, m)
	}
	for range 4 {
		spoil := m.IntN(2)
		c.mangle = func(leg int, token []byte) []byte {
			if leg < spoil {
				return token
			}
			h.spoilt.Add(1)
			token = m.mutate(token)
			return token[:min(len(token), 0xffff-96)]
		}
		// Errors are our initiator's, who is told nonsense in return.
		if _, err := c.authenticate(aliceName, domainPassword, false); errors.Is(err, errHang) {
			return err
		}
		if c.key != nil {
			break // what was spoilt did not matter
		}
		if c.session = 0; m.one(3) {
			c.session = m.Uint64()
		}
	}
	if err := c.barrier(nil); err != nil {
		return survived(err)
	}
	return c.finish()
}

func (h *hostileRun) wrongPassword(c *hostileClient, m *mutator) error {
	who := [][2]string{{aliceName, "wrong"}, {"nobody", domainPassword}, {bobName, ""}, {"", ""}, {"Guest", ""}}
	w := who[m.IntN(len(who))]
	st, err := c.authenticate(w[0], w[1], false)
	if w[0] == "" && !errors.Is(err, errHang) {
		return nil // the initiator may refuse to be nobody
	}
	if err != nil || st != wire.StatusLogonFailure {
		return fmt.Errorf("logon of %q: %v, %w", w[0], st, err)
	}
	return c.finish()
}

// startSleepers starts clients that stop in the middle of something and wait
// for the server to lose its patience; done waits for them.
func (h *hostileRun) startSleepers() (done func()) {
	negotiate := h.recordings[0].client()[0]
	sleepers := map[string]func(c *hostileClient) error{
		"says nothing":       func(*hostileClient) error { return nil },
		"two octets":         func(c *hostileClient) error { return c.sendRaw([]byte{0, 0}) },
		"half a frame":       func(c *hostileClient) error { return c.sendRaw(withLength(negotiate)[:40]) },
		"announces 16 MiB":   func(c *hostileClient) error { return c.sendRaw([]byte{0, 0xff, 0xff, 0xff}) },
		"stops after a leg":  func(c *hostileClient) error { return c.negotiate(wire.Dialect311) },
		"drips":              func(c *hostileClient) error { return drip(c, withLength(negotiate)) },
		"keeps alive":        func(c *hostileClient) error { return drip(c, bytes.Repeat([]byte{0x85, 0, 0, 0}, 1000)) },
		"half a first leg":   h.halfLeg,
		"half a later frame": h.halfFrame,
	}
	var running sync.WaitGroup
	for name, f := range sleepers {
		for range 3 {
			running.Go(func() {
				c, err := dialHostile(h.addr)
				if err == nil {
					defer c.close()
					if err = f(c); err == nil {
						err = c.drain()
					}
				}
				if err != nil {
					h.t.Errorf("a client that %s: %v", name, err)
				}
			})
		}
	}
	return running.Wait
}

func (h *hostileRun) halfLeg(c *hostileClient) error {
	if err := c.negotiate(wire.Dialect210); err != nil {
		return err
	}
	q := wire.SessionSetupRequest{Token: make([]byte, 400)}
	return c.sendRaw(withLength(c.message(wire.SessionSetup, q.Append(nil)))[:200])
}

// halfFrame logs on and then stops in the middle of a frame. A client that is
// silent between frames may stay.
func (h *hostileRun) halfFrame(c *hostileClient) error {
	if err := c.negotiate(wire.Dialect210); err != nil {
		return err
	}
	if st, err := c.authenticate(aliceName, domainPassword, false); err != nil || st != wire.StatusSuccess {
		return fmt.Errorf("logon: %v, %w", st, err)
	}
	return c.sendRaw(withLength(c.protect(c.message(wire.Echo, wire.AppendEmpty(nil))))[:30])
}

// drip sends an octet now and then until the server has enough of it.
func drip(c *hostileClient, b []byte) error {
	for _, octet := range b {
		if _, err := c.nc.Write([]byte{octet}); err != nil {
			return nil
		}
		select {
		case _, ok := <-c.frames:
			if !ok {
				return nil
			}
		case <-time.After(100 * time.Millisecond):
		}
	}
	return nil
}
