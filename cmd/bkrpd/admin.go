package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/keyform"
	"github.com/seed05845750/bkrp/keystore"
)

// adminRequest is one thing an administrator asks of a store. It crosses the
// control socket as JSON; the socket is as private as the store.
type adminRequest struct {
	Verb     adminVerb `json:"verb"`
	Name     string    `json:"name,omitempty"`
	Password []byte    `json:"password,omitempty"`

	// Form and Keys are for verbKeysImport, Form and GUIDs for verbKeysExport,
	// which takes no GUIDs for all of them. Form is for the audit trail.
	Form  string         `json:"form,omitempty"`
	Keys  []*keyform.Key `json:"keys,omitempty"`
	GUIDs []dtyp.GUID    `json:"guids,omitempty"`

	// Life is for the verbs in lifeVerbs.
	Life *lifeRequest `json:"life,omitempty"`

	// Backup is for verbBackup.
	Backup *backupRequest `json:"backup,omitempty"`
}

// clear overwrites the secrets in the request.
func (r *adminRequest) clear() {
	clear(r.Password)
	clearKeys(r.Keys)
}

type adminVerb string

const (
	verbUserAdd    adminVerb = "user add"
	verbUserPasswd adminVerb = "user passwd"
	verbUserRemove adminVerb = "user remove"
	verbUserList   adminVerb = "user list"
	verbKeysImport adminVerb = "keys import"
	verbKeysExport adminVerb = "keys export"
	verbBackup     adminVerb = "backup"
)

// adminResponse is what came of it; Error is "" on success.
type adminResponse struct {
	Error string      `json:"error,omitempty"`
	Users []adminUser `json:"users,omitempty"`
	// Keys are those that were exported, or imported and then without secrets.
	Keys []*keyform.Key `json:"keys,omitempty"`
	// Left are the keys that were not exported with all the others, since their
	// private halves are in a token.
	Left []dtyp.GUID `json:"left,omitempty"`
	// Life answers the verbs in lifeVerbs. Again says of an error that it may go
	// away by itself.
	Life  *lifeResponse `json:"life,omitempty"`
	Again bool          `json:"again,omitempty"`
	// Backup answers verbBackup.
	Backup *backupResponse `json:"backup,omitempty"`
}

type adminUser struct {
	Name string   `json:"name"`
	SID  dtyp.SID `json:"sid"`
}

// administer does what was asked, in the process that has the store open.
func administer(ctx context.Context, store *keystore.Store, req *adminRequest, audit *keyAudit) *adminResponse {
	resp := new(adminResponse)
	var err error
	switch req.Verb {
	case verbKeysImport:
		resp.Keys, err = administerImport(ctx, store, req, audit)
	case verbKeysExport:
		resp.Keys, resp.Left, err = administerExport(ctx, store, req, audit)
	case verbBackup:
		resp.Backup, err = administerBackup(ctx, store, req.Backup, audit)
	default:
		if act, ok := lifeVerbs[req.Verb]; ok {
			resp.Life, err = administerLife(ctx, store, req, act, audit)
			break
		}
		resp.Users, err = administerUsers(ctx, store, req, audit)
	}
	if err != nil {
		return &adminResponse{Error: err.Error(), Again: errors.Is(err, keystore.ErrRekey)}
	}
	return resp
}

// administerUsers does what was asked of accounts. Changes are on the audit
// trail: who sets a password can log on as that account, and open its secrets.
func administerUsers(ctx context.Context, store *keystore.Store, req *adminRequest, audit *keyAudit) (users []adminUser, err error) {
	switch req.Verb {
	case verbUserAdd:
		var a keystore.Account
		if a, err = store.AddAccount(ctx, req.Name, string(req.Password)); err == nil {
			users = []adminUser{{a.Name, a.SID}}
		}
	case verbUserPasswd:
		err = store.SetPassword(ctx, req.Name, string(req.Password))
	case verbUserRemove:
		err = store.RemoveAccount(ctx, req.Name)
	case verbUserList:
		return listUsers(ctx, store)
	default:
		return nil, fmt.Errorf("the running daemon does not know %q: is it an older version?", req.Verb)
	}
	attrs := []slog.Attr{slog.String("account", req.Name)}
	for _, u := range users {
		attrs = append(attrs, slog.String("sid", u.SID.String()))
	}
	if err := errors.Join(err, audit.recordOther(ctx, req.Verb, err, attrs...)); err != nil {
		return nil, err
	}
	return users, nil
}

func listUsers(ctx context.Context, store *keystore.Store) ([]adminUser, error) {
	accounts, err := store.Accounts(ctx)
	if err != nil {
		return nil, err
	}
	users := make([]adminUser, len(accounts))
	for i, a := range accounts {
		users[i] = adminUser{a.Name, a.SID}
	}
	return users, nil
}

// ask has a request done by the running daemon over its control socket, or in
// this process when none runs.
func ask(ctx context.Context, std stdio, cfg *config, req *adminRequest) (*adminResponse, error) {
	s := newSession(std, cfg)
	resp, err := s.ask(ctx, req)
	if err := errors.Join(err, s.close()); err != nil {
		return nil, err
	}
	return resp, nil
}
