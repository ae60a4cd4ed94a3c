package krb5

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/internal/gss"
)

// connect has our two ends agree on a context.
func connect(t testing.TB, f *forgery, flags gss.Flags) (client, server *session) {
	t.Helper()
	i := NewInitiator(f.source(t)).(*initiator)
	i.now = func() time.Time { return f.now }
	x := i.Initiate(gss.InitiateOptions{Target: "host/srv1.bkrp.test", Flags: flags})
	y := f.acceptor(t, Config{AllowRC4: true}).Accept(gss.AcceptOptions{DCEStyle: flags&gss.DCEStyle != 0})
	var in []byte
	for range 3 {
		out, sc, err := x.Step(context.Background(), in)
		if err != nil {
			t.Fatal(err)
		}
		if sc != nil {
			client = sc.(*session)
		}
		if out == nil {
			break
		}
		if in, sc, err = y.Step(context.Background(), out); err != nil {
			t.Fatal(err)
		}
		if sc != nil {
			server = sc.(*session)
		}
		if in == nil {
			break
		}
	}
	if client == nil || server == nil {
		t.Fatalf("contexts %v, %v", client, server)
	}
	return client, server
}

const sealing = gss.Confidentiality | gss.Integrity

// forgeWith is a forgery whose session key is of the type.
func forgeWith(t testing.TB, e EncType) *forgery {
	t.Helper()
	f := forge(t)
	f.part.key = drawKey(t, e)
	return f
}

// Both ends with each type of key, in two legs and in three, with signatures
// over more than what is sealed.
func TestBothEnds(t *testing.T) {
	for _, e := range []EncType{AES128SHA1, AES256SHA1, AES128SHA2, AES256SHA2} {
		for _, style := range []gss.Flags{0, gss.DCEStyle} {
			t.Run(fmt.Sprintf("%v %b", e, style), func(t *testing.T) {
				client, server := connect(t, forgeWith(t, e), sealing|style)
				if !bytes.Equal(client.SessionKey(), server.SessionKey()) {
					t.Error("the keys differ")
				}
				if client.Flags() != server.Flags() || client.Flags()&gss.Mutual == 0 {
					t.Errorf("flags %b and %b", client.Flags(), server.Flags())
				}
				for n := range 70 {
					for _, ends := range [][2]*session{{client, server}, {server, client}} {
						exchange(t, ends[0], ends[1], n)
					}
				}
			})
		}
	}
}

func exchange(t *testing.T, from, to gss.Context, n int) {
	t.Helper()
	plain := bytes.Repeat([]byte{byte(n)}, 24+n+8)
	msg := bytes.Clone(plain)
	sig, err := from.Seal([]byte("before"), msg, 24, 24+n)
	if err != nil || !bytes.HasPrefix(sig, []byte("before")) || len(sig) != 6+from.SignatureSize() {
		t.Fatalf("%d octets: signature %x, %v", n, sig, err)
	}
	if n > 8 && bytes.Equal(msg[24:24+n], plain[24:24+n]) || !bytes.Equal(msg[:24], plain[:24]) {
		t.Fatalf("%d octets: sealed message %x", n, msg)
	}
	if err := to.Unseal(msg, 24, 24+n, sig[6:]); err != nil || !bytes.Equal(msg, plain) {
		t.Fatalf("%d octets: %x, %v", n, msg, err)
	}
	sig, err = from.Sign(nil, msg)
	if err != nil || len(sig) != from.SignSize() {
		t.Fatalf("%d octets: signature %x, %v", n, sig, err)
	}
	if err := to.Verify(msg, sig); err != nil {
		t.Fatalf("%d octets: %v", n, err)
	}
}

// A peer may rotate by RRC alone, or have no filler.
func TestRotations(t *testing.T) {
	client, server := connect(t, forge(t), sealing|gss.DCEStyle)
	for _, rrc := range []uint16{28, 44} {
		msg := []byte("sixteen octets!!")
		sig, err := client.Seal(nil, msg, 0, 16)
		if err != nil {
			t.Fatal(err)
		}
		binary.BigEndian.PutUint16(sig[6:], rrc)
		if err := server.Unseal(msg, 0, 16, sig); err != nil || string(msg) != "sixteen octets!!" {
			t.Errorf("RRC %d: %q, %v", rrc, msg, err)
		}
	}
	// impacket's filler goes up to a block, and may be none.
	client.flags &^= gss.DCEStyle
	for n := range 40 {
		exchange(t, client, server, n)
	}
}

