package bkrpserver_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/bkrpserver"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/backuprkey"
	"github.com/seed05845750/bkrp/internal/dcerpc"
)

// hostileForward is a run whose server is also behind a Samba server.
type hostileForward struct {
	*hostileRun
	dir   string
	hello []byte
}

// TestHostileBehindSamba is TestHostile for what smbd passes on, with hostile
// clients of smbd and an smbd that is hostile itself.
func TestHostileBehindSamba(t *testing.T) {
	h := &hostileForward{newHostileRun(t), sambaDir(t), helloOfSmbd(t)}
	h.startKerberos()
	l, err := h.server.ListenSamba(h.dir)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- l.Serve(context.Background()) }()
	stop := h.stop
	h.stop = func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}
	h.hostileDomain.honest = append(h.hostileDomain.honest, h.honest, h.honest)
	exchange := func(f func(*hostileForward, *mutator) error) hostileExchange {
		return func(_ *hostileRun, m *mutator) error { return f(h, m) }
	}
	h.run(400, []hostileKind{
		{"hellos", exchange((*hostileForward).badHello)},
		{"messages", exchange((*hostileForward).badMessages)},
		{"PDUs before the bind is done", exchange((*hostileForward).badBind)},
		{"tickets", exchange((*hostileForward).badTickets)},
		{"sealed PDUs", exchange((*hostileForward).badSealed)},
	}, h.startSleepers, h.hangAtTheEnd)
}

// forwardedPipe is a pipe that smbd passes on, from its end.
type forwardedPipe struct {
	*smbdConn
	// spoil and short are as in hostilePipe.
	spoil  func(n int, pdu []byte) []byte
	writes int
	short  bool
	err    error
}

// open opens the pipe as smbd should.
func (h *hostileForward) open() (*forwardedPipe, error) {
	conn, err := dialForwarded(h.dir, bkrpserver.PipeProtectedStorage, h.hello)
	if err != nil {
		return nil, fmt.Errorf("a hello that nothing is wrong with: %w", err)
	}
	return &forwardedPipe{smbdConn: conn}, nil
}

func (p *forwardedPipe) Write(pdu []byte) (int, error) {
	n := len(pdu)
	if p.spoil != nil {
		pdu = p.spoil(p.writes, pdu)
	}
	p.writes++
	if _, err := p.smbdConn.Write(pdu[:min(len(pdu), 0xffff)]); err != nil {
		return 0, err
	}
	return n, nil
}

// Read waits for an answer. Where none is owed any more and none comes, it ends
// the client's direction, upon which the server has to end its own.
func (p *forwardedPipe) Read(b []byte) (int, error) {
	if p.short && p.rest == 0 {
		p.SetReadDeadline(time.Now().Add(shortPatience))
	}
	n, err := p.smbdConn.Read(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		if p.err = p.finish(); p.err == nil {
			err = io.EOF
		}
	}
	return n, err
}

// finish ends the client's direction and waits for the server to close.
func (p *forwardedPipe) finish() error {
	p.Conn.(*net.UnixConn).CloseWrite()
	p.SetReadDeadline(time.Now().Add(hangTime))
	if _, err := io.Copy(io.Discard, p.Conn); errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("%w: it does not close a pipe of smbd", errHang)
	}
	return nil
}

// end closes the pipe and gives what the server did wrong on it.
func (p *forwardedPipe) end() error {
	defer p.Conn.Close()
	return errors.Join(p.err, p.finish())
}

// mechanism is what an RPC client binds with.
func (h *hostileForward) mechanism(m *mutator) dcerpc.ClientConfig {
	if m.one(2) {
		return dcerpc.ClientConfig{Interface: backupKeySyntax, Initiator: ntlmInitiator(aliceName, domainPassword), Target: "host/dc1", NDR64: m.one(3)}
	}
	return m.kerberosBind(&krbInitiator{kdc: h.kdc, order: m.order()})
}

