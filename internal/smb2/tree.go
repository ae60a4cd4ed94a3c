package smb2

import (
	"slices"
	"strings"

	"github.com/seed05845750/bkrp/internal/smb2/wire"
)

// shareName is the one share there is.
const shareName = "IPC$"

// pipeAccess is the access mask of a pipe for everyone who is logged on: read
// and write data, attributes and extended attributes, read control and
// synchronize ([MS-SMB2] 2.2.13.1.1).
const pipeAccess = 0x0012019F

// treeConnect answers TREE_CONNECT ([MS-SMB2] 3.3.5.7).
func (r *call) treeConnect() wire.Status {
	req, err := wire.ParseTreeConnectRequest(r.msg)
	if err != nil {
		return wire.StatusInvalidParameter
	}
	path, err := wire.DecodeUTF16(req.Path)
	if err != nil || !strings.HasPrefix(path, `\\`) {
		return wire.StatusInvalidParameter
	}
	if _, share, ok := strings.Cut(path[2:], `\`); !ok || !strings.EqualFold(share, shareName) {
		return wire.StatusBadNetworkName
	}
	c, x := r.c, r.session
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(x.trees) >= c.srv.cfg.Limits.Trees {
		return wire.StatusInsufficientResources
	}
	x.lastTree++
	x.trees = append(x.trees, x.lastTree)
	r.chain.tree = x.lastTree
	putTreeID(c.reply.last(), x.lastTree)
	resp := wire.TreeConnectResponse{
		ShareType:     wire.ShareTypePipe,
		ShareFlags:    wire.ShareNoCaching,
		MaximalAccess: pipeAccess,
	}
	if x.encrypt {
		resp.ShareFlags |= wire.ShareEncryptData
	}
	r.respond(&resp)
	return wire.StatusSuccess
}

// treeDisconnect answers TREE_DISCONNECT ([MS-SMB2] 3.3.5.8): the opens of the
// tree go with it.
func (r *call) treeDisconnect() wire.Status {
	if wire.ParseEmpty(r.msg) != nil {
		return wire.StatusInvalidParameter
	}
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	x := r.session
	x.trees = slices.DeleteFunc(x.trees, func(id uint32) bool { return id == r.TreeID })
	for _, p := range slices.Clone(x.pipes) {
		if p.tree == r.TreeID {
			p.closeLocked()
		}
	}
	r.respond(empty{})
	return wire.StatusSuccess
}

// logoff answers LOGOFF ([MS-SMB2] 3.3.5.6).
func (r *call) logoff() wire.Status {
	if wire.ParseEmpty(r.msg) != nil {
		return wire.StatusInvalidParameter
	}
	r.c.mu.Lock()
	r.session.end()
	r.c.mu.Unlock()
	r.c.srv.dropSession(r.session)
	r.respond(empty{})
	return wire.StatusSuccess
}

// echo answers ECHO ([MS-SMB2] 3.3.5.17).
func (r *call) echo() wire.Status {
	if wire.ParseEmpty(r.msg) != nil {
		return wire.StatusInvalidParameter
	}
	r.respond(empty{})
	return wire.StatusSuccess
}

// empty is the body of a response that says nothing but its status.
type empty struct{}

// Append appends the body.
func (empty) Append(dst []byte) []byte { return wire.AppendEmpty(dst) }
