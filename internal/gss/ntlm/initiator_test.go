package ntlm

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/seed05845750/bkrp/internal/gss"
)

// TestInitiatorRefuses is an initiator against servers that offer less than it
// takes.
func TestInitiatorRefuses(t *testing.T) {
	good := challengeMessage{
		flags:      required | flagSign | flagSeal | flagTargetInfo,
		targetInfo: targetInfo{{avTimestamp, make([]byte, 8)}},
	}
	for name, c := range map[string]struct {
		want   error
		change func(*challengeMessage)
		raw    func([]byte) []byte
	}{
		"as it should be":             {want: nil},
		"no signing":                  {want: gss.ErrRefused, change: func(c *challengeMessage) { c.flags &^= flagSign }},
		"no sealing":                  {want: gss.ErrRefused, change: func(c *challengeMessage) { c.flags &^= flagSeal }},
		"no extended security":        {want: gss.ErrRefused, change: func(c *challengeMessage) { c.flags &^= flagExtendedSecurity }},
		"56-bit keys":                 {want: gss.ErrRefused, change: func(c *challengeMessage) { c.flags = c.flags&^flag128 | flag56 }},
		"no key exchange":             {want: gss.ErrRefused, change: func(c *challengeMessage) { c.flags &^= flagKeyExchange }},
		"target information not said": {want: gss.ErrRefused, change: func(c *challengeMessage) { c.flags &^= flagTargetInfo }},
		"no target information":       {want: gss.ErrRefused, raw: func(b []byte) []byte { clear(b[40:48]); return b }},
		"time of seven octets":        {want: gss.ErrToken, change: func(c *challengeMessage) { c.targetInfo = targetInfo{{avTimestamp, make([]byte, 7)}} }},
		"a pair twice": {want: gss.ErrToken, change: func(c *challengeMessage) {
			c.targetInfo = targetInfo{{avTimestamp, make([]byte, 8)}, {avTimestamp, make([]byte, 8)}}
		}},
		"too many pairs": {want: gss.ErrToken, change: func(c *challengeMessage) {
			for i := range maxPairs {
				c.targetInfo = append(c.targetInfo, avPair{avID(100 + i), nil})
			}
		}},
		"list without end":        {want: gss.ErrToken, raw: func(b []byte) []byte { b[40] -= 4; b[42] -= 4; return b[:len(b)-4] }},
		"list cut short":          {want: gss.ErrToken, raw: func(b []byte) []byte { binary.LittleEndian.PutUint16(b[len(b)-14:], 99); return b }},
		"end with a value":        {want: gss.ErrToken, raw: func(b []byte) []byte { b[len(b)-2] = 1; return b }},
		"target name beyond":      {want: gss.ErrToken, raw: func(b []byte) []byte { b[12] = 2; b[19] = 0x80; return b }},
		"information beyond":      {want: gss.ErrToken, raw: func(b []byte) []byte { b[47] = 0x80; return b }},
		"another type":            {want: gss.ErrToken, raw: func(b []byte) []byte { b[8] = typeAuthenticate; return b }},
		"no message":              {want: gss.ErrToken, raw: func([]byte) []byte { return nil }},
		"longer than any message": {want: gss.ErrToken, raw: func(b []byte) []byte { return append(b, make([]byte, maxMessage)...) }},
	} {
		t.Run(name, func(t *testing.T) {
			m := good
			if c.change != nil {
				c.change(&m)
			}
			challenge := m.marshal()
			if c.raw != nil {
				challenge = c.raw(challenge)
			}
			x := NewInitiator(Credential{User: "alice"}).Initiate(gss.InitiateOptions{Flags: gss.Confidentiality})
			if _, _, err := x.Step(context.Background(), nil); err != nil {
				t.Fatal(err)
			}
			out, sc, err := x.Step(context.Background(), challenge)
			if !errors.Is(err, c.want) || (sc == nil) != (c.want != nil) || (out == nil) != (c.want != nil) {
				t.Errorf("context %v, error %v, want %v", sc, err, c.want)
			}
			if _, _, err := x.Step(context.Background(), challenge); !errors.Is(err, gss.ErrToken) {
				t.Errorf("a token after the end: %v", err)
			}
		})
	}
	x := NewInitiator(Credential{User: "alice"}).Initiate(gss.InitiateOptions{})
	if _, _, err := x.Step(context.Background(), good.marshal()); !errors.Is(err, gss.ErrToken) {
		t.Errorf("a challenge before the first message: %v", err)
	}
}

// TestFlagsGranted asks for each property, and says what both ends are
// granted.
func TestFlagsGranted(t *testing.T) {
	const always = gss.Integrity | gss.Sequence
	for asked, want := range map[gss.Flags]gss.Flags{
		0:                   always,
		gss.Confidentiality: always | gss.Confidentiality,
		gss.Identify:        always | gss.Identify,
		gss.DCEStyle:        always | gss.DCEStyle,
		gss.Mutual:          always,
	} {
		i := NewInitiator(Credential{Domain: "BKRP", User: "alice", Hash: HashPassword(testPassword)})
		x := i.Initiate(gss.InitiateOptions{Target: "host/dc1", Flags: asked})
		a := NewAcceptor(testConfig()).Accept(gss.AcceptOptions{DCEStyle: asked&gss.DCEStyle != 0})
		ctx := context.Background()
		var token []byte
		var client, server gss.Context
		var err error
		for server == nil && err == nil {
			if token, client, err = x.Step(ctx, token); err == nil {
				token, server, err = a.Step(ctx, token)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		if client.Flags() != want || server.Flags() != want {
			t.Errorf("asked %b: client %b, server %b, want %b", asked, client.Flags(), server.Flags(), want)
		}
		if string(client.SessionKey()) != string(server.SessionKey()) || !client.Identity().SID.IsZero() {
			t.Error("keys differ, or the client has an identity")
		}
	}
}
