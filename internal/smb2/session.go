package smb2

import (
	"slices"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/gss"
	"github.com/seed05845750/bkrp/internal/smb2/wire"
)

// maxLegs bounds the SESSION_SETUP requests of one logon.
const maxLegs = 10

// session is a session of one connection ([MS-SMB2] 3.3.1.8).
type session struct {
	id   uint64
	conn *conn

	// The logon under way, and what checks and opens requests, belong to the
	// goroutine that reads.
	exchange gss.Exchange
	legs     int
	authBy   time.Time
	preauth  preauthHash
	verifier signer
	opener   *sealer

	// Whose session it is and the application key are set once, before valid is.
	user   dtyp.SID
	appKey []byte
	// encrypt says that everything on the session has to be encrypted.
	encrypt bool

	// What follows is guarded by conn.mu.

	// valid says that the logon has succeeded; gone, that the session is
	// over: nothing is found by its id any more.
	valid, gone bool
	identity    gss.Identity // of the last logon; its SID is user
	expiry      time.Time
	signer      signer
	sealer      *sealer
	trees       []uint32
	lastTree    uint32
	pipes       []*Pipe
}

// establish takes the keys of a security context into the session.
func (x *session) establish(sc gss.Context) error {
	c := x.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	keys := deriveKeys(c.dialect, c.cipher, sc.SessionKey(), &x.preauth)
	var err error
	if x.verifier, err = newSigner(c.dialect, c.signing, keys.signing); err != nil {
		return err
	}
	if x.signer, err = newSigner(c.dialect, c.signing, keys.signing); err != nil {
		return err
	}
	if c.cipher != 0 {
		if x.opener, err = newSealer(c.cipher, keys.decryption); err != nil {
			return err
		}
		if x.sealer, err = newSealer(c.cipher, keys.encryption); err != nil {
			return err
		}
	}
	x.identity = sc.Identity()
	x.user = x.identity.SID
	x.appKey = keys.application
	x.expiry = sc.Expiry()
	x.encrypt = c.srv.cfg.Encryption == EncryptionRequire
	x.valid = true
	return nil
}

// renew takes over what the same user's next logon says. Whoever has lost a group
// by it does not go on with what he opened as its member. The caller holds
// conn.mu.
func (x *session) renew(sc gss.Context) {
	id := sc.Identity()
	if lost(x.identity.Groups, id.Groups) {
		x.closePipes()
	}
	x.identity, x.expiry = id, sc.Expiry()
}

// lost reports whether one of the groups is not among those of now.
func lost(groups, now []dtyp.SID) bool {
	is := make(map[dtyp.SID]bool, len(now))
	for _, sid := range now {
		is[sid] = true
	}
	return slices.ContainsFunc(groups, func(sid dtyp.SID) bool { return !is[sid] })
}

// expired reports whether the security context is past its time. The caller
// holds conn.mu.
func (x *session) expired() bool {
	return !x.expiry.IsZero() && x.conn.srv.cfg.Now().After(x.expiry)
}

// hasTree reports whether id is a tree connect of the session.
func (x *session) hasTree(id uint32) bool { return slices.Contains(x.trees, id) }

// findPipe gives the open with the id, if it is of the tree; nil otherwise.
func (x *session) findPipe(id wire.FileID, tree uint32) *Pipe {
	for _, p := range x.pipes {
		if p.id == id && p.tree == tree {
			return p
		}
	}
	return nil
}

// end takes the session off its connection and closes its pipes. The caller
// holds conn.mu, and drops the session from the server's table after that.
func (x *session) end() {
	x.gone = true
	x.conn.sessions = slices.DeleteFunc(x.conn.sessions, func(s *session) bool { return s == x })
	x.trees = nil
	x.closePipes()
}

func (x *session) closePipes() {
	for len(x.pipes) > 0 {
		x.pipes[0].closeLocked()
	}
}
