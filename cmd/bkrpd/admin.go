package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/keystore"
)

// adminRequest is one thing an administrator asks of a store. It crosses the
// control socket as JSON; the socket is as private as the store.
type adminRequest struct {
	Verb     adminVerb `json:"verb"`
	Name     string    `json:"name,omitempty"`
	Password []byte    `json:"password,omitempty"`
	Key      *adminKey `json:"key,omitempty"`
}

type adminVerb string

const (
	verbUserAdd    adminVerb = "user add"
	verbUserPasswd adminVerb = "user passwd"
	verbUserRemove adminVerb = "user remove"
	verbUserList   adminVerb = "user list"
	verbKeysImport adminVerb = "keys import"
)

// adminResponse is what came of it; Error is "" on success.
type adminResponse struct {
	Error string      `json:"error,omitempty"`
	Users []adminUser `json:"users,omitempty"`
}

type adminUser struct {
	Name string   `json:"name"`
	SID  dtyp.SID `json:"sid"`
}

// administer does what was asked, in the process that has the store open.
func administer(ctx context.Context, store *keystore.Store, req *adminRequest) *adminResponse {
	var users []adminUser
	var err error
	if req.Verb == verbKeysImport {
		err = administerImport(ctx, store, req.Key)
	} else {
		users, err = administerUsers(ctx, store, req)
	}
	if err != nil {
		return &adminResponse{Error: err.Error()}
	}
	return &adminResponse{Users: users}
}

func administerUsers(ctx context.Context, store *keystore.Store, req *adminRequest) ([]adminUser, error) {
	switch req.Verb {
	case verbUserAdd:
		a, err := store.AddAccount(ctx, req.Name, string(req.Password))
		if err != nil {
			return nil, err
		}
		return []adminUser{{a.Name, a.SID}}, nil
	case verbUserPasswd:
		return nil, store.SetPassword(ctx, req.Name, string(req.Password))
	case verbUserRemove:
		return nil, store.RemoveAccount(ctx, req.Name)
	case verbUserList:
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
	return nil, fmt.Errorf("the running daemon does not know %q: is it an older version?", req.Verb)
}

// ask has a request done by the running daemon over its control socket, or in
// this process when none runs.
func ask(ctx context.Context, cfg *config, req *adminRequest) (*adminResponse, error) {
	resp, err := askDaemon(ctx, cfg.Control, req)
	if errors.Is(err, errNoDaemon) {
		resp, err = askStore(ctx, cfg, req)
	}
	if err != nil {
		return nil, err
	}
	if resp.Error != "" {
		return nil, errors.New(resp.Error)
	}
	return resp, nil
}

func askStore(ctx context.Context, cfg *config, req *adminRequest) (*adminResponse, error) {
	store, closeStore, err := openStore(ctx, cfg, nil)
	if err != nil {
		return nil, err
	}
	resp := administer(ctx, store, req)
	return resp, closeStore()
}
