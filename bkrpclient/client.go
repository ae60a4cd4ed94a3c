package bkrpclient

import (
	"context"
	"errors"
	"fmt"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/backuprkey"
	"github.com/seed05845750/bkrp/internal/dcerpc"
	"github.com/seed05845750/bkrp/internal/gss"
	"github.com/seed05845750/bkrp/internal/gss/spnego"
	"github.com/seed05845750/bkrp/internal/smbclient"
)

// Client is a logged-on connection to one BackupKey server. It is safe for
// concurrent use; calls on one Client run one after the other, and one whose
// context ends before its turn has come returns then. After a context has ended
// under a call the connection is of no more use, and later calls return ErrClosed.
// Servers refuse calls when the logon has expired, with Kerberos after some hours,
// with its ticket: dial anew then. A Domain does so by itself.
type Client struct {
	cfg  Config
	host string
	rpc  gss.Initiator

	turn chan struct{}      // holds a token while a call has what follows
	t    *smbclient.Session // nil when closed
	call *dcerpc.Client
	sid  dtyp.SID
}

// Dial connects to cfg.Server, logs on, and binds to the BackupKey interface.
// errors.Is(err, ErrLogon) tells a refused logon.
func Dial(ctx context.Context, cfg Config) (*Client, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	host, address, _ := cfg.address()
	return dialAt(ctx, cfg, host, address)
}

// dialAt is Dial to the server called host, at an address of its.
func dialAt(ctx context.Context, cfg Config, host, address string) (*Client, error) {
	ctx, cancel := context.WithTimeout(ctx, cfg.timeout())
	defer cancel()
	c := &Client{cfg: cfg, host: host, turn: make(chan struct{}, 1)}
	mech, err := mechanism(ctx, &cfg, host)
	if err != nil {
		return nil, inTime(ctx, err)
	}
	c.rpc = spnego.NewInitiator(mech)
	t, err := smbclient.Dial(ctx, smbclient.Config{
		Host: host, Address: address, Initiator: mech.Initiator, Mechanism: mech.OIDs[0],
	})
	if errors.Is(err, smbclient.ErrLogon) {
		err = fmt.Errorf("%w (%w)", ErrLogon, err)
	}
	if err != nil {
		return nil, inTime(ctx, err)
	}
	c.t = t
	stop := t.Watch(ctx)
	err = c.bind(ctx)
	stop()
	if err == nil {
		// It may have ended just when all was done, and the connection with it.
		err = context.Cause(ctx)
	}
	if err != nil {
		t.Close()
		return nil, inTime(ctx, err)
	}
	return c, nil
}

// bind opens the pipes in their order until one of them takes the bind
// (C-3.2.4-05).
func (c *Client) bind(ctx context.Context) error {
	var errs []error
	for _, name := range c.cfg.pipes() {
		call, err := c.bindPipe(ctx, name, dcerpc.SyntaxID{
			UUID: backuprkey.InterfaceUUID, Major: backuprkey.VersionMajor, Minor: backuprkey.VersionMinor,
		}, c.cfg.NDR64)
		if err == nil {
			c.call = call
			return nil
		}
		c.cfg.logger().DebugContext(ctx, "pipe did not take the bind", "pipe", name, "error", err)
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

// bindPipe opens one pipe and binds to an interface on it with SPNEGO and
// packet privacy (C-3.2.4-08, C-3.2.4-09).
func (c *Client) bindPipe(ctx context.Context, name string, iface dcerpc.SyntaxID, ndr64 bool) (*dcerpc.Client, error) {
	p, err := c.t.OpenPipe(name)
	if err != nil {
		return nil, err
	}
	call := dcerpc.NewClient(p, dcerpc.ClientConfig{
		Interface: iface,
		AuthType:  dcerpc.AuthSPNEGO,
		Level:     dcerpc.LevelPrivacy,
		Initiator: c.rpc,
		Target:    "host/" + c.host,
		NDR64:     ndr64,
	})
	if err := call.Bind(ctx); err != nil {
		p.Close()
		return nil, fmt.Errorf("binding on pipe %s: %w", name, err)
	}
	return call, nil
}

// Close logs off and closes the connection. It waits for a call that runs; who
// does not want to ends that call's context.
func (c *Client) Close() error {
	c.turn <- struct{}{}
	defer func() { <-c.turn }()
	if c.t == nil {
		return nil
	}
	err := c.t.Close()
	c.t, c.call = nil, nil
	return err
}

// RetrieveKey fetches the domain's public key (3.1.4.1.3) and checks that every
// field of it can be read (C-3.2.4.1-04). Dates and signature are not judged:
// the key came over an authenticated channel, and it is used for ever (A-29,
//
func (c *Client) RetrieveKey(ctx context.Context) (*bkrp.Certificate, error) {
	out, err := c.BackuprKey(ctx, bkrp.ActionRetrieve, nil)
	if err != nil {
		return nil, err
	}
	cert, err := bkrp.ParseCertificate(out)
	if err != nil {
		return nil, fmt.Errorf("%w: reading the domain's certificate: %w", ErrResponse, err)
	}
	return cert, nil
}

// BackuprKey makes one call of the protocol's one method, with dwParam 0
// (C-3.2.4-16), and returns what the server answered. A nonzero answer is a
// *ServerError.
func (c *Client) BackuprKey(ctx context.Context, action bkrp.Action, in []byte) ([]byte, error) {
	var out []byte
	err := c.do(ctx, func(ctx context.Context) error {
		enc := c.call.Encoding()
		req := backuprkey.Request{Action: dtyp.GUID(action), Data: in}
		question := req.Append(nil, enc)
		defer clear(question)
		stub, err := c.call.Call(ctx, backuprkey.Opnum, question)
		if errors.Is(err, dcerpc.FaultNoMemory) && len(in) > 0 {
			return fmt.Errorf("%w: %v with %d octets: %w", ErrTooLarge, action, len(in), err)
		}
		if err != nil {
			return fmt.Errorf("calling %v: %w", action, err)
		}
		defer clear(stub)
		res, err := backuprkey.ParseResponse(stub, enc)
		if err != nil {
			return fmt.Errorf("%w: %v: %w", ErrResponse, action, err)
		}
		if res.Status != 0 {
			return &ServerError{Action: action, Status: bkrp.Status(res.Status)}
		}
		out = append([]byte(nil), res.Data...)
		return nil
	})
	return out, err
}

// do runs one call at a time, within the time of its context, and gives up the
// connection when that has passed: an answer that comes later would be taken
// for the next call's, and where one has come just in time the connection is cut
// all the same.
func (c *Client) do(ctx context.Context, f func(context.Context) error) error {
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if c.t == nil {
		return ErrClosed
	}
	if ctx.Err() != nil { // and nothing has been sent yet
		return context.Cause(ctx)
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.cfg.timeout())
		defer cancel()
	}
	stop := c.t.Watch(ctx)
	err := f(ctx)
	stop()
	if ctx.Err() != nil {
		c.t.Abandon()
		c.t, c.call = nil, nil
	}
	if err != nil {
		return inTime(ctx, err)
	}
	return nil
}

// inTime says that the time was up, where that is what ended a call.
func inTime(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		return fmt.Errorf("%w: %w", cause, err)
	}
	return err
}
