package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/backuprkey"
	"github.com/seed05845750/bkrp/internal/dcerpc"
	"github.com/seed05845750/bkrp/internal/gss"
	"github.com/seed05845750/bkrp/internal/gss/spnego"
)

// judgePrivacy asks for the public key, which is no secret, at every level below
// packet privacy: each of these calls has to be refused (3.1.4, SEC-5.1-13).
func (p *patient) judgePrivacy(ctx context.Context, s *session) {
	ctx, cancel := p.step(ctx)
	defer cancel()
	defer s.Watch(ctx)()
	var taken, unknown []string
	for _, level := range []dcerpc.AuthLevel{dcerpc.LevelIntegrity, dcerpc.LevelPacket, dcerpc.LevelConnect, dcerpc.LevelNone} {
		var initiator gss.Initiator
		if level != dcerpc.LevelNone {
			initiator = spnego.NewInitiator(s.mech)
		}
		switch err := askBelow(ctx, s, p.pipe, p.host, level, initiator); {
		case err == nil:
			taken = append(taken, level.String())
		case !isRefusal(err):
			unknown = append(unknown, fmt.Sprintf("%v (%v)", level, err))
		}
	}
	switch {
	case len(taken) > 0:
		p.report.add(CheckPrivacy, Broken, "have the server refuse calls below packet privacy at once: secrets travel in the clear otherwise",
			"not enforced: calls are answered at level %s", strings.Join(taken, ", "))
	case len(unknown) > 0:
		p.report.add(CheckPrivacy, Warning, "try again, with a longer --timeout if there was no answer in time", "not known at level %s", strings.Join(unknown, ", "))
	default:
		p.report.add(CheckPrivacy, OK, "", "enforced: calls at integrity, packet, connect and none are refused")
	}
}

// errRefused is a call that the method itself refused.
var errRefused = errors.New("doctor: the method refuses the call")

// isRefusal says whether an error is how a server refuses a call: the bind, a
// fault, a status, or the end of the pipe.
func isRefusal(err error) bool {
	var fault dcerpc.Fault
	return errors.Is(err, dcerpc.ErrBind) || errors.As(err, &fault) || errors.Is(err, errRefused) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// askBelow makes the call at a level. No error says that it was answered.
func askBelow(ctx context.Context, s *session, pipe, host string, level dcerpc.AuthLevel, initiator gss.Initiator) error {
	conn, err := s.OpenPipe(pipe)
	if err != nil {
		return err
	}
	c := dcerpc.NewClient(conn, dcerpc.ClientConfig{
		Interface: dcerpc.SyntaxID{UUID: backuprkey.InterfaceUUID, Major: backuprkey.VersionMajor, Minor: backuprkey.VersionMinor},
		Level:     level,
		Initiator: initiator,
		Target:    "host/" + host,
	})
	defer c.Close()
	if err := c.Bind(ctx); err != nil {
		return err
	}
	q := backuprkey.Request{Action: dtyp.GUID(bkrp.ActionRetrieve)}
	stub, err := c.Call(ctx, backuprkey.Opnum, q.Append(nil, c.Encoding()))
	if err != nil {
		return err
	}
	r, err := backuprkey.ParseResponse(stub, c.Encoding())
	if err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	if bkrp.Status(r.Status) == bkrp.StatusAccessDenied {
		return errRefused
	}
	return nil
}
