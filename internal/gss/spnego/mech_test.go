package spnego

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/gss"
	"github.com/seed05845750/bkrp/internal/gss/ntlm"
)

// ticket is a mechanism for tests that goes like Kerberos: a ticket, a reply,
// and in DCE style a third token.
type ticket struct {
	password string
	dce      bool
	broken   bool // has no first token
	endless  bool // never ends
}

func (m ticket) Accept(gss.AcceptOptions) gss.Exchange {
	return &ticketExchange{ticket: m, acceptor: true}
}
func (m ticket) Initiate(gss.InitiateOptions) gss.Exchange { return &ticketExchange{ticket: m} }

type ticketExchange struct {
	ticket
	acceptor bool
	leg      int
}

func (x *ticketExchange) Step(_ context.Context, in []byte) (out []byte, sc gss.Context, err error) {
	x.leg++
	say := func(what string) []byte { return []byte(what + " " + x.password) }
	script := []struct{ in, out string }{{"ticket", "reply"}, {"third", ""}}
	if !x.acceptor {
		script = []struct{ in, out string }{{"", "ticket"}, {"reply", "third"}}
	}
	last := len(script)
	switch {
	case x.broken:
		return nil, nil, gss.ErrExpired
	case x.endless:
		return []byte("more"), nil, nil
	case x.leg > last:
		return nil, nil, gss.ErrToken
	}
	now := script[x.leg-1]
	if now.in != "" && string(in) != string(say(now.in)) {
		return []byte("error token"), nil, fmt.Errorf("ticket: got %q: %w", in, gss.ErrLogon)
	}
	if now.out != "" && (now.out != "third" || x.dce) {
		out = say(now.out)
	}
	if x.leg == last || x.acceptor && !x.dce {
		sc = &ticketContext{key: x.password, acceptor: x.acceptor}
	}
	return out, sc, nil
}

// ticketContext signs as gss asks for, and does nothing else.
type ticketContext struct {
	gss.Context
	key            string
	acceptor       bool
	sent, received uint64
}

func (c *ticketContext) mac(byAcceptor bool, n uint64, msg []byte) []byte {
	h := hmac.New(sha256.New, fmt.Appendf(nil, "%s %t", c.key, byAcceptor))
	h.Write(binary.BigEndian.AppendUint64(nil, n))
	h.Write(msg)
	return h.Sum(nil)
}

func (c *ticketContext) Sign(dst, msg []byte) ([]byte, error) {
	c.sent++
	return append(dst, c.mac(c.acceptor, c.sent, msg)...), nil
}

func (c *ticketContext) Verify(msg, sig []byte) error {
	c.received++
	if !hmac.Equal(sig, c.mac(!c.acceptor, c.received, msg)) {
		return gss.ErrSignature
	}
	return nil
}

func (c *ticketContext) Identity() gss.Identity { return gss.Identity{Name: "alice"} }
func (c *ticketContext) SessionKey() []byte     { return []byte(c.key) }
func (c *ticketContext) Expiry() time.Time      { return time.Time{} }

// The mechanisms of the tests.
var (
	kerberosNames = []asn1.ObjectIdentifier{MSKerberos(), Kerberos()}
	ntlmNames     = []asn1.ObjectIdentifier{NTLM()}
	otherNames    = []asn1.ObjectIdentifier{{1, 3, 6, 1, 4, 1, 311, 2, 2, 30}} // NEGOEX
)

func ntlmServer() Mechanism {
	source := ntlm.LocalSource(func(_ context.Context, user string) (ntlm.LocalAccount, error) {
		if !strings.EqualFold(user, "alice") {
			return ntlm.LocalAccount{}, gss.ErrLogon
		}
		return ntlm.LocalAccount{Hash: ntlm.HashPassword("secret"), SID: dtyp.MustParseSID("S-1-5-21-1-2-3-1104"), Name: "alice"}, nil
	}, "BKRP")
	return Mechanism{ntlmNames, ntlm.NewAcceptor(ntlm.Config{Source: source, NetBIOSDomain: "BKRP"})}
}

func ntlmClient() InitiatorMechanism {
	return InitiatorMechanism{ntlmNames, ntlm.NewInitiator(ntlm.Credential{User: "alice", Hash: ntlm.HashPassword("secret")})}
}

func ticketServer(m ticket) Mechanism          { return Mechanism{kerberosNames, m} }
func ticketClient(m ticket) InitiatorMechanism { return InitiatorMechanism{kerberosNames, m} }

func newAcceptor(t testing.TB, mechs ...Mechanism) *Acceptor {
	t.Helper()
	a, err := NewAcceptor(mechs...)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// wire is who stands between the two ends: it sees each token, and may put
// another in its place.
type wire func(fromClient bool, leg int, token []byte) []byte

// negotiate runs the exchange until both ends have a context or one of them
// fails.
func negotiate(a gss.Acceptor, i gss.Initiator, between wire) (client, server gss.Context, clientErr, serverErr error) {
	ctx := context.Background()
	cx, sx := i.Initiate(gss.InitiateOptions{}), a.Accept(gss.AcceptOptions{})
	var token []byte
	for leg := 0; leg < 2*MaxLegs; leg++ {
		if client == nil {
			if token, client, clientErr = cx.Step(ctx, token); clientErr != nil {
				return nil, server, clientErr, nil
			}
		} else {
			token = nil
		}
		if token == nil {
			return client, server, nil, nil
		}
		if between != nil {
			token = between(true, leg, token)
		}
		if server != nil {
			return client, server, nil, gss.ErrToken
		}
		token, server, serverErr = sx.Step(ctx, token)
		if serverErr != nil && client != nil {
			return client, nil, nil, serverErr
		}
		if token == nil && serverErr == nil && client == nil {
			return nil, server, nil, nil
		}
		if serverErr != nil {
			_, client, clientErr = cx.Step(ctx, token)
			return client, nil, clientErr, serverErr
		}
		if between != nil {
			token = between(false, leg, token)
		}
	}
	return client, server, clientErr, serverErr
}
