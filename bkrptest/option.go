package bkrptest

import (
	"log/slog"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/bkrpserver"
)

// Option changes what NewDomain makes.
type Option func(*options)

type options struct {
	dnsName, netbios string
	users            []string
	controllers      int
	readOnly         bool
	key              *bkrp.KeyPair
	log              *slog.Logger
	server           []func(*bkrpserver.Config)
}

// WithName names the domain: bkrp.test and BKRP otherwise.
func WithName(dnsName, netbios string) Option {
	return func(o *options) { o.dnsName, o.netbios = dnsName, netbios }
}

// WithUsers says who is in the domain: alice and bob otherwise.
func WithUsers(names ...string) Option { return func(o *options) { o.users = names } }

// WithControllers has n domain controllers, dc1 to dcN, with a server each, on the
// same keys: 1 otherwise.
func WithControllers(n int) Option { return func(o *options) { o.controllers = max(n, 1) } }

// WithReadOnly adds a domain controller, rodc, that says it is read-only when it
// is looked for, and where nothing is served. Clients pass it over (3.2.4).
func WithReadOnly() Option { return func(o *options) { o.readOnly = true } }

// WithKey has pair as the domain's key for ClientWrap, from bkrp.GenerateKeyPair
// for instance. Otherwise one is made when it is first asked for, which takes a
// tenth of a second or so; a pair that several tests share saves that.
func WithKey(pair *bkrp.KeyPair) Option { return func(o *options) { o.key = pair } }

// WithLogger has the servers and the store log to log; nothing is logged
// otherwise.
func WithLogger(log *slog.Logger) Option { return func(o *options) { o.log = log } }

// WithServer changes the configuration of each server before it starts. The
// Service in it is there already.
func WithServer(change func(*bkrpserver.Config)) Option {
	return func(o *options) { o.server = append(o.server, change) }
}