// honest is one connection of an honest client of smbd.
func (h *hostileForward) honest(calls *atomic.Int64) error {
	p, err := h.open()
	if err != nil {
		return err
	}
	cfg := h.mechanism(newMutator(h.seed, int(calls.Load())))
	rpc := dcerpc.NewClient(p, cfg)
	if err := rpc.Bind(context.Background()); err != nil {
		return errors.Join(fmt.Errorf("binding behind smbd: %w", err), p.end())
	}
	for range 6 {
		stub := backuprkey.Request{Action: dtyp.GUID(bkrp.ActionBackup), Data: randomSecret(64)}.Append(nil, rpc.Encoding())
		out, err := rpc.Call(context.Background(), backuprkey.Opnum, stub)
		if err == nil {
			var r backuprkey.Response
			if r, err = backuprkey.ParseResponse(out, rpc.Encoding()); err == nil && r.Status != 0 {
				err = bkrp.Status(r.Status)
			}
		}
		if err != nil {
			return errors.Join(fmt.Errorf("calling behind smbd: %w", err), p.end())
		}
		calls.Add(1)
	}
	time.Sleep(5 * time.Millisecond)
	return p.end()
}

// badHello sends a spoilt hello and, in case it is taken, a bind.
func (h *hostileForward) badHello(m *mutator) error {
	hello := m.mutate(h.hello)
	if m.one(3) { // what the server looks at is at the beginning
		hello = append(m.mutate(h.hello[:160]), h.hello[160:]...)
	}
	if m.one(2) && len(hello) >= 4 {
		binary.BigEndian.PutUint32(hello, uint32(len(hello)-4))
	}
	h.spoilt.Add(1)
	conn, err := net.Dial("unix", h.dir+"/np/"+bkrpserver.PipeProtectedStorage)
	if err != nil {
		return err
	}
	p := &forwardedPipe{smbdConn: &smbdConn{Conn: conn}}
	conn.SetDeadline(time.Now().Add(hangTime))
	bind := h.plainBind
	hello = append(hello, byte(len(bind)), byte(len(bind)>>8))
	if _, err := conn.Write(append(hello, bind...)); err != nil {
		return errors.Join(notHanging(err), p.end())
	}
	return p.end()
}

// notHanging is nil for an error that tells that the server has closed.
func notHanging(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("%w: it does not read", errHang)
	}
	return nil
}

// badMessages sends good and spoilt PDUs in messages that are not theirs: cut
// anywhere, with other lengths, octet by octet.
func (h *hostileForward) badMessages(m *mutator) error {
	p, err := h.open()
	if err != nil {
		return err
	}
	var stream []byte
	for range 1 + m.IntN(6) {
		h.spoilt.Add(1)
		pdu := h.plainBind
		if m.one(2) {
			pdu = m.mutate(pdu)
		}
		for len(pdu) > 0 {
			n := 1 + m.IntN(min(len(pdu), 0xffff))
			if m.one(8) {
				n = 1
			}
			length := uint16(n)
			if m.one(12) {
				length = uint16(m.extreme(n))
			}
			stream = append(binary.LittleEndian.AppendUint16(stream, length), pdu[:n]...)
			pdu = pdu[n:]
		}
	}
	step := len(stream)
	if m.one(4) {
		step = 1 + m.IntN(40)
	}
	for len(stream) > 0 {
		n := min(step, len(stream))
		if _, err := p.Conn.Write(stream[:n]); err != nil {
			return errors.Join(notHanging(err), p.end())
		}
		stream = stream[n:]
	}
	return p.end()
}

// badBind spoils one of the PDUs of a bind or the first call after it.
func (h *hostileForward) badBind(m *mutator) error {
	p, err := h.open()
	if err != nil {
		return err
	}
	victim := m.IntN(4)
	p.spoil = func(n int, pdu []byte) []byte {
		if n != victim {
			return pdu
		}
		p.short = true
		h.spoilt.Add(1)
		if m.one(10) {
			return append(pdu[:len(pdu):len(pdu)], pdu...)
		}
		return m.mutate(pdu)
	}
	rpc := dcerpc.NewClient(p, h.mechanism(m))
	if err := rpc.Bind(context.Background()); err == nil {
		_, _ = rpc.Call(context.Background(), backuprkey.Opnum,
			backuprkey.Request{Action: dtyp.GUID(bkrp.ActionRetrieve)}.Append(nil, rpc.Encoding()))
	}
	return p.end()
}

