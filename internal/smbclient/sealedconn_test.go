package smbclient

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"testing"

	smbserver "github.com/seed05845750/bkrp/internal/smb2"
)

func frame(protocol string, size int) []byte {
	msg := append([]byte(protocol), bytes.Repeat([]byte{1}, size-len(protocol))...)
	return append(binary.BigEndian.AppendUint32(nil, uint32(size)), msg...)
}

func sealedPair(t *testing.T, sealing bool) (*sealedConn, net.Conn) {
	t.Helper()
	ours, theirs := net.Pipe()
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	c := &sealedConn{Conn: ours}
	if sealing {
		s, err := smbserver.NewClientSession(bytes.Repeat([]byte{7}, 16))
		if err != nil {
			t.Fatal(err)
		}
		c.session.Store(s)
	}
	return c, theirs
}

// What is read comes through unaltered, in pieces of any size, while it is
// encrypted or there is no session yet.
func TestSealedConnRead(t *testing.T) {
	for _, tt := range []struct {
		name    string
		sealing bool
		frames  []byte
		want    error
	}{
		{"before the logon", false, append(frame("\xfeSMB", 64), frame("\xfeSMB", 4)...), nil},
		{"encrypted", true, append(frame("\xfdSMB", 200), frame("\xfdSMB", 68)...), nil},
		{"in the clear", true, frame("\xfeSMB", 64), errInTheClear},
		{"in the clear behind what is encrypted", true, append(frame("\xfdSMB", 100), frame("\xfeSMB", 64)...), errInTheClear},
	} {
		for _, size := range []int{1, 3, 4, 7, 4096} {
			c, theirs := sealedPair(t, tt.sealing)
			var wg sync.WaitGroup
			wg.Go(func() {
				theirs.Write(tt.frames)
				theirs.Close()
			})
			var got []byte
			var err error
			for err == nil {
				b := make([]byte, size)
				var n int
				n, err = c.Read(b)
				got = append(got, b[:n]...)
			}
			c.Close()
			wg.Wait()
			if tt.want != nil {
				if !errors.Is(err, tt.want) || bytes.Contains(got, []byte("\xfeSMB")) {
					t.Errorf("%s, by %d: %d octets, %v", tt.name, size, len(got), err)
				}
			} else if err != io.EOF || !bytes.Equal(got, tt.frames) {
				t.Errorf("%s, by %d: %d of %d octets, %v", tt.name, size, len(got), len(tt.frames), err)
			}
		}
	}
}

func TestSealedConnReadRefusesShortFrames(t *testing.T) {
	c, theirs := sealedPair(t, false)
	var wg sync.WaitGroup
	wg.Go(func() { theirs.Write([]byte{0, 0, 0, 2, 1, 2, 3, 4}) })
	if _, err := io.ReadFull(c, make([]byte, 16)); err == nil {
		t.Error("a frame of two octets is read")
	}
	c.Close()
	wg.Wait()
}

// What is written in pieces leaves whole and encrypted.
func TestSealedConnWrite(t *testing.T) {
	msg := frame("\xfeSMB", 100)
	msg[4+16] |= 0x8 // signed
	msg[4+40] = 9    // of a session
	for _, size := range []int{1, 4, 50, len(msg)} {
		c, theirs := sealedPair(t, true)
		var got []byte
		var wg sync.WaitGroup
		wg.Go(func() { got, _ = io.ReadAll(theirs) })
		for rest := bytes.Clone(msg); len(rest) > 0; {
			n := min(size, len(rest))
			if m, err := c.Write(rest[:n]); m != n || err != nil {
				t.Fatal(m, err)
			}
			rest = rest[n:]
		}
		c.Close()
		wg.Wait()
		const transform = 52
		if len(got) != 4+transform+100 || !smbserver.IsEncrypted(got[4:]) || bytes.Contains(got, msg[20:60]) {
			t.Errorf("by %d: %d octets: %x", size, len(got), got)
		}
	}
	c, _ := sealedPair(t, true)
	if _, err := c.Write(frame("junk", 100)); err == nil {
		t.Error("what is no message is sent")
	}
}
