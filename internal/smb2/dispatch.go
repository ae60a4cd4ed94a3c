package smb2

import (
	"encoding/binary"
	"fmt"

	"github.com/seed05845750/bkrp/internal/smb2/wire"
)

// call is one request while the goroutine that reads works on it.
type call struct {
	wire.Header
	c   *conn
	msg []byte // header and body
	// session is the valid one of the request, signed or encrypted as it has
	// to be; nil before the first logon and for an ECHO outside of one.
	session   *session
	encrypted bool
	// chained is set when a request of the same compound follows; chain is
	// what a related one takes over from those before.
	chained bool
	chain   *chain
}

// chain is what the requests of a compound hand on ([MS-SMB2] 3.3.5.2.7.2).
type chain struct {
	session uint64
	tree    uint32
	file    wire.FileID
	status  wire.Status
}

// handleFrame works off one frame and answers it. An error ends the
// connection, without an answer.
func (c *conn) handleFrame(frame []byte) error {
	if len(frame) < 4 {
		return fmt.Errorf("%w: a frame of %d octets", errProtocol, len(frame))
	}
	if err := c.handleMessage(frame); err != nil {
		c.reply.drop()
		return err
	}
	c.flush()
	return nil
}

func (c *conn) handleMessage(frame []byte) error {
	switch binary.LittleEndian.Uint32(frame) {
	case wire.ProtocolSMB2:
		return c.handleCompound(frame, nil)
	case wire.ProtocolTransform:
		return c.handleEncrypted(frame)
	case wire.ProtocolSMB1:
		return c.negotiateSMB1(frame)
	}
	return fmt.Errorf("%w: not SMB", errProtocol)
}

// handleEncrypted decrypts a frame and works it off ([MS-SMB2] 3.3.5.2.1.1).
func (c *conn) handleEncrypted(frame []byte) error {
	t, _, err := wire.ParseTransform(frame)
	if err != nil {
		return fmt.Errorf("%w: %w", errProtocol, err)
	}
	c.mu.Lock()
	x := c.findSession(t.SessionID)
	usable := x != nil && x.valid
	c.mu.Unlock()
	if !usable || x.opener == nil {
		return fmt.Errorf("%w: encrypted for no session", errProtocol)
	}
	text, err := x.opener.open(frame, &t)
	if err != nil {
		return err
	}
	if len(text) == 0 {
		return fmt.Errorf("%w: nothing encrypted", errProtocol)
	}
	c.reply.sealTo = x
	return c.handleCompound(text, x)
}

// handleCompound works off the requests of one frame, one after the other
// ([MS-SMB2] 3.3.5.2.7). sealed is the session that it was encrypted for.
func (c *conn) handleCompound(frame []byte, sealed *session) error {
	ch := chain{file: wire.RelatedFileID}
	for i := 0; len(frame) > 0; i++ {
		h, err := wire.ParseHeader(frame)
		if err != nil {
			return fmt.Errorf("%w: %w", errProtocol, err)
		}
		msg := frame
		if next := h.NextCommand; next != 0 {
			if next%8 != 0 || next < wire.HeaderSize || uint64(next) >= uint64(len(frame)) {
				return fmt.Errorf("%w: next command at %d of %d octets", errProtocol, next, len(frame))
			}
			msg, frame = frame[:next:next], frame[next:]
		} else {
			frame = nil
		}
		if i >= c.srv.cfg.Limits.Compound {
			return fmt.Errorf("%w: more than %d requests in a frame", errProtocol, i)
		}
		r := &call{Header: h, c: c, msg: msg, encrypted: sealed != nil, chained: len(frame) > 0, chain: &ch}
		if err := r.handle(i == 0, sealed); err != nil {
			return err
		}
	}
	return nil
}

// handle works off one request: the checks that all have in common, then what
// the command does. An error ends the connection; everything else is answered.
func (r *call) handle(first bool, sealed *session) error {
	c := r.c
	if err := r.place(first, sealed); err != nil {
		return err
	}
	if r.Command == wire.Cancel {
		r.cancel()
		return nil
	}
	c.mu.Lock()
	ok := c.window.take(r.MessageID, r.charge())
	x := c.findSession(r.SessionID)
	valid := x != nil && x.valid
	expired := valid && x.expired()
	c.mu.Unlock()
	if !ok {
		return fmt.Errorf("%w: message id %d is not in the window", errProtocol, r.MessageID)
	}
	r.begin()
	if r.Command == wire.Negotiate {
		return r.negotiate()
	}
	st := wire.StatusSuccess
	switch {
	case x == nil && r.SessionID != 0 && r.Command != wire.SessionSetup:
		st = wire.StatusUserSessionDeleted
	case valid:
		if st = r.authenticate(x); st == wire.StatusSuccess {
			r.session = x
		}
	}
	switch {
	case st != wire.StatusSuccess:
	case first && r.Is(wire.FlagRelated):
		st = wire.StatusInvalidParameter
	case expired && !allowedWhenExpired(r.Command):
		st = wire.StatusNetworkSessionExpired
	case r.Command == wire.SessionSetup:
		return r.sessionSetup(x)
	default:
		var err error
		if st, err = r.serve(); err != nil {
			return err
		}
	}
	if st == wire.StatusPending {
		c.reply.withdraw()
		return nil
	}
	r.finish(st)
	return nil
}

