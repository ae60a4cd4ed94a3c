package bkrpserver

import (
	"context"
	"log/slog"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/keystore"
)

// alarmEvery is the least time between two alarms about one retired key.
const alarmEvery = time.Minute

// usedKey is a key of either subprotocol.
type usedKey interface {
	GUID() dtyp.GUID
	State() keystore.KeyState
	Used(sid dtyp.SID, use keystore.Use)
	RetiredUse(now time.Time, every time.Duration) (uses uint64, due bool)
}

// unwrapped counts a secret that its owner gets back, and raises the alarm where
// that still needed a retired key.
func (s *Service) unwrapped(ctx context.Context, ev *Event, key usedKey) {
	if ev.Caller.SID == sidCanary { // nobody's use; no call gets here with it
		return
	}
	key.Used(ev.Caller.SID, keystore.UseUnwrap)
	if key.State() != keystore.KeyRetired {
		return
	}
	if uses, due := key.RetiredUse(ev.Time, alarmEvery); due {
		s.logger().LogAttrs(ctx, slog.LevelWarn, "alarm: a retired key was used",
			slog.String("key", key.GUID().String()), slog.String("sid", ev.Caller.SID.String()), slog.Uint64("uses", uses))
	}
}
