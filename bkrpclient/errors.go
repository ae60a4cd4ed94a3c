package bkrpclient

import (
	"errors"
	"fmt"

	"github.com/seed05845750/bkrp"
)

// ErrLogon is a logon the server refused: a wrong name or password, a disabled
// account, or one of another domain. errors.Is finds it.
var ErrLogon = errors.New("bkrpclient: logon refused by the server: check the domain, the user name and the password")

// ErrTicket is a Kerberos ticket for the server that is not to be had: nobody
// ran kinit, the KDC does not know the server by that name, or is away.
var ErrTicket = errors.New("bkrpclient: no Kerberos ticket for")

// ErrNoServer is a domain in which no writable domain controller was found; the
// DomainError around it says who was asked.
var ErrNoServer = errors.New("bkrpclient: no writable domain controller found")

// ErrResponse is an answer that the protocol does not allow; no part of it is
// used (C-3.2.4-06, C-3.2.4-07).
var ErrResponse = errors.New("bkrpclient: response breaks the protocol")

// ErrTooLarge is an input that is longer than the server takes; 4 MiB is a usual
// limit.
var ErrTooLarge = errors.New("bkrpclient: input is longer than the server takes")

// ErrClosed is a call on a Client that was closed, or whose connection was
// given up by an earlier call that did not end in time.
var ErrClosed = errors.New("bkrpclient: client is closed")

// ServerError is a nonzero answer of the server to one action. The protocol
// gives the caller no reason to tell the codes apart (C-3.2.4-17); they are
// here for people.
type ServerError struct {
	// Action is what was asked.
	Action bkrp.Action
	// Status is the Win32 code.
	Status bkrp.Status
}

// Error says what was refused, and what it usually means.
func (e *ServerError) Error() string {
	s := fmt.Sprintf("bkrpclient: %v: server answered %s", e.Action, e.Status.String())
	switch e.Status {
	case bkrp.StatusInvalidAccess:
		s += ": the secret belongs to another user, or was altered"
	case bkrp.StatusFileNotFound:
		s += ": the server does not have the key that the secret was wrapped with"
	case bkrp.StatusInvalidData:
		s += ": the secret is damaged, or the server does not have its key"
	case bkrp.StatusInvalidParameter:
		s += ": not a wrapped secret, or the server does not offer this action"
	}
	return s
}

// Unwrap gives the Status, for errors.As.
func (e *ServerError) Unwrap() error { return e.Status }