// place checks that the request may stand where it does, and gives a related
// one the session and the tree of those before.
func (r *call) place(first bool, sealed *session) error {
	if r.Is(wire.FlagResponse) {
		return fmt.Errorf("%w: a response from a client", errProtocol)
	}
	if r.c.dialect == 0 && r.Command != wire.Negotiate {
		return fmt.Errorf("%w: command %d before the negotiation", errProtocol, r.Command)
	}
	if r.Is(wire.FlagRelated) && !first {
		r.SessionID, r.TreeID = r.chain.session, r.chain.tree
	} else {
		*r.chain = chain{session: r.SessionID, tree: r.TreeID, file: wire.RelatedFileID}
	}
	if sealed != nil && r.SessionID != sealed.id {
		return fmt.Errorf("%w: encrypted for one session and made on another", errProtocol)
	}
	return nil
}

// begin opens the response.
func (r *call) begin() {
	r.c.reply.begin(&wire.Header{
		CreditCharge: r.CreditCharge,
		Command:      r.Command,
		Credits:      r.Credits,
		Flags:        wire.FlagResponse | r.Flags&wire.FlagRelated,
		MessageID:    r.MessageID,
		ProcessID:    r.ProcessID,
		TreeID:       r.TreeID,
		SessionID:    r.SessionID,
	})
}

// charge is how many credits the request uses up ([MS-SMB2] 3.3.5.2.3).
func (r *call) charge() uint16 {
	if r.c.dialect <= Dialect202 {
		return 1
	}
	return max(r.CreditCharge, 1)
}

// covered reports whether the credit charge covers size octets ([MS-SMB2]
// 3.3.5.2.5).
func (r *call) covered(size int) bool {
	return r.c.dialect <= Dialect202 || (max(size, 1)-1)/65536+1 <= int(r.charge())
}

// authenticate checks that a request on a valid session is encrypted or
// signed as it has to be ([MS-SMB2] 3.3.5.2.4, 3.3.5.2.9). Signing is required
// on every session.
func (r *call) authenticate(x *session) wire.Status {
	if r.encrypted {
		return wire.StatusSuccess
	}
	if x.encrypt || !r.Is(wire.FlagSigned) || !verify(x.verifier, r.msg) {
		return wire.StatusAccessDenied
	}
	return wire.StatusSuccess
}

// allowedWhenExpired tells the commands that an expired session may still use
// ([MS-SMB2] 3.3.5.2.9).
func allowedWhenExpired(cmd wire.Command) bool {
	switch cmd {
	case wire.SessionSetup, wire.Logoff, wire.Close, wire.Echo, wire.TreeDisconnect:
		return true
	}
	return false
}

// serve does what a command after the logon asks for, and appends the body of
// its response unless the status is an error's.
func (r *call) serve() (wire.Status, error) {
	if r.Command == wire.Echo {
		return r.echo(), nil
	}
	if r.session == nil {
		return wire.StatusUserSessionDeleted, nil
	}
	switch r.Command {
	case wire.Logoff:
		return r.logoff(), nil
	case wire.TreeConnect:
		return r.treeConnect(), nil
	}
	if r.Is(wire.FlagAsync) {
		return wire.StatusInvalidParameter, nil
	}
	r.c.mu.Lock()
	known := r.session.hasTree(r.TreeID)
	r.c.mu.Unlock()
	if !known {
		return wire.StatusNetworkNameDeleted, nil
	}
	switch r.Command {
	case wire.TreeDisconnect:
		return r.treeDisconnect(), nil
	case wire.Create:
		return r.create(), nil
	case wire.Close:
		return r.close(), nil
	case wire.Flush:
		return r.flush(), nil
	case wire.Read:
		return r.read(), nil
	case wire.Write:
		return r.write(), nil
	case wire.Ioctl:
		return r.ioctl()
	case wire.QueryInfo:
		return r.queryInfo(), nil
	case wire.SetInfo:
		return r.setInfo(), nil
	case wire.Lock, wire.QueryDirectory, wire.ChangeNotify, wire.OplockBreak:
		return wire.StatusInvalidDeviceRequest, nil
	}
	return wire.StatusInvalidParameter, nil
}

// respond appends the body of the response.
func (r *call) respond(body interface{ Append([]byte) []byte }) {
	b := r.c.reply.buf
	*b = body.Append(*b)
}

// finish sets the status of the response and who signs it.
func (r *call) finish(st wire.Status) {
	reply := &r.c.reply
	if st.IsError() {
		p := reply.parts[len(reply.parts)-1]
		*reply.buf = wire.AppendError((*reply.buf)[:p.start+wire.HeaderSize])
	}
	putStatus(reply.last(), st)
	reply.parts[len(reply.parts)-1].signFor = r.session
	if st.IsError() && r.chain.status == wire.StatusSuccess {
		r.chain.status = st
	}
}
