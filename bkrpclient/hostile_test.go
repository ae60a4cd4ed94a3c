package bkrpclient_test

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/bkrpserver"
)

// startBent is a server of whose messages one is changed on its way.
func startBent(l net.Listener, target string, which int, bend func(msg []byte) []byte) (wait func()) {
	var running sync.WaitGroup
	running.Go(func() {
		client, err := l.Accept()
		if err != nil {
			return
		}
		defer client.Close()
		server, err := net.Dial("tcp", target)
		if err != nil {
			return
		}
		defer server.Close()
		var up sync.WaitGroup
		up.Go(func() {
			io.Copy(server, client)
			server.Close()
		})
		defer up.Wait()
		defer client.Close()
		for i := 0; ; i++ {
			frame, err := readFrame(server)
			if err != nil {
				return
			}
			if msg := frame[4:]; i == which {
				msg = bend(msg)
				frame = append(binary.BigEndian.AppendUint32(nil, uint32(len(msg))), msg...)
			}
			if _, err := client.Write(frame); err != nil {
				return
			}
		}
	})
	return running.Wait
}

func readFrame(r io.Reader) ([]byte, error) {
	frame := make([]byte, 4)
	if _, err := io.ReadFull(r, frame); err != nil {
		return nil, err
	}
	frame = append(frame, make([]byte, binary.BigEndian.Uint32(frame))...)
	_, err := io.ReadFull(r, frame[4:])
	return frame, err
}

// FuzzServer changes two octets of one of the server's messages, and its length:
// whatever a server sends, the client gives an error, or what was asked for, and
// goes on living.
func FuzzServer(f *testing.F) {
	s := startServer(f, bkrpserver.Config{})
	const body = 64
	f.Add(uint8(0), uint16(body+4), uint16(0x0255), int16(0)) // NEGOTIATE: a dialect that there is not
	f.Add(uint8(0), uint16(body+4), uint16(0x02FF), int16(0)) // and the one that asks for another try
	f.Add(uint8(0), uint16(body+6), uint16(0), int16(0))      // no contexts of 3.1.1
	f.Add(uint8(1), uint16(body+2), uint16(1), int16(0))      // SESSION_SETUP: a guest's session
	f.Add(uint8(2), uint16(body+2), uint16(2), int16(0))      // nobody's
	f.Add(uint8(2), uint16(body+2), uint16(4), int16(0))      // an encrypted one
	f.Add(uint8(2), uint16(0), uint16(0), int16(-60))         // cut short
	f.Add(uint8(3), uint16(20), uint16(0xFFFF), int16(8))     // TREE_CONNECT: a chain that leads nowhere
	f.Fuzz(func(t *testing.T, which uint8, at, value uint16, longer int16) {
		l := listen(t)
		defer l.Close()
		wait := startBent(l, s.addr, int(which%8), func(msg []byte) []byte {
			if n := len(msg) + int(longer); n > 0 && n < len(msg) {
				msg = msg[:n]
			} else if n > len(msg) {
				msg = append(msg, make([]byte, n-len(msg))...)
			}
			if int(at)+2 <= len(msg) {
				binary.LittleEndian.PutUint16(msg[at:], value)
			}
			return msg
		})
		defer wait()
		// Many a change leaves the client waiting for an answer.
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		c, err := bkrpclient.Dial(ctx, configFor(l.Addr().String()))
		if err != nil {
			return
		}
		defer c.Close()
		if cert, err := c.RetrieveKey(ctx); (cert == nil) == (err == nil) {
			t.Errorf("%v, %v", cert, err)
		}
	})
}

// TestGuestSession: what nobody has signed cannot talk the client out of signing.
func TestGuestSession(t *testing.T) {
	s := startServer(t, bkrpserver.Config{})
	for which, flags := range map[int]byte{1: 2, 2: 1} {
		l := listen(t)
		wait := startBent(l, s.addr, which, func(msg []byte) []byte { msg[64+2] = flags; return msg })
		if c, err := bkrpclient.Dial(t.Context(), configFor(l.Addr().String())); err == nil {
			c.Close()
			t.Errorf("flags %d in message %d are taken", flags, which)
		}
		l.Close()
		wait()
	}
}
