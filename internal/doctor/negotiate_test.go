package doctor

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/internal/smb2/wire"
	"github.com/seed05845750/bkrp/internal/smbclient"
)

// FuzzNegotiation reads and judges what a server may answer: it makes sense of
// every answer that can be read.
func FuzzNegotiation(f *testing.F) {
	for _, r := range []wire.NegotiateResponse{
		{Dialect: wire.Dialect302, Capabilities: wire.CapEncryption, SystemTime: 1 << 57},
		{Dialect: wire.Dialect311, SecurityMode: wire.SigningRequired, Token: []byte("a token"), Contexts: []wire.NegotiateContext{
			{Type: wire.ContextEncryption, Data: wire.AppendAlgorithms(nil, uint16(wire.AES128GCM))}}},
	} {
		h := wire.Header{Command: wire.Negotiate, Flags: wire.FlagResponse}
		msg := r.Append(h.Append(nil))
		f.Add(append(binary.BigEndian.AppendUint32(nil, uint32(len(msg))), msg...))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := smbclient.ReadNegotiate(bytes.NewReader(b))
		if err != nil {
			return
		}
		var s Server
		n := &negotiation{NegotiateResponse: r, sent: time.Now(), received: time.Now()}
		n.judge(&s)
		seen := make(map[string]bool)
		for _, f := range s.Findings {
			seen[f.Check] = true
			if f.Found == "" || f.Level >= Warning && f.Next == "" {
				t.Errorf("%+v", f)
			}
		}
		for _, check := range []string{CheckDialect, CheckSigning, CheckEncryption, CheckMechanisms, CheckClock} {
			if !seen[check] {
				t.Errorf("nothing about %s", check)
			}
		}
	})
}

func TestFileTime(t *testing.T) {
	for ft, want := range map[uint64]string{
		0:                  "1601-01-01T00:00:00Z",
		116444736000000000: "1970-01-01T00:00:00Z",
		133485408005000000: "2024-01-01T00:00:00.5Z",
	} {
		if got := fileTime(ft).UTC().Format(time.RFC3339Nano); got != want {
			t.Errorf("%d: %s, want %s", ft, got, want)
		}
	}
}

func TestSkew(t *testing.T) {
	for skew, want := range map[time.Duration]string{
		0: "the same as ours", 20 * time.Millisecond: "the same as ours",
		90 * time.Second: "1m30s ahead of ours", -time.Hour: "1h0m0s behind ours",
	} {
		if got := describeSkew(skew); got != want {
			t.Errorf("%v: %s", skew, got)
		}
	}
}
