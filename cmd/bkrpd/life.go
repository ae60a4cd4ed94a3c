package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/keystore"
)

const (
	verbKeysList     adminVerb = "keys list"
	verbKeysShow     adminVerb = "keys show"
	verbKeysWho      adminVerb = "keys who"
	verbKeysReplicas adminVerb = "keys replicas"
	verbKeysState    adminVerb = "keys state"
	verbKeysCreate   adminVerb = "keys rotate create"
	verbKeysPrefer   adminVerb = "keys rotate prefer"
	verbKeysRotation adminVerb = "keys rotation"
	verbKeysRollback adminVerb = "keys rollback"
	verbRekeyStatus  adminVerb = "rekey status"
	verbRekeyBegin   adminVerb = "rekey begin"
	verbRekeyReseal  adminVerb = "rekey reseal"
	verbRekeyFinish  adminVerb = "rekey finish"
	verbRekeyAbandon adminVerb = "rekey abandon"
)

// lifeRequest is what the verbs about the life of keys need.
type lifeRequest struct {
	GUID  dtyp.GUID         `json:"guid,omitzero"`
	Kind  *keystore.KeyKind `json:"kind,omitempty"`
	State keystore.KeyState `json:"state"`
	// Resume has verbKeysCreate go on with a rotation that was begun.
	Resume bool `json:"resume,omitempty"`
	// KEK is the next key-encryption key, as in seal.kek, and Create has it made.
	KEK    string `json:"kek,omitempty"`
	Create bool   `json:"create,omitempty"`
}

// lifeResponse is what they answer.
type lifeResponse struct {
	Keys     []keyEntry     `json:"keys,omitempty"`
	Callers  *callersEntry  `json:"callers,omitempty"`
	Replicas []replicaEntry `json:"replicas,omitempty"`
	Rotation *rotationEntry `json:"rotation,omitempty"`
	KEK      *kekEntry      `json:"kek,omitempty"`
	// Behind says why the numbers of use are from before what the server counted
	// last; "" if they are not.
	Behind string `json:"behind,omitempty"`
}

// lifeVerb does what one of the verbs asks for.
type lifeVerb struct {
	// changes says that it is put on the audit trail.
	changes bool
	act     func(ctx context.Context, store *keystore.Store, req *lifeRequest) (*lifeResponse, error)
}

var lifeVerbs = map[adminVerb]lifeVerb{
	verbKeysList:     {act: listKeys},
	verbKeysShow:     {act: showKey},
	verbKeysWho:      {act: whoUsed},
	verbKeysReplicas: {act: listReplicas},
	verbKeysState:    {changes: true, act: setState},
	verbKeysCreate:   {changes: true, act: createRotation},
	verbKeysPrefer:   {changes: true, act: preferRotation},
	verbKeysRollback: {changes: true, act: rollBackRotation},
	verbKeysRotation: {act: showRotation},
	verbRekeyStatus:  {act: rekeyStatus},
	verbRekeyBegin:   {changes: true, act: beginRekey},
	verbRekeyReseal:  {act: reseal},
	verbRekeyFinish:  {changes: true, act: finishRekey},
	verbRekeyAbandon: {changes: true, act: abandonRekey},
}

// administerLife does what was asked, and puts on the audit trail who had it
// done and what came of it.
func administerLife(ctx context.Context, store *keystore.Store, req *adminRequest, verb lifeVerb, audit *keyAudit) (*lifeResponse, error) {
	if req.Life == nil {
		req.Life = new(lifeRequest)
	}
	resp, err := verb.act(ctx, store, req.Life)
	if verb.changes {
		err = errors.Join(err, audit.change(ctx, req, resp, err))
	}
	return resp, err
}

