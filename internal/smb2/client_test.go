package smb2

import (
	"bytes"
	"context"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/internal/gss"
	"github.com/seed05845750/bkrp/internal/gss/ntlm"
	"github.com/seed05845750/bkrp/internal/gss/spnego"
	"github.com/seed05845750/bkrp/internal/smb2/wire"
)

// client is a client for tests that does what it is told, wrong things too.
type client struct {
	t    testing.TB
	nc   net.Conn
	next uint64 // message id

	dialect Dialect
	cipher  wire.Cipher
	signing wire.SigningAlgorithm
	preauth preauthHash
	neg     *wire.NegotiateRequest

	session, tree uint64
	out, in       signer
	seal, unseal  *sealer
	sign, encrypt bool
}

// newClient connects and does nothing else.
func newClient(t testing.TB, addr string) *client {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(hangTime))
	return &client{t: t, nc: nc}
}

// hangTime tells what hangs from what is slow, as everything may be on a busy
// machine. Nothing that goes well waits for it to be over.
const hangTime = 2 * time.Minute

// logon gives a client with a session of user and a tree.
func logon(t testing.TB, addr string, d Dialect, user string) *client {
	t.Helper()
	return newClient(t, addr).logon(d, user)
}

// logon gives c a session of user and a tree, and returns it.
func (c *client) logon(d Dialect, user string) *client {
	c.t.Helper()
	c.negotiate(d)
	if st := c.authenticate(user, testPassword, 0); st != wire.StatusSuccess {
		c.t.Fatalf("logon: %v", st)
	}
	c.connectTree()
	return c
}

func (c *client) header(cmd wire.Command) wire.Header {
	h := wire.Header{
		Command: cmd, CreditCharge: 1, Credits: 64, MessageID: c.next,
		SessionID: c.session, TreeID: uint32(c.tree),
	}
	c.next++
	return h
}

// pack makes the message, signed if the client signs.
func (c *client) pack(h wire.Header, body []byte) []byte {
	if c.sign {
		h.Flags |= wire.FlagSigned
	}
	msg := append(h.Append(nil), body...)
	if c.sign {
		sign(c.out, msg)
	}
	return msg
}

// compound makes one frame of several messages.
func (c *client) compound(bodies []func() (wire.Header, []byte)) []byte {
	var frame []byte
	for i, f := range bodies {
		h, body := f()
		if c.sign {
			h.Flags |= wire.FlagSigned
		}
		msg := append(h.Append(nil), body...)
		if i+1 < len(bodies) {
			for len(msg)%8 != 0 {
				msg = append(msg, 0)
			}
			putNextCommand(msg, uint32(len(msg)))
		}
		if c.sign {
			sign(c.out, msg)
		}
		frame = append(frame, msg...)
	}
	return frame
}

// sendFrame sends messages that are made, encrypted if the client does that.
func (c *client) sendFrame(frame []byte) {
	c.t.Helper()
	if c.encrypt {
		b := make([]byte, wire.TransformSize, wire.TransformSize+len(frame)+16)
		b = append(b, frame...)
		c.seal.seal(b, c.session)
		frame = b
	}
	c.sendRaw(frame)
}

func (c *client) sendRaw(frame []byte) {
	c.t.Helper()
	b := binary.BigEndian.AppendUint32(nil, uint32(len(frame)))
	if _, err := c.nc.Write(append(b, frame...)); err != nil {
		c.t.Fatal("sending:", err)
	}
}

// errGone is a connection that the server has closed.
var errGone = errors.New("the server has closed the connection")

// recvFrame reads a frame, decrypted if it is encrypted.
func (c *client) recvFrame() ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(c.nc, head[:]); err != nil {
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			return nil, err
		}
		return nil, errGone
	}
	frame := make([]byte, binary.BigEndian.Uint32(head[:]))
	if _, err := io.ReadFull(c.nc, frame); err != nil {
		return nil, errGone
	}
	if binary.LittleEndian.Uint32(frame) == wire.ProtocolTransform {
		tr, _, err := wire.ParseTransform(frame)
		if err != nil {
			c.t.Fatal("transform header:", err)
		}
		return c.unseal.open(frame, &tr)
	}
	if c.encrypt {
		c.t.Fatal("the answer to an encrypted request is not encrypted")
	}
	return frame, nil
}

