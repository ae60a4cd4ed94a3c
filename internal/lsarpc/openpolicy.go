package lsarpc

import (
	"context"

	"github.com/seed05845750/bkrp/internal/ndr"
)

// openPolicy is LsarOpenPolicy (3.1.4.4.2, opnum 6) and LsarOpenPolicy2
// ([MS-LSAD] 3.1.4.4.1, opnum 44), which differ in how the system's name is
// written. What a handle may do is decided by who uses it, not by the access
// that was asked for here.
func (s *server) openPolicy(_ context.Context, c *call) error {
	if c.in.Referent() { // SystemName, which is ignored
		if c.Opnum == opOpenPolicy {
			c.in.U16()
		} else {
			_ = c.in.String()
		}
	}
	plain := readObjectAttributes(&c.in)
	if c.in.Err() == nil && !plain {
		return c.refuseHandle(statusInvalidParameter)
	}
	c.in.U32() // DesiredAccess
	if err := c.parsed(); err != nil {
		return err
	}
	return c.writeHandle(policy)
}

// readObjectAttributes reads LSAPR_OBJECT_ATTRIBUTES ([MS-LSAD] 2.2.2.4), of
// which nothing is used. plain is false if it names an object or carries a
// security descriptor, which no policy has: what follows is then not read.
func readObjectAttributes(r *ndr.Reader) (plain bool) {
	r.AlignPointer()
	r.U32() // Length
	rootDirectory := r.Referent()
	objectName := r.Referent()
	r.U32() // Attributes
	securityDescriptor := r.Referent()
	qualityOfService := r.Referent()
	if rootDirectory || objectName || securityDescriptor {
		return false
	}
	if qualityOfService { // SECURITY_QUALITY_OF_SERVICE, 2.2.3.7
		r.U32()
		r.Enum()
		r.U8()
		r.U8()
	}
	return true
}
