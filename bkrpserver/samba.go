package bkrpserver

import (
	"context"
	"fmt"
	"time"

	"github.com/seed05845750/bkrp/internal/dcerpc"
	"github.com/seed05845750/bkrp/internal/npa"
)

// SambaListener has BackupKey's pipes of a Samba server: its smbd does SMB, and
// passes what clients write to these pipes on, to the Server that made it.
type SambaListener struct {
	npa *npa.Server
	dir string
}

// ListenSamba takes the pipes of Config.Pipes, and no others, from the Samba
// server whose "ncalrpc dir" is dir: in dir/np it puts a Unix socket of its own
// in the place of Samba's for each. It needs Linux, root, and a Samba of 4.17
// or later that has been started once. Samba's own BackupKey service has to be
// switched off ("dcerpc endpoint servers = -backupkey"), or the two answer by
// turns, with different keys, when one of them is not running.
//
// What smbd says about the client's identity is not believed: a caller is who
// the RPC bind proves him to be, as over our own SMB. Limits.Connections,
// ConnectionsPerAddress, AuthTimeout, IdleTimeout and StallTimeout hold, for
// open pipes in the place of connections; everything else of SMB is smbd's.
func (s *Server) ListenSamba(dir string) (*SambaListener, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return nil, errShutdown
	}
	ln, err := npa.Listen(npa.Config{
		Dir:    dir,
		Pipes:  s.cfg.pipes(),
		Handle: s.serveForwarded,
		Limits: npa.Limits{
			Pipes:           s.cfg.Limits.Connections,
			PipesPerAddress: s.cfg.Limits.ConnectionsPerAddress,
			HelloTimeout:    s.cfg.Limits.AuthTimeout,
			IdleTimeout:     s.cfg.Limits.IdleTimeout,
			StallTimeout:    s.cfg.Limits.StallTimeout,
		},
		Log: s.cfg.logger(),
	})
	if err != nil {
		return nil, fmt.Errorf("listening behind smbd in %s: %w", dir, err)
	}
	s.forwarded = append(s.forwarded, ln)
	return &SambaListener{npa: ln, dir: dir}, nil
}

// String is samba:DIR.
func (l *SambaListener) String() string { return "samba:" + l.dir }

// Serve serves the pipes until ctx ends, or Server.Shutdown or Close is called,
// and returns nil then. While it runs it takes the sockets back when Samba, at
// a restart, puts its own there; at the end it removes them, so that clients
// find no such pipe until a server takes it again.
func (l *SambaListener) Serve(ctx context.Context) error { return l.npa.Serve(ctx) }

// Close gives the pipes up. Those that are open stay so until Shutdown.
func (l *SambaListener) Close() error { return l.npa.Close() }

// forwardedAuthTimeout is Limits.AuthTimeout where that is zero.
const forwardedAuthTimeout = 15 * time.Second

// serveForwarded runs RPC on an open of a pipe. It is told of no identity and no
// session key: there is only what the bind proves. smbd lets anybody open a
// pipe, without a logon even; so the bind has to come soon.
func (s *Server) serveForwarded(ctx context.Context, p *npa.Pipe) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	timeout := s.cfg.Limits.AuthTimeout
	if timeout == 0 {
		timeout = forwardedAuthTimeout
	}
	tooLate := time.AfterFunc(timeout, cancel)
	defer tooLate.Stop()
	// What ended the connection is in rpc's log where it matters.
	_ = s.backupKey.ServeConn(ctx, p, dcerpc.Transport{
		Local:    p.LocalAddr(),
		Remote:   p.RemoteAddr(),
		PipeName: `\PIPE\` + p.Name(),
		LoggedOn: func() { tooLate.Stop() },
	})
}
