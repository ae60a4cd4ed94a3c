package krb5

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/seed05845750/bkrp/internal/gss"
)

// FuzzDecrypt gives anything to a key, of every type: it is what the key made,
// or refused.
func FuzzDecrypt(f *testing.F) {
	keys := []Key{}
	for _, e := range []EncType{AES128SHA1, AES256SHA1, AES128SHA2, AES256SHA2, RC4HMAC} {
		k := Key{Type: e, Value: bytes.Repeat([]byte{7}, 16)}
		if p, ok := e.profile(); ok {
			k.Value = bytes.Repeat([]byte{7}, p.keySize)
		}
		keys = append(keys, k)
		f.Add(uint8(len(keys)-1), []byte("a message of more than a block"), uint16(0))
		f.Add(uint8(len(keys)-1), []byte{}, uint16(0))
	}
	f.Fuzz(func(t *testing.T, which uint8, b []byte, at uint16) {
		k := keys[int(which)%len(keys)]
		if _, err := k.decrypt(usageTicket, b); !errors.Is(err, errDecrypt) {
			t.Fatalf("%v: what nobody sealed is %v", k.Type, err)
		}
		cipher := mustSeal(t, k, usageTicket, b)
		plain, err := k.decrypt(usageTicket, cipher)
		if err != nil || !bytes.Equal(plain, b) {
			t.Fatalf("%v: %x comes back as %x, %v", k.Type, b, plain, err)
		}
		cipher[int(at)%len(cipher)] ^= 1
		if _, err := k.decrypt(usageTicket, cipher); !errors.Is(err, errDecrypt) {
			t.Fatalf("%v: changed at %d: %v", k.Type, at, err)
		}
	})
}

// FuzzVerify has the peer of a context sign anything by anything: one token is
// good.
func FuzzVerify(f *testing.F) {
	client, server := connect(f, forge(f), sealing)
	msg := []byte("a message")
	good, err := client.Sign(nil, msg)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(msg, good)
	f.Fuzz(func(t *testing.T, b, sig []byte) {
		server.receive.dead, server.receive.next = false, client.send.next-1
		err := server.Verify(b, sig)
		if right := bytes.Equal(b, msg) && bytes.Equal(sig, good); right != (err == nil) {
			t.Fatalf("%x signed by %x: %v", b, sig, err)
		}
	})
}

// FuzzThirdLeg has a client without the session key answer the acceptor.
func FuzzThirdLeg(f *testing.F) {
	m := forge(f)
	m.auth.checksum = marshalChannel(sealing | gss.DCEStyle | gss.Mutual)
	x := m.acceptor(f, Config{}).Accept(gss.AcceptOptions{DCEStyle: true})
	out, _, err := x.Step(f.Context(), m.seal(f, false))
	if err != nil {
		f.Fatal(err)
	}
	waiting := *x.(*acceptExchange)
	f.Add(out)
	f.Fuzz(func(t *testing.T, b []byte) {
		x := waiting
		if out, sc, err := x.Step(context.Background(), b); err == nil || sc != nil || out != nil {
			t.Fatalf("a third leg without the key: %v, %v", sc, err)
		}
		if _, _, err := x.Step(context.Background(), b); !errors.Is(err, gss.ErrToken) {
			t.Fatalf("a fourth one: %v", err)
		}
	})
}

// FuzzInitiator has anybody answer the client.
func FuzzInitiator(f *testing.F) {
	m := forge(f)
	i := NewInitiator(m.source(f)).(*initiator)
	x := i.Initiate(gss.InitiateOptions{Target: "cifs/dc1", Flags: sealing}).(*initiateExchange)
	if _, _, err := x.Step(f.Context(), nil); err != nil {
		f.Fatal(err)
	}
	answer, err := sealAPRep(m.part.key, &apRepPart{ctime: x.auth.ctime, cusec: x.auth.cusec, seq: 1})
	if err != nil {
		f.Fatal(err)
	}
	refusal, err := (&krbError{stime: m.now, code: codeSkew, realm: "BKRP.TEST", service: m.ticket.service}).marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(answer)
	f.Add(refusal)
	waiting := *x
	f.Fuzz(func(t *testing.T, b []byte) {
		x := waiting
		out, sc, err := x.Step(context.Background(), b)
		if (err == nil) != (sc != nil) || out != nil {
			t.Fatalf("token %x, context %v, %v", out, sc, err)
		}
		if err == nil && !bytes.Contains(b, answer[len(answer)-32:]) {
			t.Fatal("an answer without the key")
		}
	})
}
