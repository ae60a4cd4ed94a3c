// Package smbclient opens named pipes on an SMB server: a logged-on session
// with IPC$, over an SMB library, with our own security mechanisms. RPC runs on
// the pipes in package dcerpc.
package smbclient

import (
	"bufio"
	"context"
	"encoding/asn1"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/cloudsoda/go-smb2"

	"github.com/seed05845750/bkrp/internal/gss"
	"github.com/seed05845750/bkrp/internal/gss/spnego"
	smbserver "github.com/seed05845750/bkrp/internal/smb2"
)

// Config says where a session goes, and how.
type Config struct {
	// Host is the server's name, for its service principal.
	Host string
	// Address is its host:port.
	Address string
	// Initiator proves who logs on, by the mechanism that SPNEGO calls
	// Mechanism; NTLM if that is nil.
	Initiator gss.Initiator
	Mechanism asn1.ObjectIdentifier
	// Encrypt has every message after the logon encrypted, whether or not the
	// server asks for it, and gives up a server that answers in the clear. The
	// dialect is then 3.0.2 and no other.
	Encrypt bool
}

// ErrLogon is a logon that the server refused; errors.Is finds it.
var ErrLogon = errors.New("smbclient: logon refused by the server")

// Session is a logged-on SMB session with IPC$ mounted.
type Session struct {
	conn    net.Conn
	session *smb2.Session
	share   *smb2.Share
	key     []byte

	// mu orders the closing of pipes and of the session: after a logoff the
	// SMB library waits for ever to send anything more.
	mu     sync.Mutex
	closed bool
}

// Dial connects, negotiates SMB 2 or 3 with signing, and logs on.
func Dial(ctx context.Context, cfg Config) (*Session, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", cfg.Address, err)
	}
	s := &Session{conn: conn}
	stop := s.Watch(ctx)
	defer stop()
	oid := cfg.Mechanism
	if oid == nil {
		oid = spnego.NTLM()
	}
	l := &logon{ctx: ctx, oid: oid, exchange: cfg.Initiator.Initiate(gss.InitiateOptions{
		Target: "cifs/" + cfg.Host,
		Flags:  gss.Mutual | gss.Integrity | gss.Sequence | gss.Confidentiality,
	})}
	if err := s.logOn(ctx, &cfg, l); err != nil {
		s.conn.Close()
		if l.err != nil {
			err = l.err
		}
		return nil, fmt.Errorf("logging on to %s: %w", cfg.Address, logonError(err))
	}
	err = guarded(func() (err error) {
		s.share, err = s.session.WithContext(ctx).Mount("IPC$")
		return err
	})
	if err != nil {
		s.Close()
		hint := ""
		if cfg.Encrypt && !errors.As(err, new(*smb2.ResponseError)) {
			hint = " (a server that has SMB encryption switched off ends the connection here)"
		}
		return nil, fmt.Errorf("connecting to IPC$ of %s%s: %w", cfg.Address, hint, err)
	}
	return s, nil
}

func (s *Session) logOn(ctx context.Context, cfg *Config, l *logon) (err error) {
	d := &smb2.Dialer{
		Negotiator: smb2.Negotiator{RequireMessageSigning: true},
		Initiator:  l,
	}
	var conn net.Conn = &checkedConn{Conn: s.conn}
	var sealing *sealedConn
	if cfg.Encrypt {
		d.Negotiator.SpecifiedDialect = uint16(smbserver.Dialect302)
		sealing = &sealedConn{Conn: conn}
		conn = sealing
	}
	err = guarded(func() (err error) {
		s.session, err = d.DialConn(ctx, conn, cfg.Host)
		return err
	})
	if err != nil || sealing == nil {
		return err
	}
	keys, err := smbserver.NewClientSession(l.SessionKey())
	if err != nil {
		return err
	}
	s.key = keys.ApplicationKey()
	sealing.session.Store(keys)
	return nil
}

