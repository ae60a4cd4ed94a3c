package lsaclient

import (
	"context"

	"github.com/seed05845750/bkrp/internal/ndr"
)

// Access to a policy ([MS-LSAD] 2.2.1.1.2).
const (
	PolicyGetPrivateInformation = 0x00000004
	PolicyCreateSecret          = 0x00000020
	PolicyLookupNames           = 0x00000800
)

// [MS-LSAD] 3.1.4.4.1 LsarOpenPolicy2, with the access that is wanted.
func (c *Client) OpenPolicy(ctx context.Context, access uint32) (policy Handle, err error) {
	m := c.method("LsarOpenPolicy2", opOpenPolicy2)
	w := &m.in
	w.Referent(false) // SystemName
	w.U32(24)         // ObjectAttributes, of which the server reads nothing
	for range 2 {
		w.Referent(false)
	}
	w.U32(0)
	for range 2 {
		w.Referent(false)
	}
	w.U32(access)
	err = c.call(ctx, m, func(r *ndr.Reader) { policy = readHandle(r) })
	return policy, err
}

// [MS-LSAD] 3.1.4.9.4 LsarClose.
func (c *Client) Close(ctx context.Context, h Handle) error {
	m := c.method("LsarClose", opClose)
	m.in.Octets(h[:])
	return c.call(ctx, m, func(r *ndr.Reader) { readHandle(r) })
}
