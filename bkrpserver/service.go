package bkrpserver

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/keystore"
)

// DefaultMaxInput is the largest pDataIn a Service takes unless told otherwise,
// in octets.
const DefaultMaxInput = 4 << 20

// Caller is who makes a call, as the RPC security context proved it.
type Caller struct {
	// SID decides about access, by equality alone.
	SID dtyp.SID
	// Domain and Name are the account's.
	Domain, Name string
	// Mechanism is how it was proved, "ntlm" or "krb5".
	Mechanism string
	// Address is where the call came from, "" if unknown.
	Address string
}

// Account is DOMAIN\Name.
func (c *Caller) Account() string { return c.Domain + `\` + c.Name }

// Subprotocol says how much of ServerWrap or ClientWrap is served (G-1.3-02,
// S-3.1-03, S-3.1-04). To wrap without unwrapping cannot be said.
type Subprotocol uint8

const (
	// On serves wrapping and unwrapping.
	On Subprotocol = iota
	// UnwrapOnly refuses to wrap (or to hand out the public key) and unwraps.
	UnwrapOnly
	// Off refuses both.
	Off
)

// ErrorCodes chooses between the codes that the text recommends and those that
// Windows answers where it does not follow them. No client has a reason to care
// (C-3.2.4-17).
type ErrorCodes uint8

const (
	// SpecCodes answers ERROR_FILE_NOT_FOUND for a key that is not there
	// and ERROR_INVALID_ACCESS for a ServerWrap secret whose MAC is
	// wrong (S-3.1.4.1.2.1-09).
	SpecCodes ErrorCodes = iota
	// WindowsCodes answers ERROR_INVALID_DATA for the former, as Windows
	// Server 2008 and later do, and ERROR_INVALID_SID for the latter: what
	// Windows says when the payload decrypts to no SID. Here every wrong
	// MAC gets it, whatever the payload decrypts to, so that the answer tells
	// nothing of the payload.
	WindowsCodes
)

// Service is the method BackuprKey ([MS-BKRP] 3.1.4.1) over a key store. The
// fields are set before the first call; the methods are safe for concurrent
// use.
type Service struct {
	// Store holds the keys. Required.
	Store *keystore.Store
	// Audit takes one event for each call; nil logs them to Logger.
	Audit Auditor
	// Logger gets what an operator must act on; nil is slog.Default().
	Logger *slog.Logger
	// ServerWrap and ClientWrap limit the subprotocols; both default to On.
	ServerWrap, ClientWrap Subprotocol
	// ErrorCodes is SpecCodes by default.
	ErrorCodes ErrorCodes
	// SrvKey is the form in which the ServerWrap key enters HMAC when
	// wrapping; unwrapping tries this form first and then the other.
	SrvKey bkrp.SrvKeyForm
	// MaxInput limits pDataIn, in octets; 0 is DefaultMaxInput.
	MaxInput int

	// vouch, if set, tells at each call whether the caller is still who they
	// were when they logged on.
	vouch func(ctx context.Context, mechanism string, sid dtyp.SID) error
}

// Errors that only the service knows; statusOf has the code of each.
var (
	errCaller      = errors.New("bkrpserver: caller is anonymous, guest or unknown")
	errAction      = errors.New("bkrpserver: no such action")
	errDisabled    = errors.New("bkrpserver: action is switched off by configuration")
	errTooLarge    = errors.New("bkrpserver: input is longer than max_input")
	errEmptySecret = errors.New("bkrpserver: empty secret")
	errOtherOwner  = errors.New("bkrpserver: secret belongs to another SID")
	errRevoked     = errors.New("bkrpserver: account was removed or disabled after the logon")
)

// BackuprKey answers one call. It returns the output and bkrp.StatusOK, or nil
// and the code of what was wrong; it does not keep in. The caller clears the
// output when it has been sent.
func (s *Service) BackuprKey(ctx context.Context, caller Caller, action bkrp.Action, in []byte) ([]byte, bkrp.Status) {
	ev := &Event{Time: time.Now(), Caller: caller, Action: action}
	out, err := s.run(ctx, ev, in)
	if err != nil {
		ev.Status, ev.Reason = s.statusOf(err), err.Error()
		if errors.Is(err, keystore.ErrKeyLocked) {
			ev.KeyState = keystore.KeyLocked
		}
		clear(out)
		out = nil
	}
	if ev.Status == bkrp.StatusInternalError && ctx.Err() == nil { // a caller who hung up is no alarm
		s.logger().ErrorContext(ctx, "a call failed on the server's side",
			"action", action.String(), "key", ev.Key.String(), "error", err)
	}
	if s.audit(ctx, ev) != nil {
		clear(out)
		return nil, bkrp.StatusInternalError
	}
	return out, ev.Status
}

// audit puts a call on the trail, also when the caller has gone in the meantime:
// nobody leaves no trace by hanging up. An error means that its answer has to
// be withheld; the operator has been told then.
func (s *Service) audit(ctx context.Context, ev *Event) error {
	audit := s.Audit
	if audit == nil {
		audit = LogAuditor(s.logger())
	}
	err := audit(context.WithoutCancel(ctx), ev)
	if err != nil {
		s.logger().ErrorContext(ctx, "the audit trail could not be written; the answer is withheld", "error", err)
	}
	return err
}

// run authorises the call, in this one place, and hands it to its action.
func (s *Service) run(ctx context.Context, ev *Event, in []byte) ([]byte, error) {
	if !mayCall(ev.Caller.SID) {
		return nil, errCaller
	}
	if s.vouch != nil {
		if err := s.vouch(ctx, ev.Caller.Mechanism, ev.Caller.SID); err != nil {
			return nil, err
		}
	}
	if ev.Action == bkrp.ActionRetrieve {
		in = nil // pDataIn is ignored, whatever its length (S-3.1.4.1.3-01)
	}
	if len(in) > s.maxInput() {
		return nil, errTooLarge
	}
	switch ev.Action {
	case bkrp.ActionBackup:
		return s.backup(ctx, ev, in)
	case bkrp.ActionRestoreWin2K:
		return s.restoreWin2K(ctx, ev, in)
	case bkrp.ActionRetrieve:
		return s.retrieve(ctx, ev)
	case bkrp.ActionRestore:
		return s.restore(ctx, ev, in)
	}
	return nil, errAction
}

// mayCall refuses those who are nobody in particular, although the
// security context should not have let them in: the anonymous logon, Everyone,
// and the guest of any domain.
func mayCall(sid dtyp.SID) bool {
	if sid.IsZero() || sid == sidAnonymous || sid == sidEveryone || sid == sidNobody {
		return false
	}
	_, rid, _ := sid.Cut()
	return !(rid == ridGuest && sid.Authority() == 5)
}

const ridGuest = 501

var (
	sidAnonymous = dtyp.MustParseSID("S-1-5-7")
	sidEveryone  = dtyp.MustParseSID("S-1-1-0")
	sidNobody    = dtyp.MustParseSID("S-1-0-0")
)

// versionOf is the first word of a wrapped secret, which tells the structures
// apart (3.1.4.1.2, 3.1.4.1.4 step 1).
func versionOf(in []byte) uint32 {
	if len(in) < 4 {
		return 0
	}
	return binary.LittleEndian.Uint32(in)
}

// 3.1.4.1.2 BACKUPKEY_RESTORE_GUID_WIN2K
func (s *Service) restoreWin2K(ctx context.Context, ev *Event, in []byte) ([]byte, error) {
	switch versionOf(in) {
	case bkrp.ServerWrappedVersion:
		return s.unwrapServer(ctx, ev, in)
	case bkrp.ClientWrappedVersion2, bkrp.ClientWrappedVersion3:
		secret, err := s.unwrapClient(ctx, ev, in)
		if err != nil {
			return nil, err
		}
		defer secret.Clear()
		return bkrp.SealCrossover(secret) // 3.1.4.1.2.2
	}
	return nil, bkrp.ErrFormat
}

// 3.1.4.1.4 BACKUPKEY_RESTORE_GUID
func (s *Service) restore(ctx context.Context, ev *Event, in []byte) ([]byte, error) {
	switch versionOf(in) {
	case bkrp.ServerWrappedVersion:
		return s.unwrapServer(ctx, ev, in) // the bare secret: A-17
	case bkrp.ClientWrappedVersion2, bkrp.ClientWrappedVersion3:
		secret, err := s.unwrapClient(ctx, ev, in)
		if err != nil {
			return nil, err
		}
		defer secret.Clear()
		return bkrp.AppendUnwrapped(nil, secret.Secret), nil
	}
	return nil, bkrp.ErrFormat
}

// 3.1.4.1.3 BACKUPKEY_RETRIEVE_BACKUP_KEY_GUID
func (s *Service) retrieve(ctx context.Context, ev *Event) ([]byte, error) {
	if s.ClientWrap != On {
		return nil, errDisabled
	}
	key, err := s.Store.CurrentClientWrapKey(ctx)
	if err != nil {
		return nil, fmt.Errorf("taking the current ClientWrap key: %w", err)
	}
	ev.Key = key.GUID()
	key.Used(ev.Caller.SID, keystore.UseRetrieve)
	return append([]byte(nil), key.Certificate()...), nil
}

// statusOf has the code of every error (3.1.4.1.*). What is not listed is ours
// and not the caller's, and tells nothing.
func (s *Service) statusOf(err error) bkrp.Status {
	switch {
	case errors.Is(err, errCaller), errors.Is(err, errRevoked):
		return bkrp.StatusAccessDenied
	case errors.Is(err, errAction), errors.Is(err, errDisabled), errors.Is(err, errTooLarge),
		errors.Is(err, errEmptySecret), errors.Is(err, bkrp.ErrFormat), errors.Is(err, bkrp.ErrServerPayloadLength):
		return bkrp.StatusInvalidParameter
	case errors.Is(err, keystore.ErrNoKey), errors.Is(err, keystore.ErrMalformedKey), errors.Is(err, keystore.ErrKeyLocked):
		// That a key is locked concerns nobody outside: it is as if it were gone.
		if s.ErrorCodes == WindowsCodes {
			return bkrp.StatusInvalidData
		}
		return bkrp.StatusFileNotFound
	case errors.Is(err, bkrp.ErrClientSecret):
		return bkrp.StatusInvalidData
	case errors.Is(err, bkrp.ErrServerMAC):
		if s.ErrorCodes == WindowsCodes {
			return bkrp.StatusInvalidSID
		}
		return bkrp.StatusInvalidAccess
	case errors.Is(err, errOtherOwner):
		return bkrp.StatusInvalidAccess
	}
	return bkrp.StatusInternalError
}

func (s *Service) maxInput() int {
	if s.MaxInput > 0 {
		return s.MaxInput
	}
	return DefaultMaxInput
}

func (s *Service) logger() *slog.Logger {
	if s.Logger != nil {
		return s.Logger
	}
	return slog.Default()
}