// recv reads one message and checks its signature if it is signed.
func (c *client) recv() (wire.Header, []byte, error) {
	frame, err := c.recvFrame()
	if err != nil {
		return wire.Header{}, nil, err
	}
	h, err := wire.ParseHeader(frame)
	if err != nil {
		c.t.Fatal("header of a response:", err)
	}
	if h.Is(wire.FlagSigned) && !verify(c.in, frame) {
		c.t.Fatal("signature of a response is wrong")
	}
	return h, frame, nil
}

// do sends a request and gives the final response.
func (c *client) do(cmd wire.Command, body []byte) (wire.Header, []byte) {
	c.t.Helper()
	c.sendFrame(c.pack(c.header(cmd), body))
	return c.final()
}

func (c *client) final() (wire.Header, []byte) {
	c.t.Helper()
	for {
		h, msg, err := c.recv()
		if err != nil {
			c.t.Fatal("receiving:", err)
		}
		if h.Status != wire.StatusPending {
			return h, msg
		}
	}
}

// gone fails the test unless the server closes the connection without a
// further answer.
func (c *client) gone() {
	c.t.Helper()
	if h, _, err := c.recv(); err != errGone {
		c.t.Errorf("got command %d status %v, error %v; want a closed connection", h.Command, h.Status, err)
	}
}

func (c *client) negotiateRequest(dialects ...Dialect) *wire.NegotiateRequest {
	r := &wire.NegotiateRequest{
		SecurityMode: wire.SigningEnabled, Capabilities: wire.CapEncryption | wire.CapLargeMTU, Dialects: dialects,
	}
	copy(r.ClientGUID[:], "a test's client.")
	if r.Has(Dialect311) {
		r.Contexts = []wire.NegotiateContext{
			{Type: wire.ContextPreauth, Data: wire.PreauthCapabilities{Hashes: []uint16{wire.HashSHA512}, Salt: []byte("salt")}.Append(nil)},
			{Type: 0x7777, Data: []byte("unknown")},
		}
		if c.cipher != 0 {
			r.Contexts = append(r.Contexts, wire.NegotiateContext{
				Type: wire.ContextEncryption, Data: wire.AppendAlgorithms(nil, 0x99, uint16(c.cipher))})
		}
		if c.signing != wire.AESCMAC {
			r.Contexts = append(r.Contexts, wire.NegotiateContext{
				Type: wire.ContextSigning, Data: wire.AppendAlgorithms(nil, 0x99, uint16(c.signing))})
		}
	}
	return r
}

// negotiate agrees on d. Cipher and signing algorithm, if set before, are
// offered alone.
func (c *client) negotiate(d Dialect) *wire.NegotiateResponse {
	c.t.Helper()
	c.neg = c.negotiateRequest(d)
	req := c.pack(c.header(wire.Negotiate), c.neg.Append(nil))
	c.sendFrame(req)
	h, msg, err := c.recv()
	if err != nil || h.Status != wire.StatusSuccess {
		c.t.Fatalf("negotiate: %v, %v", h.Status, err)
	}
	resp, err := wire.ParseNegotiateResponse(msg)
	if err != nil || resp.Dialect != d {
		c.t.Fatalf("negotiate: %+v, %v", resp, err)
	}
	c.dialect = d
	if d == Dialect300 || d == Dialect302 {
		c.cipher = wire.AES128CCM
	}
	c.preauth.add(req)
	c.preauth.add(msg)
	return resp
}

