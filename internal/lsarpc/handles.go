package lsarpc

import (
	"crypto/rand"
	"fmt"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/dcerpc"
	"github.com/seed05845750/bkrp/internal/ndr"
)

// maxHandles is how many handles one connection may hold open.
const maxHandles = 64

// handle is a context handle ([C706] 14, ndr_context_handle): attributes,
// which are 0 here, and a random UUID, 20 octets.
type handle dtyp.GUID

// object is what a handle stands for: the policy, or a secret by its name.
type object struct{ secret string }

// policy is the object behind handles of OpenPolicy.
var policy = object{}

// handles are those that one connection has opened at this interface. There
// is no other place where a handle means anything: it is not known to another
// connection nor to another interface, which is what strict_context_handle
// asks for ([MS-RPCE] 3.1.1.5.3.2.2.2).
type handles struct {
	open map[handle]object
}

// add opens a handle; ok is false if there are too many already.
func (h *handles) add(o object) (id handle, ok bool, err error) {
	if len(h.open) >= maxHandles {
		return handle{}, false, nil
	}
	if _, err := rand.Read(id[:]); err != nil {
		return handle{}, false, fmt.Errorf("lsarpc: drawing a handle: %w", err)
	}
	if h.open == nil {
		h.open = make(map[handle]object, 1)
	}
	h.open[id] = o
	return id, true, nil
}

// find looks a handle up. One that was never given out, or is closed, faults.
func (h *handles) find(id handle) (object, error) {
	o, ok := h.open[id]
	if !ok {
		return object{}, dcerpc.FaultContext
	}
	return o, nil
}

func (h *handles) remove(id handle) { delete(h.open, id) }

func readHandle(r *ndr.Reader) handle {
	r.U32()
	return handle(r.GUID())
}

func (id handle) write(w *ndr.Writer) {
	w.U32(0)
	w.GUID(dtyp.GUID(id))
}

// writeHandle ends a call that opens a handle: the new handle, or one of
// zeros with the reason.
func (c *call) writeHandle(o object) error {
	id, ok, err := c.handles.add(o)
	if err != nil {
		return err
	}
	id.write(&c.out)
	if ok {
		statusSuccess.write(&c.out)
	} else {
		statusNoResources.write(&c.out)
	}
	return nil
}

func (c *call) refuseHandle(s status) error {
	handle{}.write(&c.out)
	s.write(&c.out)
	return nil
}
