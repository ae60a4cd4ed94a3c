package smb2

import (
	"errors"
	"time"
)

// Limits bound what clients can make the server hold and do. A zero field
// takes its default; there is no way to say "unbounded" except where a field
// says so.
//
// The worst that hostile clients can make of the memory, besides what
// PipeFuncs hold:
//   - A connection before its logon has 3 KiB, and 4 KiB for each of its Sessions
//     that is half way; while a frame comes as much as the frame is long, at most
//     68 KiB, and as little for the answer. With the defaults that is some 110 MiB
//     for one address and 430 MiB for all.
//   - A connection with a session has two frames, 160 KiB, while a request is
//     worked off and its answer is taken, which StallTimeout bounds; 160 MiB for
//     one address and 640 MiB for all.
//   - An open pipe has Transfer and twice PipeBuffer, and one message of its
//     PipeFunc, if the client writes without reading: 192 KiB and the message.
//     OpensPerUser of them come to 768 MiB for one user.
type Limits struct {
	// Connections is the most connections at a time; default 4096. A further
	// one is closed as soon as it is accepted.
	Connections int
	// ConnectionsPerAddress is the same for one client address; default 1024.
	ConnectionsPerAddress int
	// AuthTimeout bounds the time from the connection to the end of its first
	// logon, and from the first to the last message of each later logon. A
	// connection whose last session has ended gets it once more; default 15 s.
	AuthTimeout time.Duration
	// AuthBytes bounds what a connection may send while it has no session, in
	// octets; default 256 KiB.
	AuthBytes int
	// LogonFailures is how many logons of a connection may be refused; default
	// 10. The next attempt ends the connection, whoever else is logged on: it
	// is what slows down guessing over one connection.
	LogonFailures int
	// Sessions is the most sessions of a connection, those still logging on
	// included; default 8.
	Sessions int
	// Trees is the most tree connects of a session; default 16.
	Trees int
	// Opens is the most open pipes of a connection, closed ones whose
	// PipeFunc still runs included; default 64.
	Opens int
	// OpensPerUser is the most open pipes of one user on all connections
	// together, counted in the same way; default 4096.
	OpensPerUser int
	// Outstanding is the most requests of a connection that wait for an
	// answer of a pipe; default 128.
	Outstanding int
	// Credits is the most credits in the hands of a client; default 512, at
	// most 8192.
	Credits int
	// Transfer is the largest read, write and transaction, in octets; default
	// 64 KiB, at most 8 MiB. A frame may be 16 KiB larger.
	Transfer int
	// PipeBuffer is how much a pipe holds in each direction before its writer
	// waits, in octets; default 64 KiB. One message may overshoot it.
	PipeBuffer int
	// Compound is the most requests in one frame; default 32. Their responses
	// fit into one frame, too; a read for which there is no room is refused.
	Compound int
	// IdleTimeout closes a connection from which nothing came for so long;
	// default 0, which is never.
	IdleTimeout time.Duration
	// StallTimeout bounds the time that a client takes to send the rest of a
	// frame it has begun, and to take a response; default 30 s. It may be up
	// to half as short for responses.
	StallTimeout time.Duration
}

const (
	maxTransfer = 8 << 20
	maxCredits  = 8192
	// frameOverhead is what a frame may be larger than a transfer: headers,
	// names, contexts and security tokens of up to 64 KiB fit in any case.
	frameOverhead = 16 << 10
	// minFrame admits the largest security token and its headers.
	minFrame = 68 << 10
)

var errLimits = errors.New("smb2: a limit is negative or too large")

// withDefaults gives l with its zero fields filled in.
func (l Limits) withDefaults() (Limits, error) {
	for _, f := range []struct {
		v    *int
		def  int
		most int
	}{
		{&l.Connections, 4096, 1 << 24},
		{&l.ConnectionsPerAddress, 1024, 1 << 24},
		{&l.AuthBytes, 256 << 10, 1 << 30},
		{&l.LogonFailures, 10, 1 << 16},
		{&l.Sessions, 8, 1 << 16},
		{&l.Trees, 16, 1 << 16},
		{&l.Opens, 64, 1 << 16},
		{&l.OpensPerUser, 4096, 1 << 24},
		{&l.Outstanding, 128, 1 << 16},
		{&l.Credits, 512, maxCredits},
		{&l.Transfer, 64 << 10, maxTransfer},
		{&l.PipeBuffer, 64 << 10, 1 << 30},
		{&l.Compound, 32, 1 << 10},
	} {
		if *f.v < 0 || *f.v > f.most {
			return l, errLimits
		}
		if *f.v == 0 {
			*f.v = f.def
		}
	}
	if l.AuthTimeout < 0 || l.IdleTimeout < 0 || l.StallTimeout < 0 {
		return l, errLimits
	}
	if l.AuthTimeout == 0 {
		l.AuthTimeout = 15 * time.Second
	}
	if l.StallTimeout == 0 {
		l.StallTimeout = 30 * time.Second
	}
	return l, nil
}

// frame is the largest frame, in octets.
func (l *Limits) frame() int { return max(l.Transfer+frameOverhead, minFrame) }
