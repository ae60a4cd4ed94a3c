package spnego

import (
	"bytes"
	"context"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed05845750/bkrp/internal/gss"
)

// TestNegotiate runs every way through the negotiation.
func TestNegotiate(t *testing.T) {
	plain, dce := ticket{password: "k"}, ticket{password: "k", dce: true}
	other := InitiatorMechanism{otherNames, ticket{password: "x"}}
	aliased := InitiatorMechanism{[]asn1.ObjectIdentifier{Kerberos()}, plain}
	for name, c := range map[string]struct {
		server []Mechanism
		client []InitiatorMechanism
		key    string // the ticket's, or "" for NTLM's 16 octets
	}{
		"NTLM alone":                       {[]Mechanism{ntlmServer()}, []InitiatorMechanism{ntlmClient()}, ""},
		"NTLM of two":                      {[]Mechanism{ticketServer(plain), ntlmServer()}, []InitiatorMechanism{ntlmClient()}, ""},
		"Kerberos of two":                  {[]Mechanism{ntlmServer(), ticketServer(plain)}, []InitiatorMechanism{ticketClient(plain), ntlmClient()}, "k"},
		"Kerberos in DCE style":            {[]Mechanism{ticketServer(dce)}, []InitiatorMechanism{ticketClient(dce)}, "k"},
		"Kerberos by its other name":       {[]Mechanism{ticketServer(plain)}, []InitiatorMechanism{aliased}, "k"},
		"optimistic token of another mech": {[]Mechanism{ntlmServer()}, []InitiatorMechanism{ticketClient(plain), ntlmClient()}, ""},
		"second, whose last is ours":       {[]Mechanism{ticketServer(plain)}, []InitiatorMechanism{other, ticketClient(plain)}, "k"},
		"second, in DCE style":             {[]Mechanism{ticketServer(dce)}, []InitiatorMechanism{other, ticketClient(dce)}, "k"},
		"first without a ticket":           {[]Mechanism{ticketServer(plain), ntlmServer()}, []InitiatorMechanism{ticketClient(ticket{broken: true}), ntlmClient()}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			client, server, clientErr, serverErr := negotiate(newAcceptor(t, c.server...), NewInitiator(c.client...), nil)
			if clientErr != nil || serverErr != nil || client == nil || server == nil {
				t.Fatalf("client %v, %v; server %v, %v", client, clientErr, server, serverErr)
			}
			key := server.SessionKey()
			if !bytes.Equal(key, client.SessionKey()) || c.key != "" && string(key) != c.key || c.key == "" && len(key) != 16 {
				t.Errorf("keys %x and %x", key, client.SessionKey())
			}
			// Sequence numbers and key streams agree after the checksums.
			sig, err := client.Sign(nil, []byte("to the server"))
			if err != nil || server.Verify([]byte("to the server"), sig) != nil {
				t.Error("the client's first message does not verify")
			}
			sig, err = server.Sign(nil, []byte("to the client"))
			if err != nil || client.Verify([]byte("to the client"), sig) != nil {
				t.Error("the server's first message does not verify")
			}
		})
	}
}

// TestRefused ends each negotiation on both sides.
func TestRefused(t *testing.T) {
	plain, wrong := ticket{password: "k"}, ticket{password: "x"}
	for name, c := range map[string]struct {
		server []Mechanism
		client []InitiatorMechanism
		want   error
	}{
		"nothing in common": {[]Mechanism{ntlmServer()}, []InitiatorMechanism{ticketClient(plain)}, gss.ErrMechanism},
		"wrong ticket":      {[]Mechanism{ticketServer(plain)}, []InitiatorMechanism{ticketClient(wrong)}, gss.ErrLogon},
	} {
		t.Run(name, func(t *testing.T) {
			client, server, clientErr, serverErr := negotiate(newAcceptor(t, c.server...), NewInitiator(c.client...), nil)
			if client != nil || server != nil || !errors.Is(serverErr, c.want) || !errors.Is(clientErr, gss.ErrRefused) {
				t.Errorf("client %v, %v; server %v, %v", client, clientErr, server, serverErr)
			}
		})
	}
	if _, _, err, _ := negotiate(newAcceptor(t, ntlmServer()), NewInitiator(ticketClient(ticket{broken: true})), nil); !errors.Is(err, gss.ErrMechanism) || !errors.Is(err, gss.ErrExpired) {
		t.Errorf("no mechanism that starts: %v", err)
	}
	if _, err := NewAcceptor(); !errors.Is(err, gss.ErrMechanism) {
		t.Errorf("acceptor of nothing: %v", err)
	}
	if _, err := NewAcceptor(Mechanism{[]asn1.ObjectIdentifier{{9}}, plain}); err == nil {
		t.Error("acceptor of an identifier that is none")
	}
}

