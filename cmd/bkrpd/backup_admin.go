package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"time"

	"filippo.io/age"

	"github.com/seed05845750/bkrp/internal/backup"
	"github.com/seed05845750/bkrp/internal/split"
	"github.com/seed05845750/bkrp/keystore"
)

// backupRequest asks for a backup. The store's content leaves the process that
// has it open encrypted only.
type backupRequest struct {
	// To are age recipients, and Verifier that of a split, if one of them is of
	// its secret.
	To       []string `json:"to"`
	Verifier []byte   `json:"verifier,omitempty"`
	// SkipDamaged has a damaged store backed up without what is damaged.
	SkipDamaged bool `json:"skipDamaged,omitempty"`
}

// backupResponse is a backup, and what is in it.
type backupResponse struct {
	Sealed   []byte          `json:"sealed"`
	Manifest backup.Manifest `json:"manifest"`
	// Problems is what is wrong with entries that are not damaged as such.
	Problems []string `json:"problems,omitempty"`
}

// administerBackup makes a backup, and puts it on the audit trail before it
// hands it out.
func administerBackup(ctx context.Context, store *keystore.Store, req *backupRequest, audit *keyAudit) (*backupResponse, error) {
	if req == nil {
		return nil, errors.New("the request does not say what a backup is encrypted to")
	}
	resp, err := makeBackup(ctx, store, req)
	if auditErr := audit.recordBackup(ctx, store, req, resp, err); err != nil || auditErr != nil {
		return nil, errors.Join(err, auditErr)
	}
	return resp, nil
}

func makeBackup(ctx context.Context, store *keystore.Store, req *backupRequest) (*backupResponse, error) {
	to, err := req.recipients()
	if err != nil {
		return nil, err
	}
	dump, err := store.Dump(ctx)
	if err != nil {
		return nil, err
	}
	b := backup.New(dump, program(), time.Now())
	defer b.Clear()
	if len(dump.Damaged) > 0 && !req.SkipDamaged {
		return nil, fmt.Errorf("%w: %s; restore a backup from before, or add --skip-damaged to back up the rest",
			backup.ErrDumpDamaged, strings.Join(dump.Damaged, ", "))
	}
	resp := &backupResponse{Manifest: b.Manifest}
	for _, problem := range dump.Check() {
		resp.Problems = append(resp.Problems, problem.Error())
	}
	var sealed bytes.Buffer
	if err := b.Seal(&sealed, to...); err != nil {
		return nil, err
	}
	resp.Sealed = sealed.Bytes()
	return resp, nil
}

// recipients are at least one who can open the backup, and the verifier.
func (r *backupRequest) recipients() (to []age.Recipient, err error) {
	if len(r.To) == 0 {
		return nil, errors.New("a backup is not written in the clear: it needs a recipient")
	}
	for _, text := range r.To {
		one, err := age.ParseRecipients(strings.NewReader(text))
		if err != nil {
			return nil, errors.New("a recipient does not begin with age1, or is damaged")
		}
		to = append(to, one...)
	}
	if len(r.Verifier) == 0 {
		return to, nil
	}
	v, err := split.ParseVerifier(r.Verifier)
	if err != nil {
		return nil, err
	}
	return append(to, backup.VerifierRecipient(v)), nil
}

// recordBackup puts a backup on the trail. An error means that it may not be
// handed out.
func (a *keyAudit) recordBackup(ctx context.Context, store *keystore.Store, req *backupRequest, resp *backupResponse, failure error) error {
	attrs := []slog.Attr{slog.String("store", store.ID().String()), slog.Any("to", req.To), slog.Bool("shares", len(req.Verifier) > 0)}
	if resp != nil {
		attrs = append(attrs, slog.Int("keys", len(resp.Manifest.Keys)), slog.Int("accounts", resp.Manifest.Accounts))
	}
	return a.recordOther(ctx, verbBackup, failure, attrs...)
}

// recordOther puts something on the trail that was done with no key in particular:
// with all of a store, or with an account.
func (a *keyAudit) recordOther(ctx context.Context, verb adminVerb, failure error, attrs ...slog.Attr) error {
	level, status := slog.LevelInfo, "ok"
	if failure != nil {
		level, status = slog.LevelWarn, "refused"
		attrs = append(attrs, slog.String("reason", failure.Error()))
	}
	r := slog.NewRecord(time.Now(), level, "audit", 0)
	r.AddAttrs(slog.String("action", string(verb)), slog.Int("uid", a.UID), slog.String("status", status))
	r.AddAttrs(attrs...)
	if err := a.Log.Handler().Handle(context.WithoutCancel(ctx), r); err != nil {
		return fmt.Errorf("the audit trail could not be written: %w", err)
	}
	return nil
}

// program names this program and its version.
func program() string {
	version := "(devel)"
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		version = info.Main.Version
	}
	return "bkrpd " + version
}