// change puts a change in the life of keys on the trail.
func (a *keyAudit) change(ctx context.Context, req *adminRequest, resp *lifeResponse, failure error) error {
	level, status := slog.LevelInfo, "ok"
	if failure != nil {
		level, status = slog.LevelWarn, "refused"
	}
	r := slog.NewRecord(time.Now(), level, "audit", 0)
	r.AddAttrs(slog.String("action", string(req.Verb)), slog.Int("uid", a.UID))
	switch {
	case resp != nil && resp.Rotation != nil:
		r.AddAttrs(slog.String("key", resp.Rotation.Next.String()), slog.String("previous", resp.Rotation.Previous.String()))
	case !req.Life.GUID.IsZero():
		r.AddAttrs(slog.String("key", req.Life.GUID.String()), slog.String("state", req.Life.State.String()))
	case req.Life.Kind != nil:
		r.AddAttrs(slog.String("kind", req.Life.Kind.String()))
	case req.Life.KEK != "":
		r.AddAttrs(slog.String("kek", req.Life.KEK))
	}
	r.AddAttrs(slog.String("status", status))
	if resp != nil && resp.KEK != nil {
		r.AddAttrs(slog.Any("opens", resp.KEK.KEKs))
	}
	if failure != nil {
		r.AddAttrs(slog.String("reason", failure.Error()))
	}
	if err := a.Log.Handler().Handle(context.WithoutCancel(ctx), r); err != nil {
		return fmt.Errorf("the audit trail could not be written: %w", err)
	}
	return nil
}

// setState retires, locks or activates a key.
func setState(ctx context.Context, store *keystore.Store, req *lifeRequest) (*lifeResponse, error) {
	err := store.SetKeyState(ctx, req.GUID, req.State)
	if errors.Is(err, keystore.ErrKeyCurrent) {
		err = fmt.Errorf("%w (bkrpd keys rotate)", err)
	}
	if err != nil {
		return nil, err
	}
	return showKey(ctx, store, req)
}

// rotationEntry is a rotation and who holds it up.
type rotationEntry struct {
	Kind     keystore.KeyKind       `json:"kind"`
	Phase    keystore.RotationPhase `json:"phase"`
	Next     dtyp.GUID              `json:"next"`
	Previous dtyp.GUID              `json:"previous,omitzero"`
	Lacking  []string               `json:"lacking,omitempty"`
	// Resumed says that it had been begun before.
	Resumed bool `json:"resumed,omitempty"`
}

func rotationOf(r keystore.Rotation, lacking []keystore.Replica) *lifeResponse {
	e := &rotationEntry{Kind: r.Kind, Phase: r.Phase, Next: r.Next, Previous: r.Previous}
	for _, l := range lacking {
		e.Lacking = append(e.Lacking, l.Name)
	}
	return &lifeResponse{Rotation: e}
}

func (r *lifeRequest) kind() (keystore.KeyKind, error) {
	if r.Kind == nil {
		return 0, errors.New("no kind of key in the request")
	}
	return *r.Kind, nil
}

func createRotation(ctx context.Context, store *keystore.Store, req *lifeRequest) (*lifeResponse, error) {
	kind, err := req.kind()
	if err != nil {
		return nil, err
	}
	r, err := store.BeginRotation(ctx, kind)
	if errors.Is(err, keystore.ErrRotation) && req.Resume {
		// One is under way that can still be ended: one that cannot does not keep
		// BeginRotation from a new one.
		if last, lastErr := store.Rotation(ctx, kind); lastErr == nil && last.Phase == keystore.RotationCreated {
			resp := rotationOf(last, nil)
			resp.Rotation.Resumed = true
			return resp, nil
		}
	}
	if errors.Is(err, keystore.ErrRotation) {
		err = fmt.Errorf("%w (bkrpd keys rotate --phase prefer, or bkrpd keys rollback)", err)
	}
	if err != nil {
		return nil, err
	}
	return rotationOf(r, nil), nil
}

func showRotation(ctx context.Context, store *keystore.Store, req *lifeRequest) (*lifeResponse, error) {
	kind, err := req.kind()
	if err != nil {
		return nil, err
	}
	r, err := store.Rotation(ctx, kind)
	if err != nil {
		return nil, err
	}
	lacking, err := store.Lacking(ctx, r.Next)
	if err != nil {
		return nil, err
	}
	return rotationOf(r, lacking), nil
}

func preferRotation(ctx context.Context, store *keystore.Store, req *lifeRequest) (*lifeResponse, error) {
	kind, err := req.kind()
	if err != nil {
		return nil, err
	}
	r, err := store.PreferRotation(ctx, kind)
	if err != nil {
		return nil, err
	}
	return rotationOf(r, nil), nil
}

func rollBackRotation(ctx context.Context, store *keystore.Store, req *lifeRequest) (*lifeResponse, error) {
	kind, err := req.kind()
	if err != nil {
		return nil, err
	}
	r, err := store.RollBackRotation(ctx, kind)
	if err != nil {
		return nil, err
	}
	return rotationOf(r, nil), nil
}
