package bkrpclient

import (
	"context"
	"errors"
	"fmt"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/dtyp"
)

// Mode is where a secret is wrapped.
type Mode uint8

const (
	// ModeClient wraps here under the domain's public key (ClientWrap); the
	// secret does not travel. Its length is limited by the key: 205 octets for
	// version 2 and 181 for version 3 with a 2048-bit key.
	ModeClient Mode = iota
	// ModeServer has the server wrap the secret (ServerWrap), at any length the
	// server takes.
	ModeServer
	// ModeAuto is ModeClient when the secret is short enough for it and
	// ModeServer otherwise. It is no fall-back: when ModeClient is not to be
	// had, the call ends with an error, since whoever can make a call fail
	// could otherwise choose the subprotocol.
	ModeAuto
)

// WrapOptions say how to wrap; the zero value is ClientWrap, version 2, for the
// caller's own SID.
type WrapOptions struct {
	// Mode is where to wrap.
	Mode Mode
	// Version is that of ClientWrap, 2 or 3; 0 is 2 (C-3.2.4.1-06).
	Version uint32
	// SID is whom the secret will belong to; zero asks the server who the caller
	// is. ServerWrap always takes the caller's, and another one is
	// ErrOwner where that would be used.
	SID dtyp.SID
}

// ErrEmptySecret is a secret of no octets, which the protocol cannot wrap
//
var ErrEmptySecret = errors.New("bkrpclient: the secret is empty")

// ErrOwner is a secret that is to belong to somebody else than the caller, and that
// only the server could wrap, which does so for its caller alone.
var ErrOwner = errors.New("bkrpclient: the server wraps secrets for the caller alone")

// Wrap wraps secret so that only its owner can have it unwrapped. The blob is
// for the caller to keep; the server keeps nothing. A secret that is too long
// for ModeClient is an error that wraps bkrp.ErrSecretTooLong.
func (c *Client) Wrap(ctx context.Context, secret []byte, o WrapOptions) ([]byte, error) {
	if len(secret) == 0 {
		return nil, ErrEmptySecret
	}
	if o.Version == 0 {
		o.Version = bkrp.ClientWrappedVersion2
	}
	if o.Mode == ModeServer {
		return c.serverWrapFor(ctx, o.SID, secret)
	}
	cert, err := c.RetrieveKey(ctx)
	if err != nil {
		return nil, err
	}
	if o.Mode == ModeAuto && len(secret) > bkrp.MaxClientSecret(cert.PublicKey.Size(), o.Version) {
		return c.serverWrapFor(ctx, o.SID, secret)
	}
	sid := o.SID
	if sid.IsZero() {
		if sid, err = c.SID(ctx); err != nil {
			return nil, fmt.Errorf("asking the server for the caller's SID: %w", err)
		}
	}
	return bkrp.WrapClient(cert, sid, secret, o.Version)
}

// serverWrapFor is serverWrap for an owner, who has to be the caller; zero is.
func (c *Client) serverWrapFor(ctx context.Context, owner dtyp.SID, secret []byte) ([]byte, error) {
	if !owner.IsZero() {
		caller, err := c.SID(ctx)
		if err != nil {
			return nil, fmt.Errorf("asking the server for the caller's SID: %w", err)
		}
		if caller != owner {
			return nil, fmt.Errorf("%w, who is %v and not %v", ErrOwner, caller, owner)
		}
	}
	return c.serverWrap(ctx, secret)
}

// serverWrap has the server wrap secret. What it gives is looked at before the
// caller lets go of the secret: an answer that is no blob cannot be unwrapped.
func (c *Client) serverWrap(ctx context.Context, secret []byte) ([]byte, error) {
	blob, err := c.BackuprKey(ctx, bkrp.ActionBackup, secret)
	if err != nil {
		return nil, err
	}
	if _, err := bkrp.ParseServerWrapped(blob); err != nil {
		return nil, fmt.Errorf("%w: %v: %w", ErrResponse, bkrp.ActionBackup, err)
	}
	return blob, nil
}
