package npa

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"

	"github.com/seed05845750/bkrp/internal/ndr"
)

var (
	// ErrHello is a peer whose hello is not one of named_pipe_auth.
	ErrHello = errors.New("npa: malformed hello")
	// ErrLevel is a hello of a level, which stands for a version of Samba,
	// that is not known.
	ErrLevel = errors.New("npa: unknown level of named_pipe_auth")
)

// The levels of the hello. They differ only in the caller's security token,
// which stands behind what is read here.
const (
	minLevel = 7 // Samba 4.17
	maxLevel = 8
)

const (
	magic = "NPAM"
	// transportPipe is NCACN_NP: the only transport that smbd forwards.
	transportPipe = 1
	// helloHead is how much of a hello, its length included, is looked at, in
	// octets. Two names and two addresses stand first and fit well.
	helloHead = 2 << 10
	// helloMost is the longest hello, in octets. One of an ordinary user has
	// less than 1 KiB; hundreds of groups and a delegated ticket fit.
	helloMost = 1 << 20
)

// Hello is what is taken from named_pipe_auth_req.
type Hello struct {
	// Level is 7 or 8. The reply has to be of the same level.
	Level uint32
	// Client and Server are the ends of the SMB connection; the zero AddrPort
	// where smbd gives something else than an IP address.
	Client, Server netip.AddrPort
}

// ParseHello reads the head of a hello: the length in front of it, and as much
// of what follows as there is. The security token after the addresses is not
// looked at, and may be missing.
func ParseHello(head []byte) (Hello, error) {
	r := ndr.NewReader(head, ndr.Encoding{})
	r.Octets(4) // the length, which is not NDR's
	if m := r.Octets(4); r.Err() == nil && string(m) != magic {
		return Hello{}, fmt.Errorf("%w: it does not begin with %s", ErrHello, magic)
	}
	h := Hello{Level: r.U32()}
	if r.Err() == nil && (h.Level < minLevel || h.Level > maxLevel) {
		return Hello{}, fmt.Errorf("%w: smbd speaks level %d, this program %d to %d", ErrLevel, h.Level, minLevel, maxLevel)
	}
	if union := r.U32(); r.Err() == nil && union != h.Level {
		return Hello{}, fmt.Errorf("%w: two levels, %d and %d", ErrHello, h.Level, union)
	}
	if t := r.U8(); r.Err() == nil && t != transportPipe {
		return Hello{}, fmt.Errorf("%w: transport %d is not that of named pipes", ErrHello, t)
	}
	// The scalars, then what their pointers point to.
	clientName, clientAddr, clientPort := r.Referent(), r.Referent(), r.U16()
	serverName, serverAddr, serverPort := r.Referent(), r.Referent(), r.U16()
	r.Referent() // session_info
	readText(&r, clientName)
	client := readText(&r, clientAddr)
	readText(&r, serverName)
	server := readText(&r, serverAddr)
	if err := r.Err(); err != nil {
		return Hello{}, fmt.Errorf("%w: %w", ErrHello, err)
	}
	h.Client, h.Server = addrPort(client, clientPort), addrPort(server, serverPort)
	return h, nil
}

// readText reads what a unique pointer to a [string] of octets points to: the
// text without its terminator.
func readText(r *ndr.Reader, present bool) string {
	if !present {
		return ""
	}
	_, n := r.ConformantVarying(1)
	text := r.Octets(n)
	if n == 0 || r.Err() != nil {
		return ""
	}
	if text[n-1] != 0 {
		r.Fail("string without a terminator at its end")
		return ""
	}
	return string(text[:n-1])
}

func addrPort(addr string, port uint16) netip.AddrPort {
	a, err := netip.ParseAddr(addr)
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(a.Unmap(), port)
}

// readHello takes a whole hello off the stream. All that it read is cleared: it
// holds the key of the SMB session.
func readHello(conn io.Reader) (Hello, error) {
	var b [helloHead]byte
	defer clear(b[:])
	if _, err := io.ReadFull(conn, b[:4]); err != nil {
		return Hello{}, fmt.Errorf("npa: reading the hello: %w", err)
	}
	size := int64(binary.BigEndian.Uint32(b[:4]))
	if size > helloMost {
		return Hello{}, fmt.Errorf("%w: %d octets are more than %d", ErrHello, size, helloMost)
	}
	head := b[:min(4+size, helloHead)]
	if _, err := io.ReadFull(conn, head[4:]); err != nil {
		return Hello{}, fmt.Errorf("npa: reading the hello: %w", err)
	}
	h, err := ParseHello(head)
	if err != nil {
		return Hello{}, err
	}
	for rest := 4 + size - int64(len(head)); rest > 0; {
		n, err := conn.Read(b[:min(rest, helloHead)])
		if rest -= int64(n); err != nil && rest > 0 {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return Hello{}, fmt.Errorf("npa: reading the hello: %w", err)
		}
	}
	return h, nil
}
