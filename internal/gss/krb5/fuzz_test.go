package krb5

import (
	"bytes"
	"context"
	"reflect"
	"testing"

	"github.com/seed05845750/bkrp/internal/gss"
)

// inverse says that what was parsed, written again, is parsed as the same.
func inverse[T any](t *testing.T, b []byte, parse func([]byte) (T, error), marshal func(T) ([]byte, error)) {
	t.Helper()
	v, err := parse(b)
	if err != nil {
		return
	}
	out, err := marshal(v)
	if err != nil {
		t.Fatalf("writing %+v: %v", v, err)
	}
	again, err := parse(out)
	if err != nil || !reflect.DeepEqual(v, again) {
		t.Fatalf("%+v became %+v, %v", v, again, err)
	}
}

func FuzzAPReq(f *testing.F) {
	for _, tr := range transcripts(f) {
		_, message, _, err := unframe(tr.Legs[0].In)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(message)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		inverse(t, b, parseAPReq, func(q *apReq) ([]byte, error) {
			return marshalAPReq(q.options, marshalTicket(t, &q.ticket), q.authenticator)
		})
	})
}

func FuzzTicketPart(f *testing.F) {
	m := forge(f)
	m.part.authData = []authData{{adIfRelevant, marshalAuthData([]authData{{adWin2kPAC, m.pac}})}, {99, nil}}
	f.Add(marshalTicketPart(f, &m.part))
	f.Fuzz(func(t *testing.T, b []byte) {
		inverse(t, b, parseTicketPart, func(p *ticketPart) ([]byte, error) { return marshalTicketPart(t, p), nil })
		if p, err := parseTicketPart(b); err == nil {
			_, _, _ = findPAC(p.authData)
		}
	})
}

func FuzzAuthenticator(f *testing.F) {
	m := forge(f)
	b, err := m.auth.marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		inverse(t, b, parseAuthenticator, (*authenticator).marshal)
		if a, err := parseAuthenticator(b); err == nil {
			_, _ = parseChannel(a.checksum, 0)
		}
	})
}

func FuzzAPRep(f *testing.F) {
	for _, tr := range transcripts(f) {
		_, message, _, err := unframe(tr.Legs[0].Out)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(message)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		inverse(t, b, parseAPRep, marshalAPRep)
	})
}

func FuzzAPRepPart(f *testing.F) {
	for _, tr := range transcripts(f) {
		_, part, _ := tr.open(f)
		_, message, _, err := unframe(tr.Legs[0].Out)
		if err != nil {
			f.Fatal(err)
		}
		p, err := openAPRep(part.key, message)
		if err != nil {
			f.Fatal(err)
		}
		b, err := p.marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) { inverse(t, b, parseAPRepPart, (*apRepPart).marshal) })
}

func FuzzKrbError(f *testing.F) {
	m := forge(f)
	b, err := (&krbError{stime: m.now, susec: 1, code: codeSkew, realm: "BKRP.TEST", service: m.ticket.service}).marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		inverse(t, b, parseKrbError, (*krbError).marshal)
		_ = refusedBy(b).Error()
	})
}

func FuzzKeytab(f *testing.F) {
	f.Add(transcripts(f)["samba-smb-1.json"].Keytab)
	f.Fuzz(func(t *testing.T, b []byte) {
		inverse(t, b, parseKeytab, func(e []keytabEntry) ([]byte, error) { return marshalKeytab(e), nil })
		entries, _ := parseKeytab(b)
		services, users, err := keytab(entries).vet()
		if err == nil && len(services)+len(users) > len(entries) {
			t.Fatalf("%d entries became %d and %d", len(entries), len(services), len(users))
		}
	})
}

func FuzzToken(f *testing.F) {
	for _, tr := range transcripts(f) {
		f.Add(tr.Legs[0].In)
		f.Add(tr.Legs[0].Out)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		id, message, framed, err := unframe(b)
		if err != nil || !framed {
			return
		}
		out, err := frame(id, message)
		if err != nil || !bytes.Equal(out, b) {
			t.Fatalf("%x became %x, %v", b, out, err)
		}
	})
}

// FuzzUnseal has the peer of a context send anything.
func FuzzUnseal(f *testing.F) {
	m := forge(f)
	client, server := connect(f, m, sealing|gss.DCEStyle)
	msg := []byte("a message of more than a block")
	sig, err := client.Seal(nil, msg, 4, 24)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(msg, uint8(4), uint8(24), sig)
	f.Fuzz(func(t *testing.T, msg []byte, from, to uint8, sig []byte) {
		if from > to || int(to) > len(msg) {
			return
		}
		server.receive.dead, server.receive.next = false, client.send.next-1
		if server.Unseal(bytes.Clone(msg), int(from), int(to), sig) == nil && len(sig) < server.SignatureSize()-16 {
			t.Fatal("a token without its fields")
		}
	})
}

// FuzzUnsealRC4 is the same with an RC4 key.
func FuzzUnsealRC4(f *testing.F) {
	client, server := connectRC4(f, true)
	msg := []byte("a message of more than a block")
	sealed, err := client.Seal(nil, msg, 4, 24)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(msg, uint8(4), uint8(24), sealed)
	first := client.send.next - 1
	f.Fuzz(func(t *testing.T, msg []byte, from, to uint8, sig []byte) {
		if from > to || int(to) > len(msg) {
			return
		}
		server.receive.dead, server.receive.next = false, first
		if server.Unseal(bytes.Clone(msg), int(from), int(to), sig) == nil && !bytes.Equal(sig, sealed) {
			t.Fatal("another token than the client's")
		}
		server.receive.dead, server.receive.next = false, first
		if server.Verify(msg, sig) == nil {
			t.Fatal("a signature that nobody made")
		}
	})
}

// FuzzAcceptor has anybody send anything before he has proved anything.
func FuzzAcceptor(f *testing.F) {
	m := forge(f)
	message := m.seal(f, false)
	token, err := frame(tokenAPReq, message)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(message)
	f.Add(token)
	a := m.acceptor(f, Config{AllowRC4: true})
	f.Fuzz(func(t *testing.T, b []byte) {
		x := a.Accept(gss.AcceptOptions{})
		out, sc, err := x.Step(context.Background(), b)
		if err == nil {
			return
		}
		if sc != nil {
			t.Fatal("a context beside an error")
		}
		if id, message, _, err := unframe(out); out != nil {
			if err != nil || id != tokenError {
				t.Fatalf("answer %x: %v", out, err)
			}
			if _, err := parseKrbError(message); err != nil {
				t.Fatal(err)
			}
		}
	})
}
