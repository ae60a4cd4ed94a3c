package bkrpserver_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/backuprkey"
	"github.com/seed05845750/bkrp/internal/dcerpc"
	"github.com/seed05845750/bkrp/internal/gss/ntlm"
	"github.com/seed05845750/bkrp/internal/smb2/wire"
)

// somePipe is a pipe and the interface that it has, or, now and then, has not.
func somePipe(m *mutator) (string, dcerpc.SyntaxID) {
	switch m.IntN(8) {
	case 0, 1:
		return "lsarpc", lsaSyntax
	case 2:
		return "ntsvcs", backupKeySyntax
	case 3:
		return "lsarpc", backupKeySyntax
	}
	return "protected_storage", backupKeySyntax
}

// badBind spoils one of the PDUs of a bind or the first call after it.
func (h *hostileRun) badBind(m *mutator) error {
	name, iface := somePipe(m)
	p, err := h.openPipe(m, name)
	if err != nil {
		return err
	}
	victim := m.IntN(3)
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
	cfg := dcerpc.ClientConfig{Interface: iface, Initiator: ntlmInitiator(aliceName, domainPassword), Target: "host/dc1", NDR64: m.one(2)}
	switch m.IntN(4) {
	case 0:
		cfg.AuthType = dcerpc.AuthNTLM
		cfg.Initiator = ntlm.NewInitiator(ntlm.Credential{Domain: domainName, User: aliceName, Hash: ntlm.HashPassword(domainPassword)})
	case 1:
		cfg.Level = dcerpc.AuthLevel(1 + m.IntN(6))
	}
	rpc := dcerpc.NewClient(p, cfg)
	// What comes of it is the client's to judge; here it may be anything.
	if err := rpc.Bind(context.Background()); err == nil {
		_, _ = rpc.Call(context.Background(), backuprkey.Opnum, backuprkey.Request{Action: dtyp.GUID(bkrp.ActionRetrieve)}.Append(nil, rpc.Encoding()))
	}
	return p.end()
}

// badSealed spoils the header, the stub or the security trailer of a call
// before it is sealed, so that the signature is right.
func (h *hostileRun) badSealed(m *mutator) error {
	name, iface := "protected_storage", backupKeySyntax
	if m.one(4) {
		name, iface = "lsarpc", lsaSyntax
	}
	b, err := h.bind(m, name, iface)
	if err != nil {
		return err
	}
	b.hook.seal = func(msg []byte, from, to int) {
		h.spoilt.Add(1)
		parts := [][]byte{msg[2:4], msg[4:8], msg[8:12], msg[12:24], msg[:from], msg[from:to], msg[to:], msg}
		m.keepLength(parts[m.IntN(len(parts))])
	}
	actions := []bkrp.Action{bkrp.ActionBackup, bkrp.ActionRestoreWin2K, bkrp.ActionRestore, bkrp.ActionRetrieve}
	for range 6 {
		action := actions[m.IntN(len(actions))]
		stub := backuprkey.Request{Action: dtyp.GUID(action), Data: h.inputs[action]}.Append(nil, b.rpc.Encoding())
		var fault dcerpc.Fault
		if _, err := b.rpc.Call(context.Background(), uint16(m.IntN(2)), stub); err != nil && !errors.As(err, &fault) {
			break
		}
	}
	return b.end()
}

// badStub makes calls that are protected as they should with stubs that are
// spoilt, and with verification trailers that are.
func (h *hostileRun) badStub(m *mutator) error {
	if m.one(3) {
		return h.badLSA(m)
	}
	b, err := h.bind(m, "protected_storage", backupKeySyntax)
	if err != nil {
		return err
	}
	actions := []bkrp.Action{bkrp.ActionBackup, bkrp.ActionRestoreWin2K, bkrp.ActionRestore, bkrp.ActionRetrieve}
	for range 8 {
		h.spoilt.Add(1)
		action := actions[m.IntN(len(actions))]
		in := h.inputs[action]
		if m.one(2) && len(in) > 0 {
			in = m.mutate(in)
		}
		stub := backuprkey.Request{Action: dtyp.GUID(action), Data: in, Param: m.Uint32()}.Append(nil, b.rpc.Encoding())
		if m.one(2) {
			stub = m.mutate(stub)
		}
		if m.one(3) {
			stub = m.verification(stub)
		}
		if len(stub) > 4000 {
			stub = stub[:4000]
		}
		b.callID++
		if err := b.write(b.seal(b.header(onlyFragment), stub)); err != nil {
			break
		}
		if err := b.read(); err != nil {
			break
		}
		b.in = nil
	}
	return b.end()
}

