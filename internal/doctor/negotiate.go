package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/seed05845750/bkrp/internal/gss/spnego"
	"github.com/seed05845750/bkrp/internal/smb2/wire"
	"github.com/seed05845750/bkrp/internal/smbclient"
)

// negotiation is what a server answers to NEGOTIATE, and when.
type negotiation struct {
	*wire.NegotiateResponse
	sent, received time.Time
}

// negotiate asks a server for its dialect and what goes with it ([MS-SMB2] 2.2.3,
// 2.2.4), on a connection of its own.
func negotiate(ctx context.Context, address string, now func() time.Time) (*negotiation, error) {
	n := &negotiation{sent: now()}
	var err error
	if n.NegotiateResponse, err = smbclient.Negotiate(ctx, address); err != nil {
		return nil, err
	}
	n.received = now()
	return n, nil
}

// judge says what is good and bad about a negotiation.
func (n *negotiation) judge(s *Server) {
	if n.Dialect >= wire.Dialect300 {
		s.add(CheckDialect, OK, "", "SMB %v", n.Dialect)
	} else {
		s.add(CheckDialect, Warning, "let the server speak SMB 3.1.1: nothing older detects every forced downgrade", "SMB %v", n.Dialect)
	}
	switch {
	case n.SecurityMode&wire.SigningRequired != 0:
		s.add(CheckSigning, OK, "", "required")
	case n.SecurityMode&wire.SigningEnabled != 0:
		s.add(CheckSigning, Warning, "have the server require SMB signing (Samba: server signing = mandatory; Windows: RequireSecuritySignature): a log-on that was relayed to it is of use otherwise", "offered, not required")
	default:
		s.add(CheckSigning, Broken, "have the server sign SMB: clients of this protocol take nothing less", "not offered")
	}
	if cipher := n.cipher(); cipher != "" {
		s.add(CheckEncryption, OK, "", "offered, %s", cipher)
	} else {
		s.add(CheckEncryption, Note, "", "not offered; calls are sealed by RPC in any case")
	}
	n.judgeMechanisms(s)
	n.judgeClock(s)
}

// cipher is what the server would encrypt by, "" for nothing.
func (n *negotiation) cipher() string {
	if n.Dialect != wire.Dialect311 {
		if n.Dialect >= wire.Dialect300 && n.Capabilities&wire.CapEncryption != 0 {
			return "AES-128-CCM"
		}
		return ""
	}
	for _, c := range n.Contexts {
		if c.Type != wire.ContextEncryption {
			continue
		}
		chosen, err := wire.ParseAlgorithms(c.Data)
		if err != nil {
			return ""
		}
		switch wire.Cipher(chosen[0]) {
		case wire.AES128CCM:
			return "AES-128-CCM"
		case wire.AES128GCM:
			return "AES-128-GCM"
		case wire.AES256CCM:
			return "AES-256-CCM"
		case wire.AES256GCM:
			return "AES-256-GCM"
		}
	}
	return ""
}

// judgeMechanisms reads the list of SPNEGO.
func (n *negotiation) judgeMechanisms(s *Server) {
	if len(n.Token) == 0 {
		s.add(CheckMechanisms, Note, "", "the server does not say; the client speaks first")
		return
	}
	oids, err := spnego.Offered(n.Token)
	if err != nil {
		s.add(CheckMechanisms, Warning, "look at what answers at this port: the list is no SPNEGO", "not readable: %v", err)
		return
	}
	var names []string
	for _, oid := range oids {
		name := oid.String()
		switch {
		case oid.Equal(spnego.Kerberos()), oid.Equal(spnego.MSKerberos()):
			name = "Kerberos"
		case oid.Equal(spnego.NTLM()):
			name = "NTLM"
		case name == "1.3.6.1.4.1.311.2.2.30":
			name = "NEGOEX"
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	level, next := OK, ""
	if !slices.Contains(names, "Kerberos") {
		level, next = Note, "give the server a keytab if it is to prove to clients which one it is: only Kerberos does"
	}
	s.add(CheckMechanisms, level, next, "%s", strings.Join(names, ", "))
}

// Kerberos allows 5 minutes; a server that keeps time at all is within seconds.
const (
	skewWarning = 30 * time.Second
	skewBroken  = 5 * time.Minute
)

// judgeClock compares the clocks; the answer was written somewhere between the
// request and its arrival.
func (n *negotiation) judgeClock(s *Server) {
	if n.SystemTime == 0 {
		s.add(CheckClock, Note, "", "the server does not say what time it is")
		return
	}
	server := fileTime(n.SystemTime)
	var skew time.Duration
	switch {
	case server.Before(n.sent):
		skew = server.Sub(n.sent)
	case server.After(n.received):
		skew = server.Sub(n.received)
	}
	level, next := OK, ""
	switch d := skew.Abs(); {
	case d > skewBroken:
		level, next = Broken, "set the clocks: Kerberos refuses tickets beyond 5 minutes"
	case d > skewWarning:
		level, next = Warning, "look at the time synchronisation of both machines"
	}
	s.add(CheckClock, level, next, "%s", describeSkew(skew))
}

func describeSkew(skew time.Duration) string {
	rounded := skew.Round(100 * time.Millisecond)
	switch {
	case rounded > 0:
		return fmt.Sprintf("%v ahead of ours", rounded)
	case rounded < 0:
		return fmt.Sprintf("%v behind ours", -rounded)
	}
	return "the same as ours"
}

// fileTime converts a FILETIME, 100 ns since 1601 ([MS-DTYP] 2.3.3). What does
// not fit is the end of time.
func fileTime(t uint64) time.Time {
	const toUnix = 11644473600 // seconds from 1601 to 1970
	seconds := min(t/1e7, 1<<40)
	return time.Unix(int64(seconds)-toUnix, int64(t%1e7)*100)
}
