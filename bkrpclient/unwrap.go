package bkrpclient

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/seed05845750/bkrp"
)

// Unwrap has the server open a blob of either subprotocol for the caller. The
// first word of the blob decides which action that is (C-3.2.4-20).
func (c *Client) Unwrap(ctx context.Context, blob []byte) ([]byte, error) {
	switch version(blob) {
	case bkrp.ServerWrappedVersion:
		if _, err := bkrp.ParseServerWrapped(blob); err != nil {
			return nil, err
		}
		return c.BackuprKey(ctx, bkrp.ActionRestoreWin2K, blob)
	case bkrp.ClientWrappedVersion2, bkrp.ClientWrappedVersion3:
		if _, err := bkrp.ParseClientWrapped(blob); err != nil {
			return nil, err
		}
		out, err := c.BackuprKey(ctx, bkrp.ActionRestore, blob)
		if err != nil {
			return nil, err
		}
		secret, err := bkrp.ParseUnwrapped(out)
		if err != nil {
			return nil, fmt.Errorf("%w: %v: %w", ErrResponse, bkrp.ActionRestore, err)
		}
		return secret, nil
	}
	return nil, fmt.Errorf("bkrpclient: not a wrapped secret: %w", bkrp.ErrFormat)
}

func version(blob []byte) uint32 {
	if len(blob) < 4 {
		return 0
	}
	return binary.LittleEndian.Uint32(blob)
}