// verification puts a verification trailer behind a stub ([MS-RPCE] 2.2.2.13)
// whose commands are nearly right.
func (m *mutator) verification(stub []byte) []byte {
	for len(stub)%4 != 0 {
		stub = append(stub, 0)
	}
	v := []byte{0x8a, 0xe3, 0x13, 0x71, 0x02, 0xf4, 0x36, 0x71}
	for range m.IntN(6) {
		command := uint16(m.IntN(5))
		size := []int{0, 4, 40, 16, m.IntN(60)}[command]
		v = binary.LittleEndian.AppendUint16(v, command|uint16(m.IntN(4))<<14)
		v = binary.LittleEndian.AppendUint16(v, uint16(size))
		v = append(v, m.junk(size)...)
	}
	if m.one(3) {
		v = m.mutate(v)
	}
	return append(stub, v...)
}

// badFragments sends fragments that do not belong together, all protected as
// they should.
func (h *hostileRun) badFragments(m *mutator) error {
	b, err := h.bind(m, "protected_storage", backupKeySyntax)
	if err != nil {
		return err
	}
	if m.round%200 == 0 {
		return h.endless(b)
	}
	for range 3 + m.IntN(30) {
		h.spoilt.Add(1)
		q := b.header(byte(m.IntN(4)))
		if m.one(3) {
			q.flags = byte(m.extreme(4))
		}
		switch m.IntN(10) {
		case 0:
			q.callID += m.Uint32N(3)
		case 1:
			q.contextID = uint16(m.extreme(2))
		case 2:
			q.opnum = uint16(m.extreme(2))
		case 3:
			q.hint = uint32(m.extreme(1 << 20))
		case 4:
			b.callID++
		}
		pdu := b.seal(q, m.junk(m.IntN(64)*m.IntN(64)))
		if m.one(20) { // cancel, orphaned, and what no client sends
			pdu = []byte{5, 0, byte(m.IntN(20)), 3, 0x10, 0, 0, 0, 16, 0, 0, 0, byte(b.callID), 0, 0, 0}
		}
		if cut := m.IntN(len(pdu)); m.one(4) {
			if err := b.write(pdu[:cut]); err != nil {
				break
			}
			pdu = pdu[cut:]
		}
		if err := b.write(pdu); err != nil {
			break
		}
	}
	// Each answer, if there is one, is taken until the pipe is closed.
	for range 40 {
		b.in = nil
		if err := b.read(); err != nil {
			break
		}
	}
	return b.end()
}

// endless is a request of 5 MB, which the server must not keep: its end is
// answered by a fault, unless the pipe was closed before.
func (h *hostileRun) endless(b *bound) error {
	part := make([]byte, 4000)
	q := b.header(firstFragment)
	q.hint = 0xffffffff
	const parts = 1250
	for i := range parts {
		h.spoilt.Add(1)
		if i == parts-1 {
			q.flags = lastFragment
			b.short = false
		}
		if err := b.write(b.seal(q, part)); err != nil {
			return b.end()
		}
		q.flags = 0
	}
	if err := b.read(); err != nil || len(b.in) < 16 || b.in[2] != 3 {
		return errors.Join(b.end(), fmt.Errorf("a request of 5 MB is answered by %x, %w", b.in, err))
	}
	return b.end()
}

// deafClients make requests and read no answers: on the connection, and on a
// pipe.
func (h *hostileRun) deafClients(t *testing.T) {
	var running sync.WaitGroup
	for i := range 8 {
		running.Go(func() {
			m := newMutator(h.seed, i)
			f := h.deafPipe
			if i%2 == 0 {
				f = h.deafConnection
			}
			if err := f(m); err != nil {
				t.Errorf("client %d: %v", i, err)
			}
		})
	}
	running.Wait()
}

// deafConnection sends ECHO for as long as the server takes any. The server has
// to stop reading and then to close, within its StallTimeout. What its system has
// not got rid of by then may keep the client's from learning so, until the client
// reads after all.
func (h *hostileRun) deafConnection(*mutator) error {
	c, err := logonHostile(h.addr, manners[0])
	if err != nil {
		return err
	}
	defer c.close()
	for range 1_000_000 {
		var many []byte
		for range 20 {
			many = append(many, withLength(c.protect(c.message(wire.Echo, wire.AppendEmpty(nil))))...)
		}
		c.nc.SetWriteDeadline(time.Now().Add(3 * hostileStall))
		if _, err := c.nc.Write(many); err != nil {
			return c.drain()
		}
	}
	return errors.New("the server keeps all answers for a client that takes none")
}

// deafPipe calls and reads no result. The pipe has to stop taking requests.
func (h *hostileRun) deafPipe(m *mutator) error {
	b, err := h.bind(m, "protected_storage", backupKeySyntax)
	if err != nil {
		return err
	}
	stub := backuprkey.Request{Action: dtyp.GUID(bkrp.ActionBackup), Data: make([]byte, 3000)}.Append(nil, b.rpc.Encoding())
	taken := 0
	for range 2000 {
		b.callID++
		if err := b.write(b.seal(b.header(onlyFragment), stub)); err != nil {
			break
		}
		taken++
	}
	if err := b.end(); err != nil {
		return err
	}
	if taken == 2000 {
		return errors.New("the pipe keeps 6 MB of results for a client that takes none")
	}
	return nil
}