// TestDowngrade has someone in between who wants NTLM where both ends would
// have Kerberos: who cuts Kerberos out of the client's list, and the checksums
// out of what follows.
func TestDowngrade(t *testing.T) {
	plain := ticket{password: "k"}
	a := newAcceptor(t, ticketServer(plain), ntlmServer())
	i := NewInitiator(ticketClient(plain), ntlmClient())
	for name, strip := range map[string]struct{ client, server bool }{
		"list alone":                {},
		"list, client's MIC":        {client: true},
		"list, both MICs":           {client: true, server: true},
		"list, server's MIC (moot)": {server: true},
	} {
		t.Run(name, func(t *testing.T) {
			client, server, clientErr, serverErr := negotiate(a, i, func(fromClient bool, leg int, token []byte) []byte {
				if leg == 0 && fromClient {
					return mustMarshal(t, (&negTokenInit{mechTypes: ntlmNames}).marshal)
				}
				r, err := parseResp(token)
				if err != nil {
					t.Fatal(err)
				}
				if fromClient && strip.client || !fromClient && strip.server {
					r.mechListMIC = nil
				}
				return mustMarshal(t, r.marshal)
			})
			if client != nil || clientErr == nil && serverErr == nil {
				t.Errorf("client %v, %v; server %v, %v", client, clientErr, server, serverErr)
			}
			if !strip.client && (server != nil || !errors.Is(serverErr, gss.ErrSignature)) {
				t.Errorf("server %v, %v", server, serverErr)
			}
		})
	}
}

// TestMICRequired leaves out the checksum where the choice is not the first.
func TestMICRequired(t *testing.T) {
	other := InitiatorMechanism{otherNames, ticket{password: "x"}}
	for name, c := range map[string]struct {
		server Mechanism
		client InitiatorMechanism
	}{
		"client's last token":    {ntlmServer(), ntlmClient()},
		"after the server's one": {ticketServer(ticket{password: "k"}), ticketClient(ticket{password: "k"})},
	} {
		t.Run(name, func(t *testing.T) {
			changes := map[string]func(*negTokenResp){
				"none":    func(r *negTokenResp) { r.mechListMIC = nil },
				"changed": func(r *negTokenResp) { r.mechListMIC[5] ^= 1 },
				"empty":   func(r *negTokenResp) { r.mechListMIC = []byte{} },
			}
			for what, change := range changes {
				_, server, _, serverErr := negotiate(newAcceptor(t, c.server), NewInitiator(other, c.client), func(fromClient bool, leg int, token []byte) []byte {
					r, err := parseResp(token)
					if err != nil || !fromClient || r.mechListMIC == nil {
						return token
					}
					change(r)
					return mustMarshal(t, r.marshal)
				})
				if server != nil || !errors.Is(serverErr, gss.ErrSignature) {
					t.Errorf("%s: server %v, %v", what, server, serverErr)
				}
			}
		})
	}
}

