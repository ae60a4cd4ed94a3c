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
	if qualityOfService {
		skipQualityOfService(r)
	}
	return true
}

// skipQualityOfService passes over SECURITY_QUALITY_OF_SERVICE ([MS-LSAD]
// 2.2.3.7), behind which nothing but DesiredAccess follows. In NDR64 Samba
// widens Length, which is a long, and not ImpersonationLevel, which is an
// enumeration, and so sends four octets more than there should be: what is left
// of the stub tells which form it is.
func skipQualityOfService(r *ndr.Reader) {
	const widened, desiredAccess = 8 + 2 + 1 + 1 + 4, 4
	if r.Encoding().NDR64 && r.Remaining() == widened+desiredAccess {
		r.Octets(widened)
		return
	}
	r.U32()  // Length
	r.Enum() // ImpersonationLevel
	r.U8()   // ContextTrackingMode
	r.U8()   // EffectiveOnly
}
