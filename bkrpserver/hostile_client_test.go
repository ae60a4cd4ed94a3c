package bkrpserver_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/seed05845750/bkrp/internal/gss"
	"github.com/seed05845750/bkrp/internal/gss/ntlm"
	"github.com/seed05845750/bkrp/internal/gss/spnego"
	"github.com/seed05845750/bkrp/internal/smb2/wire"
)

var (
	// errGone is a connection that the server has closed.
	errGone = errors.New("the server has closed the connection")
	// errHang is a server that neither answers nor closes.
	errHang = errors.New("the server hangs")
	// errQuiet is a server that has nothing to say for now.
	errQuiet = errors.New("nothing came")
)

// hostileClient is an SMB client that can log on, sign and encrypt as it
// should, and sends what it is told to, wrong things too. It is written from
// [MS-SMB2] and shares with the server only the packages of messages.
type hostileClient struct {
	nc     net.Conn
	frames chan []byte   // what the server sent; closed at its end
	quit   chan struct{} // tells the reader to drop the rest

	next    uint64 // message id
	dialect wire.Dialect
	preauth [sha512.Size]byte
	session uint64
	tree    uint32
	key     []byte      // of the signatures, by HMAC-SHA256; nil before the logon
	aead    cipher.AEAD // of what is sent; nil unless it encrypts
	back    cipher.AEAD // of what is received
	nonce   uint64
	// previous is the PreviousSessionId of the next logon.
	previous uint64
	// mangle changes a token of the logon on its way, if set.
	mangle func(leg int, token []byte) []byte
}

func dialHostile(addr string) (*hostileClient, error) {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &hostileClient{nc: nc, frames: make(chan []byte, 16), quit: make(chan struct{})}
	go func() {
		defer close(c.frames)
		for {
			f, err := readFrame(nc)
			if err != nil {
				return
			}
			select {
			case c.frames <- f:
			case <-c.quit:
				return
			}
		}
	}()
	return c, nil
}

// close ends the connection and the goroutine that reads from it.
func (c *hostileClient) close() {
	close(c.quit)
	c.nc.Close()
	for range c.frames {
	}
}

// sendRaw writes octets as they are. That the server has closed is no error
// here: the next receive says so.
func (c *hostileClient) sendRaw(b []byte) error {
	c.nc.SetWriteDeadline(time.Now().Add(hangTime))
	_, err := c.nc.Write(b)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return fmt.Errorf("%w: it does not read", errHang)
	}
	return nil
}

// send writes a frame with its length, protected if the client is logged on.
func (c *hostileClient) send(f []byte) error { return c.sendRaw(withLength(c.protect(f))) }

// protect signs each message of a compound, or encrypts the frame. Frames in
// which no message can be made out are left as they are.
func (c *hostileClient) protect(f []byte) []byte {
	if c.key == nil {
		return f
	}
	if c.aead != nil {
		return c.encrypt(f)
	}
	f = bytes.Clone(f)
	for rest := f; len(rest) >= wire.HeaderSize; {
		msg := rest
		next := binary.LittleEndian.Uint32(rest[wire.OffsetNextCommand:])
		if next >= wire.HeaderSize && uint64(next) < uint64(len(rest)) {
			msg, rest = rest[:next], rest[next:]
		} else {
			rest = nil
		}
		c.sign(msg)
	}
	return f
}

// sign is [MS-SMB2] 3.1.4.1 with HMAC-SHA256.
func (c *hostileClient) sign(msg []byte) {
	msg[wire.OffsetFlags] |= byte(wire.FlagSigned)
	clear(msg[wire.OffsetSignature:wire.HeaderSize])
	h := hmac.New(sha256.New, c.key)
	h.Write(msg)
	copy(msg[wire.OffsetSignature:wire.HeaderSize], h.Sum(nil))
}

// encrypt is [MS-SMB2] 3.1.4.3 with AES-128-GCM.
func (c *hostileClient) encrypt(f []byte) []byte {
	c.nonce++
	t := wire.Transform{OriginalSize: uint32(len(f)), Flags: 1, SessionID: c.session}
	binary.LittleEndian.PutUint64(t.Nonce[:], c.nonce)
	head := t.Append(nil)
	sealed := c.aead.Seal(nil, t.Nonce[:12], f, head[wire.TransformSignedFrom:])
	copy(head[4:20], sealed[len(f):])
	return append(head, sealed[:len(f)]...)
}

// receive gives the next frame of the server, decrypted. It is errGone at the
// end of the connection, and late when nothing comes within patience.
func (c *hostileClient) receive(patience time.Duration, late error) ([]byte, error) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case f, ok := <-c.frames:
		if !ok {
			return nil, errGone
		}
		t, text, err := wire.ParseTransform(f)
		if err != nil {
			return f, nil
		}
		if c.back == nil {
			return nil, errors.New("encrypted for no one")
		}
		return c.back.Open(nil, t.Nonce[:12], append(bytes.Clone(text), t.Signature[:]...), f[wire.TransformSignedFrom:wire.TransformSize])
	case <-timer.C:
		return nil, late
	}
}

