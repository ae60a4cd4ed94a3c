package smbclient

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync/atomic"

	smbserver "github.com/seed05845750/bkrp/internal/smb2"
)

// errInTheClear is a server that does not encrypt what answers an encrypted
// request ([MS-SMB2] 3.3.4.1.4): none that holds the keys does so.
var errInTheClear = errors.New("smbclient: the server answers an encrypted session in the clear")

// sealedConn stands between the SMB library and the socket. Once it has a
// session it encrypts each message that the library sends; the library itself
// encrypts only where the server demands it. What comes back encrypted the
// library does decrypt, and nothing else is let through to it.
//
// The library writes by one goroutine and reads by another, which have the
// halves below to themselves.
type sealedConn struct {
	net.Conn
	session atomic.Pointer[smbserver.ClientSession]

	out []byte // of the frame that is being written

	head     [8]byte // of the frame that is being read: its length, and the protocol
	headHave int     // octets of head that were read
	headGave int     // octets of head that the library has
	left     int     // octets of the frame behind head
}

// frameHeaderSize is the length in front of each message on TCP ([MS-SMB2] 2.1).
const frameHeaderSize = 4

// Write takes frames in pieces of any size and sends them whole.
func (c *sealedConn) Write(b []byte) (int, error) {
	session := c.session.Load()
	if session == nil {
		return c.Conn.Write(b)
	}
	c.out = append(c.out, b...)
	for len(c.out) >= frameHeaderSize {
		size := int(binary.BigEndian.Uint32(c.out))
		if len(c.out) < frameHeaderSize+size {
			break
		}
		sealed, err := session.Seal(c.out[frameHeaderSize : frameHeaderSize+size])
		if err != nil {
			return 0, fmt.Errorf("encrypting a message: %w", err)
		}
		frame := binary.BigEndian.AppendUint32(make([]byte, 0, frameHeaderSize+len(sealed)), uint32(len(sealed)))
		if _, err := c.Conn.Write(append(frame, sealed...)); err != nil {
			return 0, err
		}
		rest := copy(c.out, c.out[frameHeaderSize+size:])
		clear(c.out[rest:])
		c.out = c.out[:rest]
	}
	return len(b), nil
}

// Read looks at how each frame begins before the library does.
func (c *sealedConn) Read(b []byte) (int, error) {
	if c.left > 0 {
		n, err := c.Conn.Read(b[:min(len(b), c.left)])
		c.left -= n
		return n, err
	}
	if c.headGave == c.headHave {
		c.headHave, c.headGave = 0, 0
	}
	for c.headHave < len(c.head) && c.headGave == 0 {
		n, err := c.Conn.Read(c.head[c.headHave:])
		c.headHave += n
		if c.headHave == len(c.head) {
			break
		}
		if err != nil {
			return 0, err
		}
	}
	if c.headGave == 0 {
		if c.session.Load() != nil && !smbserver.IsEncrypted(c.head[frameHeaderSize:]) {
			c.headHave = 0
			return 0, errInTheClear
		}
	}
	n := copy(b, c.head[c.headGave:])
	c.headGave += n
	if c.headGave == len(c.head) {
		size := int(binary.BigEndian.Uint32(c.head[:]))
		if c.left = size - (len(c.head) - frameHeaderSize); c.left < 0 {
			return 0, fmt.Errorf("smbclient: frame of %d octets", size)
		}
	}
	return n, nil
}
