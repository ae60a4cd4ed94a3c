package main

import (
	"context"
	"errors"
	"log/slog"
	"os"

	"github.com/seed05845750/bkrp/internal/cli"
	"github.com/seed05845750/bkrp/keystore"
)

// session is where the requests of one command are done: by the running daemon,
// or when none runs in this process, which then has the store open for as long.
type session struct {
	std   stdio
	cfg   *config
	store *keystore.Store // nil until it turns out that no daemon runs
	end   func() error
}

func newSession(std stdio, cfg *config) *session {
	return &session{std: std, cfg: cfg, end: func() error { return nil }}
}

// close closes the store.
func (s *session) close() error { return s.end() }

// refusal is an error that came of a request.
type refusal struct {
	text  string
	again bool // it may go away by itself
}

func (r *refusal) Error() string { return r.text }

// ask has one request done. What takes long of it is said on a terminal.
func (s *session) ask(ctx context.Context, req *adminRequest) (*adminResponse, error) {
	defer cli.ShowProgress(s.std.err, cli.Doing(string(req.Verb)))()
	resp, err := s.do(ctx, req)
	if err != nil {
		return nil, err
	}
	if resp.Error != "" {
		return nil, &refusal{resp.Error, resp.Again}
	}
	return resp, nil
}

func (s *session) do(ctx context.Context, req *adminRequest) (*adminResponse, error) {
	if s.store == nil {
		resp, err := askDaemon(ctx, s.cfg.Control, req)
		if !errors.Is(err, errNoDaemon) {
			return resp, err
		}
		if s.store, s.end, err = openStore(ctx, s.cfg, keystore.Options{}); err != nil {
			s.end = func() error { return nil }
			return nil, err
		}
	}
	return administer(ctx, s.store, req, &keyAudit{
		Log: slog.New(auditHandler{newLogger(s.std.err, s.cfg).Handler()}), UID: os.Getuid(),
	}), nil
}
