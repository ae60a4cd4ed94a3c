// Package lsarpc serves the few methods of the Local Security Authority that
// clients call around the BackupKey protocol, from [MS-LSAD] and [MS-LSAT]:
// policy handles, names to SIDs and back, the caller's own name, and, for
// administrators, the values of the secrets that hold the domain's keys.
// Everything else faults as out of range.
//
// New makes the interface for a dcerpc.Server; Config says what it knows.
package lsarpc

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/dcerpc"
	"github.com/seed05845750/bkrp/internal/gss"
	"github.com/seed05845750/bkrp/internal/ndr"
)

// Interface names the interface, version 0.0 ([MS-LSAD] 1.9). Its pipe is
// \PIPE\lsarpc, which names itself \PIPE\lsass in binds.
func Interface() dcerpc.SyntaxID {
	return dcerpc.SyntaxID{UUID: dtyp.GUID{
		0x78, 0x57, 0x34, 0x12, 0x34, 0x12, 0xcd, 0xab, 0xef, 0x00, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab}}
}

// The methods, by their operation numbers.
const (
	opClose               = 0
	opOpenPolicy          = 6
	opLookupNames         = 14
	opLookupSids          = 15
	opOpenSecret          = 28
	opQuerySecret         = 30
	opRetrievePrivateData = 43
	opOpenPolicy2         = 44
	opGetUserName         = 45
)

// ErrNoSecret is what Config.Secret gives, wrapped or not, for a name that is
// not there.
var ErrNoSecret = errors.New("lsarpc: no such secret")

// ErrNoAccount is the same of Config.AccountByName and AccountBySID.
var ErrNoAccount = errors.New("lsarpc: no such account")

// ErrRevoked is what Config.Vouch gives, wrapped or not, of a caller whose account
// has ended since he logged on.
var ErrRevoked = errors.New("lsarpc: account was removed or disabled after the logon")

// Config is what the interface answers from. Its functions are called from
// many goroutines at once.
type Config struct {
	// Domain is the one domain there is.
	Domain Domain
	// AccountByName finds a user of the domain by the name without its
	// domain, in whatever case; nil knows none. Administrator and Guest
	// resolve all the same.
	AccountByName func(ctx context.Context, name string) (Account, error)
	// AccountBySID finds a user of the domain; nil knows none.
	AccountBySID func(ctx context.Context, sid dtyp.SID) (Account, error)
	// Secret gives the value of an LSA secret such as "G$BCKUPKEY_P", in
	// memory that is cleared after use; nil has none.
	Secret func(ctx context.Context, name string) ([]byte, error)
	// Administrators are the SIDs, of users or of their groups, that may read
	// secrets. None by default.
	Administrators []dtyp.SID
	// RequireEncryption denies secrets to administrators whose call is neither
	// sealed nor came over an encrypted transport. All that protects a value
	// then is the single DES of [MS-LSAD] 5.1.2, with known plaintext.
	RequireEncryption bool
	// Vouch, if set, tells at each call whether the caller may still go on. An
	// error that wraps ErrRevoked says that he may not; any other is a failure.
	Vouch func(ctx context.Context, caller gss.Identity) error
	// Audit, if set, hears of each try to open or read a secret, before the
	// answer is given. Its error makes the answer STATUS_INTERNAL_ERROR.
	Audit func(ctx context.Context, e SecretEvent) error
	// Log gets failures of the functions above; nil drops them.
	Log *slog.Logger
}

// Domain is an account domain.
type Domain struct {
	DNSName, NetBIOS string
	SID              dtyp.SID
}

// Account is a user of the domain.
type Account struct {
	Name string
	SID  dtyp.SID
}

// SecretEvent is one try to open or read a secret.
type SecretEvent struct {
	Caller gss.Identity
	// Operation is the method's name, such as "LsarQuerySecret".
	Operation string
	// Remote is where the call came from, nil if unknown.
	Remote net.Addr
	// Name is the secret's, as the caller wrote it, cut to 128 characters; "" if
	// the call was refused before its parameters were read.
	Name string
	// Granted says that the caller may have secrets, and Found that there is such
	// a secret, as far as that was looked at.
	Granted, Found bool
	// Reason says why it is not granted, for the operator.
	Reason string
}

