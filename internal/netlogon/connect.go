package netlogon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/seed05845750/bkrp/internal/dcerpc"
)

// maxResponseStub bounds what the domain controller answers, in octets: a user
// may be in some thousand groups.
const maxResponseStub = 1 << 20

// connect makes a channel, with a session key of its own: what is sealed is
// numbered from 0 on in each connection, and an answer does not say to which
// request, so that under one key for two of them, as the protocol allows it, a
// verdict of the one could be replayed in the other.
func (c *Client) connect(ctx context.Context) (*channel, error) {
	address, err := c.address(ctx)
	if err != nil {
		return nil, err
	}
	key, err := c.agree(ctx, address)
	if err != nil {
		return nil, err
	}
	rpc, err := c.bind(ctx, address, key)
	if err != nil {
		return nil, err
	}
	return &channel{rpc}, nil
}

// address is that of Netlogon over TCP.
func (c *Client) address(ctx context.Context) (string, error) {
	if _, _, err := net.SplitHostPort(c.cfg.Server); err == nil {
		return c.cfg.Server, nil
	}
	rpc, err := c.bound(ctx, net.JoinHostPort(c.cfg.Server, endpointPort), dcerpc.ClientConfig{Interface: endpointMapper()})
	if err != nil {
		return "", err
	}
	defer rpc.Close()
	port, err := askPort(ctx, rpc)
	if err != nil {
		return "", err
	}
	return net.JoinHostPort(c.cfg.Server, strconv.Itoa(int(port))), nil
}

// agree makes a session key.
func (c *Client) agree(ctx context.Context, address string) (sessionKey, error) {
	hash, err := readHash(c.cfg.PasswordFile)
	if err != nil {
		return sessionKey{}, err
	}
	defer clear(hash[:])
	rpc, err := c.bound(ctx, address, dcerpc.ClientConfig{Interface: netlogonInterface()})
	if err != nil {
		return sessionKey{}, err
	}
	defer rpc.Close()
	return authenticate(ctx, rpc, machine{account: c.cfg.Account, computer: c.computer, hash: hash})
}

// bind makes a connection that key protects.
func (c *Client) bind(ctx context.Context, address string, key sessionKey) (*dcerpc.Client, error) {
	return c.bound(ctx, address, dcerpc.ClientConfig{
		Interface: netlogonInterface(),
		Initiator: &initiator{key: key, domain: c.cfg.NetBIOSDomain, computer: c.computer},
		AuthType:  dcerpc.AuthNetlogon,
		Level:     dcerpc.LevelPrivacy,
	})
}

// bound is a connection that is bound.
func (c *Client) bound(ctx context.Context, address string, cfg dcerpc.ClientConfig) (*dcerpc.Client, error) {
	cfg.MaxResponse = maxResponseStub
	conn, err := c.dial(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("netlogon: reaching %s: %w", address, err)
	}
	rpc := dcerpc.NewClient(conn, cfg)
	if err := rpc.Bind(ctx); err != nil {
		return nil, errors.Join(err, rpc.Close())
	}
	return rpc, nil
}
