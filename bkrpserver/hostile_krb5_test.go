package bkrpserver_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/bkrpserver"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/backuprkey"
	"github.com/seed05845750/bkrp/internal/dcerpc"
	"github.com/seed05845750/bkrp/internal/gss"
	"github.com/seed05845750/bkrp/internal/smb2/wire"
)

// TestHostileKerberos is TestHostile with clients that hold tickets: of a KDC
// gone mad, which signs and seals whatever it is told to, and of their own.
func TestHostileKerberos(t *testing.T) {
	h := newHostileRun(t)
	h.startKerberos()
	h.run(400, []hostileKind{
		{"tickets over SMB", (*hostileRun).badTickets},
		{"tickets over RPC", (*hostileRun).badTicketsInBinds},
		{"SPNEGO around tickets", (*hostileRun).badSPNEGO},
		{"tokens of messages", (*hostileRun).badTokensOfMessages},
		{"requests again", (*hostileRun).replays},
		{"many names", (*hostileRun).manyNames},
	}, h.startSleepers, h.hangAtTheEnd)
}

// hangAtTheEnd leaves connections in all states for Shutdown to end.
func (h *hostileRun) hangAtTheEnd() {
	states := []func(*hostileClient) error{
		func(*hostileClient) error { return nil },
		func(c *hostileClient) error { return c.sendRaw([]byte{0, 0, 1}) },
		func(c *hostileClient) error { return c.negotiate(wire.Dialect311) },
		h.halfLeg,
		h.halfFrame,
	}
	for i := range 60 {
		var c *hostileClient
		var err error
		if state := i % (len(states) + 1); state == len(states) {
			c, err = h.withPendingRead(newMutator(h.seed, i))
		} else if c, err = dialHostile(h.addr); err == nil {
			err = states[state](c)
		}
		if c != nil {
			h.t.Cleanup(c.close)
		}
		if err != nil {
			h.t.Error(err)
			return
		}
	}
}

// startKerberos serves NTLM and Kerberos, to honest clients of either.
func (h *hostileRun) startKerberos() {
	h.kdc = startHostileKDC(h.t)
	h.hostileDomain = startHostileDomain(h.t, bkrpserver.Config{
		Limits: hostileLimits, Kerberos: bkrpserver.Kerberos{Keytab: h.kdc.keytab},
	})
	for _, name := range []string{aliceName, "carol"} {
		h.honest = append(h.honest, honestUser{h.kdc.client(h.t, h.addr, name), h.kdc.sid}.call)
	}
}

// order is a ticket of any kind that is let in.
func (m *mutator) order() ticketOrder {
	o := aliceOrder
	o.etype = hostileETypes[m.IntN(len(hostileETypes))]
	o.session = hostileETypes[m.IntN(2)]
	o.service = []string{"cifs", "host", "HOST", "protectedstorage"}[m.IntN(4)]
	return o
}

// TestHostileTickets is about the tickets: if the server did not take good ones,
// the hostile test would be about nothing.
func TestHostileTickets(t *testing.T) {
	h := newHostileRun(t)
	h.startKerberos()
	defer h.stop()
	for _, etype := range hostileETypes {
		for _, session := range hostileETypes[:2] {
			o := aliceOrder
			o.etype, o.session = etype, session
			c, err := logonHostileBy(h.addr, manners[2], withSPNEGO(&krbInitiator{kdc: h.kdc, order: o}))
			if err != nil {
				t.Errorf("ticket of type %d with a key of type %d: %v", etype, session, err)
				continue
			}
			if err := c.finish(); err != nil {
				t.Error(err)
			}
			c.close()
		}
	}
	for n := range 40 {
		m := newMutator(1, n)
		i := &krbInitiator{kdc: h.kdc, order: m.order()}
		if err := h.callWithFillers(m, i); err != nil {
			t.Errorf("%+v: %v", i.order, err)
		}
	}
}

