package bkrpserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/internal/backuprkey"
	"github.com/seed05845750/bkrp/internal/dcerpc"
	"github.com/seed05845750/bkrp/internal/interpose"
	"github.com/seed05845750/bkrp/internal/npa"
	"github.com/seed05845750/bkrp/internal/smb2"
)

// Server serves a Service on listeners: DCE/RPC on named pipes over SMB (2.1).
// SMB is its own, or that of a Samba server.
type Server struct {
	cfg       Config
	backupKey *dcerpc.Server
	smb       *smb2.Server
	logon     *logon
	canary    *canary

	mu        sync.Mutex
	closing   bool
	forwarded []*npa.Server // by Samba servers
}

var errShutdown = errors.New("bkrpserver: the server is shut down")

// New makes a Server; nothing is listened on yet.
func New(cfg Config) (*Server, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	logon, err := newLogon(&cfg)
	if err != nil {
		return nil, err
	}
	service := *cfg.Service
	service.vouch = vouchFor(&cfg)
	cfg.Service = &service
	backupKey := &dcerpc.Server{
		Interfaces: []dcerpc.Interface{backupKeyInterface(cfg.Service)},
		Acceptors:  logon.rpc(),
		Limits:     dcerpc.Limits{MaxRequest: cfg.Service.maxInput() + stubOverhead},
		Log:        cfg.logger(),
	}
	pipes := map[string]smb2.PipeFunc{pipeLSA: lsaPipe(&cfg, logon)}
	for _, name := range cfg.pipes() {
		pipes[name] = servePipe(`\PIPE\`+name, backupKey)
	}
	smb, err := smb2.NewServer(smb2.Config{
		Acceptor:       logon.smb(),
		NegotiateToken: logon.spnego.Hint(),
		Pipes:          pipes,
		MinDialect:     smb2.Dialect(cfg.MinDialect),
		MaxDialect:     smb2.Dialect(cfg.MaxDialect),
		Encryption:     smbEncryption(cfg.Encryption),
		Limits: smb2.Limits{
			Connections:           cfg.Limits.Connections,
			ConnectionsPerAddress: cfg.Limits.ConnectionsPerAddress,
			AuthTimeout:           cfg.Limits.AuthTimeout,
			AuthBytes:             cfg.Limits.AuthBytes,
			Sessions:              cfg.Limits.Sessions,
			Opens:                 cfg.Limits.Opens,
			OpensPerUser:          cfg.Limits.OpensPerUser,
			Outstanding:           cfg.Limits.Outstanding,
			IdleTimeout:           cfg.Limits.IdleTimeout,
			StallTimeout:          cfg.Limits.StallTimeout,
		},
		Log: cfg.logger(),
	})
	if err != nil {
		return nil, err
	}
	return &Server{
		cfg: cfg, backupKey: backupKey, smb: smb, logon: logon,
		canary: startCanary(cfg.Service, cfg.logger(), cfg.CanaryInterval),
	}, nil
}

// stubOverhead is what a request's stub has besides pDataIn, in octets, with
// room to spare for a verification trailer (L-0).
const stubOverhead = 1 << 10

// Serve accepts connections on l until ctx ends or Shutdown is called, and
// returns nil then. It closes l. It may be called for several listeners.
func (s *Server) Serve(ctx context.Context, l net.Listener) error { return s.smb.Serve(ctx, l) }

// Shutdown stops accepting, lets calls in flight end, and closes the
// connections. When ctx ends first, those left are cut off and its error is
// returned.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closing = true
	forwarded := s.forwarded
	s.mu.Unlock()
	errs := make([]error, len(forwarded))
	var closing sync.WaitGroup
	for i, ln := range forwarded {
		closing.Go(func() { errs[i] = ln.Shutdown(ctx) })
	}
	// At once, not afterwards: a logon that waits for the domain controller is a
	// call in flight, which no one could cut off.
	closing.Go(s.logon.close)
	err := s.smb.Shutdown(ctx)
	closing.Wait()
	s.canary.close()
	return errors.Join(append(errs, err)...)
}

func smbEncryption(e Encryption) smb2.Encryption {
	if e == EncryptionRequire {
		return smb2.EncryptionRequire
	}
	return smb2.EncryptionOffer
}

// servePipe runs RPC on each open of a pipe; address is what the pipe calls
// itself in binds.
func servePipe(address string, rpc *dcerpc.Server) smb2.PipeFunc {
	return func(ctx context.Context, p *smb2.Pipe) {
		// What ended the connection is in rpc's log where it matters.
		_ = rpc.ServeConn(ctx, p, dcerpc.Transport{
			Identity:   p.Identity(),
			SessionKey: p.SessionKey(),
			Encrypted:  p.Encrypted(),
			Local:      p.LocalAddr(),
			Remote:     p.RemoteAddr(),
			PipeName:   address,
		})
	}
}

// backupKeyInterface is the interface of the protocol (1.9), with packet
// privacy demanded.
func backupKeyInterface(s *Service) dcerpc.Interface {
	return dcerpc.Interface{
		UUID:         backuprkey.InterfaceUUID,
		Major:        backuprkey.VersionMajor,
		Minor:        backuprkey.VersionMinor,
		MinAuthLevel: dcerpc.LevelPrivacy,
		Opnums:       backuprkey.Opnum + 1,
		Handle: func(ctx context.Context, c *dcerpc.Call) ([]byte, error) {
			req, err := backuprkey.ParseRequest(c.Stub, c.Encoding)
			if err != nil {
				return nil, fmt.Errorf("reading the parameters of BackuprKey: %w", err)
			}
			out, status := s.answer(ctx, callerOf(c), bkrp.Action(req.Action), req.Data)
			defer clear(out)
			stub := make([]byte, 0, backuprkey.ResponseSize(len(out)))
			return backuprkey.Response{Data: out, Status: uint32(status)}.Append(stub, c.ResponseEncoding()), nil
		},
	}
}

// answer is BackuprKey, unless package bkrptest stands in between.
func (s *Service) answer(ctx context.Context, caller Caller, action bkrp.Action, in []byte) ([]byte, bkrp.Status) {
	between := interpose.From(ctx)
	if between == nil {
		return s.BackuprKey(ctx, caller, action, in)
	}
	return between(ctx, interpose.Caller(caller), action, in, func(ctx context.Context, in []byte) ([]byte, bkrp.Status) {
		return s.BackuprKey(ctx, caller, action, in)
	})
}

func callerOf(c *dcerpc.Call) Caller {
	caller := Caller{
		SID:       c.Identity.SID,
		Domain:    c.Identity.Domain,
		Name:      c.Identity.Name,
		Mechanism: c.Identity.Mechanism,
	}
	if c.Transport.Remote != nil {
		caller.Address = c.Transport.Remote.String()
	}
	return caller
}
