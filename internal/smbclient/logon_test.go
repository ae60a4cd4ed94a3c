package smbclient

import (
	"context"
	"encoding/asn1"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/seed05845750/bkrp/internal/gss"
	"github.com/seed05845750/bkrp/internal/gss/spnego"
	smbserver "github.com/seed05845750/bkrp/internal/smb2"
)

// refusal is either end of a mechanism of which the acceptor refuses each
// token.
type refusal struct{ acceptor bool }

func (refusal) Initiate(gss.InitiateOptions) gss.Exchange { return refusal{} }

func (refusal) Accept(gss.AcceptOptions) gss.Exchange { return refusal{acceptor: true} }

func (r refusal) Step(context.Context, []byte) ([]byte, gss.Context, error) {
	if r.acceptor {
		return nil, nil, gss.ErrLogon
	}
	return []byte("token"), nil, nil
}

// Kerberos is refused in the answer to the first token, NTLM in that to its
// second: either is a refused logon, in words that say so.
func TestFirstTokenRefused(t *testing.T) {
	acceptor, err := spnego.NewAcceptor(spnego.Mechanism{OIDs: []asn1.ObjectIdentifier{spnego.Kerberos()}, Acceptor: refusal{}})
	if err != nil {
		t.Fatal(err)
	}
	server, err := smbserver.NewServer(smbserver.Config{Acceptor: acceptor, NegotiateToken: acceptor.Hint()})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, listener) }()
	defer func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	_, err = Dial(ctx, Config{Address: listener.Addr().String(), Host: "dc1", Initiator: refusal{}, Mechanism: spnego.Kerberos()})
	if !errors.Is(err, ErrLogon) || strings.Contains(err.Error(), "expected status") {
		t.Errorf("%v", err)
	}
}
