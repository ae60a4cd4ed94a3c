package smb2

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/seed05845750/bkrp/internal/gss"
	"github.com/seed05845750/bkrp/internal/smb2/wire"
)

// sessionSetup works off one leg of a logon ([MS-SMB2] 3.3.5.5): of a new
// session, of one under way, or of the re-authentication of a valid one, whose
// request has been found to be signed or encrypted.
func (r *call) sessionSetup(x *session) error {
	c := r.c
	req, err := wire.ParseSessionSetupRequest(r.msg)
	switch {
	case err != nil || r.NextCommand != 0 || len(c.reply.parts) > 1:
		r.finish(wire.StatusInvalidParameter)
		return nil
	case req.Flags&wire.BindingFlag != 0:
		// [MS-SMB2] 3.3.5.5 item 3: no multichannel here.
		r.finish(wire.StatusRequestNotAccepted)
		return nil
	case r.SessionID != 0 && x == nil:
		r.finish(wire.StatusUserSessionDeleted)
		return nil
	case c.refused >= c.srv.cfg.Limits.LogonFailures:
		return fmt.Errorf("%w: a logon after %d refused ones", errProtocol, c.refused)
	case c.srv.cfg.Encryption == EncryptionRequire && c.cipher == 0:
		c.logRefused(errNoEncryption)
		r.finish(wire.StatusAccessDenied)
		return nil
	}
	if x == nil {
		var st wire.Status
		if x, st, err = c.newSession(); err != nil || st != wire.StatusSuccess {
			r.finish(st)
			return err
		}
		r.patchSession(x)
	}
	return r.authLeg(x, &req)
}

var (
	errNoEncryption = errors.New("smb2: encryption is required and the client has none")
	errOther        = errors.New("smb2: re-authentication as somebody else")
	errLegs         = errors.New("smb2: too many legs")
	errNobody       = errors.New("smb2: the logon names nobody")
)

// newSession makes a session without a logon.
func (c *conn) newSession() (*session, wire.Status, error) {
	id, err := c.srv.newSessionID()
	if err != nil {
		return nil, wire.StatusInsufficientResources, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	c.sessions = slices.DeleteFunc(c.sessions, func(x *session) bool {
		return !x.valid && now.After(x.authBy) // a logon that was given up
	})
	if c.closed || len(c.sessions) >= c.srv.cfg.Limits.Sessions {
		return nil, wire.StatusInsufficientResources, nil
	}
	x := &session{id: id, conn: c, preauth: c.preauth}
	c.sessions = append(c.sessions, x)
	return x, wire.StatusSuccess, nil
}

// patchSession sets the id of a session that the request did not know.
func (r *call) patchSession(x *session) {
	r.SessionID = x.id
	r.chain.session = x.id
	putSessionID(r.c.reply.last(), x.id)
}

// authLeg takes one token to the mechanism and answers with what it says.
func (r *call) authLeg(x *session, req *wire.SessionSetupRequest) error {
	c := r.c
	if x.exchange == nil {
		x.exchange = c.srv.cfg.Acceptor.Accept(gss.AcceptOptions{Peer: c.nc.RemoteAddr()})
		x.legs, x.authBy = 0, c.authBy
		if c.authed {
			x.authBy = time.Now().Add(c.srv.cfg.Limits.AuthTimeout)
		}
	}
	if c.dialect == Dialect311 && r.session == nil {
		x.preauth.add(r.msg)
	}
	var out []byte
	var sc gss.Context
	err := errLegs
	if x.legs++; x.legs <= maxLegs {
		ctx, cancel := context.WithDeadline(c.ctx, x.authBy)
		if err = ctx.Err(); err == nil {
			out, sc, err = x.exchange.Step(ctx, req.Token)
		}
		cancel()
	}
	if err == nil && len(out) > 1<<16-1 {
		err = gss.ErrToken
	}
	if err == nil && sc == nil {
		return r.moreProcessing(x, out)
	}
	x.exchange = nil
	if err == nil {
		err = c.admit(r, x, sc)
	}
	if err != nil {
		return r.refuseLogon(x, err)
	}
	r.endPrevious(x, req.PreviousSessionID)
	return r.welcome(x, out)
}

// moreProcessing answers a leg that is not the last.
func (r *call) moreProcessing(x *session, out []byte) error {
	r.respond(&wire.SessionSetupResponse{Token: out})
	r.finish(wire.StatusMoreProcessingRequired)
	if r.c.dialect == Dialect311 && r.session == nil {
		r.c.hashReply(&x.preauth)
	}
	return nil
}

// admit makes a session of a security context, or renews the one there is:
// then its keys stay ([MS-SMB2] 3.3.5.5.2) and its user has to be the same. What
// he is a member of may have changed.
func (c *conn) admit(r *call, x *session, sc gss.Context) error {
	if sc.Identity().SID.IsZero() {
		return errNobody
	}
	if r.session != nil {
		if sc.Identity().SID != x.user {
			return errOther
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		x.renew(sc)
		return nil
	}
	if err := x.establish(sc); err != nil {
		return err
	}
	c.srv.addSession(x)
	return nil
}

// refuseLogon ends the session. The client learns nothing of why, except that
// it could not be understood; the log does.
func (r *call) refuseLogon(x *session, err error) error {
	c := r.c
	c.logRefused(err)
	c.mu.Lock()
	x.end()
	c.mu.Unlock()
	c.srv.dropSession(x)
	st := wire.StatusLogonFailure
	if errors.Is(err, gss.ErrToken) {
		st = wire.StatusInvalidParameter // a broken client, told that it is one
	}
	r.finish(st)
	return nil
}

func (c *conn) logRefused(err error) {
	c.refused++
	c.srv.cfg.Log.LogAttrs(c.ctx, slog.LevelInfo, "SMB logon refused",
		slog.Any("peer", c.nc.RemoteAddr()), slog.Any("err", err))
}

// endPrevious ends the session that the client says it had before its
// connection broke, if it is the same user's ([MS-SMB2] 3.3.5.5.3).
func (r *call) endPrevious(x *session, id uint64) {
	if id == 0 || id == x.id || r.session != nil {
		return
	}
	old := r.c.srv.findSession(id)
	if old == nil || old.user != x.user {
		return
	}
	old.conn.endSession(old)
	r.c.srv.dropSession(old)
}

// welcome answers the last leg. The response is the first one that is signed;
// it is not encrypted unless its request was.
func (r *call) welcome(x *session, out []byte) error {
	resp := wire.SessionSetupResponse{Token: out}
	if x.encrypt {
		resp.Flags = wire.EncryptDataFlag
	}
	if err := r.c.authenticated(); err != nil {
		return fmt.Errorf("smb2: lifting the deadline of the logon: %w", err)
	}
	r.respond(&resp)
	r.session = x
	r.finish(wire.StatusSuccess)
	return nil
}