// authenticate does the legs of a logon and gives the last status. A session
// that is there is re-authenticated.
func (c *client) authenticate(user, password string, previous uint64) wire.Status {
	c.t.Helper()
	again := c.out != nil
	mech := ntlm.NewInitiator(ntlm.Credential{Domain: testDomain, User: user, Hash: ntlm.HashPassword(password)})
	x := spnegoInitiator(mech).Initiate(gss.InitiateOptions{Target: "cifs/dc1", Flags: gss.Integrity | gss.Confidentiality | gss.Sequence})
	hash := c.preauth
	var token []byte
	for {
		out, sc, err := x.Step(context.Background(), token)
		if err != nil {
			c.t.Fatal("initiator:", err)
		}
		req := wire.SessionSetupRequest{SecurityMode: wire.SigningEnabled, Token: out, PreviousSessionID: previous}
		msg := c.pack(c.header(wire.SessionSetup), req.Append(nil))
		hash.add(msg)
		c.sendFrame(msg)
		frame, err := c.recvFrame()
		if err != nil {
			c.t.Fatal("session setup:", err)
		}
		h, _ := wire.ParseHeader(frame)
		if h.Status.IsError() {
			return h.Status
		}
		resp, err := wire.ParseSessionSetupResponse(frame)
		if err != nil {
			c.t.Fatal("session setup:", err)
		}
		c.session = h.SessionID
		token = resp.Token
		if h.Status == wire.StatusMoreProcessingRequired {
			hash.add(frame)
			continue
		}
		if sc == nil {
			if _, sc, err = x.Step(context.Background(), token); err != nil || sc == nil {
				c.t.Fatal("initiator, last leg:", err)
			}
		}
		if !again {
			c.establish(sc.SessionKey(), &hash)
			c.encrypt = c.encrypt || resp.Flags&wire.EncryptDataFlag != 0
		}
		if !c.encrypt && (!h.Is(wire.FlagSigned) || !verify(c.in, frame)) {
			c.t.Fatal("the last response of the logon is not signed")
		}
		return h.Status
	}
}

func spnegoInitiator(mech gss.Initiator) gss.Initiator {
	return spnego.NewInitiator(spnego.InitiatorMechanism{OIDs: []asn1.ObjectIdentifier{spnego.NTLM()}, Initiator: mech})
}

// establish derives the client's keys: those of the server with the directions
// exchanged.
func (c *client) establish(key []byte, hash *preauthHash) {
	keys := deriveKeys(c.dialect, c.cipher, key, hash)
	c.out, _ = newSigner(c.dialect, c.signing, keys.signing)
	c.in, _ = newSigner(c.dialect, c.signing, keys.signing)
	if c.cipher != 0 {
		c.seal, _ = newSealer(c.cipher, keys.decryption)
		c.unseal, _ = newSealer(c.cipher, keys.encryption)
	}
	c.sign = true
}

func (c *client) connectTree() {
	c.t.Helper()
	req := wire.TreeConnectRequest{Path: wire.AppendUTF16(nil, `\\dc1\ipc$`)}
	h, msg := c.do(wire.TreeConnect, req.Append(nil))
	resp, err := wire.ParseTreeConnectResponse(msg)
	if h.Status != wire.StatusSuccess || err != nil || resp.ShareType != wire.ShareTypePipe {
		c.t.Fatalf("tree connect: %v, %v, %+v", h.Status, err, resp)
	}
	c.tree = uint64(h.TreeID)
}

func createBody(name string) []byte {
	req := wire.CreateRequest{Impersonation: 2, DesiredAccess: 0x12019f, ShareAccess: 7, Disposition: 1,
		Name: wire.AppendUTF16(nil, name)}
	return req.Append(nil)
}

func (c *client) open(name string) wire.FileID {
	c.t.Helper()
	h, msg := c.do(wire.Create, createBody(name))
	resp, err := wire.ParseCreateResponse(msg)
	if h.Status != wire.StatusSuccess || err != nil {
		c.t.Fatalf("create %q: %v, %v", name, h.Status, err)
	}
	return resp.FileID
}

func transceiveBody(id wire.FileID, data []byte, most uint32) []byte {
	req := wire.IoctlRequest{Code: wire.FSCTLPipeTransceive, FileID: id, Input: data, MaxOutput: most, Flags: wire.IsFSCTL}
	return req.Append(nil)
}

func readBody(id wire.FileID, most uint32) []byte {
	req := wire.ReadRequest{Length: most, Offset: 12345, FileID: id}
	return req.Append(nil)
}

func writeBody(id wire.FileID, data []byte) []byte {
	req := wire.WriteRequest{FileID: id, Data: data, Offset: 777}
	return req.Append(nil)
}

// echo checks that the session still works.
func (c *client) echo(id wire.FileID) {
	c.t.Helper()
	m := message(300)
	h, msg := c.do(wire.Ioctl, transceiveBody(id, m, 4280))
	resp, err := wire.ParseIoctlResponse(msg)
	if h.Status != wire.StatusSuccess || err != nil || !bytes.Equal(resp.Output, m) {
		c.t.Fatalf("transceive: %v, %v, %d octets", h.Status, err, len(resp.Output))
	}
}