// await receives until the final response to a message, and hands each one to
// see.
func (c *hostileClient) await(id uint64, see func(wire.Header, []byte)) error {
	return c.awaitFor(id, hangTime, errHang, see)
}

// awaitFor is await that returns late when nothing comes within patience.
func (c *hostileClient) awaitFor(id uint64, patience time.Duration, late error, see func(wire.Header, []byte)) error {
	for {
		f, err := c.receive(patience, late)
		if err != nil {
			return err
		}
		found := false
		for len(f) > 0 {
			h, err := wire.ParseHeader(f)
			if err != nil {
				return fmt.Errorf("a response of the server: %w", err)
			}
			msg := f
			if n := int(h.NextCommand); n != 0 && n < len(f) {
				msg, f = f[:n], f[n:]
			} else {
				f = nil
			}
			if h.Status == wire.StatusPending {
				continue
			}
			if see != nil {
				see(h, msg)
			}
			found = found || h.MessageID == id
		}
		if found {
			return nil
		}
	}
}

// finish ends the client's direction of the stream and waits for the server to
// end its own.
func (c *hostileClient) finish() error {
	c.nc.(*net.TCPConn).CloseWrite()
	return c.drain()
}

// drain waits for the server to close the connection.
func (c *hostileClient) drain() error {
	late := time.After(hangTime)
	for {
		select {
		case _, ok := <-c.frames:
			if !ok {
				return nil
			}
		case <-late:
			return fmt.Errorf("%w: it does not close", errHang)
		}
	}
}

// message is one request, of a session that may not stand yet.
func (c *hostileClient) message(cmd wire.Command, body []byte) []byte {
	h := wire.Header{Command: cmd, CreditCharge: 1, Credits: 64, MessageID: c.next, SessionID: c.session, TreeID: c.tree}
	c.next++
	return append(h.Append(nil), body...)
}

// do sends a request and gives the final response to it.
func (c *hostileClient) do(cmd wire.Command, body []byte) (h wire.Header, msg []byte, err error) {
	id := c.next
	if err := c.send(c.message(cmd, body)); err != nil {
		return h, nil, err
	}
	err = c.await(id, func(got wire.Header, m []byte) {
		if got.MessageID == id {
			h, msg = got, m
		}
	})
	return h, msg, err
}

// barrier makes sure that the server has worked off what it was sent, by an
// ECHO: it returns nil if that is answered in any way.
func (c *hostileClient) barrier(see func(wire.Header, []byte)) error {
	id := c.next
	if err := c.send(c.message(wire.Echo, wire.AppendEmpty(nil))); err != nil {
		return err
	}
	return c.await(id, see)
}

// negotiate agrees on 2.1, or on 3.1.1 with HMAC-SHA256 and AES-128-GCM.
func (c *hostileClient) negotiate(d wire.Dialect) error {
	q := wire.NegotiateRequest{SecurityMode: wire.SigningEnabled, Capabilities: wire.CapEncryption | wire.CapLargeMTU, Dialects: []wire.Dialect{d}}
	copy(q.ClientGUID[:], "a hostile client")
	if d == wire.Dialect311 {
		q.Contexts = []wire.NegotiateContext{
			{Type: wire.ContextPreauth, Data: wire.PreauthCapabilities{Hashes: []uint16{wire.HashSHA512}, Salt: []byte("salt")}.Append(nil)},
			{Type: wire.ContextEncryption, Data: wire.AppendAlgorithms(nil, uint16(wire.AES128GCM))},
			{Type: wire.ContextSigning, Data: wire.AppendAlgorithms(nil, uint16(wire.HMACSHA256))},
		}
	}
	id := c.next
	req := c.message(wire.Negotiate, q.Append(nil))
	if err := c.sendRaw(withLength(req)); err != nil {
		return err
	}
	c.dialect = d
	c.addPreauth(req)
	return c.await(id, func(_ wire.Header, m []byte) { c.addPreauth(m) })
}

func (c *hostileClient) addPreauth(msg []byte) {
	c.preauth = sha512.Sum512(append(c.preauth[:], msg...))
}

// ntlmInitiator is SPNEGO with NTLM, for both SMB and RPC.
func ntlmInitiator(user, password string) gss.Initiator {
	return spnego.NewInitiator(spnego.InitiatorMechanism{
		OIDs:      []asn1.ObjectIdentifier{spnego.NTLM()},
		Initiator: ntlm.NewInitiator(ntlm.Credential{Domain: domainName, User: user, Hash: ntlm.HashPassword(password)}),
	})
}

// authenticate logs on ([MS-SMB2] 3.2.5.3), or once more on a session that
// stands, and gives the last status.
func (c *hostileClient) authenticate(user, password string, encrypt bool) (wire.Status, error) {
	return c.logOn(ntlmInitiator(user, password), encrypt)
}

