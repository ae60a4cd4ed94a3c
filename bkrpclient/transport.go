package bkrpclient

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
)

// transport is a logged-on SMB session with IPC$ mounted.
type transport struct {
	conn    net.Conn
	session *smb2.Session
	share   *smb2.Share

	// mu orders the closing of pipes and of the session: after a logoff the
	// SMB library waits for ever to send anything more.
	mu     sync.Mutex
	closed bool
}

// dialTransport connects, negotiates SMB 2 or 3 with signing, and logs on.
func dialTransport(ctx context.Context, cfg *Config, mech gss.Initiator) (*transport, error) {
	host, hostport := cfg.address()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", hostport)
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", hostport, err)
	}
	t := &transport{conn: conn}
	stop := t.watch(ctx)
	defer stop()
	logon := &smbInitiator{ctx: ctx, exchange: mech.Initiate(gss.InitiateOptions{
		Target: "cifs/" + host,
		Flags:  gss.Mutual | gss.Integrity | gss.Sequence | gss.Confidentiality,
	})}
	d := &smb2.Dialer{
		Negotiator: smb2.Negotiator{RequireMessageSigning: true},
		Initiator:  logon,
	}
	t.session, err = d.DialConn(ctx, conn, host)
	if err != nil {
		conn.Close()
		if logon.err != nil {
			err = logon.err
		}
		return nil, fmt.Errorf("logging on to %s: %w", hostport, logonError(err))
	}
	t.share, err = t.session.WithContext(ctx).Mount("IPC$")
	if err != nil {
		t.close()
		return nil, fmt.Errorf("connecting to IPC$ of %s: %w", hostport, err)
	}
	return t, nil
}

// The codes of [MS-ERREF] 2.3 by which a server refuses a logon.
var logonStatus = []uint32{
	0xC0000022, // STATUS_ACCESS_DENIED
	0xC000006D, // STATUS_LOGON_FAILURE
	0xC000006E, // STATUS_ACCOUNT_RESTRICTION
	0xC0000064, // STATUS_NO_SUCH_USER
	0xC000006A, // STATUS_WRONG_PASSWORD
	0xC0000071, // STATUS_PASSWORD_EXPIRED
	0xC0000072, // STATUS_ACCOUNT_DISABLED
	0xC0000193, // STATUS_ACCOUNT_EXPIRED
	0xC0000234, // STATUS_ACCOUNT_LOCKED_OUT
}

// logonError marks a refused logon as ErrLogon and leaves other errors alone.
func logonError(err error) error {
	var re *smb2.ResponseError
	if errors.As(err, &re) {
		for _, s := range logonStatus {
			if re.Code == s {
				return fmt.Errorf("%w (%w)", ErrLogon, err)
			}
		}
	}
	return err
}

// openPipe opens a named pipe for reading and writing messages. The library
// asks for the impersonation level of C-3.2.4-10 by itself.
func (t *transport) openPipe(name string) (*pipe, error) {
	// The library would keep a context given here for all later reads and
	// writes; watch ends each call with its own instead.
	f, err := t.share.OpenFile(name, os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening pipe %s: %w", name, err)
	}
	// A file that is collected before it was closed would be closed by the
	// library on the goroutine of all finalizers, which then waits for a
	// server that may be gone. The end of the session closes it as well.
	runtime.SetFinalizer(f, nil)
	p := &pipe{transport: t, file: f}
	p.in = bufio.NewReaderSize(messages{f}, maxPDU)
	return p, nil
}

// watch ends everything on the connection when ctx does: the SMB library waits
// for answers without a context of its own once a pipe is open. stop ends the
// watch.
func (t *transport) watch(ctx context.Context) (stop func()) {
	cancel := context.AfterFunc(ctx, func() { t.conn.SetDeadline(time.Unix(1, 0)) })
	return func() { cancel() }
}

func (t *transport) close() error {
	// A courtesy to the server, bounded because it may be gone.
	t.conn.SetDeadline(time.Now().Add(time.Second))
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	if t.session != nil {
		t.session.Logoff() // closes the connection as well
	}
	if err := t.conn.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// maxPDU is the longest RPC PDU, in octets.
const maxPDU = 1 << 16

// pipe is an open named pipe: each Write is one message. What is read is a
// stream: the SMB library gives up a message that does not fit into what a
// single read asks for, so each read asks for the longest there can be.
type pipe struct {
	transport *transport
	file      *smb2.File
	in        *bufio.Reader
}

func (p *pipe) Read(b []byte) (int, error)  { return p.in.Read(b) }
func (p *pipe) Write(b []byte) (int, error) { return p.file.WriteAt(b, 0) }

func (p *pipe) Close() error {
	p.transport.mu.Lock()
	defer p.transport.mu.Unlock()
	if p.transport.closed {
		return nil
	}
	return p.file.Close()
}

// messages reads a pipe, whose offsets mean nothing, message by message.
type messages struct{ file *smb2.File }

func (m messages) Read(b []byte) (int, error) { return m.file.ReadAt(b, 0) }

// smbInitiator lets the SMB library log on by one of our mechanisms; the
// library wraps the mechanism's tokens in SPNEGO itself.
type smbInitiator struct {
	ctx      context.Context
	exchange gss.Exchange
	context  gss.Context
	err      error
}

func (i *smbInitiator) OID() asn1.ObjectIdentifier { return spnego.NTLM() }

func (i *smbInitiator) InitSecContext() ([]byte, error) { return i.step(nil) }

func (i *smbInitiator) AcceptSecContext(token []byte) ([]byte, error) { return i.step(token) }

func (i *smbInitiator) step(token []byte) ([]byte, error) {
	out, sc, err := i.exchange.Step(i.ctx, token)
	if err != nil {
		i.err = err
		return nil, err
	}
	if sc != nil {
		i.context = sc
	}
	return out, nil
}

// Sum signs the list of mechanisms; the library asks only once the mechanism
// is through.
func (i *smbInitiator) Sum(b []byte) []byte {
	if i.context == nil {
		return nil
	}
	mic, err := i.context.Sign(nil, b)
	if err != nil {
		i.err = err
		return nil
	}
	return mic
}

func (i *smbInitiator) SessionKey() []byte {
	if i.context == nil {
		return nil
	}
	return i.context.SessionKey()
}
