package spnego

import (
	"bytes"
	"context"
	"reflect"
	"testing"

	"github.com/seed05845750/bkrp/internal/gss"
)

func FuzzInit(f *testing.F) {
	first, _ := recordedTokens(f)
	for _, b := range first {
		f.Add(b)
	}
	f.Add(newAcceptor(f, ticketServer(ticket{}), ntlmServer()).Hint())
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parseInit(b)
		if err != nil {
			return
		}
		again, err := parseInit(mustMarshal(t, p.marshal))
		if err != nil || !reflect.DeepEqual(again, p) {
			t.Errorf("%+v marshalled and parsed: %+v, %v", p, again, err)
		}
	})
}

func FuzzResp(f *testing.F) {
	_, others := recordedTokens(f)
	for _, b := range others {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parseResp(b)
		if err != nil {
			return
		}
		if again := mustMarshal(t, p.marshal); !bytes.Equal(again, b) {
			t.Errorf("%x marshalled again: %x", b, again)
		}
	})
}

// FuzzAccept gives an acceptor three tokens of anyone's making: nobody gets in
// who does not know a password.
func FuzzAccept(f *testing.F) {
	first, others := recordedTokens(f)
	for _, a := range first {
		for _, b := range others {
			f.Add(a, b, b)
		}
	}
	a := newAcceptor(f, ticketServer(ticket{password: "that no fuzzer finds"}), ntlmServer())
	f.Fuzz(func(t *testing.T, t1, t2, t3 []byte) {
		x := a.AcceptBare(gss.AcceptOptions{})
		for _, in := range [][]byte{t1, t2, t3} {
			out, sc, err := x.Step(context.Background(), in)
			if sc != nil {
				t.Fatalf("a context for %x", in)
			}
			if err == nil && out == nil {
				t.Error("neither a token, nor a context, nor an error")
			}
		}
	})
}

// FuzzInitiate gives an initiator three tokens of anyone's making. With NTLM a
// server that does not know the password may still end the negotiation, but
// not one in which the client wanted something better.
func FuzzInitiate(f *testing.F) {
	_, others := recordedTokens(f)
	for i := range others {
		f.Add(others[i], others[(i+1)%len(others)], others[(i+2)%len(others)])
	}
	i := NewInitiator(ticketClient(ticket{password: "that no fuzzer finds"}), ntlmClient())
	f.Fuzz(func(t *testing.T, t1, t2, t3 []byte) {
		x := i.Initiate(gss.InitiateOptions{})
		if _, _, err := x.Step(context.Background(), nil); err != nil {
			t.Fatal(err)
		}
		for _, in := range [][]byte{t1, t2, t3} {
			if _, sc, _ := x.Step(context.Background(), in); sc != nil {
				t.Fatalf("a context for %x", in)
			}
		}
	})
}
