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
	action, err := unwrapAction(blob)
	if err != nil {
		return nil, err
	}
	out, err := c.BackuprKey(ctx, action, blob)
	if err != nil || action == bkrp.ActionRestoreWin2K {
		return out, err
	}
	secret, err := bkrp.ParseUnwrapped(out)
	if err != nil {
		return nil, fmt.Errorf("%w: %v: %w", ErrResponse, action, err)
	}
	return secret, nil
}

// unwrapAction is the action that opens a blob, which is looked at before
// anybody is sent it. Errors wrap bkrp.ErrFormat.
func unwrapAction(blob []byte) (action bkrp.Action, err error) {
	switch version(blob) {
	case bkrp.ServerWrappedVersion:
		_, err = bkrp.ParseServerWrapped(blob)
		return bkrp.ActionRestoreWin2K, err
	case bkrp.ClientWrappedVersion2, bkrp.ClientWrappedVersion3:
		_, err = bkrp.ParseClientWrapped(blob)
		return bkrp.ActionRestore, err
	}
	return action, fmt.Errorf("bkrpclient: not a wrapped secret: %w", bkrp.ErrFormat)
}

// UnwrapCrossover has a ClientWrap blob opened by the action for ServerWrap
// blobs, for servers that have no other (3.1.4.1.2.2). The answer is encrypted
// under the nonce of the AccessCheck that the blob was made with, which only
// who made it knows; a wrong MAC is bkrp.ErrCrossoverMAC (W-2.2.6.1-05).
func (c *Client) UnwrapCrossover(ctx context.Context, blob, nonce []byte) ([]byte, error) {
	if err := checkCrossover(blob); err != nil {
		return nil, err
	}
	out, err := c.BackuprKey(ctx, bkrp.ActionRestoreWin2K, blob)
	if err != nil {
		return nil, err
	}
	secret, err := bkrp.OpenCrossover(out, nonce)
	if err != nil {
		return nil, fmt.Errorf("%w: %v: %w", ErrResponse, bkrp.ActionRestoreWin2K, err)
	}
	return secret, nil
}

func checkCrossover(blob []byte) error {
	action, err := unwrapAction(blob)
	if err == nil && action != bkrp.ActionRestore {
		err = fmt.Errorf("bkrpclient: not a secret wrapped by ClientWrap: %w", bkrp.ErrFormat)
	}
	return err
}

func version(blob []byte) uint32 {
	if len(blob) < 4 {
		return 0
	}
	return binary.LittleEndian.Uint32(blob)
}
