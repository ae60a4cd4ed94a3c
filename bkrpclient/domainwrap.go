package bkrpclient

import (
	"context"
	"fmt"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/dtyp"
)

// Wrap wraps secret so that only its owner can have it unwrapped (3.2.4.1).
// With the domain's public key and the caller's SID at hand nobody is asked. A
// secret that is too long for ModeClient is an error that wraps
// bkrp.ErrSecretTooLong.
func (d *Domain) Wrap(ctx context.Context, secret []byte, o WrapOptions) ([]byte, error) {
	if len(secret) == 0 {
		return nil, ErrEmptySecret
	}
	if o.Version == 0 {
		o.Version = d.cfg.Version
	}
	r := newRecord(ctx)
	if o.Mode == ModeServer {
		return d.serverWrapFor(ctx, r, o.SID, secret)
	}
	if o.Version != bkrp.ClientWrappedVersion2 && o.Version != bkrp.ClientWrappedVersion3 {
		return nil, fmt.Errorf("%w: %d", bkrp.ErrVersion, o.Version)
	}
	cert, err := d.publicKey(ctx, r, o.SID)
	switch {
	case err == nil:
	case !d.cfg.FallBack || final(ctx, err) || hopeless(err):
		return nil, err
	default: // C-3.2.4.1-03, C-3.2.4.1-20
		d.cfg.Client.logger().WarnContext(ctx, "the domain's public key cannot be fetched; the secret goes to a server", "domain", d.cfg.Domain, "error", err)
		return d.serverWrapFor(ctx, r, o.SID, secret)
	}
	if o.Mode == ModeAuto && len(secret) > bkrp.MaxClientSecret(cert.PublicKey.Size(), o.Version) {
		return d.serverWrapFor(ctx, r, o.SID, secret)
	}
	if o.SID.IsZero() && len(secret) <= bkrp.MaxClientSecret(cert.PublicKey.Size(), o.Version) {
		if o.SID, err = d.callerSID(ctx, r); err != nil {
			return nil, fmt.Errorf("asking for the caller's SID: %w", err)
		}
	}
	return bkrp.WrapClient(cert, o.SID, secret, o.Version)
}

// serverWrapFor is serverWrap for an owner, who has to be the caller; zero is.
func (d *Domain) serverWrapFor(ctx context.Context, r *record, owner dtyp.SID, secret []byte) ([]byte, error) {
	if !owner.IsZero() {
		caller, err := d.callerSID(ctx, r)
		if err != nil {
			return nil, fmt.Errorf("asking for the caller's SID: %w", err)
		}
		if caller != owner {
			return nil, fmt.Errorf("%w, who is %v and not %v", ErrOwner, caller, owner)
		}
	}
	return d.serverWrap(ctx, r, secret)
}

// serverWrap has a domain controller wrap the secret.
func (d *Domain) serverWrap(ctx context.Context, r *record, secret []byte) (blob []byte, err error) {
	err = d.do(ctx, r, bkrp.ActionBackup.String(), func(ctx context.Context, c *Client) (err error) {
		blob, err = c.serverWrap(ctx, secret)
		return err
	})
	return blob, err
}