// callWithFillers makes calls whose tokens have fillers of every length, which
// the server has to answer.
func (h *hostileRun) callWithFillers(m *mutator, i *krbInitiator) error {
	p, err := h.openPipeBy(m, "protected_storage", h.kerberos(m))
	if err != nil {
		return err
	}
	b, err := p.bind(m.kerberosBind(i))
	if err != nil {
		return err
	}
	b.short = false
	stub := backuprkey.Request{Action: dtyp.GUID(bkrp.ActionRetrieve)}.Append(nil, b.rpc.Encoding())
	for _, i.context.filler = range fillers {
		b.callID++
		if err := b.write(b.seal(b.header(onlyFragment), stub)); err != nil {
			return errors.Join(err, b.end())
		}
		if err := b.read(); err != nil || len(b.in) < 3 || b.in[2] != 2 {
			return errors.Join(fmt.Errorf("a filler of %d octets: answered by %x, %w", i.context.filler, b.in, err), b.end())
		}
		b.in = nil
	}
	return b.end()
}

// fillers are lengths of what stands before the repeated header (RFC 4121 EC).
var fillers = []int{16, 0, 1, 15, 48, 300, 2000}

// spoiling is what became of a message that is to be spoilt.
type spoiling struct {
	stage   stage
	changed bool
}

// spoilOne gives a spoiler of one stage from first to last.
func (h *hostileRun) spoilOne(m *mutator, first, last stage) (spoiler, *spoiling) {
	one := &spoiling{stage: first + stage(m.IntN(int(last-first)+1))}
	return func(s stage, b []byte) []byte {
		if s != one.stage {
			return b
		}
		h.spoilt.Add(1)
		out := m.spoilAt(s, b)
		one.changed = !bytes.Equal(out, b)
		return out
	}, one
}

// spoilAt spoils the message of a stage as suits it, and keeps it as short as a
// PAC or a token may be.
func (m *mutator) spoilAt(s stage, b []byte) []byte {
	switch s {
	case stageLogonInfo, stageClientInfo, stageUPNDNSInfo, stageRequestor:
		if m.one(2) {
			b = bytes.Clone(b)
			m.keepLength(b)
			return b
		}
		b = m.mutate(b)
	case stagePACTable:
		b = bytes.Clone(b)
		if m.one(8) { // as many buffers as fit, or more
			binary.LittleEndian.PutUint32(b, uint32(m.extreme(4)))
			return b
		}
		at := 4 * m.IntN(len(b)/4)
		binary.LittleEndian.PutUint32(b[at:], uint32(m.extreme(104+8*m.IntN(90))))
		return b
	case stageSignedPAC, stageTicketCipher, stageAuthCipher, stageChecksum:
		b = m.mutate(b)
	case stageAuthData, stageTicketPart, stageTicket, stageAuthenticator, stageAPReq, stageToken, stageThirdPart, stageThirdToken:
		b = m.mutateDER(b)
	}
	return b[:min(len(b), 48<<10)]
}

// badTickets logs on with something of the ticket spoilt, whoever could have
// done so.
func (h *hostileRun) badTickets(m *mutator) error {
	c, err := dialHostile(h.addr)
	if err != nil {
		return err
	}
	defer c.close()
	if err := c.negotiate(manners[m.IntN(len(manners))].dialect); err != nil {
		return err
	}
	for range 4 {
		o := m.order()
		spoil, spoilt := h.spoilOne(m, 0, stageToken)
		o.spoil = spoil
		st, err := c.logOn(withSPNEGO(&krbInitiator{kdc: h.kdc, order: o}), false)
		if errors.Is(err, errHang) {
			return fmt.Errorf("stage %d: %w", spoilt.stage, err)
		}
		if err == nil && st == wire.StatusSuccess {
			if spoilt.changed && spoilt.stage.refused() {
				return fmt.Errorf("a ticket that was changed at stage %d is good", spoilt.stage)
			}
			break
		}
		c.session = 0
	}
	if err := c.barrier(nil); err != nil {
		return survived(err)
	}
	return c.finish()
}

