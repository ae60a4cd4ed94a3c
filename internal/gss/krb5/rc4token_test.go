package krb5

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/seed05845750/bkrp/internal/gss"
)

// connectRC4 has a client with an RC4 session key, as Samba's, log on in DCE
// style, and gives both ends.
func connectRC4(t testing.TB, subkey bool) (client, server *rc4Session) {
	t.Helper()
	f := forgeWith(t, RC4HMAC)
	f.authKey = f.part.key
	f.auth.subkey = nil
	want := drawKey(t, RC4HMAC)
	if subkey {
		f.auth.subkey = &want
	}
	f.auth.checksum = marshalChannel(sealing | gss.DCEStyle | gss.Mutual)
	x := f.acceptor(t, Config{AllowRC4: true}).Accept(gss.AcceptOptions{DCEStyle: true})
	out, _, err := x.Step(t.Context(), f.seal(t, false))
	if err != nil {
		t.Fatal(err)
	}
	reply, err := openAPRep(f.part.key, out)
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case reply.subkey == nil:
		t.Fatal("no key of the server's")
	case subkey && !reply.subkey.equal(want):
		t.Error("the server's key is not the client's")
	}
	want = *reply.subkey
	third, err := sealAPRep(f.part.key, &apRepPart{ctime: reply.ctime, cusec: reply.cusec, seq: reply.seq})
	if err != nil {
		t.Fatal(err)
	}
	_, sc, err := x.Step(t.Context(), third)
	if err != nil {
		t.Fatal(err)
	}
	server = sc.(*rc4Session)
	ours := &session{flags: server.flags, key: want}
	ours.send.next, ours.receive.next = uint64(f.auth.seq), uint64(reply.seq)
	return ours.context().(*rc4Session), server
}

// Both ends of a context with an RC4 key.
func TestRC4BothEnds(t *testing.T) {
	for _, subkey := range []bool{true, false} {
		t.Run(fmt.Sprint(subkey), func(t *testing.T) {
			client, server := connectRC4(t, subkey)
			if !bytes.Equal(client.SessionKey(), server.SessionKey()) || len(server.SessionKey()) != 16 {
				t.Error("the keys differ")
			}
			for n := range 40 {
				exchange(t, client, server, n)
				exchange(t, server, client, n)
			}
		})
	}
}

// The two directions never come to the same number, of which the key stream is
// made: the acceptor's keeps away from whatever the initiator begins with.
func TestRC4SequencesApart(t *testing.T) {
	const least = 1 << 28
	apart := func(a, b uint32) bool { return a-b >= least && b-a >= least }
	for _, theirs := range []uint32{0, 1, 1<<28 - 1, 1<<29 + 7, 1<<30 - 1, 1 << 30, 1<<31 - 1, 1 << 31, 3 << 30, 1<<32 - 1} {
		for range 1000 {
			if ours := rc4Sequence(theirs); ours >= 1<<30 || !apart(ours, theirs) {
				t.Fatalf("%#x and %#x", theirs, ours)
			}
		}
	}
	_, server := connectRC4(t, true)
	if !apart(uint32(server.send.next), uint32(server.receive.next)) {
		t.Errorf("%#x and %#x", server.send.next, server.receive.next)
	}
}