// SessionKey is the key by which LSA secrets are encrypted on this session,
// nil on one that is not encrypted.
func (s *Session) SessionKey() []byte { return s.key }

// OpenPipe opens a named pipe for reading and writing messages. The library
// asks for the impersonation level of [MS-BKRP] 3.2.4 by itself.
func (s *Session) OpenPipe(name string) (*Pipe, error) {
	// The library would keep a context given here for all later reads and
	// writes; Watch ends each call with its own instead.
	var f *smb2.File
	err := guarded(func() (err error) {
		f, err = s.share.OpenFile(name, os.O_RDWR, 0o600)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("opening pipe %s: %w", name, err)
	}
	// A file that is collected before it was closed would be closed by the
	// library on the goroutine of all finalizers, which then waits for a
	// server that may be gone. The end of the session closes it as well.
	runtime.SetFinalizer(f, nil)
	p := &Pipe{session: s, file: f}
	p.in = bufio.NewReaderSize(messages{f}, maxPDU)
	return p, nil
}

// Watch ends everything on the connection when ctx does: the SMB library waits
// for answers without a context of its own once a pipe is open. stop ends the
// watch.
func (s *Session) Watch(ctx context.Context) (stop func()) {
	cancel := context.AfterFunc(ctx, func() { s.conn.SetDeadline(time.Unix(1, 0)) })
	return func() { cancel() }
}

// Abandon closes the connection without a word to the server.
func (s *Session) Abandon() { s.conn.Close() }

// Close logs off and closes the connection.
func (s *Session) Close() error {
	// A courtesy to the server, bounded because it may be gone.
	s.conn.SetDeadline(time.Now().Add(time.Second))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.session != nil {
		guarded(s.session.Logoff) // closes the connection as well
	}
	if err := s.conn.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// maxPDU is the longest RPC PDU, in octets.
const maxPDU = 1 << 16

// Pipe is an open named pipe: each Write is one message. What is read is a
// stream: the SMB library gives up a message that does not fit into what a
// single read asks for, so each read asks for the longest there can be. Close may
// be called at any time, and ends a Read or Write that is under way.
type Pipe struct {
	session *Session
	file    *smb2.File
	in      *bufio.Reader

	mu      sync.Mutex // guards what follows
	running int        // reads and writes under way
	closed  bool
}

// Read reads some of what the server has written.
func (p *Pipe) Read(b []byte) (int, error) {
	if err := p.begin(); err != nil {
		return 0, err
	}
	defer p.end()
	return p.in.Read(b)
}

// Write writes one message.
func (p *Pipe) Write(b []byte) (n int, err error) {
	if err := p.begin(); err != nil {
		return 0, err
	}
	defer p.end()
	err = guarded(func() (err error) {
		n, err = p.file.WriteAt(b, 0)
		return err
	})
	return n, err
}

func (p *Pipe) begin() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return net.ErrClosed
	}
	p.running++
	return nil
}

func (p *Pipe) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running--
}

// Close closes the pipe. One that is in use takes the whole session with it: the
// SMB library forgets the number of a file that it closes, which a read or write
// at the same time would do without and panic.
func (p *Pipe) Close() error {
	p.mu.Lock()
	done, busy := p.closed, p.running > 0
	p.closed = true
	p.mu.Unlock()
	switch {
	case done:
		return nil
	case busy:
		return p.session.conn.SetDeadline(time.Unix(1, 0))
	}
	p.session.mu.Lock()
	defer p.session.mu.Unlock()
	if p.session.closed {
		return nil
	}
	return guarded(p.file.Close)
}

// messages reads a pipe, whose offsets mean nothing, message by message.
type messages struct{ file *smb2.File }

func (m messages) Read(b []byte) (n int, err error) {
	err = guarded(func() (err error) {
		n, err = m.file.ReadAt(b, 0)
		return err
	})
	return n, err
}
