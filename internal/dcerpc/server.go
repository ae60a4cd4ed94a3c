package dcerpc

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync/atomic"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/gss"
	"github.com/seed05845750/bkrp/internal/ndr"
)

// Server serves interfaces on connections that others accept for it. Its
// fields are not to change once it serves; its methods are safe for
// concurrent use.
type Server struct {
	// Interfaces are what clients may bind to.
	Interfaces []Interface
	// Acceptors make the security contexts, by the type that a client names
	// in its bind. A type that is not there is refused.
	Acceptors map[AuthType]gss.Acceptor
	// Limits bound each connection; the zero Limits are the defaults.
	Limits Limits
	// Log gets what is worth an operator's attention; nil drops it.
	Log *slog.Logger

	buffers buffers
	pending pending
}

// Interface is one interface that a Server serves.
type Interface struct {
	UUID         dtyp.GUID
	Major, Minor uint16
	// MinAuthLevel is what a call has to be protected with at least; less
	// gets FaultAccessDenied, its stub not decoded. Zero is LevelPrivacy;
	// LevelNone lets callers in without RPC authentication, for whom the
	// transport then has to answer. It lets LevelConnect in as well, where
	// nothing ties a call to him whom Call.Identity names: his logon may have
	// been relayed by someone who has no key of it.
	MinAuthLevel AuthLevel
	// Opnums is the number of methods: a greater operation number gets
	// FaultOpRange, as does what Handle says it of.
	Opnums uint16
	// NewState makes what Call.State holds, once for each connection that
	// calls the interface, such as its context handles; nil for none.
	NewState func() any
	// Handle executes a call and returns the stub of its response, in
	// Call.ResponseEncoding. The server clears the stub when it is sent, so it
	// may hold a secret but nothing that is needed later. As an error a Fault
	// is sent as it is, one that wraps ndr.ErrStub becomes FaultBadStubData,
	// and any other FaultUnspecified and a line in the log.
	Handle func(ctx context.Context, c *Call) (stub []byte, err error)
}

func (i *Interface) syntax() SyntaxID {
	return SyntaxID{UUID: i.UUID, Major: i.Major, Minor: i.Minor}
}

func (i *Interface) minLevel() AuthLevel {
	if i.MinAuthLevel == 0 {
		return LevelPrivacy
	}
	return i.MinAuthLevel
}

// Call is one call of a method. It, and what it refers to, is valid until
// Handle returns.
type Call struct {
	Opnum uint16
	// Stub is the parameters: unsealed, whole, without verification trailer.
	// Where there was one, the padding that brought the stub to a multiple of
	// 4 octets is still there: no one but the interface knows where its last
	// parameter ends.
	Stub []byte
	// Encoding is what Stub is encoded in.
	Encoding ndr.Encoding
	// Identity is the caller's, as the RPC security context says; without
	// one it is the transport's.
	Identity gss.Identity
	// AuthLevel is how the call was protected; LevelNone says that Identity
	// is the transport's.
	AuthLevel AuthLevel
	// Transport is the connection that the call came by.
	Transport *Transport
	// State is what Interface.NewState made for this connection.
	State any
}

// ResponseEncoding is what the response has to be encoded in: the call's
// transfer syntax, little-endian.
func (c *Call) ResponseEncoding() ndr.Encoding { return ndr.Encoding{NDR64: c.Encoding.NDR64} }

// Transport is what is known of the connection below: for a named pipe, of
// its SMB session.
type Transport struct {
	// Identity is whom the transport authenticated; zero for no one.
	Identity gss.Identity
	// SessionKey is the key that LSA secrets are encrypted with.
	SessionKey []byte
	// Encrypted says that the transport encrypts.
	Encrypted bool
	// Local and Remote are the addresses, nil if unknown.
	Local, Remote net.Addr
	// PipeName is the secondary address of bind_ack, `\PIPE\lsass` and the
	// like.
	PipeName string
	// LoggedOn, unless nil, is called when a logon to RPC has succeeded, for
	// transports that give clients only so long until then.
	LoggedOn func()
}

