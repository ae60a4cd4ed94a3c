// Package smb2 is a server for the named pipes of one share, IPC$, over SMB
// 2.0.2 to 3.1.1 ([MS-SMB2] 3.3), and nothing else of SMB: no files, no
// printers, no leases, no multichannel, no RDMA, no compression, and of SMB1
// only the negotiate that leads to SMB2.
//
// Config has all there is to say; NewServer makes a Server, and Serve or
// ServeConn run it. Who a caller is comes from a gss.Acceptor; what a pipe
// says comes from a PipeFunc, which sees a Pipe: a stream of messages with a
// name, an identity and a session key.
//
// Every request after the logon is signed or encrypted, always. There are no
// guest and no anonymous sessions.
//
// A connection has one goroutine that reads and works off its requests, and
// one more for each open pipe, on which the PipeFunc runs and from which its
// answers are sent. One mutex per connection guards what they share; no lock
// is shared by connections while requests are worked off.
package smb2

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/gss"
	"github.com/seed05845750/bkrp/internal/smb2/wire"
)

// Dialect is an SMB2 dialect revision.
type Dialect = wire.Dialect

// The dialects, for Config.
const (
	Dialect202 = wire.Dialect202
	Dialect210 = wire.Dialect210
	Dialect300 = wire.Dialect300
	Dialect302 = wire.Dialect302
	Dialect311 = wire.Dialect311
)

// Encryption says what a server does about encryption ([MS-SMB2] 3.3.1.5).
type Encryption int

const (
	// EncryptionOffer lets clients that can encrypt do so; the default.
	EncryptionOffer Encryption = iota
	// EncryptionRequire makes sessions encrypt everything, and refuses the
	// logon of a client that cannot.
	EncryptionRequire
	// EncryptionOff does not offer it.
	EncryptionOff
)

// PipeFunc serves one open of a pipe, on a goroutine of its own. ctx ends when
// the pipe is closed, by the client or because its connection ended; the
// function returns soon after that. When it returns first, the server closes
// the pipe, and the client may still read what was written.
type PipeFunc func(ctx context.Context, p *Pipe)

// Config is what a server is made of.
type Config struct {
	// Acceptor makes the security contexts of logons, SPNEGO on the wire
	// ([MS-SMB2] 3.3.5.5). Required.
	Acceptor gss.Acceptor
	// NegotiateToken is the hint of the mechanism that the NEGOTIATE response
	// carries ([MS-SMB2] 2.2.4), at most 64 KiB; empty leaves the first word
	// to the client.
	NegotiateToken []byte
	// ServerGUID tells this server from others ([MS-SMB2] 3.3.1.5); a random
	// one if zero.
	ServerGUID dtyp.GUID
	// Pipes are the pipes by name, without \pipe\ and in any case.
	Pipes map[string]PipeFunc
	// MinDialect and MaxDialect bound the dialects; 2.0.2 and 3.1.1 if zero.
	MinDialect, MaxDialect Dialect
	// Encryption is offered unless it is said otherwise.
	Encryption Encryption
	// Limits have safe defaults.
	Limits Limits
	// Log takes refused logons (Info) and why connections ended early
	// (Debug); nothing is logged if nil.
	Log *slog.Logger
	// Now is the clock; time.Now if nil.
	Now func() time.Time
}

// ErrConfig is what every error of NewServer wraps.
var ErrConfig = errors.New("smb2: unusable configuration")

// NewServer checks cfg and makes a server of it.
func NewServer(cfg Config) (*Server, error) {
	if cfg.Acceptor == nil {
		return nil, fmt.Errorf("%w: it has no Acceptor", ErrConfig)
	}
	if len(cfg.NegotiateToken) > 1<<16-1 {
		return nil, fmt.Errorf("%w: NegotiateToken is longer than 65535 octets", ErrConfig)
	}
	if cfg.MinDialect == 0 {
		cfg.MinDialect = Dialect202
	}
	if cfg.MaxDialect == 0 {
		cfg.MaxDialect = Dialect311
	}
	if cfg.MinDialect > cfg.MaxDialect {
		return nil, fmt.Errorf("%w: dialect %v is above %v", ErrConfig, cfg.MinDialect, cfg.MaxDialect)
	}
	if cfg.Encryption == EncryptionRequire && cfg.MaxDialect < Dialect300 {
		return nil, fmt.Errorf("%w: dialect %v has no encryption to require", ErrConfig, cfg.MaxDialect)
	}
	limits, err := cfg.Limits.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	cfg.Limits = limits
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.ServerGUID.IsZero() {
		if _, err := rand.Read(cfg.ServerGUID[:]); err != nil {
			return nil, fmt.Errorf("smb2: drawing a server GUID: %w", err)
		}
	}
	pipes := make(map[string]PipeFunc, len(cfg.Pipes))
	for name, f := range cfg.Pipes {
		if name == "" || f == nil {
			return nil, fmt.Errorf("%w: pipe %q has no name or no function", ErrConfig, name)
		}
		pipes[strings.ToLower(name)] = f
	}
	cfg.Pipes = pipes
	return &Server{
		cfg:      cfg,
		conns:    make(map[*conn]struct{}),
		byHost:   make(map[string]int),
		sessions: make(map[uint64]*session),
		opens:    make(map[dtyp.SID]int),
	}, nil
}
