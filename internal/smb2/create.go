package smb2

import (
	"context"
	"strings"

	"github.com/seed05845750/bkrp/internal/smb2/wire"
)

// maxPipeName is the longest name of a pipe that is looked at, in octets of
// UTF-16.
const maxPipeName = 512

// maxImpersonation is the highest impersonation level, Delegate, and
// maxDisposition the highest create disposition ([MS-SMB2] 2.2.13).
const (
	maxImpersonation = 3
	maxDisposition   = 5
)

// pipeAttributes are what CREATE, CLOSE and QUERY_INFO say of every pipe: no
// times, one cluster, a normal file.
var pipeAttributes = wire.FileAttributes{AllocationSize: 4096, Attributes: 0x80}

// create answers CREATE ([MS-SMB2] 3.3.5.9): it opens a pipe. Oplocks are not
// granted, and create contexts, which pipes have no use for, get no answer.
func (r *call) create() wire.Status {
	req, err := wire.ParseCreateRequest(r.msg)
	if err != nil {
		return wire.StatusInvalidParameter
	}
	name, st := pipeName(req.Name)
	switch {
	case st != wire.StatusSuccess:
		return st
	case req.Impersonation > maxImpersonation:
		return wire.StatusBadImpersonationLevel
	case req.Disposition > maxDisposition:
		return wire.StatusInvalidParameter
	case req.Options&wire.DirectoryFile != 0:
		return wire.StatusNotADirectory
	}
	serve, ok := r.c.srv.cfg.Pipes[name]
	if !ok {
		return wire.StatusObjectNameNotFound
	}
	p, st := r.openPipe(name, serve)
	if st != wire.StatusSuccess {
		return st
	}
	r.chain.file = p.id
	r.respond(&wire.CreateResponse{Action: wire.FileOpened, FileAttributes: pipeAttributes, FileID: p.id})
	return wire.StatusSuccess
}

// openPipe makes an open and starts its PipeFunc.
func (r *call) openPipe(name string, serve PipeFunc) (*Pipe, wire.Status) {
	c, x := r.c, r.session
	c.mu.Lock()
	defer c.mu.Unlock()
	if x.gone || c.closed {
		return nil, wire.StatusUserSessionDeleted
	}
	if c.open >= c.srv.cfg.Limits.Opens || !c.srv.addOpen(x.identity) {
		return nil, wire.StatusTooManyOpenedFiles
	}
	c.open++
	c.lastOpen++
	p := &Pipe{
		name:      name,
		id:        wire.FileID{Persistent: c.lastOpen, Volatile: c.lastOpen},
		tree:      r.TreeID,
		session:   x,
		identity:  x.identity,
		encrypted: r.encrypted,
	}
	p.changed.L = &c.mu
	x.pipes = append(x.pipes, p)
	var ctx context.Context
	ctx, p.cancel = context.WithCancel(c.ctx)
	c.pipes.Go(func() {
		defer func() {
			p.cancel()
			p.Close()
			c.srv.dropOpen(x.user)
			c.mu.Lock()
			c.open--
			c.mu.Unlock()
		}()
		defer c.contain("pipe " + name)
		serve(ctx, p)
	})
	return p, wire.StatusSuccess
}

// pipeName gives the name to look up. Clients leave out \pipe\, as they
// should, but for a few.
func pipeName(utf16 []byte) (string, wire.Status) {
	if len(utf16) > maxPipeName {
		return "", wire.StatusObjectNameNotFound
	}
	name, err := wire.DecodeUTF16(utf16)
	if err != nil {
		return "", wire.StatusInvalidParameter
	}
	name = strings.TrimPrefix(strings.ToLower(name), `\`)
	name = strings.TrimPrefix(name, `pipe\`)
	if strings.ContainsRune(name, 0) {
		return "", wire.StatusObjectNameInvalid
	}
	return name, wire.StatusSuccess
}

// find gives the open that a request names. In a compound that may be the one
// of the request before, whose error is then this one's too ([MS-SMB2]
// 3.3.5.2.7.2). The caller holds conn.mu.
func (r *call) find(id wire.FileID) (*Pipe, wire.Status) {
	if id == wire.RelatedFileID && r.Is(wire.FlagRelated) {
		id = r.chain.file
		if id == wire.RelatedFileID && r.chain.status != wire.StatusSuccess {
			return nil, r.chain.status
		}
	}
	p := r.session.findPipe(id, r.TreeID)
	switch {
	case p == nil:
		return nil, wire.StatusFileClosed
	case p.encrypted && !r.encrypted:
		return nil, wire.StatusAccessDenied // Pipe.Encrypted
	}
	r.chain.file = id
	return p, wire.StatusSuccess
}

// close answers CLOSE ([MS-SMB2] 3.3.5.10).
func (r *call) close() wire.Status {
	req, err := wire.ParseCloseRequest(r.msg)
	if err != nil {
		return wire.StatusInvalidParameter
	}
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	p, st := r.find(req.FileID)
	if st != wire.StatusSuccess {
		return st
	}
	p.closeLocked()
	resp := wire.CloseResponse{}
	if req.Flags&wire.PostQueryAttributes != 0 {
		resp.Flags, resp.FileAttributes = wire.PostQueryAttributes, pipeAttributes
	}
	r.respond(&resp)
	return wire.StatusSuccess
}

// flush answers FLUSH ([MS-SMB2] 3.3.5.11): there is nothing to wait for, as
// what was written is with the PipeFunc.
func (r *call) flush() wire.Status {
	req, err := wire.ParseFlushRequest(r.msg)
	if err != nil {
		return wire.StatusInvalidParameter
	}
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	if _, st := r.find(req.FileID); st != wire.StatusSuccess {
		return st
	}
	r.respond(empty{})
	return wire.StatusSuccess
}