// Every bit of a token and of a message counts, and so does their order. A
// context is of no use afterwards.
func TestForgedMessages(t *testing.T) {
	for _, e := range []EncType{AES256SHA1, AES128SHA2} {
		f := forgeWith(t, e)
		client, server := connect(t, f, sealing|gss.DCEStyle)
		text := []byte("header  a secret of some octets trailer ")
		msg := bytes.Clone(text)
		sig, err := client.Seal(nil, msg, 8, 32)
		if err != nil {
			t.Fatal(err)
		}
		whole := append(bytes.Clone(msg), sig...)
		for bit := range len(whole) * 8 {
			changed := bytes.Clone(whole)
			changed[bit/8] ^= 1 << (bit % 8)
			if int(binary.BigEndian.Uint16(changed[len(msg)+6:])) == 16+server.macSize()+16 {
				continue // the other rotation of the same token
			}
			server.receive.dead = false
			if err := server.Unseal(changed[:len(msg)], 8, 32, changed[len(msg):]); !errors.Is(err, gss.ErrSignature) {
				t.Fatalf("%v, bit %d of octet %d: %v", e, bit%8, bit/8, err)
			}
		}
		if err := server.Unseal(bytes.Clone(msg), 8, 32, sig); !errors.Is(err, gss.ErrSignature) {
			t.Errorf("%v, after a forgery: %v", e, err)
		}
		for n := range len(sig) {
			server.receive.dead = false
			if err := server.Unseal(bytes.Clone(msg), 8, 32, sig[:n]); !errors.Is(err, gss.ErrSignature) {
				t.Errorf("%v, token of %d octets: %v", e, n, err)
			}
		}
		server.receive.dead = false
		if err := server.Unseal(bytes.Clone(msg), 8, 32, sig); err != nil {
			t.Errorf("%v: %v", e, err)
		}
		if err := server.Unseal(bytes.Clone(msg), 8, 32, sig); !errors.Is(err, gss.ErrSignature) {
			t.Errorf("%v, twice: %v", e, err)
		}
		// One's own message, sent back.
		back := bytes.Clone(text)
		sig, err = server.Seal(nil, back, 8, 32)
		if err != nil {
			t.Fatal(err)
		}
		server.receive.dead, server.receive.next = false, server.send.next-1
		if err := server.Unseal(back, 8, 32, sig); !errors.Is(err, gss.ErrSignature) {
			t.Errorf("%v, reflected: %v", e, err)
		}
	}
}

func TestForgedSignatures(t *testing.T) {
	client, server := connect(t, forge(t), sealing)
	text := []byte("a text")
	sig, err := client.Sign(nil, text)
	if err != nil {
		t.Fatal(err)
	}
	for bit := range len(sig) * 8 {
		changed := bytes.Clone(sig)
		changed[bit/8] ^= 1 << (bit % 8)
		server.receive.dead = false
		if err := server.Verify(text, changed); !errors.Is(err, gss.ErrSignature) {
			t.Fatalf("bit %d: %v", bit, err)
		}
	}
	if err := server.Verify(text, sig); !errors.Is(err, gss.ErrSignature) {
		t.Errorf("after a forgery: %v", err)
	}
	server.receive.dead = false
	if err := server.Verify(text, sig); err != nil {
		t.Error(err)
	}
	if err := server.Verify(text, sig); !errors.Is(err, gss.ErrSignature) {
		t.Errorf("twice: %v", err)
	}
}

func TestSealingNotNegotiated(t *testing.T) {
	client, server := connect(t, forge(t), gss.Integrity)
	if _, err := client.Seal(nil, make([]byte, 16), 0, 16); !errors.Is(err, gss.ErrRefused) {
		t.Error(err)
	}
	if err := server.Unseal(make([]byte, 16), 0, 16, make([]byte, 76)); !errors.Is(err, gss.ErrRefused) {
		t.Error(err)
	}
}