// ServeConn serves one connection, in the caller's goroutine, and closes it.
// It writes each PDU by one call of conn.Write; Read may deliver octets in
// pieces of any size. It returns nil when the peer ends the connection, ctx's
// error when ctx ends, an error that wraps ErrProtocol when the peer broke the
// protocol or a signature was wrong, and the acceptor's error when a logon was
// refused. ctx is also what handlers and acceptors get.
func (s *Server) ServeConn(ctx context.Context, conn io.ReadWriteCloser, t Transport) error {
	defer conn.Close()
	// Closing is what wakes a blocked Read or Write.
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	c := &serverConn{
		server:    s,
		limits:    s.Limits.withDefaults(),
		stream:    stream{conn: conn, buffers: &s.buffers},
		transport: t,
	}
	defer c.stream.release()
	defer c.dropRequest()
	err := c.serve(ctx)
	if c.overdue.Load() {
		err = violation("call in fragments not over after %v", c.limits.CallTime)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var refused *authError
	if errors.Is(err, ErrProtocol) || errors.As(err, &refused) {
		s.log().WarnContext(ctx, "rpc connection ended", "reason", err, "peer", t.Remote, "pipe", t.PipeName)
	}
	return err
}

func (s *Server) log() *slog.Logger {
	if s.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.Log
}

// serverConn is the server's end of one connection, used by one goroutine.
type serverConn struct {
	server    *Server
	limits    Limits
	stream    stream
	transport Transport

	bound            bool
	maxXmit, maxRecv int
	group            uint32
	contexts         map[uint16]*boundContext
	states           map[*Interface]any

	logon    logon
	security security

	request *request // of which fragments are missing, else nil
	overdue atomic.Bool
}

// boundContext is one presentation context: what the client agreed to call by
// its number.
type boundContext struct {
	iface    *Interface
	transfer SyntaxID
}

// serve answers PDU after PDU until the peer ends the connection or an error
// does, of which the peer is told.
func (c *serverConn) serve(ctx context.Context) error {
	for {
		h, pdu, err := c.stream.read(c.limit)
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = c.dispatch(ctx, h, pdu)
		}
		if err != nil {
			return errors.Join(err, c.sayWhy(h, err))
		}
	}
}

// limit is the longest PDU that may come: of calls, what was agreed; of
// binds, which cannot be cut into fragments, what the token may take.
func (c *serverConn) limit(h header) int {
	switch h.ptype {
	case pduBind, pduAlterContext, pduAuth3:
		return min(maxPDU, c.limits.MaxToken+c.limits.MaxFragment)
	}
	return max(c.maxRecv, minFragment)
}

func (c *serverConn) dispatch(ctx context.Context, h header, pdu []byte) error {
	if h.ptype != pduBind && !c.bound {
		return violation("PDU of type %d before a bind", h.ptype)
	}
	switch h.ptype {
	case pduBind:
		return c.bind(ctx, h, pdu)
	case pduAlterContext:
		return c.alterContext(ctx, h, pdu)
	case pduAuth3:
		return c.auth3(ctx, h, pdu)
	case pduRequest:
		return c.handleRequest(ctx, h, pdu)
	case pduOrphaned:
		if c.request != nil && c.request.callID == h.callID {
			c.dropRequest()
		}
		return nil
	case pduCancel:
		// The call is over, or it is not begun: calls are served in turn.
		return nil
	}
	return violation("PDU of type %d from a client", h.ptype)
}

// sayWhy tells the peer why the connection ends, in the form that its last PDU
// asks for. It says nothing of what is not the peer's doing.
func (c *serverConn) sayWhy(h header, why error) error {
	var refused *authError
	isRefusal := errors.As(why, &refused)
	switch {
	case !isRefusal && !errors.Is(why, ErrProtocol):
		return nil
	case errors.Is(why, errVersion):
		if h.ptype == pduBind {
			return c.sendNak(nakProtocolVersion, h.callID)
		}
		return nil
	case h.fragLength == 0 || h.ptype == pduAuth3:
		return nil
	case isRefusal && h.ptype == pduBind:
		return c.sendNak(refused.reason, h.callID)
	case isRefusal:
		return c.sendFault(FaultAccessDenied, 0, h.callID)
	case h.ptype == pduBind:
		return c.sendNak(nakNotSpecified, h.callID)
	case errors.Is(why, gss.ErrSignature):
		return c.sendFault(FaultSecPkgError, 0, h.callID)
	}
	return c.sendFault(FaultProtocol, 0, h.callID)
}

// reply builds a PDU in memory of the pool and sends it.
func (c *serverConn) reply(build func(b []byte) ([]byte, error)) error {
	loan := c.server.buffers.get(c.maxXmit)
	pdu, err := build((*loan)[:0])
	if err == nil {
		err = c.stream.write(pdu)
	}
	used := len(pdu)
	if used == 0 { // what was built of it cannot be told
		used = cap(*loan)
	}
	c.server.buffers.put(loan, used)
	return err
}

func (c *serverConn) sendFault(f Fault, contextID uint16, callID uint32) error {
	return c.reply(func(b []byte) ([]byte, error) { return finish(appendFault(b, f, contextID, callID), 0) })
}

func (c *serverConn) sendNak(reason nakReason, callID uint32) error {
	return c.reply(func(b []byte) ([]byte, error) { return finish(appendBindNak(b, reason, callID), 0) })
}

// newGroup draws the number of an association group. Nothing hangs on it:
// handles belong to their connection. It is random so that it tells nothing
// of other clients.
func newGroup() (uint32, error) {
	var b [4]byte
	if _, err := rand.Read(b[:]); err != nil {
		return 0, fmt.Errorf("dcerpc: drawing an association group: %w", err)
	}
	return binary.LittleEndian.Uint32(b[:]) | 1, nil
}
