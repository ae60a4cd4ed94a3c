package smbclient

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/seed05845750/bkrp/internal/smb2/wire"
)

// maxFrame is the longest message that is taken from a server, in octets: a PDU
// of RPC, and what stands around it.
const maxFrame = 1 << 17

// ErrServer is a server that breaks SMB; nothing more is done with it.
var ErrServer = errors.New("smbclient: the server breaks the protocol")

// checkedConn stands between the SMB library and the socket. What a server sends
// before it has logged the client on is signed by nobody, and the library takes
// it as it comes: by a dialect that there is not it is left without keys, and a
// session that the server calls a guest's is neither signed nor checked. Here such
// messages are refused. Once the client is logged on only their length is looked
// at.
type checkedConn struct {
	net.Conn
	loggedOn bool
	ready    []byte // was read, and is to be given next
	left     int    // octets behind ready that belong to the same message
}

// Read gives messages with their length in front, whole or in pieces.
func (c *checkedConn) Read(b []byte) (int, error) {
	if len(c.ready) == 0 && c.left == 0 {
		if err := c.next(); err != nil {
			return 0, err
		}
	}
	if len(c.ready) > 0 {
		n := copy(b, c.ready)
		c.ready = c.ready[n:]
		return n, nil
	}
	n, err := c.Conn.Read(b[:min(len(b), c.left)])
	c.left -= n
	return n, err
}

// next reads where a message begins, and all of it before the logon is through.
func (c *checkedConn) next() error {
	head := make([]byte, frameHeaderSize)
	if _, err := io.ReadFull(c.Conn, head); err != nil {
		return err
	}
	size := binary.BigEndian.Uint32(head)
	if size > maxFrame {
		return fmt.Errorf("%w: message of %d octets", ErrServer, size)
	}
	if c.loggedOn {
		c.ready, c.left = head, int(size)
		return nil
	}
	frame := append(head, make([]byte, size)...)
	if _, err := io.ReadFull(c.Conn, frame[frameHeaderSize:]); err != nil {
		return err
	}
	if err := c.check(frame[frameHeaderSize:]); err != nil {
		return fmt.Errorf("%w: %w", ErrServer, err)
	}
	c.ready = frame
	return nil
}

// check looks at a message before the logon is through ([MS-SMB2] 3.2.5.2,
// 3.2.5.3).
func (c *checkedConn) check(msg []byte) error {
	h, err := wire.ParseHeader(msg)
	switch {
	case err != nil:
		return err
	case h.NextCommand != 0:
		return errors.New("several messages in one before the logon is through")
	case h.Status == wire.StatusPending:
		return nil
	}
	switch h.Command {
	case wire.Negotiate:
		if h.Status != wire.StatusSuccess {
			return nil
		}
		r, err := wire.ParseNegotiateResponse(msg)
		if err != nil {
			return fmt.Errorf("answer to NEGOTIATE: %w", err)
		}
		switch r.Dialect {
		case wire.Dialect202, wire.Dialect210, wire.Dialect300, wire.Dialect302, wire.Dialect311:
			return nil
		}
		return fmt.Errorf("dialect %#04x", uint16(r.Dialect))
	case wire.SessionSetup:
		if h.Status != wire.StatusSuccess && h.Status != wire.StatusMoreProcessingRequired {
			return nil
		}
		r, err := wire.ParseSessionSetupResponse(msg)
		if err != nil {
			return fmt.Errorf("answer to SESSION_SETUP: %w", err)
		}
		if r.Flags&^wire.EncryptDataFlag != 0 {
			return fmt.Errorf("session of flags %#x: a guest's, or nobody's", r.Flags)
		}
		c.loggedOn = h.Status == wire.StatusSuccess
		return nil
	}
	return fmt.Errorf("message of command %d before the logon is through", h.Command)
}

// guarded turns a panic of the SMB library's into an error: it uses what a server
// has sent, or left out, on the goroutine of whoever calls it.
func guarded(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", ErrServer, r)
		}
	}()
	return f()
}
