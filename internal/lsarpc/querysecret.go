package lsarpc

import (
	"context"

	"github.com/seed05845750/bkrp/internal/lsasecret"
)

// querySecret is LsarQuerySecret ([MS-LSAD] 3.1.4.6.4, opnum 30). Each of the
// four results is given if its pointer is not NULL on the way in. Secrets have
// no old value here, and no times are kept of them.
func (s *server) querySecret(ctx context.Context, c *call) error {
	id := readHandle(&c.in)
	current := c.in.Referent()
	if current {
		skipCipherValue(&c.in)
	}
	currentTime := c.readTime()
	old := c.in.Referent()
	if old {
		skipCipherValue(&c.in)
	}
	oldTime := c.readTime()
	if err := c.parsed(); err != nil {
		return err
	}
	o, err := c.handles.find(id)
	if err != nil {
		return err
	}
	sealed, st := []byte(nil), statusInvalidHandle
	if o != policy {
		sealed, st = s.sealedSecret(ctx, c, o.secret)
	}
	if st != statusSuccess {
		current, currentTime, old, oldTime = false, false, false, false
	}
	c.out.Referent(current)
	if current {
		writeCipherValue(&c.out, sealed)
	}
	c.writeTime(currentTime)
	c.out.Referent(old)
	if old {
		writeCipherValue(&c.out, nil)
	}
	c.writeTime(oldTime)
	st.write(&c.out)
	return nil
}

// sealedSecret is readSecret, encrypted for the caller's transport.
func (s *server) sealedSecret(ctx context.Context, c *call, name string) ([]byte, status) {
	value, st := s.readSecret(ctx, c, name)
	defer clear(value)
	if st != statusSuccess {
		return nil, st
	}
	sealed, err := lsasecret.Seal(c.Transport.SessionKey, value)
	if err != nil {
		return nil, statusNoSessionKey
	}
	return sealed, statusSuccess
}

// readTime reads a unique pointer to a time and reports whether it was there.
func (c *call) readTime() bool {
	present := c.in.Referent()
	if present {
		c.in.U64()
	}
	return present
}

func (c *call) writeTime(present bool) {
	c.out.Referent(present)
	if present {
		c.out.U64(0)
	}
}
