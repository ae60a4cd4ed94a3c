package lsarpc

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/seed05845750/bkrp/internal/dcerpc"
	"github.com/seed05845750/bkrp/internal/gss"
	"github.com/seed05845750/bkrp/internal/ndr"
)

func TestRefusals(t *testing.T) {
	// Whoever is not let in learns nothing, and the audit learns of him if he was
	// after a secret.
	revoked := func(context.Context, gss.Identity) error { return ErrRevoked }
	for name, tt := range map[string]struct {
		caller gss.Identity
		level  dcerpc.AuthLevel
		vouch  func(context.Context, gss.Identity) error
		reason string
	}{
		"anonymous transport": {gss.Identity{}, dcerpc.LevelNone, nil, "nobody"},
		"a logon that protects nothing, which may have been relayed": {administrator, dcerpc.LevelConnect, nil, "relayed"},
		"an account that has ended":                                  {administrator, dcerpc.LevelPrivacy, revoked, "removed or disabled"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig()
			cfg.Vouch = tt.vouch
			var events []SecretEvent
			cfg.Audit = func(_ context.Context, e SecretEvent) error {
				events = append(events, e)
				return nil
			}
			s := newSession(cfg, tt.caller)
			s.level = tt.level
			for _, r := range append(recordings(t), recorded{opnum: opRetrievePrivateData}) {
				events = nil
				if _, err := s.call(r.opnum, r.request); err != dcerpc.FaultAccessDenied {
					t.Errorf("opnum %d: %v", r.opnum, err)
				}
				operation := map[uint16]string{28: "LsarOpenSecret", 30: "LsarQuerySecret", 43: "LsarRetrievePrivateData"}[r.opnum]
				switch {
				case operation == "" && len(events) != 0, operation != "" && len(events) != 1:
					t.Errorf("opnum %d: audit %+v", r.opnum, events)
				case operation != "":
					e := events[0]
					if e.Operation != operation || e.Granted || e.Found || e.Remote != remote ||
						e.Caller.SID != tt.caller.SID || !strings.Contains(e.Reason, tt.reason) {
						t.Errorf("opnum %d: audit %+v", r.opnum, e)
					}
				}
			}
		})
	}
	t.Run("an account of which nobody can tell", func(t *testing.T) {
		cfg, away := testConfig(), errors.New("store is away")
		cfg.Vouch = func(context.Context, gss.Identity) error { return away }
		s := newSession(cfg, administrator)
		if _, err := s.call(opGetUserName, nil); !errors.Is(err, away) {
			t.Error(err)
		}
	})
	t.Run("D-18 methods there are not", func(t *testing.T) {
		s := newSession(testConfig(), administrator)
		for _, opnum := range []uint16{1, 2, 7, 13, 16, 29, 42, 46, 0xffff} {
			if _, err := s.call(opnum, nil); err != dcerpc.FaultOpRange {
				t.Errorf("opnum %d: %v", opnum, err)
			}
		}
	})
	t.Run("stubs cut short", func(t *testing.T) {
		for _, r := range recordings(t) {
			for n := range len(r.request) - 4 {
				s := newSession(testConfig(), administrator)
				if _, err := s.call(r.opnum, r.request[:n]); !errors.Is(err, ndr.ErrStub) {
					t.Fatalf("opnum %d, %d octets: %v", r.opnum, n, err)
				}
			}
		}
	})
	t.Run("more than padding behind the stub", func(t *testing.T) {
		for _, r := range recordings(t) {
			s := newSession(testConfig(), administrator)
			if _, err := s.call(r.opnum, append(r.request, 0, 0, 0, 0)); !errors.Is(err, ndr.ErrStub) {
				t.Errorf("opnum %d: %v", r.opnum, err)
			}
		}
	})
}
