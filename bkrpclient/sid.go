package bkrpclient

import (
	"context"
	"errors"
	"fmt"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/lsaclient"
)

// SID asks the server who the caller is: LsarGetUserName and LsarLookupNames on
// the LSA pipe. The answer is kept for the life of the Client.
func (c *Client) SID(ctx context.Context) (dtyp.SID, error) {
	var sid dtyp.SID
	err := c.do(ctx, func(ctx context.Context) error {
		if c.sid.IsZero() {
			var err error
			if c.sid, err = c.lookupSelf(ctx); err != nil {
				return err
			}
		}
		sid = c.sid
		return nil
	})
	return sid, err
}

func (c *Client) lookupSelf(ctx context.Context) (dtyp.SID, error) {
	rpc, err := c.bindPipe(ctx, lsaclient.Pipe, lsaclient.Interface(), false)
	if err != nil {
		return dtyp.SID{}, err
	}
	defer rpc.Close()
	sid, err := lsaclient.New(rpc, nil).Self(ctx)
	if errors.Is(err, lsaclient.ErrResponse) {
		err = fmt.Errorf("%w: %w", ErrResponse, err)
	}
	return sid, err
}
