package ntlm

import (
	"bytes"
	"context"
	"reflect"
	"testing"

	"github.com/seed05845750/bkrp/internal/gss"
)

// seed adds the recorded NTLM message of the leg given, of each transcript.
func seed(f *testing.F, leg int) {
	for _, tr := range loadTranscripts(f) {
		f.Add(tr.ntlmToken(f, leg))
	}
}

func FuzzNegotiate(f *testing.F) {
	seed(f, 0)
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := parseNegotiate(b)
		if err != nil {
			return
		}
		again, err := parseNegotiate(n.marshal())
		if err != nil || again != n {
			t.Errorf("%+v marshalled and parsed: %+v, %v", n, again, err)
		}
	})
}

func FuzzChallenge(f *testing.F) {
	seed(f, 1)
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseChallenge(b)
		if err != nil {
			return
		}
		again, err := parseChallenge(c.marshal())
		if err != nil || !reflect.DeepEqual(again, c) {
			t.Errorf("%+v marshalled and parsed: %+v, %v", c, again, err)
		}
	})
}

func FuzzAuthenticate(f *testing.F) {
	seed(f, 2)
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := parseAuthenticate(b)
		if err != nil {
			return
		}
		a.hasLM = true // marshal writes a zero one
		again, err := parseAuthenticate(a.marshal())
		if err != nil || !reflect.DeepEqual(again, a) {
			t.Errorf("%+v marshalled and parsed: %+v, %v", a, again, err)
		}
	})
}

func FuzzNTLMv2Response(f *testing.F) {
	for _, tr := range loadTranscripts(f) {
		a, err := parseAuthenticate(tr.ntlmToken(f, 2))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(a.ntResponse)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseNTLMv2Response(b)
		if err != nil {
			return
		}
		again, err := parseNTLMv2Response(r.marshal())
		if err != nil || !reflect.DeepEqual(again, r) {
			t.Errorf("%+v marshalled and parsed: %+v, %v", r, again, err)
		}
	})
}

func FuzzTargetInfo(f *testing.F) {
	for _, tr := range loadTranscripts(f) {
		c, err := parseChallenge(tr.ntlmToken(f, 1))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(c.targetInfo.append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		info, rest, err := cutTargetInfo(b)
		if err != nil {
			return
		}
		if again := append(info.append(nil), rest...); !bytes.Equal(again, b) {
			t.Errorf("%x marshalled again: %x", b, again)
		}
		info.hasMIC()
		info.text(avTargetName)
		isBound(info)
	})
}

// FuzzAccept gives an acceptor two messages of anyone's making. None of them
// gets in: the recorded ones answer other challenges.
func FuzzAccept(f *testing.F) {
	for _, tr := range loadTranscripts(f) {
		f.Add(tr.ntlmToken(f, 0), tr.ntlmToken(f, 2))
	}
	a := NewAcceptor(testConfig())
	f.Fuzz(func(t *testing.T, first, second []byte) {
		x := a.Accept(gss.AcceptOptions{})
		if _, _, err := x.Step(context.Background(), first); err != nil {
			return
		}
		if out, sc, err := x.Step(context.Background(), second); err == nil || sc != nil || out != nil {
			t.Errorf("context %v, token %x, error %v", sc, out, err)
		}
	})
}

// FuzzInitiate gives an initiator a challenge of anyone's making.
func FuzzInitiate(f *testing.F) {
	seed(f, 1)
	i := NewInitiator(Credential{Domain: "BKRP", User: "alice", Hash: HashPassword(testPassword)})
	f.Fuzz(func(t *testing.T, challenge []byte) {
		x := i.Initiate(gss.InitiateOptions{Flags: gss.Confidentiality})
		if _, _, err := x.Step(context.Background(), nil); err != nil {
			t.Fatal(err)
		}
		out, sc, err := x.Step(context.Background(), challenge)
		if err != nil {
			return
		}
		if _, err := parseAuthenticate(out); err != nil || sc.Flags()&gss.Confidentiality == 0 {
			t.Errorf("AUTHENTICATE %x, flags %b, %v", out, sc.Flags(), err)
		}
	})
}