// New makes the interface. It lets callers in whom the transport has
// authenticated, sealed or not: values of secrets travel encrypted under the
// transport's key either way. A caller who has logged on to RPC besides is who
// that logon says, which therefore has to protect his calls.
func New(cfg Config) dcerpc.Interface {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &server{cfg}
	id := Interface()
	return dcerpc.Interface{
		UUID: id.UUID, Major: id.Major, Minor: id.Minor,
		MinAuthLevel: dcerpc.LevelNone,
		Opnums:       opGetUserName + 1,
		NewState:     func() any { return new(handles) },
		Handle:       s.handle,
	}
}

type server struct{ Config }

// call is one call on its way through its method.
type call struct {
	*dcerpc.Call
	handles *handles
	in      ndr.Reader
	out     ndr.Writer
}

// handle runs a method. A method reads its parameters to their end before it
// does anything, and writes its results and its status.
func (s *server) handle(ctx context.Context, c *dcerpc.Call) ([]byte, error) {
	method := s.method(c.Opnum)
	if method == nil {
		return nil, dcerpc.FaultOpRange
	}
	if err := s.letIn(ctx, c); err != nil {
		return nil, err
	}
	call := &call{
		Call: c, handles: c.State.(*handles),
		in: ndr.NewReader(c.Stub, c.Encoding), out: ndr.NewWriter(nil, c.ResponseEncoding()),
	}
	if err := method(ctx, call); err != nil {
		return nil, err
	}
	return call.out.Buffer(), nil
}

// letIn says by an error that a call is refused whatever it asks for. The audit
// hears of one that was to read a secret.
func (s *server) letIn(ctx context.Context, c *dcerpc.Call) error {
	reason := ""
	switch {
	case c.Identity.SID.IsZero():
		reason = "the caller is nobody"
	case c.AuthLevel == dcerpc.LevelConnect:
		// Without signatures the logon proves nothing of the call. Someone in
		// the middle could relay an administrator's to a session of his own,
		// and have the secrets encrypted under a key that he knows.
		reason = "the logon protects no call, and may have been relayed"
	case s.Vouch != nil:
		if err := s.Vouch(ctx, c.Identity); errors.Is(err, ErrRevoked) {
			reason = err.Error()
		} else if err != nil {
			return err
		}
	}
	if reason == "" {
		return nil
	}
	if operation := secretOperations[c.Opnum]; operation != "" && s.Audit != nil {
		// The answer is the same if that fails, which the audit itself tells.
		_ = s.Audit(ctx, SecretEvent{Caller: c.Identity, Operation: operation, Remote: c.Transport.Remote, Reason: reason})
	}
	return dcerpc.FaultAccessDenied
}

func (s *server) method(opnum uint16) func(context.Context, *call) error {
	switch opnum {
	case opClose:
		return s.closeHandle
	case opOpenPolicy, opOpenPolicy2:
		return s.openPolicy
	case opLookupNames:
		return s.lookupNames
	case opLookupSids:
		return s.lookupSids
	case opOpenSecret:
		return s.openSecret
	case opQuerySecret:
		return s.querySecret
	case opRetrievePrivateData:
		return s.retrievePrivateData
	case opGetUserName:
		return s.getUserName
	}
	return nil
}

// parsed is the verdict on the parameters. Where a verification trailer
// followed them, they were padded to four octets before it.
func (c *call) parsed() error {
	if n := c.in.Remaining(); n < 4 {
		c.in.Octets(n)
	}
	return c.in.Done()
}

// isAdministrator reports whether a caller is one of the Administrators, by
// his own SID or by that of a group.
func (s *server) isAdministrator(id gss.Identity) bool {
	for _, admin := range s.Administrators {
		if !admin.IsZero() && (id.SID == admin || slices.Contains(id.Groups, admin)) {
			return true
		}
	}
	return false
}
