package spnego

import (
	"context"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"testing"

	"github.com/seed05845750/bkrp/internal/gss"
)

// TestMalformed has one token for each rule of the encodings.
func TestMalformed(t *testing.T) {
	inits := map[string]string{
		"empty":                   "",
		"not a token":             "3000",
		"octets behind it":        "601806062b0601050502a00e300ca00a300806062b0601050502" + "00",
		"other mechanism":         "601806062b0601050503a00e300ca00a300806062b0601050502",
		"response in the frame":   "601806062b0601050502a10e300ca00a300806062b0601050502",
		"no list":                 "600c06062b0601050502a0023000",
		"empty list":              "601006062b0601050502a0063004a0023000",
		"list of integers":        "601306062b0601050502a0093007a0053003020101",
		"mechToken no octets":     "601d06062b0601050502a0133011a00a300806062b0601050502a203020101",
		"unknown field":           "601d06062b0601050502a0133011a00a300806062b0601050502a503040101",
		"hints with a tail":       "601e06062b0601050502a0143012a00a300806062b0601050502a30430000500",
		"indefinite length":       "608006062b0601050502a00e300ca00a300806062b06010505020000",
		"length not the shortest": "60811806062b0601050502a00e300ca00a300806062b0601050502",
	}
	// What most of them are one step away from is well-formed.
	if _, err := parseInit(fromHex(t, "601806062b0601050502a00e300ca00a300806062b0601050502")); err != nil {
		t.Error(err)
	}
	if _, err := parseResp(fromHex(t, "a10c300aa0030a0100a203040101")); err != nil {
		t.Error(err)
	}
	for name, text := range inits {
		if p, err := parseInit(fromHex(t, text)); !errors.Is(err, gss.ErrToken) || p != nil {
			t.Errorf("NegTokenInit, %s: %+v, %v", name, p, err)
		}
	}
	resps := map[string]string{
		"empty":             "",
		"octets behind it":  "a1023000" + "00",
		"initial token":     "a0023000",
		"state 4":           "a1073005a0030a0104",
		"negative state":    "a1073005a0030a01ff",
		"state no ENUM":     "a1073005a003020100",
		"mech no OID":       "a1073005a103020101",
		"token no octets":   "a1073005a203020101",
		"MIC no octets":     "a1073005a303020101",
		"fields turned":     "a10c300aa203040101a0030a0100",
		"field with a tail": "a1093007a0050a0100" + "0500",
		"unknown field":     "a1073005a403040101",
	}
	for name, text := range resps {
		if p, err := parseResp(fromHex(t, text)); !errors.Is(err, gss.ErrToken) || p != nil {
			t.Errorf("NegTokenResp, %s: %+v, %v", name, p, err)
		}
	}
}

func fromHex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestClientMisbehaves is an acceptor against a client that breaks rules after
// a good first token.
func TestClientMisbehaves(t *testing.T) {
	dce := ticket{password: "k", dce: true}
	first := negTokenInit{mechTypes: kerberosNames, mechToken: []byte("ticket k")}
	late := negTokenInit{mechTypes: append([]asn1.ObjectIdentifier{otherNames[0]}, kerberosNames...)}
	for name, c := range map[string]struct {
		mech   ticket
		first  negTokenInit
		then   []negTokenResp
		broken []byte
		want   error
	}{
		"gives up":            {mech: dce, first: first, then: []negTokenResp{{state: reject}}, want: gss.ErrToken},
		"sends no NegToken":   {mech: dce, first: first, broken: []byte("third k"), want: gss.ErrToken},
		"starts again":        {mech: dce, first: first, broken: mustMarshal(t, first.marshal), want: gss.ErrToken},
		"signs without a key": {mech: dce, first: late, then: []negTokenResp{{state: noState, responseToken: []byte("ticket k"), mechListMIC: []byte("x")}}, want: gss.ErrToken},
		"wrong third token":   {mech: dce, first: first, then: []negTokenResp{{state: noState, responseToken: []byte("x")}}, want: gss.ErrLogon},
		"token for a MIC":     {mech: ticket{password: "k"}, first: late, then: []negTokenResp{{state: noState, responseToken: []byte("ticket k")}, {state: noState, responseToken: []byte("x"), mechListMIC: []byte("x")}}, want: gss.ErrSignature},
		"MIC in the first":    {mech: ticket{password: "k"}, first: negTokenInit{mechTypes: kerberosNames, mechToken: []byte("ticket k"), mechListMIC: []byte("x")}, want: gss.ErrSignature},
	} {
		t.Run(name, func(t *testing.T) {
			x := newAcceptor(t, ticketServer(c.mech)).Accept(gss.AcceptOptions{})
			tokens := [][]byte{mustMarshal(t, c.first.marshal)}
			for _, r := range c.then {
				tokens = append(tokens, mustMarshal(t, r.marshal))
			}
			if c.broken != nil {
				tokens = append(tokens, c.broken)
			}
			var err error
			for i, in := range tokens {
				var sc gss.Context
				_, sc, err = x.Step(context.Background(), in)
				if sc != nil || err != nil && i+1 < len(tokens) {
					t.Fatalf("token %d: context %v, %v", i, sc, err)
				}
			}
			if !errors.Is(err, c.want) {
				t.Errorf("error %v, want %v", err, c.want)
			}
			if _, _, err := x.Step(context.Background(), tokens[0]); !errors.Is(err, gss.ErrToken) {
				t.Errorf("a token after the failure: %v", err)
			}
		})
	}
}

// TestNTLMServerEndsEarly says that an initiator does not take a server's word
// that all is done when it has yet to prove itself.
func TestNTLMServerEndsEarly(t *testing.T) {
	client, _, clientErr, _ := negotiate(newAcceptor(t, ntlmServer()), NewInitiator(ntlmClient()), func(fromClient bool, leg int, token []byte) []byte {
		if fromClient || leg > 0 {
			return token
		}
		r, err := parseResp(token)
		if err != nil {
			t.Fatal(err)
		}
		r.state = acceptCompleted
		return mustMarshal(t, r.marshal)
	})
	if client != nil || !errors.Is(clientErr, gss.ErrToken) {
		t.Errorf("client %v, %v", client, clientErr)
	}
	x := NewInitiator(ntlmClient()).Initiate(gss.InitiateOptions{})
	if _, _, err := x.Step(context.Background(), []byte("x")); !errors.Is(err, gss.ErrToken) {
		t.Errorf("token before the first: %v", err)
	}
}
