// Package interpose lets package bkrptest stand between the RPC server and the
// service of package bkrpserver, to have it answer as a broken server would. No
// configuration leads to it: only who calls bkrpserver.Server.Serve with a context
// from here, from within this module.
package interpose

import (
	"context"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/dtyp"
)

// Caller is a bkrpserver.Caller.
type Caller struct {
	SID                              dtyp.SID
	Domain, Name, Mechanism, Address string
}

// Method is bkrpserver.Service.BackuprKey, with its caller settled.
type Method func(ctx context.Context, in []byte) ([]byte, bkrp.Status)

// Func answers a call in place of method, which it may ask.
type Func func(ctx context.Context, caller Caller, action bkrp.Action, in []byte, method Method) ([]byte, bkrp.Status)

type key struct{}

// With is a context under which f answers the calls of a server.
func With(ctx context.Context, f Func) context.Context { return context.WithValue(ctx, key{}, f) }

// From is what With was given, nil if nothing.
func From(ctx context.Context) Func {
	f, _ := ctx.Value(key{}).(Func)
	return f
}
