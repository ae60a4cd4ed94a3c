package krb5

import (
	"bytes"
	"encoding/json"
	"math/bits"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/internal/gss"
)

// transcript is a logon of Samba's client at this acceptor, recorded by
// interop's TestKerberosSambaClient with -record-krb5.
type transcript struct {
	Now      time.Time
	Keytab   []byte
	DCEStyle bool
	SID      string
	Legs     []struct{ In, Out []byte }
	Messages []struct {
		Sealed   bool
		Message  []byte
		From, To int
		Token    []byte
		Plain    []byte
	}
}

func transcripts(t testing.TB) map[string]*transcript {
	t.Helper()
	files, err := filepath.Glob("testdata/samba-*.json")
	if err != nil || len(files) < 4 {
		t.Fatalf("only %d transcripts: %v", len(files), err)
	}
	all := make(map[string]*transcript)
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		tr := &transcript{}
		if err := json.Unmarshal(b, tr); err != nil {
			t.Fatal(err)
		}
		all[filepath.Base(name)] = tr
	}
	return all
}

// acceptor is one of the time of the transcript, with its keytab.
func (tr *transcript) acceptor(t testing.TB, cfg Config) *acceptor {
	t.Helper()
	cfg.Keytab = writeKeytab(t, tr.Keytab)
	if cfg.Now == nil {
		cfg.Now = func() time.Time { return tr.Now }
	}
	a, err := NewAcceptor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return a.(*acceptor)
}

func writeKeytab(t testing.TB, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "service.keytab")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// open opens the ticket of the transcript.
func (tr *transcript) open(t testing.TB) (*apReq, *ticketPart, *keytabEntry) {
	t.Helper()
	_, message, _, err := unframe(tr.Legs[0].In)
	if err != nil {
		t.Fatal(err)
	}
	req, err := parseAPReq(message)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := parseKeytab(tr.Keytab)
	if err != nil {
		t.Fatal(err)
	}
	for i := range entries {
		e := &entries[i]
		if e.key.Type != req.ticket.sealed.etype || !e.serves(req.ticket.realm, req.ticket.service) {
			continue
		}
		plain, err := e.key.decrypt(usageTicket, req.ticket.sealed.cipher)
		if err != nil {
			t.Fatal(err)
		}
		part, err := parseTicketPart(plain)
		if err != nil {
			t.Fatal(err)
		}
		return req, part, e
	}
	t.Fatal("no key for the ticket")
	return nil, nil, nil
}

// TestSambaTranscripts plays the logons of Samba's clients again, and opens
// what they sealed and signed.
func TestSambaTranscripts(t *testing.T) {
	for name, tr := range transcripts(t) {
		t.Run(name, func(t *testing.T) {
			x := tr.acceptor(t, Config{}).Accept(gss.AcceptOptions{DCEStyle: tr.DCEStyle}).(*acceptExchange)
			out, sc, err := x.Step(t.Context(), tr.Legs[0].In)
			if err != nil {
				t.Fatal(err)
			}
			_, part, _ := tr.open(t)
			_, message, _, err := unframe(tr.Legs[0].Out)
			if err != nil {
				t.Fatal(err)
			}
			theirs, err := openAPRep(part.key, message)
			if err != nil {
				t.Fatal(err)
			}
			_, message, _, err = unframe(out)
			if err != nil {
				t.Fatal(err)
			}
			ours, err := openAPRep(part.key, message)
			if err != nil {
				t.Fatal(err)
			}
			// Of the sequence numbers, drawn at random, one may be the shorter.
			size := func(seq uint32) int { return bits.Len32(seq)/8 + 1 }
			if got, want := len(out)-size(ours.seq), len(tr.Legs[0].Out)-size(theirs.seq); got != want {
				t.Errorf("answer of %d octets without its sequence number, recorded were %d", got, want)
			}
			if sc != nil {
				checkTranscriptContext(t, tr, sc.(*session))
				return
			}
			// What was drawn at random then.
			x.nonce, x.waiting.key = theirs.seq, *theirs.subkey
			out, sc, err = x.Step(t.Context(), tr.Legs[1].In)
			if err != nil || out != nil {
				t.Fatalf("third leg: %x, %v", out, err)
			}
			checkTranscriptContext(t, tr, sc.(*session))
		})
	}
}

func checkTranscriptContext(t *testing.T, tr *transcript, s *session) {
	t.Helper()
	id := s.Identity()
	if id.SID.String() != tr.SID || id.Domain != "BKRP" || id.Name != "alice" || id.Mechanism != "krb5" || len(id.Groups) == 0 {
		t.Errorf("identity %v, groups %v", id, id.Groups)
	}
	if left := s.Expiry().Sub(tr.Now); left < time.Hour || left > 24*time.Hour {
		t.Errorf("context ends in %v", left)
	}
	if s.Flags()&(gss.Mutual|gss.Integrity|gss.Confidentiality) != gss.Mutual|gss.Integrity|gss.Confidentiality && tr.DCEStyle {
		t.Errorf("flags %b", s.Flags())
	}
	for i, m := range tr.Messages {
		if !m.Sealed {
			if err := s.Verify(m.Message, m.Token); err != nil {
				t.Errorf("message %d: %v", i, err)
			}
			continue
		}
		// L of [MS-RPCE] with AES: 76 octets.
		if len(m.Token) != 76 || s.SignatureSize() != 76 {
			t.Errorf("message %d: token of %d octets, ours %d", i, len(m.Token), s.SignatureSize())
		}
		msg := bytes.Clone(m.Message)
		if err := s.Unseal(msg, m.From, m.To, m.Token); err != nil || !bytes.Equal(msg, m.Plain) {
			t.Errorf("message %d: %v", i, err)
		}
	}
}
