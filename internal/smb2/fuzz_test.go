package smb2

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/internal/smb2/wire"
)

// pipeClient serves one end of an in-memory connection and gives a client on
// the other; end closes it and waits for the server's goroutines.
func pipeClient(t testing.TB, s *Server) (c *client, end func()) {
	here, there := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.ServeConn(context.Background(), there)
	}()
	here.SetDeadline(time.Now().Add(hangTime))
	return &client{t: t, nc: here}, func() {
		here.Close()
		select {
		case <-done:
		case <-time.After(hangTime):
			t.Fatal("the connection does not end")
		}
	}
}

func fuzzServer(f *testing.F) *Server {
	a := testAcceptor(f)
	s, err := NewServer(Config{Acceptor: a, NegotiateToken: a.Hint(), Pipes: map[string]PipeFunc{"echo": echoPipe}})
	if err != nil {
		f.Fatal(err)
	}
	return s
}

// FuzzConn feeds octets to a connection that is not logged on.
func FuzzConn(f *testing.F) {
	v := vectors(f, "preauth-311")
	setup := framed(v["session-setup-request-1"])
	binary.LittleEndian.PutUint64(setup[4+wire.OffsetMessageID:], 1)
	negotiate := framed(v["negotiate-request"])
	binary.LittleEndian.PutUint64(negotiate[4+wire.OffsetMessageID:], 0)
	f.Add(append(negotiate, setup...))
	f.Add(framed((&wire.SMB1NegotiateRequest{Dialects: []string{wire.SMB1Name202, wire.SMB1NameWildcard}}).Append(nil)))
	f.Add(framed(vectors(f, "encryption-300")["request-encrypted"]))
	s := fuzzServer(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		c, end := pipeClient(t, s)
		defer end()
		go io.Copy(io.Discard, c.nc)
		c.nc.Write(data)
	})
}

// FuzzSession sends requests on a session, signed, with headers and bodies
// that are not to be trusted: each a command, flags, and the length of a body.
func FuzzSession(f *testing.F) {
	id := wire.FileID{Persistent: 1, Volatile: 1}
	op := func(cmd wire.Command, flags byte, body []byte) []byte {
		return append([]byte{byte(cmd), flags, byte(len(body)), byte(len(body) >> 8)}, body...)
	}
	seed := func(ops ...[]byte) (all []byte) {
		for _, o := range ops {
			all = append(all, o...)
		}
		return all
	}
	open := op(wire.Create, 0, createBody("echo"))
	f.Add(seed(open, op(wire.Ioctl, 0, transceiveBody(id, message(20), 10)), op(wire.Read, 0, readBody(id, 10))))
	f.Add(seed(open, op(wire.Write, 0, writeBody(id, message(20))), op(wire.Read, 0, readBody(id, 10)), op(wire.Cancel, 0, wire.AppendEmpty(nil))))
	f.Add(seed(open, op(wire.QueryInfo, 0, (&wire.QueryInfoRequest{InfoType: 1, Class: 18, MaxOutput: 200, FileID: id}).Append(nil)),
		op(wire.SetInfo, 0, (&wire.SetInfoRequest{InfoType: 1, Class: 23, Data: make([]byte, 8), FileID: id}).Append(nil)),
		op(wire.Close, 0, (&wire.CloseRequest{FileID: id}).Append(nil)), op(wire.Logoff, 0, wire.AppendEmpty(nil))))
	contexts := []byte{24, 0, 0, 0, 16, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 'M', 'x', 'A', 'c', 0, 0, 0, 0,
		0, 0, 0, 0, 16, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 'Q', 'F', 'i', 'd'}
	f.Add(seed(op(wire.Create, 0, (&wire.CreateRequest{Name: wire.AppendUTF16(nil, "echo"), Contexts: contexts}).Append(nil)),
		op(wire.TreeConnect, 0, (&wire.TreeConnectRequest{Path: wire.AppendUTF16(nil, `\\x\IPC$`)}).Append(nil)),
		op(wire.SessionSetup, 0, (&wire.SessionSetupRequest{Token: []byte("x")}).Append(nil))))
	s := fuzzServer(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		c, end := pipeClient(t, s)
		defer end()
		c.negotiate(Dialect300)
		if st := c.authenticate(testUser, testPassword, 0); st != wire.StatusSuccess {
			t.Fatal(st)
		}
		c.connectTree()
		go io.Copy(io.Discard, c.nc)
		for range 20 {
			if len(data) < 4 {
				return
			}
			h := c.header(wire.Command(data[0]))
			h.Flags = wire.HeaderFlags(data[1]) &^ wire.FlagResponse
			n := min(int(binary.LittleEndian.Uint16(data[2:])), len(data)-4)
			if _, err := c.nc.Write(framed(c.pack(h, data[4:4+n]))); err != nil {
				return
			}
			data = data[4+n:]
		}
	})
}
