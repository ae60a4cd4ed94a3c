package bkrpserver_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/backuprkey"
	"github.com/seed05845750/bkrp/internal/dcerpc"
	"github.com/seed05845750/bkrp/internal/gss"
	"github.com/seed05845750/bkrp/internal/smb2/wire"
)

// shortPatience is how long a hostile client waits for an answer that may not
// be owed to it, before it closes the pipe. Nothing hangs on its length.
const shortPatience = 60 * time.Millisecond

// hostilePipe is an open pipe of a hostile client, as the stream that an RPC
// client wants. Each Write is one PDU.
type hostilePipe struct {
	c  *hostileClient
	id wire.FileID
	in []byte
	// spoil, if set, changes the n-th PDU on its way; from then on patience is
	// short, as no answer may be owed any more.
	spoil  func(n int, pdu []byte) []byte
	writes int
	short  bool
	// err is what the server did wrong.
	err error
}

func (p *hostilePipe) Write(pdu []byte) (int, error) {
	n := len(pdu)
	if p.spoil != nil {
		pdu = p.spoil(p.writes, pdu)
	}
	p.writes++
	return n, p.write(pdu)
}

// write writes octets to the pipe as they are.
func (p *hostilePipe) write(b []byte) error {
	q := wire.WriteRequest{FileID: p.id, Data: b[:min(len(b), 65536)]}
	h, _, err := p.c.do(wire.Write, q.Append(nil))
	if err != nil {
		return p.fail(err)
	}
	if h.Status != wire.StatusSuccess {
		return fmt.Errorf("writing to a pipe: %w", errGone)
	}
	return nil
}

// fail keeps an error that is the server's fault.
func (p *hostilePipe) fail(err error) error {
	if !errors.Is(err, errGone) {
		p.err = err
	}
	return err
}

func (p *hostilePipe) Read(b []byte) (int, error) {
	if len(p.in) == 0 {
		if err := p.read(); err != nil {
			return 0, err
		}
	}
	n := copy(b, p.in)
	p.in = p.in[n:]
	return n, nil
}

// read asks for a message. When none comes in time it closes the pipe, which
// has to answer the request.
func (p *hostilePipe) read() error {
	id := p.c.next
	q := wire.ReadRequest{FileID: p.id, Length: 65536}
	if err := p.c.send(p.c.message(wire.Read, q.Append(nil))); err != nil {
		return p.fail(err)
	}
	patience, late := hangTime, errHang
	if p.short {
		patience, late = shortPatience, errQuiet
	}
	closed := uint64(0)
	status := wire.StatusPending
	see := func(h wire.Header, msg []byte) {
		if h.MessageID != id {
			return
		}
		status = h.Status
		if r, err := wire.ParseReadResponse(msg); err == nil && !h.Status.IsError() {
			p.in = append(p.in, r.Data...)
		}
	}
	err := p.c.awaitFor(id, patience, late, see)
	if err == errQuiet {
		closed = p.c.next
		cl := wire.CloseRequest{FileID: p.id}
		if err := p.c.send(p.c.message(wire.Close, cl.Append(nil))); err != nil {
			return p.fail(err)
		}
		if err = p.c.await(closed, see); err == nil && status == wire.StatusPending {
			err = p.c.await(id, see)
		}
	}
	if err != nil {
		return p.fail(err)
	}
	if len(p.in) == 0 {
		return io.EOF
	}
	return nil
}

func (p *hostilePipe) Close() error {
	q := wire.CloseRequest{FileID: p.id}
	_, _, err := p.c.do(wire.Close, q.Append(nil))
	return p.fail(err)
}

// openPipe logs on and opens a pipe.
func (h *hostileRun) openPipe(m *mutator, name string) (*hostilePipe, error) {
	return h.openPipeBy(m, name, ntlmInitiator(aliceName, domainPassword))
}

// openPipeBy is openPipe with any mechanism.
func (h *hostileRun) openPipeBy(m *mutator, name string, i gss.Initiator) (*hostilePipe, error) {
	c, err := logonHostileBy(h.addr, manners[m.IntN(len(manners))], i)
	if err != nil {
		return nil, err
	}
	p := &hostilePipe{c: c}
	if err = c.connectTree(); err == nil {
		p.id, err = c.open(name)
	}
	if err != nil {
		c.close()
		return nil, err
	}
	return p, nil
}

// end closes the connection and gives what the server did wrong on the pipe.
func (p *hostilePipe) end() error {
	defer p.c.close()
	return errors.Join(p.err, p.c.finish())
}

// hook lets a test see, and spoil, what the RPC client is about to protect.
type hook struct {
	gss.Initiator
	context gss.Context
	seal    func(msg []byte, from, to int)
}

func (k *hook) Initiate(o gss.InitiateOptions) gss.Exchange {
	return &hookExchange{k.Initiator.Initiate(o), k}
}

