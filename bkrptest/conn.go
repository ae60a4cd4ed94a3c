package bkrptest

import (
	"io"
	"net"
	"slices"
	"sync"
)

// listener accepts connections that end at the steps of faults.
type listener struct {
	net.Listener
	server string
	faults *faults
}

// Accept waits for a connection that does not end at once.
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.faults.drop(l.server, Connect) {
			c.Close()
			continue
		}
		return &conn{Conn: c, server: l.server, faults: l.faults}, nil
	}
}

// conn looks at the messages of SMB that go through it.
type conn struct {
	net.Conn
	server string
	faults *faults

	in framer // of the one goroutine that reads

	writing sync.Mutex // guards out
	out     framer
}

// Read gives what the client sent, up to the message at which the connection ends.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	n, drop := c.in.pass(p[:n], func(message []byte) bool { return c.ends(message, false) })
	if drop {
		c.Conn.Close()
		return n, io.EOF
	}
	return n, err
}

// Write passes on what the server answers, up to the message at which the
// connection ends.
func (c *conn) Write(p []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	n, drop := c.out.pass(p, func(message []byte) bool { return c.ends(message, true) })
	if drop {
		c.Conn.Write(p[:n])
		c.Conn.Close()
		return n, net.ErrClosed
	}
	return c.Conn.Write(p)
}

// ends tells whether the connection ends at a message.
func (c *conn) ends(message []byte, fromServer bool) bool {
	return slices.ContainsFunc(stepsOf(message, fromServer), func(s Step) bool { return c.faults.drop(c.server, s) })
}

// framer finds the messages in a stream: each has four octets before it, of which
// three are its length ([MS-SMB2] 2.1).
type framer struct{ frame []byte }

const prefixSize = 4

// missing is how many octets the present frame lacks.
func (f *framer) missing() int {
	if len(f.frame) < prefixSize {
		return prefixSize - len(f.frame)
	}
	size := int(f.frame[1])<<16 | int(f.frame[2])<<8 | int(f.frame[3])
	return prefixSize + size - len(f.frame)
}

// pass shows each message that is complete with p, and gives how much of p is
// before the first that drop is true for.
func (f *framer) pass(p []byte, drop func(message []byte) bool) (n int, dropped bool) {
	begin := 0 // of the present frame in p
	for at := 0; at < len(p); {
		take := min(f.missing(), len(p)-at)
		f.frame = append(f.frame, p[at:at+take]...)
		at += take
		if len(f.frame) < prefixSize || f.missing() > 0 {
			continue
		}
		if drop(f.frame[prefixSize:]) {
			return begin, true
		}
		f.frame, begin = f.frame[:0], at
	}
	return len(p), false
}
