package smb2

import "github.com/seed05845750/bkrp/internal/smb2/wire"

// read answers READ ([MS-SMB2] 3.3.5.12): with the next message, or with what
// is left of one, or later when there is none. Offsets mean nothing on pipes.
func (r *call) read() wire.Status {
	c := r.c
	req, err := wire.ParseReadRequest(r.msg)
	if err != nil || req.Channel != 0 || req.Length > uint32(c.srv.cfg.Limits.Transfer) || !r.covered(int(req.Length)) {
		return wire.StatusInvalidParameter
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p, st := r.find(req.FileID)
	if st != wire.StatusSuccess {
		return st
	}
	switch {
	case r.overfull(int(req.Length)):
		return wire.StatusInsufficientResources
	case req.Length == 0:
		r.appendRead(nil)
		return wire.StatusSuccess
	case len(p.out) > 0:
		return r.readNow(p, req.Length)
	case p.ended:
		return wire.StatusPipeBroken
	}
	w, st := r.wait(p, req.Length)
	if w != nil {
		p.waiters = append(p.waiters, w)
	}
	return st
}

// readNow answers from what is there; in byte mode that may be several
// messages.
func (r *call) readNow(p *Pipe, most uint32) wire.Status {
	n, st := p.take(&waiter{command: wire.Read, most: most}, p.out[0])
	if !p.byteMode {
		r.appendRead(p.out[0][:n])
		p.drained(n)
		return st
	}
	var data []byte
	for len(p.out) > 0 && len(data) < int(most) {
		n := min(len(p.out[0]), int(most)-len(data))
		data = append(data, p.out[0][:n]...)
		p.drained(n)
	}
	r.appendRead(data)
	return wire.StatusSuccess
}

func (r *call) appendRead(data []byte) {
	resp := wire.ReadResponse{Data: data}
	b := r.c.reply.buf
	*b = resp.Append(*b)
}

// write answers WRITE ([MS-SMB2] 3.3.5.13).
func (r *call) write() wire.Status {
	c := r.c
	req, err := wire.ParseWriteRequest(r.msg)
	if err != nil || req.Channel != 0 || len(req.Data) > c.srv.cfg.Limits.Transfer || !r.covered(len(req.Data)) {
		return wire.StatusInvalidParameter
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p, st := r.find(req.FileID)
	if st != wire.StatusSuccess {
		return st
	}
	if st := p.deliver(req.Data); st != wire.StatusSuccess {
		return st
	}
	resp := wire.WriteResponse{Count: uint32(len(req.Data))}
	b := c.reply.buf
	*b = resp.Append(*b)
	return wire.StatusSuccess
}