// The third leg has to answer the second one.
func TestThirdLeg(t *testing.T) {
	for name, tt := range map[string]struct {
		change   func(f *forgery, third *apRepPart) Key
		sentinel error
	}{
		"another number": {func(f *forgery, p *apRepPart) Key { p.seq++; return f.part.key }, gss.ErrLogon},
		"another key":    {func(f *forgery, _ *apRepPart) Key { return Key{f.part.key.Type, make([]byte, 32)} }, gss.ErrLogon},
		"another type":   {func(_ *forgery, _ *apRepPart) Key { return Key{AES128SHA1, make([]byte, 16)} }, gss.ErrToken},
	} {
		t.Run(name, func(t *testing.T) {
			f := forge(t)
			f.auth.checksum = marshalChannel(sealing | gss.DCEStyle | gss.Mutual)
			x := f.acceptor(t, Config{}).Accept(gss.AcceptOptions{DCEStyle: true})
			out, sc, err := x.Step(t.Context(), f.seal(t, false))
			if err != nil || sc != nil {
				t.Fatal(sc, err)
			}
			reply, err := openAPRep(f.part.key, out)
			if err != nil {
				t.Fatal(err)
			}
			third := &apRepPart{ctime: reply.ctime, cusec: reply.cusec, seq: reply.seq}
			token, err := sealAPRep(tt.change(f, third), third)
			if err != nil {
				t.Fatal(err)
			}
			if _, sc, err := x.Step(t.Context(), token); !errors.Is(err, tt.sentinel) || sc != nil {
				t.Errorf("context %v, error %v", sc, err)
			}
		})
	}
}

// The client wants the server to prove itself.
func TestFalseServer(t *testing.T) {
	f := forge(t)
	for name, tt := range map[string]struct {
		answer   func(a *authenticator) ([]byte, error)
		sentinel error
	}{
		"another key": {func(a *authenticator) ([]byte, error) {
			return sealAPRep(Key{f.part.key.Type, make([]byte, 32)}, &apRepPart{ctime: a.ctime, cusec: a.cusec})
		}, gss.ErrLogon},
		"another time": {func(a *authenticator) ([]byte, error) {
			return sealAPRep(f.part.key, &apRepPart{ctime: a.ctime.Add(time.Second), cusec: a.cusec})
		}, gss.ErrLogon},
		"an error": {func(*authenticator) ([]byte, error) {
			return (&krbError{stime: f.now, code: codeSkew, realm: "R", service: principal{1, []string{"s"}}}).marshal()
		}, gss.ErrRefused},
		"a request": {func(*authenticator) ([]byte, error) { return f.seal(t, true), nil }, gss.ErrToken},
		"nothing":   {func(*authenticator) ([]byte, error) { return nil, nil }, gss.ErrToken},
	} {
		t.Run(name, func(t *testing.T) {
			x := NewInitiator(f.source(t)).Initiate(gss.InitiateOptions{Flags: sealing}).(*initiateExchange)
			if _, _, err := x.Step(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			in, err := tt.answer(x.auth)
			if err != nil {
				t.Fatal(err)
			}
			if _, sc, err := x.Step(t.Context(), in); !errors.Is(err, tt.sentinel) || sc != nil {
				t.Errorf("context %v, error %v", sc, err)
			}
			if _, _, err := x.Step(t.Context(), in); !errors.Is(err, gss.ErrToken) {
				t.Errorf("after the end: %v", err)
			}
		})
	}
}

func BenchmarkSealUnseal(b *testing.B) {
	client, server := connect(b, forge(b), sealing|gss.DCEStyle)
	msg := make([]byte, 24+512+8)
	var sig []byte
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if sig, err = client.Seal(sig[:0], msg, 24, 24+512); err != nil {
			b.Fatal(err)
		}
		if err = server.Unseal(msg, 24, 24+512, sig); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAccept(b *testing.B) {
	f := forge(b)
	f.seal(b, true)
	a := f.acceptor(b, Config{})
	b.ReportAllocs()
	for b.Loop() {
		// A new authenticator, so that it is no replay.
		b.StopTimer()
		token := f.seal(b, true)
		b.StartTimer()
		if _, _, err := a.Accept(gss.AcceptOptions{}).Step(context.Background(), token); err != nil {
			b.Fatal(err)
		}
	}
}
