package dcerpc

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/seed05845750/bkrp/internal/gss"
	"github.com/seed05845750/bkrp/internal/ndr"
)

// ErrBind is what the error of a bind wraps that the server refused.
var ErrBind = errors.New("dcerpc: bind refused")

// ClientConfig says what a Client binds to and how.
type ClientConfig struct {
	// Interface is what the methods of are called.
	Interface SyntaxID
	// Initiator makes the security context; nil calls without RPC
	// authentication.
	Initiator gss.Initiator
	// AuthType is what Initiator speaks; zero is AuthSPNEGO.
	AuthType AuthType
	// Level is how calls are protected; zero is LevelPrivacy.
	Level AuthLevel
	// Target is the service principal name that Initiator is given.
	Target string
	// NDR64 offers NDR64 beside NDR; a server that has it will take it.
	NDR64 bool
	// MaxFragment is the longest fragment that is agreed on, in octets, from
	// 1432 to 65535; zero is 4280.
	MaxFragment int
	// MaxResponse is the longest stub of a response that is accepted, in
	// octets; zero is 4 MiB.
	MaxResponse int
}

// Client is the client's end of one connection, bound to one interface. It is
// used by one goroutine at a time. Once Bind returns an error, or Call one that
// is not a Fault, the connection is of no more use.
type Client struct {
	cfg     ClientConfig
	stream  stream
	buffers buffers
	err     error

	maxXmit, maxRecv int
	group            uint32
	contextID        uint16
	transfer         SyntaxID
	security         security
	callID           uint32
}

// errNotBound is a call before Bind has succeeded.
var errNotBound = errors.New("dcerpc: call before a bind")

// NewClient makes a client of conn, which it closes by Close. Each PDU is
// written by one call of conn.Write.
func NewClient(conn io.ReadWriteCloser, cfg ClientConfig) *Client {
	if cfg.AuthType == 0 {
		cfg.AuthType = AuthSPNEGO
	}
	if cfg.Level == 0 {
		cfg.Level = LevelPrivacy
	}
	if cfg.MaxFragment == 0 {
		cfg.MaxFragment = Limits{}.withDefaults().MaxFragment
	}
	if cfg.MaxResponse == 0 {
		cfg.MaxResponse = Limits{}.withDefaults().MaxRequest
	}
	cfg.MaxFragment = min(max(cfg.MaxFragment, minFragment), maxPDU)
	c := &Client{cfg: cfg, err: errNotBound, maxXmit: cfg.MaxFragment, maxRecv: cfg.MaxFragment}
	c.stream = stream{conn: conn, buffers: &c.buffers}
	return c
}

// Encoding is what stubs are encoded in, both ways; it is known after Bind. A
// response may be in the other byte order all the same: Call refuses that.
func (c *Client) Encoding() ndr.Encoding { return ndr.Encoding{NDR64: c.transfer == syntaxNDR64} }

// Close closes the connection.
func (c *Client) Close() error {
	c.stream.release()
	return c.stream.conn.Close()
}

// limit is the longest PDU that the server may send: a token may take more
// than a fragment.
func (c *Client) limit(h header) int {
	switch h.ptype {
	case pduBindAck, pduAlterContextResp:
		return maxPDU
	}
	return c.maxRecv
}

// until runs f, which a canceled ctx ends by closing the connection. What
// goes wrong stays wrong, but for a fault.
func (c *Client) until(ctx context.Context, f func() error) error {
	stop := context.AfterFunc(ctx, func() { c.stream.conn.Close() })
	defer stop()
	defer c.stream.release()
	err := f()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	var fault Fault
	if !errors.As(err, &fault) {
		c.err = err
	}
	return err
}

// receive reads the answer to the PDUs of the present call. A fault, an
// answer of another call and a cut connection are errors.
func (c *Client) receive() (header, []byte, error) {
	h, pdu, err := c.stream.read(c.limit)
	switch {
	case err == io.EOF:
		return header{}, nil, fmt.Errorf("dcerpc: reading a PDU: %w", io.ErrUnexpectedEOF)
	case err != nil:
		return header{}, nil, err
	case h.callID != c.callID:
		return header{}, nil, violation("answer to call %d in call %d", h.callID, c.callID)
	case h.ptype != pduFault:
		return h, pdu, nil
	}
	// A fault may come unsigned at any level: Samba never signs one, Windows
	// does. One that is forged ends a call, as cutting the connection would.
	if h.authLength > 0 {
		if _, err := c.security.unprotect(h, pdu, faultSize); err != nil {
			return header{}, nil, err
		}
	}
	f, err := parseFault(h, pdu)
	if err != nil {
		return header{}, nil, err
	}
	return header{}, nil, f
}