func mustMarshal(t testing.TB, marshal func() ([]byte, error)) []byte {
	t.Helper()
	b, err := marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestServerMisbehaves is an initiator against a server that breaks rules.
func TestServerMisbehaves(t *testing.T) {
	plain := ticket{password: "k"}
	for name, answers := range map[string][]negTokenResp{
		"chooses what was not offered":  {{state: acceptIncomplete, supportedMech: otherNames[0]}},
		"ends before the mechanism":     {{state: acceptCompleted, supportedMech: NTLM()}},
		"switches and is done":          {{state: acceptCompleted, supportedMech: NTLM(), responseToken: []byte("x")}},
		"changes its choice":            {{state: requestMIC, supportedMech: NTLM()}, {state: acceptIncomplete, supportedMech: MSKerberos()}},
		"rejects":                       {{state: reject}},
		"waits for nothing":             {{state: acceptIncomplete, supportedMech: MSKerberos(), responseToken: []byte("reply k")}},
		"asks for a MIC, gives none":    {{state: requestMIC, supportedMech: MSKerberos(), responseToken: []byte("reply k")}, {state: acceptCompleted}},
		"asks for a MIC, gives a wrong": {{state: requestMIC, supportedMech: MSKerberos(), responseToken: []byte("reply k"), mechListMIC: []byte("x")}},
		"token after the end":           {{state: requestMIC, supportedMech: MSKerberos(), responseToken: []byte("reply k")}, {state: acceptCompleted, responseToken: []byte("x")}},
	} {
		t.Run(name, func(t *testing.T) {
			x := NewInitiator(ticketClient(plain), ntlmClient()).Initiate(gss.InitiateOptions{})
			if _, _, err := x.Step(context.Background(), nil); err != nil {
				t.Fatal(err)
			}
			var sc gss.Context
			var err error
			for _, r := range answers {
				if err != nil {
					t.Fatalf("failed too early: %v", err)
				}
				_, sc, err = x.Step(context.Background(), mustMarshal(t, r.marshal))
			}
			if err == nil || sc != nil {
				t.Errorf("context %v, error %v", sc, err)
			}
			if _, _, err := x.Step(context.Background(), mustMarshal(t, (&negTokenResp{}).marshal)); !errors.Is(err, gss.ErrToken) {
				t.Errorf("a token after the failure: %v", err)
			}
		})
	}
}

// TestBounds says that neither legs nor tokens are without limit.
func TestBounds(t *testing.T) {
	_, _, clientErr, serverErr := negotiate(newAcceptor(t, ticketServer(ticket{endless: true})), NewInitiator(ticketClient(ticket{endless: true})), nil)
	if !errors.Is(errors.Join(clientErr, serverErr), gss.ErrToken) {
		t.Errorf("endless exchange: %v, %v", clientErr, serverErr)
	}
	long := mustMarshal(t, (&negTokenInit{mechTypes: ntlmNames, mechToken: make([]byte, MaxToken)}).marshal)
	if _, _, err := newAcceptor(t, ntlmServer()).Accept(gss.AcceptOptions{}).Step(context.Background(), long); !errors.Is(err, gss.ErrToken) {
		t.Errorf("token of %d octets: %v", len(long), err)
	}
	many := &negTokenInit{}
	for range maxMechs + 1 {
		many.mechTypes = append(many.mechTypes, NTLM())
	}
	if _, err := parseInit(mustMarshal(t, many.marshal)); !errors.Is(err, gss.ErrToken) {
		t.Errorf("%d mechanisms: %v", len(many.mechTypes), err)
	}
}

// TestBare is NTLM without a wrapper, which only AcceptBare takes.
func TestBare(t *testing.T) {
	a := newAcceptor(t, ntlmServer())
	token, _, err := ntlmClient().Initiator.Initiate(gss.InitiateOptions{}).Step(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := a.Accept(gss.AcceptOptions{}).Step(context.Background(), token); !errors.Is(err, gss.ErrToken) {
		t.Errorf("Accept: %v", err)
	}
	client, server, clientErr, serverErr := negotiate(bareAcceptor{a}, ntlmClient().Initiator, nil)
	if clientErr != nil || serverErr != nil || !bytes.Equal(client.SessionKey(), server.SessionKey()) {
		t.Errorf("AcceptBare: %v, %v", clientErr, serverErr)
	}
	if _, _, err := newAcceptor(t, ticketServer(ticket{})).AcceptBare(gss.AcceptOptions{}).Step(context.Background(), token); !errors.Is(err, gss.ErrMechanism) {
		t.Errorf("AcceptBare without NTLM: %v", err)
	}
}

type bareAcceptor struct{ *Acceptor }

func (b bareAcceptor) Accept(o gss.AcceptOptions) gss.Exchange { return b.AcceptBare(o) }

// TestHint compares our hint with the one a Samba domain controller sends for
// the same mechanisms.
func TestHint(t *testing.T) {
	b, err := os.ReadFile("../testdata/samba-hint.hex")
	if err != nil {
		t.Fatal(err)
	}
	want, err := hex.DecodeString(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	if got := newAcceptor(t, ticketServer(ticket{}), ntlmServer()).Hint(); !bytes.Equal(got, want) {
		t.Errorf("Hint = %x, Samba's %x", got, want)
	}
	if h, err := parseInit(want); err != nil || !h.hints || len(h.mechTypes) != 3 {
		t.Errorf("Samba's hint: %+v, %v", h, err)
	}
}

// recordedTokens are the SPNEGO tokens of testdata, first ones and others.
func recordedTokens(t testing.TB) (first, others [][]byte) {
	t.Helper()
	files, err := filepath.Glob("../testdata/*-spnego.json")
	if err != nil || len(files) < 3 {
		t.Fatalf("%d transcripts, %v", len(files), err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var tr struct{ Tokens []struct{ Hex string } }
		if err := json.Unmarshal(b, &tr); err != nil {
			t.Fatal(err)
		}
		for i, tok := range tr.Tokens {
			b, err := hex.DecodeString(tok.Hex)
			if err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				first = append(first, b)
			} else {
				others = append(others, b)
			}
		}
	}
	return first, others
}

// TestRecordedTokens parses and marshals what real peers sent, to the same
// octets.
func TestRecordedTokens(t *testing.T) {
	first, others := recordedTokens(t)
	for _, b := range first {
		p, err := parseInit(b)
		if err != nil {
			t.Fatalf("%x: %v", b, err)
		}
		if again := mustMarshal(t, p.marshal); !bytes.Equal(again, b) {
			t.Errorf("%x marshalled again: %x", b, again)
		}
	}
	for _, b := range others {
		p, err := parseResp(b)
		if err != nil {
			t.Fatalf("%x: %v", b, err)
		}
		if again := mustMarshal(t, p.marshal); !bytes.Equal(again, b) {
			t.Errorf("%x marshalled again: %x", b, again)
		}
	}
}