// kerberosBind is how an RPC client binds by Kerberos, with SPNEGO or without.
func (m *mutator) kerberosBind(i gss.Initiator) dcerpc.ClientConfig {
	cfg := dcerpc.ClientConfig{Interface: backupKeySyntax, Target: "host/" + hostileHost, Initiator: i, AuthType: dcerpc.AuthKerberos, NDR64: m.one(3)}
	if m.one(2) {
		cfg.AuthType, cfg.Initiator = dcerpc.AuthSPNEGO, withSPNEGO(i)
	}
	return cfg
}

// badTicketsInBinds is badTickets for RPC, where there are three legs.
func (h *hostileRun) badTicketsInBinds(m *mutator) error {
	p, err := h.openPipeBy(m, "protected_storage", h.kerberos(m))
	if err != nil {
		return err
	}
	o := m.order()
	first := stage(0)
	if m.one(2) {
		first = stageThirdPart
	}
	spoil, spoilt := h.spoilOne(m, first, stages-1)
	o.spoil = spoil
	p.short = true
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

// kerberos is SMB's mechanism for someone with a good ticket, or a password.
func (h *hostileRun) kerberos(m *mutator) gss.Initiator {
	if m.one(2) {
		return ntlmInitiator(aliceName, domainPassword)
	}
	return withSPNEGO(&krbInitiator{kdc: h.kdc, order: m.order()})
}

// badSPNEGO spoils the tokens of SPNEGO around good ones of Kerberos, and the
// first PDUs of a bind around those.
func (h *hostileRun) badSPNEGO(m *mutator) error {
	if m.one(2) {
		p, err := h.openPipeBy(m, "protected_storage", h.kerberos(m))
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
			return m.mutate(pdu)
		}
		rpc := dcerpc.NewClient(p, m.kerberosBind(&krbInitiator{kdc: h.kdc, order: m.order()}))
		_ = rpc.Bind(context.Background()) // what comes of it is the client's to judge
		return p.end()
	}
	c, err := dialHostile(h.addr)
	if err != nil {
		return err
	}
	defer c.close()
	if err := c.negotiate(manners[m.IntN(len(manners))].dialect); err != nil {
		return err
	}
	c.mangle = func(_ int, token []byte) []byte {
		h.spoilt.Add(1)
		token = m.mutateDER(token)
		return token[:min(len(token), 0xffff-96)]
	}
	for range 4 {
		if _, err := c.logOn(withSPNEGO(&krbInitiator{kdc: h.kdc, order: m.order()}), false); errors.Is(err, errHang) {
			return err
		}
		if c.key != nil {
			break // what was spoilt did not matter
		}
		c.session = 0
	}
	if err := c.barrier(nil); err != nil {
		return survived(err)
	}
	return c.finish()
}

// badTokensOfMessages makes calls whose tokens say odd things under a good
// checksum: other flags, lengths of the filler, rotations and numbers.
func (h *hostileRun) badTokensOfMessages(m *mutator) error {
	p, err := h.openPipeBy(m, "protected_storage", h.kerberos(m))
	if err != nil {
		return err
	}
	i := &krbInitiator{kdc: h.kdc, order: m.order()}
	b, err := p.bind(m.kerberosBind(i))
	if err != nil {
		return err
	}
	wildly := false
	i.context.wild = func(k *krbToken) {
		h.spoilt.Add(1)
		was := *k
		m.wildToken(k)
		wildly = wildly || was != *k
	}
	stub := backuprkey.Request{Action: dtyp.GUID(bkrp.ActionRetrieve)}.Append(nil, b.rpc.Encoding())
	for range 4 {
		i.context.filler = fillers[m.IntN(len(fillers))]
		b.callID++
		pdu := b.seal(b.header(onlyFragment), stub)
		if m.one(4) {
			h.spoilt.Add(1)
			wildly = true
			pdu = m.cutToken(pdu)
		}
		if err := b.write(pdu); err != nil {
			break
		}
		b.in = nil
		if err := b.read(); err != nil {
			break
		}
		if wildly && len(b.in) > 2 && b.in[2] == 2 {
			return errors.Join(b.end(), errors.New("a call whose token lies is answered"))
		}
		b.in = nil
	}
	return b.end()
}