type hookExchange struct {
	gss.Exchange
	hook *hook
}

func (x *hookExchange) Step(ctx context.Context, in []byte) ([]byte, gss.Context, error) {
	out, sc, err := x.Exchange.Step(ctx, in)
	if sc == nil {
		return out, nil, err
	}
	x.hook.context = sc
	return out, &hookContext{sc, x.hook}, err
}

type hookContext struct {
	gss.Context
	hook *hook
}

func (c *hookContext) Seal(dst, msg []byte, from, to int) ([]byte, error) {
	if c.hook.seal != nil {
		c.hook.seal(msg, from, to)
	}
	return c.Context.Seal(dst, msg, from, to)
}

// bound is a hostile client with a good RPC logon.
type bound struct {
	*hostilePipe
	rpc  *dcerpc.Client
	hook *hook
	// trailer is the sec_trailer of its calls, contextID their presentation
	// context.
	trailer   [8]byte
	contextID uint16
	callID    uint32
}

// lsaUUID is the LSA interface ([MS-LSAD] 1.9).
var lsaUUID = dtyp.MustParseGUID("12345778-1234-abcd-ef00-0123456789ab")

var (
	backupKeySyntax = dcerpc.SyntaxID{UUID: backuprkey.InterfaceUUID, Major: backuprkey.VersionMajor, Minor: backuprkey.VersionMinor}
	lsaSyntax       = dcerpc.SyntaxID{UUID: lsaUUID}
)

// bind logs on and binds as a good client would; it has to succeed.
func (h *hostileRun) bind(m *mutator, pipe string, iface dcerpc.SyntaxID) (*bound, error) {
	p, err := h.openPipe(m, pipe)
	if err != nil {
		return nil, err
	}
	return p.bind(dcerpc.ClientConfig{
		Interface: iface, Initiator: ntlmInitiator(aliceName, domainPassword), Target: "host/dc1", NDR64: m.one(3)})
}

// bind binds on the pipe, which has to succeed.
func (p *hostilePipe) bind(cfg dcerpc.ClientConfig) (*bound, error) {
	b := &bound{hostilePipe: p, hook: &hook{Initiator: cfg.Initiator}}
	cfg.Initiator = b.hook
	b.rpc = dcerpc.NewClient(p, cfg)
	if err := b.rpc.Bind(context.Background()); err != nil {
		p.c.close()
		return nil, fmt.Errorf("a bind that nothing is wrong with: %w", err)
	}
	// A call that the server refuses shows how calls are protected.
	b.hook.seal = func(msg []byte, _, _ int) {
		b.callID = binary.LittleEndian.Uint32(msg[12:])
		b.contextID = binary.LittleEndian.Uint16(msg[20:])
		b.trailer = [8]byte(msg[len(msg)-8:])
	}
	var fault dcerpc.Fault
	if _, err := b.rpc.Call(context.Background(), 999, nil); !errors.As(err, &fault) || fault != dcerpc.FaultOpRange {
		p.c.close()
		return nil, fmt.Errorf("operation 999: %w", err)
	}
	b.hook.seal = nil
	b.short = true
	return b, nil
}

// call is the header of a request as it is to be sent.
type call struct {
	flags            byte
	callID, hint     uint32
	contextID, opnum uint16
}

const (
	firstFragment = 1
	lastFragment  = 2
	onlyFragment  = 3
)

func (b *bound) header(flags byte) call {
	return call{flags: flags, callID: b.callID, contextID: b.contextID, hint: 100}
}

// seal makes a request of one fragment that is protected as it should
// ([C706] 12.6.4.9, [MS-RPCE] 2.2.2.11).
func (b *bound) seal(q call, stub []byte) []byte {
	pdu := []byte{5, 0, 0, q.flags, 0x10, 0, 0, 0, 0, 0, 0, 0}
	pdu = binary.LittleEndian.AppendUint32(pdu, q.callID)
	pdu = binary.LittleEndian.AppendUint32(pdu, q.hint)
	pdu = binary.LittleEndian.AppendUint16(pdu, q.contextID)
	pdu = binary.LittleEndian.AppendUint16(pdu, q.opnum)
	pdu = append(pdu, stub...)
	pad := -len(stub) & 15
	pdu = append(pdu, make([]byte, pad)...)
	end := len(pdu)
	b.trailer[2] = byte(pad)
	pdu = append(pdu, b.trailer[:]...)
	n := b.hook.context.SignatureSize()
	binary.LittleEndian.PutUint16(pdu[8:], uint16(len(pdu)+n))
	binary.LittleEndian.PutUint16(pdu[10:], uint16(n))
	sealed, err := b.hook.context.Seal(pdu, pdu, 24, end)
	if err != nil {
		b.err = err
	}
	return sealed
}
