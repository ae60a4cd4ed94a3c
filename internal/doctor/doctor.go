// Package doctor finds out whether the BackupKey servers of a domain, or one of
// them, are well: reached, of a secure configuration, in possession of the same
// keys, and able to open what was wrapped under these. What it finds is a list
// of findings, each of which says what to do next.
//
// ExamineDomain looks at every domain controller that DNS names, ExamineServer
// at one. Both call as an ordinary user, and leave nothing behind: the protocol
// keeps no secrets. Everything is bounded in time, and a server that does not
// answer keeps no other waiting.
//
// With Options.Oracle malformed secrets are sent as well, a few dozen, to see
// whether the answers tell what a secret has inside. That is a comparison of
// answers and no attack, and no measurement of times.
package doctor

import (
	"context"
	"time"

	"github.com/seed05845750/bkrp/bkrpclient"
)

// What the zero Options come to.
const (
	// DefaultTimeout bounds the examination of one server.
	DefaultTimeout = 2 * time.Minute
	// DefaultParallel is how many servers are examined at a time.
	DefaultParallel = 8
)

// Options say what to look at, and for how long.
type Options struct {
	// Oracle sends malformed secrets, and compares the answers. It is for servers
	// of one's own.
	Oracle bool
	// Timeout bounds the examination of one server, 0 is DefaultTimeout.
	Timeout time.Duration
	// Parallel is how many are examined at a time, 0 is DefaultParallel.
	Parallel int
	// Now is the clock that the servers' are compared with; nil is time.Now.
	Now func() time.Time
	// Examined is called when the examination of one more server of a domain has
	// ended, with the number of those and of all there are; nil is nobody. It is
	// called by one goroutine at a time, and does not block.
	Examined func(ended, servers int)
}

func (o Options) withDefaults() Options {
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Parallel <= 0 {
		o.Parallel = DefaultParallel
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Examined == nil {
		o.Examined = func(int, int) {}
	}
	return o
}

// ExamineServer examines the one server that cfg names.
func ExamineServer(ctx context.Context, cfg bkrpclient.Config, o Options) *Report {
	p := newPatient(cfg, o.withDefaults(), "")
	p.examine(ctx)
	return &Report{Servers: []*Server{p.report}}
}
