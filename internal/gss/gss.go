// Package gss is the seam between the protocols that need a security context
// (SMB session setup, RPC authentication) and the mechanisms that make one
// (spnego, ntlm, krb5). It follows the shape of GSS-API (RFC 2743) where that
// fits and the needs of [MS-RPCE] 2.2.2.11 and [MS-SMB2] 3.3.5.5 where it
// does not.
//
// It holds types only; the mechanisms live in the packages below it.
package gss

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
)

// Flags are the properties of a context, as asked for and as granted
// (RFC 2743 1.2, [MS-KILE] 3.1.1.2, [MS-NLMP] 3.1.1.2).
type Flags uint32

const (
	// Mutual asks that the acceptor prove itself too.
	Mutual Flags = 1 << iota
	// Integrity asks for Sign and Verify.
	Integrity
	// Confidentiality asks for Seal and Unseal.
	Confidentiality
	// Sequence asks that signatures carry sequence numbers, checked in order.
	Sequence
	// DCEStyle asks for the three legs of DCE RPC ([MS-KILE] 3.4.5.1).
	DCEStyle
	// Identify limits the acceptor to identifying the caller, without
	// impersonation.
	Identify
)

// Sentinels that tell apart why a logon was refused. A caller on the network
// sees one and the same refusal; the difference is for the operator's log.
var (
	// ErrToken is a token that is not what the protocol asks for.
	ErrToken = errors.New("gss: malformed or unexpected token")
	// ErrLogon is a wrong name, password, or proof of either.
	ErrLogon = errors.New("gss: logon failure")
	// ErrRefused is a caller who proved something that is not let in:
	// anonymous, guest, an old form of NTLM, a disabled account.
	ErrRefused = errors.New("gss: logon refused by policy")
	// ErrMechanism is a peer with whom no mechanism is shared.
	ErrMechanism = errors.New("gss: no mechanism in common")
	// ErrExpired is a context or ticket that is past its time.
	ErrExpired = errors.New("gss: credentials expired")
	// ErrSignature is a message whose signature or sequence number is wrong.
	// The context is of no more use after it.
	ErrSignature = errors.New("gss: bad message signature")
)

// Identity is what an accepted context says of the caller.
type Identity struct {
	// SID is the one SID of the caller; it alone decides about access.
	SID dtyp.SID
	// Domain and Name are the account's, for the log and for GetUserName.
	Domain, Name string
	// Mechanism is "ntlm" or "krb5".
	Mechanism string
	// Groups are further SIDs the domain vouches for. Only the list of LSA
	// administrators looks at them.
	Groups []dtyp.SID
}

// String is DOMAIN\name and the SID, for logs.
func (id Identity) String() string {
	return id.Domain + `\` + id.Name + " (" + id.SID.String() + ")"
}

// AcceptOptions are what the protocol knows about one accept.
type AcceptOptions struct {
	// DCEStyle says that the context is for RPC.
	DCEStyle bool
	// Peer is the caller's address, for the log; nil if unknown.
	Peer net.Addr
}

// InitiateOptions are what the protocol asks of one context.
type InitiateOptions struct {
	// Target is the service principal name, such as "cifs/dc1.example".
	Target string
	// Flags are asked for; Context.Flags says what was granted.
	Flags Flags
}

// Acceptor makes the server's end of contexts. It is safe for concurrent use.
type Acceptor interface {
	Accept(AcceptOptions) Exchange
}

// Initiator makes the client's end of contexts. It is safe for concurrent use.
type Initiator interface {
	Initiate(InitiateOptions) Exchange
}

// Exchange is one end of a context while it is being established. It is used
// by one goroutine at a time.
type Exchange interface {
	// Step takes the peer's token (nil at an initiator's first step) and
	// returns the token for the peer, nil if there is none. When the context
	// stands, sc is not nil, and out is still to be sent if there is one.
	// After an error the exchange is dead; out may then hold the token that
	// tells the peer so. ctx bounds look-ups of accounts.
	Step(ctx context.Context, in []byte) (out []byte, sc Context, err error)
}

// Context is an established security context. One goroutine may protect
// messages while another one unprotects; each direction is used by one
// goroutine at a time, in the order of the messages on the wire.
type Context interface {
	// Identity is the caller's, at the acceptor; the zero Identity at an
	// initiator.
	Identity() Identity
	// Flags are those granted.
	Flags() Flags
	// SessionKey is the key that SMB and LSA derive theirs from, 16 octets
	// for NTLM; up to 32 for Kerberos.
	SessionKey() []byte
	// Expiry is when the context ends; zero if it does not.
	Expiry() time.Time

	// SignatureSize is the length of what Seal appends for a message of any
	// length, in octets; SignSize is the same for Sign.
	SignatureSize() int
	SignSize() int
	// Seal encrypts msg[from:to] in place and appends to dst the signature
	// over all of msg as it was before ([MS-RPCE] 2.2.2.11: with header
	// signing msg is the whole PDU up to the signature).
	Seal(dst, msg []byte, from, to int) ([]byte, error)
	// Unseal decrypts msg[from:to] in place and checks sig over all of msg.
	// On error msg holds garbage and the context is of no more use.
	Unseal(msg []byte, from, to int, sig []byte) error
	// Sign appends the signature over msg to dst.
	Sign(dst, msg []byte) ([]byte, error)
	// Verify checks sig over msg.
	Verify(msg, sig []byte) error
}

// WholePDU is a Context whose signatures in RPC cover the whole PDU up to the
// signature even where header signing was not negotiated and [MS-RPCE]
// 2.2.2.11 would have it cover the stub alone: NTLM with extended session
// security signs every buffer ([MS-NLMP] 3.4.6.1, 3.4.9.1). impacket is a
// client that relies on it.
type WholePDU interface {
	Context
	// SignsWholePDU is always true.
	SignsWholePDU() bool
}
