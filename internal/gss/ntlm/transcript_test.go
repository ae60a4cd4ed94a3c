package ntlm

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

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/gss"
	"github.com/seed05845750/bkrp/internal/gss/spnego"
)

// transcript is what two real peers said to each other, recorded on the wire.
type transcript struct {
	Peer, User, Domain, Password string
	Wrapper                      string // "spnego" or "ntlm"
	Tokens                       []token
	Messages                     []message
}

type token struct{ From, Hex string }

type message struct {
	From, PDU  string
	Start, End int // of the stub with its padding
	Level      int // 5 signed, 6 sealed
}

func loadTranscripts(t testing.TB) map[string]*transcript {
	t.Helper()
	files, err := filepath.Glob("../testdata/*.json")
	if err != nil || len(files) < 7 {
		t.Fatalf("%d transcripts in testdata, %v", len(files), err)
	}
	all := map[string]*transcript{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		tr := &transcript{}
		if err := json.Unmarshal(b, tr); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		all[strings.TrimSuffix(filepath.Base(f), ".json")] = tr
	}
	return all
}

func (tr *transcript) token(t testing.TB, i int) []byte {
	t.Helper()
	b, err := hex.DecodeString(tr.Tokens[i].Hex)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// ntlmToken is the NTLM message in a token. It stands at its end but for a
// mechListMIC, which is not part of it.
func (tr *transcript) ntlmToken(t testing.TB, i int) []byte {
	b := tr.token(t, i)
	at := bytes.Index(b, []byte(Signature))
	if at < 0 {
		t.Fatalf("token %d has no NTLM message", i)
	}
	if tail := len(b) - 20; bytes.HasPrefix(b[tail:], []byte{0xa3, 18, 4, 16}) {
		b = b[:tail]
	}
	return b[at:]
}

// replay is an exchange whose challenge is a recorded one.
type replay struct {
	*acceptExchange
	recorded []byte
}

func (r *replay) Step(ctx context.Context, in []byte) ([]byte, gss.Context, error) {
	if r.sent != nil || r.done {
		return r.acceptExchange.Step(ctx, in)
	}
	if _, err := r.challengeFor(in); err != nil {
		return nil, nil, err
	}
	sent, err := parseChallenge(r.recorded)
	r.sent, r.challenge = sent, r.recorded
	return r.recorded, nil, err
}

// Accept implements gss.Acceptor.
func (r *replay) Accept(gss.AcceptOptions) gss.Exchange { return r }

var aliceSID = dtyp.MustParseSID("S-1-5-21-1-2-3-1104")

// tableOf is a Lookup of one account.
func tableOf(user, password string) Lookup {
	return func(_ context.Context, name string) (LocalAccount, error) {
		if !strings.EqualFold(name, user) {
			return LocalAccount{}, gss.ErrLogon
		}
		return LocalAccount{Hash: HashPassword(password), SID: aliceSID, Name: user}, nil
	}
}

func (tr *transcript) acceptor(t testing.TB, password string, requireMIC bool) gss.Acceptor {
	cfg := Config{Source: LocalSource(tableOf(tr.User, password), tr.Domain), RequireMIC: requireMIC}
	r := &replay{NewAcceptor(cfg).Accept(gss.AcceptOptions{}).(*acceptExchange), tr.ntlmToken(t, 1)}
	if tr.Wrapper == "ntlm" {
		return r
	}
	a, err := spnego.NewAcceptor(spnego.Mechanism{OIDs: []asn1.ObjectIdentifier{spnego.NTLM()}, Acceptor: r})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// accept replays the client's tokens into an acceptor that knows the
// password, and compares what it says with what the real server said.
func (tr *transcript) accept(t *testing.T) *session {
	x := tr.acceptor(t, tr.Password, false).Accept(gss.AcceptOptions{})
	for i := 0; ; i += 2 {
		out, sc, err := x.Step(context.Background(), tr.token(t, i))
		if err != nil {
			t.Fatalf("token %d: %v", i, err)
		}
		if i+1 < len(tr.Tokens) && !bytes.Equal(out, tr.token(t, i+1)) {
			t.Errorf("answer to token %d:\n%x, the recorded one\n%x", i, out, tr.token(t, i+1))
		}
		if sc != nil {
			if i+2 < len(tr.Tokens) {
				t.Errorf("context stands after token %d of %d", i, len(tr.Tokens))
			}
			return sc.(*session)
		}
	}
}

// TestTranscripts replays what real clients and a real server said. The
// passwords being known, each proof, MIC, mechListMIC, signature and sealed
// message has to come out the same here.
func TestTranscripts(t *testing.T) {
	for name, tr := range loadTranscripts(t) {
		t.Run(name, func(t *testing.T) {
			server := tr.accept(t)
			if id := server.Identity(); id.SID != aliceSID || id.Name != tr.User || id.Domain != tr.Domain {
				t.Errorf("identity %v", id)
			}
			client := newSession(server.key, flagSign|flagSeal, 0, true)
			client.send.next, client.receive.next = server.receive.next, server.send.next
			for i, m := range tr.Messages {
				from, to := server, client
				if m.From == "client" {
					from, to = client, server
				}
				tr.check(t, i, m, from, to)
			}
		})
	}
}

// check has the receiver open the message and the sender make it again. The
// whole PDU is signed, whether header signing was negotiated or not.
func (tr *transcript) check(t *testing.T, i int, m message, from, to *session) {
	t.Helper()
	recorded, err := hex.DecodeString(m.PDU)
	if err != nil {
		t.Fatal(err)
	}
	body, sig := recorded[:len(recorded)-signatureSize], recorded[len(recorded)-signatureSize:]
	b := bytes.Clone(body)
	var made []byte
	if m.Level == 6 {
		if err := to.Unseal(b, m.Start, m.End, sig); err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
		made, err = from.Seal(nil, b, m.Start, m.End)
	} else {
		if err := to.Verify(b, sig); err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
		made, err = from.Sign(nil, b)
	}
	if err != nil || !bytes.Equal(b, body) || !bytes.Equal(made, sig) {
		t.Errorf("message %d made again: signature %x, recorded %x, %v", i, made, sig, err)
	}
}

// TestTranscriptsChanged changes each bit of each recorded AUTHENTICATE whose
// MIC is announced: none of the changes gets in.
func TestTranscriptsChanged(t *testing.T) {
	tr := loadTranscripts(t)["rpcclient-seal-ntlm"]
	first, last := tr.token(t, 0), tr.token(t, 2)
	for bit := range 8 * len(last) {
		changed := bytes.Clone(last)
		changed[bit/8] ^= 1 << (bit % 8)
		if _, _, err := replayTokens(tr.acceptor(t, tr.Password, false), first, changed); err == nil {
			t.Errorf("AUTHENTICATE with bit %d of octet %d changed is accepted", bit%8, bit/8)
		}
	}
	for bit := 8 * headerSize; bit < 8*len(first); bit++ {
		changed := bytes.Clone(first)
		changed[bit/8] ^= 1 << (bit % 8)
		if _, _, err := replayTokens(tr.acceptor(t, tr.Password, false), changed, last); err == nil {
			t.Errorf("NEGOTIATE with bit %d of octet %d changed is accepted", bit%8, bit/8)
		}
	}
}

func replayTokens(a gss.Acceptor, tokens ...[]byte) (out []byte, sc gss.Context, err error) {
	x := a.Accept(gss.AcceptOptions{})
	for _, in := range tokens {
		if out, sc, err = x.Step(context.Background(), in); err != nil {
			return nil, nil, err
		}
	}
	return out, sc, nil
}

// TestTranscriptsMIC says who sends a MIC: the setting that requires one lets
// Samba's clients in and impacket 0.10 not.
func TestTranscriptsMIC(t *testing.T) {
	for name, tr := range loadTranscripts(t) {
		a := tr.acceptor(t, tr.Password, true)
		_, _, err := replayTokens(a, tr.token(t, 0), tr.token(t, 2))
		if sendsNone := strings.HasPrefix(name, "impacket"); sendsNone != errors.Is(err, gss.ErrRefused) || !sendsNone && err != nil {
			t.Errorf("%s with RequireMIC: %v", name, err)
		}
		_, _, err = replayTokens(tr.acceptor(t, tr.Password+"x", false), tr.token(t, 0), tr.token(t, 2))
		if !errors.Is(err, gss.ErrLogon) {
			t.Errorf("%s with another password: %v", name, err)
		}
	}
}