// cutToken cuts the token at the end of a PDU short, and has the lengths say so.
func (m *mutator) cutToken(pdu []byte) []byte {
	size := int(binary.LittleEndian.Uint16(pdu[10:]))
	n := 1 + m.IntN(size)
	pdu = pdu[:len(pdu)-n]
	binary.LittleEndian.PutUint16(pdu[8:], uint16(len(pdu)))
	binary.LittleEndian.PutUint16(pdu[10:], uint16(size-n))
	return pdu
}

// wildToken changes a field of a token's header, outside, inside or both.
func (m *mutator) wildToken(k *krbToken) {
	both := m.IntN(3)
	set := func(at, size int, v uint64) {
		var b [8]byte
		binary.BigEndian.PutUint64(b[:], v)
		if both != 0 {
			copy(k.head[at:], b[8-size:])
		}
		if both != 1 {
			copy(k.inside[at:], b[8-size:])
		}
	}
	switch m.IntN(7) {
	case 0:
		set(0, 2, []uint64{0x0404, 0x0504, 0x0405, 0x6030, 0}[m.IntN(5)])
	case 1:
		set(2, 1, m.Uint64N(256))
	case 2:
		set(3, 1, m.Uint64N(256))
	case 3:
		set(4, 2, m.extreme(44))
	case 4:
		both = 1
		for { // what is not one of the two rotations
			rrc := uint16(m.extreme(44))
			if ec := binary.BigEndian.Uint16(k.head[4:]); rrc != 28 && rrc != 28+ec {
				set(6, 2, uint64(rrc))
				return
			}
		}
	case 5:
		set(8, 8, binary.BigEndian.Uint64(k.head[8:])+m.Uint64N(5)-2)
	default:
		set(8, 8, m.extreme(1<<32))
	}
}

// replays logs on by one request on several connections, over and over. The
// server lets it in once.
func (h *hostileRun) replays(m *mutator) error {
	o := m.order()
	i := krbInitiator{kdc: h.kdc, order: o, ticket: h.kdc.ticket(o)}
	token, _, err := i.Initiate(gss.InitiateOptions{}).Step(context.Background(), nil)
	if err != nil {
		return err
	}
	i.order.spoil = func(s stage, b []byte) []byte {
		if s == stageToken {
			return token
		}
		return b
	}
	var good atomic.Int64
	errs := make([]error, 4)
	var running sync.WaitGroup
	for n := range errs {
		running.Go(func() { errs[n] = h.replay(i, 4, &good) })
	}
	running.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if n := good.Load(); n != 1 {
		return fmt.Errorf("one request is good for %d logons", n)
	}
	return nil
}

// replay logs on n times on one connection, and counts how often it can.
func (h *hostileRun) replay(i krbInitiator, n int, good *atomic.Int64) error {
	c, err := dialHostile(h.addr)
	if err != nil {
		return err
	}
	defer c.close()
	if err := c.negotiate(wire.Dialect210); err != nil {
		return err
	}
	for range n {
		h.spoilt.Add(1)
		st, err := c.logOn(withSPNEGO(&i), false)
		if err != nil {
			return err
		}
		if st == wire.StatusSuccess {
			good.Add(1)
		}
		c.leaveSession()
	}
	return c.finish()
}

// manyNames logs on with tickets of clients whom nobody has seen before. All
// are let in, and the log-on of one takes nothing from another.
func (h *hostileRun) manyNames(m *mutator) error {
	o := m.order()
	o.client = stranger(m.round)
	if m.one(4) {
		o.client += string(bytes.Repeat([]byte{'x'}, m.IntN(1000)))
	}
	h.spoilt.Add(1)
	c, err := logonHostileBy(h.addr, manners[m.IntN(len(manners))], withSPNEGO(&krbInitiator{kdc: h.kdc, order: o}))
	if err != nil {
		return err
	}
	defer c.close()
	return c.finish()
}
