package bkrpserver

import (
	"context"
	"log/slog"
	"time"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/keystore"
)

// Event is what the audit trail keeps of one call: of BackuprKey, or of a try to
// read a key as an LSA secret. It never holds a byte of a secret, a wrapped
// secret, or a key.
type Event struct {
	// Time is when the call came in.
	Time time.Time
	// Caller is who asked, as authenticated.
	Caller Caller
	// Action is what BackuprKey was asked for; zero for the LSA.
	Action bkrp.Action
	// Operation is the call of the LSA, such as "LsarQuerySecret", and Secret
	// the name it was given; both "" for BackuprKey.
	Operation, Secret string
	// Key is the key the call named or was given; zero when the call ended
	// before one was known.
	Key dtyp.GUID
	// KeyState is that key's state: KeyRetired where it should be of no use any
	// more and was, KeyLocked where the call was refused for it.
	KeyState keystore.KeyState
	// Owner is the SID a wrapped secret belongs to, once its integrity was
	// proved; zero before that. It differs from Caller.SID when somebody
	// asked for another one's secret.
	Owner dtyp.SID
	// Status is the answer.
	Status bkrp.Status
	// Reason says why the call was refused, for the operator; "" on success.
	Reason string
}

// Auditor takes the record of a call before its answer is given. An error
// turns the answer into bkrp.StatusInternalError: a secret that cannot be
// accounted for is not handed out. It is called from many goroutines at once,
// and its context does not end when the caller goes away.
type Auditor func(context.Context, *Event) error

// LogAuditor writes each event as one line of log: at level Info when the call
// succeeded, at level Warn otherwise. What log does not take at that level is
// not kept. An error of log's handler is the Auditor's, unlike with the methods
// of slog.Logger, which drop it.
func LogAuditor(log *slog.Logger) Auditor {
	return func(ctx context.Context, e *Event) error {
		level := slog.LevelInfo
		if e.Status != bkrp.StatusOK {
			level = slog.LevelWarn
		}
		if !log.Enabled(ctx, level) {
			return nil
		}
		attrs := make([]slog.Attr, 0, 11)
		if e.Operation == "" {
			attrs = append(attrs, slog.String("action", e.Action.String()))
		} else {
			attrs = append(attrs, slog.String("action", e.Operation), slog.String("secret", e.Secret))
		}
		attrs = append(attrs,
			slog.String("sid", e.Caller.SID.String()),
			slog.String("account", e.Caller.Account()),
			slog.String("mechanism", e.Caller.Mechanism),
			slog.String("peer", e.Caller.Address),
			slog.String("status", e.Status.String()),
		)
		if !e.Key.IsZero() {
			attrs = append(attrs, slog.String("key", e.Key.String()))
		}
		if e.KeyState != keystore.KeyActive {
			attrs = append(attrs, slog.String("state", e.KeyState.String()))
		}
		if !e.Owner.IsZero() && e.Owner != e.Caller.SID {
			attrs = append(attrs, slog.String("owner", e.Owner.String()))
		}
		if e.Reason != "" {
			attrs = append(attrs, slog.String("reason", e.Reason))
		}
		record := slog.NewRecord(e.Time, level, "audit", 0)
		record.AddAttrs(attrs...)
		return log.Handler().Handle(ctx, record)
	}
}