// logOn is authenticate with any mechanism.
func (c *hostileClient) logOn(i gss.Initiator, encrypt bool) (wire.Status, error) {
	x := i.Initiate(gss.InitiateOptions{
		Target: "cifs/dc1", Flags: gss.Integrity | gss.Sequence | gss.Confidentiality})
	var token []byte
	for leg := 0; ; leg++ {
		out, sc, err := x.Step(context.Background(), token)
		if err != nil {
			return 0, err
		}
		if c.mangle != nil {
			out = c.mangle(leg, out)
		}
		q := wire.SessionSetupRequest{SecurityMode: wire.SigningEnabled, Token: out, PreviousSessionID: c.previous}
		id := c.next
		msg := c.message(wire.SessionSetup, q.Append(nil))
		c.addPreauth(msg)
		if err := c.send(msg); err != nil {
			return 0, err
		}
		var h wire.Header
		var resp []byte
		if err := c.await(id, func(got wire.Header, m []byte) { h, resp = got, m }); err != nil {
			return 0, err
		}
		c.session = h.SessionID
		if h.Status.IsError() && h.Status != wire.StatusMoreProcessingRequired {
			return h.Status, nil
		}
		p, err := wire.ParseSessionSetupResponse(resp)
		if err != nil {
			return 0, err
		}
		token = p.Token
		if h.Status == wire.StatusMoreProcessingRequired {
			c.addPreauth(resp)
			continue
		}
		if sc == nil {
			if _, sc, err = x.Step(context.Background(), token); err != nil || sc == nil {
				return 0, fmt.Errorf("last leg of the logon: %w", err)
			}
		}
		return h.Status, c.establish(sc.SessionKey(), encrypt)
	}
}

// establish derives the keys ([MS-SMB2] 3.1.4.2, 3.2.5.3.1).
func (c *hostileClient) establish(key []byte, encrypt bool) error {
	if c.key != nil {
		return nil // the keys of a session stay ([MS-SMB2] 3.3.5.5.2)
	}
	key = key[:min(len(key), 16)] // [MS-SMB2] 3.2.5.3.1: Session.SessionKey
	if c.dialect < wire.Dialect300 {
		c.key = key
		return nil
	}
	derive := func(label string) []byte {
		h := hmac.New(sha256.New, key)
		h.Write([]byte{0, 0, 0, 1})
		h.Write([]byte(label + "\x00\x00"))
		h.Write(c.preauth[:])
		h.Write([]byte{0, 0, 0, 128})
		return h.Sum(nil)[:16]
	}
	gcm := func(label string) (cipher.AEAD, error) {
		block, err := aes.NewCipher(derive(label))
		if err != nil {
			return nil, err
		}
		return cipher.NewGCM(block)
	}
	c.key = derive("SMBSigningKey")
	var err error
	if encrypt {
		if c.aead, err = gcm("SMBC2SCipherKey"); err != nil {
			return err
		}
		c.back, err = gcm("SMBS2CCipherKey")
	}
	return err
}

// manner is how a hostile client talks after its logon.
type manner struct {
	dialect wire.Dialect
	encrypt bool
}

var manners = []manner{{wire.Dialect210, false}, {wire.Dialect311, false}, {wire.Dialect311, true}}

// logonHostile gives a client that has logged on as alice, without a tree.
func logonHostile(addr string, m manner) (*hostileClient, error) {
	return logonHostileBy(addr, m, ntlmInitiator(aliceName, domainPassword))
}

// logonHostileBy is logonHostile with any mechanism.
func logonHostileBy(addr string, m manner, i gss.Initiator) (*hostileClient, error) {
	c, err := dialHostile(addr)
	if err != nil {
		return nil, err
	}
	err = c.negotiate(m.dialect)
	if err == nil {
		var st wire.Status
		if st, err = c.logOn(i, m.encrypt); err == nil && st != wire.StatusSuccess {
			err = fmt.Errorf("logon as alice: %v", st)
		}
	}
	if err != nil {
		c.close()
		return nil, fmt.Errorf("a logon that nothing is wrong with: %w", err)
	}
	return c, nil
}

// leaveSession makes the client log on anew next, on the same connection.
func (c *hostileClient) leaveSession() { c.session, c.key, c.aead, c.back = 0, nil, nil, nil }

// connectTree connects to IPC$.
func (c *hostileClient) connectTree() error {
	q := wire.TreeConnectRequest{Path: wire.AppendUTF16(nil, `\\dc1\IPC$`)}
	h, _, err := c.do(wire.TreeConnect, q.Append(nil))
	if err == nil && h.Status != wire.StatusSuccess {
		err = fmt.Errorf("connecting to IPC$: %v", h.Status)
	}
	c.tree = h.TreeID
	return err
}

// open opens a pipe.
func (c *hostileClient) open(name string) (wire.FileID, error) {
	q := wire.CreateRequest{Impersonation: 2, DesiredAccess: 0x12019f, ShareAccess: 7, Disposition: 1, Name: wire.AppendUTF16(nil, name)}
	h, msg, err := c.do(wire.Create, q.Append(nil))
	if err != nil {
		return wire.FileID{}, err
	}
	if h.Status != wire.StatusSuccess {
		return wire.FileID{}, fmt.Errorf("opening %s: %v", name, h.Status)
	}
	p, err := wire.ParseCreateResponse(msg)
	return p.FileID, err
}
