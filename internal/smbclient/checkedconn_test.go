package smbclient

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/seed05845750/bkrp/internal/smb2/wire"
)

// reply is a message of a server, with its length in front.
func reply(command wire.Command, status wire.Status, body interface{ Append([]byte) []byte }) []byte {
	h := wire.Header{Command: command, Status: status, Flags: wire.FlagResponse}
	msg := h.Append(nil)
	if body != nil {
		msg = body.Append(msg)
	}
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(msg))), msg...)
}

func negotiated(d wire.Dialect) []byte {
	return reply(wire.Negotiate, wire.StatusSuccess, &wire.NegotiateResponse{Dialect: d, Token: []byte("token")})
}

func setUp(status wire.Status, flags uint16) []byte {
	return reply(wire.SessionSetup, status, &wire.SessionSetupResponse{Flags: flags, Token: []byte("token")})
}

// readChecked reads what a server sends, in pieces of that size.
func readChecked(t testing.TB, sent []byte, size int) ([]byte, error) {
	t.Helper()
	ours, theirs := net.Pipe()
	var sending sync.WaitGroup
	sending.Go(func() {
		theirs.Write(sent)
		theirs.Close()
	})
	defer sending.Wait()
	defer ours.Close()
	c := &checkedConn{Conn: ours}
	var got []byte
	for b := make([]byte, size); ; {
		n, err := c.Read(b)
		got = append(got, b[:n]...)
		if err != nil {
			return got, err
		}
	}
}

// What a server sends comes through unaltered, or not at all.
func TestCheckedConn(t *testing.T) {
	const more, through = wire.StatusMoreProcessingRequired, wire.StatusSuccess
	logon := append(append(negotiated(wire.Dialect311), setUp(more, 0)...), setUp(through, wire.EncryptDataFlag)...)
	chained := setUp(more, 0)
	chained[frameHeaderSize+20] = 64
	for name, tt := range map[string]struct {
		sent []byte
		good bool
	}{
		"a logon, and what comes then":         {append(bytes.Clone(logon), frame("\xfdSMB", 1000)...), true},
		"a logon that is refused":              {append(negotiated(wire.Dialect202), reply(wire.SessionSetup, wire.StatusLogonFailure, nil)...), true},
		"an answer that takes its time":        {append(reply(wire.SessionSetup, wire.StatusPending, nil), setUp(through, 0)...), true},
		"a dialect that there is not":          {negotiated(0x0255), false},
		"the dialect of SMB1's NEGOTIATE":      {negotiated(wire.DialectWildcard), false},
		"NEGOTIATE cut short":                  {reply(wire.Negotiate, through, nil), false},
		"a guest's session":                    {append(bytes.Clone(logon[:len(logon)-len(setUp(through, 0))]), setUp(through, 1)...), false},
		"a session of nobody":                  {setUp(more, 2), false},
		"SESSION_SETUP cut short":              {reply(wire.SessionSetup, through, nil), false},
		"another message before the logon":     {reply(wire.TreeConnect, through, nil), false},
		"an encrypted one before the logon":    {frame("\xfdSMB", 100), false},
		"several messages in one":              {chained, false},
		"no SMB":                               {[]byte("HTTP/1.1 400 Bad Request\r\n"), false},
		"too long a message":                   {binary.BigEndian.AppendUint32(nil, maxFrame+1), false},
		"too long a message behind the logon":  {append(bytes.Clone(logon), binary.BigEndian.AppendUint32(nil, maxFrame+1)...), false},
		"the longest message behind the logon": {append(bytes.Clone(logon), frame("\xfeSMB", maxFrame)...), true},
	} {
		for _, size := range []int{1, 4, 1 << 16} {
			got, err := readChecked(t, tt.sent, size)
			switch {
			case tt.good && (err != io.EOF || !bytes.Equal(got, tt.sent)):
				t.Errorf("%s, by %d: %d of %d octets, %v", name, size, len(got), len(tt.sent), err)
			case !tt.good && !errors.Is(err, ErrServer):
				t.Errorf("%s, by %d: %v", name, size, err)
			}
		}
	}
}

func FuzzCheckedConn(f *testing.F) {
	f.Add(negotiated(wire.Dialect302))
	f.Add(setUp(wire.StatusSuccess, 0))
	f.Add(append(setUp(wire.StatusSuccess, 0), 0, 0, 0, 1, 2))
	f.Fuzz(func(t *testing.T, sent []byte) {
		got, err := readChecked(t, sent, 100)
		if err == nil || !bytes.HasPrefix(sent, got) {
			t.Errorf("%x of %x, %v", got, sent, err)
		}
	})
}

func TestGuarded(t *testing.T) {
	var none *checkedConn
	if err := guarded(func() error { none.left++; return nil }); !errors.Is(err, ErrServer) {
		t.Error(err)
	}
	if err := guarded(func() error { return io.EOF }); err != io.EOF {
		t.Error(err)
	}
}
