package lsarpc

import "context"

// closeHandle is LsarClose ([MS-LSAD] 3.1.4.9.4, opnum 0).
func (s *server) closeHandle(_ context.Context, c *call) error {
	id := readHandle(&c.in)
	if err := c.parsed(); err != nil {
		return err
	}
	if _, err := c.handles.find(id); err != nil {
		return err
	}
	c.handles.remove(id)
	return c.refuseHandle(statusSuccess)
}