// badTickets is badTicketsInBinds behind smbd.
func (h *hostileForward) badTickets(m *mutator) error {
	p, err := h.open()
	if err != nil {
		return err
	}
	o := m.order()
	spoil, spoilt := h.spoilOne(m, 0, stages-1)
	o.spoil, p.short = spoil, true
	rpc := dcerpc.NewClient(p, m.kerberosBind(&krbInitiator{kdc: h.kdc, order: o}))
	if err := rpc.Bind(context.Background()); err == nil {
		_, err = rpc.Call(context.Background(), backuprkey.Opnum,
			backuprkey.Request{Action: dtyp.GUID(bkrp.ActionRetrieve)}.Append(nil, rpc.Encoding()))
		if err == nil && spoilt.changed && spoilt.stage.refused() {
			return errors.Join(p.end(), fmt.Errorf("a ticket that was changed at stage %d is good", spoilt.stage))
		}
	}
	return p.end()
}

// badSealed is hostileRun.badSealed behind smbd, by Kerberos too.
func (h *hostileForward) badSealed(m *mutator) error {
	p, err := h.open()
	if err != nil {
		return err
	}
	cfg := h.mechanism(m)
	k := &hook{Initiator: cfg.Initiator}
	cfg.Initiator = k
	rpc := dcerpc.NewClient(p, cfg)
	if err := rpc.Bind(context.Background()); err != nil {
		return errors.Join(fmt.Errorf("a bind that nothing is wrong with: %w", err), p.end())
	}
	p.short = true
	k.seal = func(msg []byte, from, to int) {
		h.spoilt.Add(1)
		parts := [][]byte{msg[2:4], msg[4:8], msg[8:12], msg[12:24], msg[:from], msg[from:to], msg[to:], msg}
		m.keepLength(parts[m.IntN(len(parts))])
	}
	for range 6 {
		stub := backuprkey.Request{Action: dtyp.GUID(bkrp.ActionRetrieve)}.Append(nil, rpc.Encoding())
		var fault dcerpc.Fault
		if _, err := rpc.Call(context.Background(), uint16(m.IntN(2)), stub); err != nil && !errors.As(err, &fault) {
			break
		}
	}
	return p.end()
}

// startSleepers starts smbds that stop in the middle of something; done waits
// until the server has lost its patience with each.
func (h *hostileForward) startSleepers() (done func()) {
	bind := append([]byte{byte(len(h.plainBind)), 0}, h.plainBind...)
	var running sync.WaitGroup
	for _, b := range [][]byte{
		nil, h.hello[:2], h.hello[:4], h.hello[:300], h.hello, // no bind
		append(bytes.Clone(h.hello), bind[:1]...), append(bytes.Clone(h.hello), bind[:40]...), append(bytes.Clone(h.hello), bind...),
	} {
		for range 3 {
			running.Go(func() {
				conn, err := net.Dial("unix", h.dir+"/np/"+bkrpserver.PipeProtectedStorage)
				if err != nil {
					h.t.Error(err)
					return
				}
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(hangTime))
				conn.Write(b) // as far as it is read: what counts is the end
				if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
					h.t.Errorf("an smbd that stops after %d octets is still there", len(b))
				}
			})
		}
	}
	return running.Wait
}

// hangAtTheEnd leaves pipes in all states for Shutdown to end.
func (h *hostileForward) hangAtTheEnd() {
	for i := range 60 {
		p, err := h.open()
		if err != nil {
			h.t.Error(err)
			return
		}
		h.t.Cleanup(func() { p.Conn.Close() })
		m := newMutator(h.seed, i)
		rpc := dcerpc.NewClient(p, h.mechanism(m))
		switch i % 3 {
		case 1:
			if err := rpc.Bind(context.Background()); err != nil {
				h.t.Error(err)
			}
		case 2:
			p.Conn.Write([]byte{72, 0, 5, 0, 11}) // the beginning of a bind
		}
	}
}