// Every bit of a token and of a message counts, and so does their order.
func TestRC4ForgedMessages(t *testing.T) {
	client, server := connectRC4(t, true)
	text := []byte("header  a secret of some octets trailer ")
	msg := bytes.Clone(text)
	sealed, err := client.Seal(nil, msg, 8, 32)
	if err != nil {
		t.Fatal(err)
	}
	unseal := func(whole []byte) error {
		server.receive.dead = false
		return server.Unseal(whole[:len(text)], 8, 32, whole[len(text):])
	}
	whole := append(bytes.Clone(msg), sealed...)
	for bit := range len(whole) * 8 {
		changed := bytes.Clone(whole)
		changed[bit/8] ^= 1 << (bit % 8)
		if err := unseal(changed); !errors.Is(err, gss.ErrSignature) {
			t.Fatalf("bit %d of octet %d: %v", bit%8, bit/8, err)
		}
	}
	for n := range len(sealed) {
		if err := unseal(bytes.Clone(whole[:len(text)+n])); !errors.Is(err, gss.ErrSignature) {
			t.Errorf("token of %d octets: %v", n, err)
		}
	}
	if err := server.Unseal(bytes.Clone(msg), 8, 32, sealed); !errors.Is(err, gss.ErrSignature) {
		t.Errorf("after a forgery: %v", err)
	}
	if err := unseal(bytes.Clone(whole)); err != nil {
		t.Error(err)
	}
	if err := unseal(bytes.Clone(whole)); !errors.Is(err, gss.ErrSignature) {
		t.Errorf("twice: %v", err)
	}
	signed, err := client.Sign(nil, text)
	if err != nil {
		t.Fatal(err)
	}
	for bit := range len(signed) * 8 {
		changed := bytes.Clone(signed)
		changed[bit/8] ^= 1 << (bit % 8)
		server.receive.dead = false
		if err := server.Verify(text, changed); !errors.Is(err, gss.ErrSignature) {
			t.Fatalf("signature, bit %d: %v", bit, err)
		}
	}
	// One's own message, sent back with the number that is expected.
	back := bytes.Clone(text)
	if sealed, err = server.Seal(nil, back, 8, 32); err != nil {
		t.Fatal(err)
	}
	server.receive.next = server.send.next - 1
	if err := unseal(append(back, sealed...)); !errors.Is(err, gss.ErrSignature) {
		t.Errorf("reflected: %v", err)
	}
}

// Without DCE style there is no sealing, only signing.
func TestRC4SealsForRPCAlone(t *testing.T) {
	client, server := connectRC4(t, true)
	server.flags &^= gss.DCEStyle
	if _, err := server.Seal(nil, make([]byte, 16), 0, 16); !errors.Is(err, gss.ErrRefused) {
		t.Error(err)
	}
	if err := server.Unseal(make([]byte, 16), 0, 16, make([]byte, rc4WrapSize)); !errors.Is(err, gss.ErrRefused) {
		t.Error(err)
	}
	sig, err := client.Sign(nil, []byte("a text"))
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Verify([]byte("a text"), sig); err != nil {
		t.Error(err)
	}
}

// Our client takes no RC4 key from the KDC, and none from the server, nor a key
// that is shorter than its type says.
func TestRC4Client(t *testing.T) {
	f := forgeWith(t, RC4HMAC)
	if _, _, err := NewInitiator(f.source(t)).Initiate(gss.InitiateOptions{Flags: sealing}).Step(t.Context(), nil); !errors.Is(err, gss.ErrRefused) {
		t.Errorf("from the KDC: %v", err)
	}
	for _, tt := range []struct {
		subkey Key
		want   error
	}{
		{drawKey(t, RC4HMAC), gss.ErrRefused},
		{Key{AES256SHA1, make([]byte, 16)}, gss.ErrToken},
		{Key{AES256SHA2, nil}, gss.ErrToken},
	} {
		f = forge(t)
		x := NewInitiator(f.source(t)).Initiate(gss.InitiateOptions{Flags: sealing}).(*initiateExchange)
		if _, _, err := x.Step(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		reply, err := sealAPRep(f.part.key, &apRepPart{ctime: x.auth.ctime, cusec: x.auth.cusec, subkey: &tt.subkey})
		if err != nil {
			t.Fatal(err)
		}
		if _, sc, err := x.Step(t.Context(), reply); !errors.Is(err, tt.want) || sc != nil {
			t.Errorf("%v of %d octets from the server: %v, %v", tt.subkey, len(tt.subkey.Value), sc, err)
		}
	}
}
