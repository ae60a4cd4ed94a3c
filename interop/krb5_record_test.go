package interop

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/internal/gss"
)

// recordKerberos has the tests of this package write what clients say to the
// acceptor, for the tests of internal/gss/krb5, which play it again.
var recordKerberos = flag.String("record-krb5", "", "write transcripts of Kerberos logons to this directory")

// transcript is one logon and the messages after it, as
// internal/gss/krb5/testdata has them.
type transcript struct {
	Now      time.Time
	Keytab   []byte
	DCEStyle bool
	SID      string
	Legs     []transcriptLeg
	Messages []transcriptMessage
}

type transcriptLeg struct{ In, Out []byte }

// transcriptMessage is a sealed or signed message of the client's.
type transcriptMessage struct {
	Sealed   bool
	Message  []byte
	From, To int
	Token    []byte
	Plain    []byte
}

// recorded wraps an acceptor when transcripts are wanted.
func recorded(t *testing.T, keytab string, a gss.Acceptor) gss.Acceptor {
	t.Helper()
	if *recordKerberos == "" {
		return a
	}
	keys, err := os.ReadFile(keytab)
	if err != nil {
		t.Fatal(err)
	}
	r := &recordingAcceptor{Acceptor: a, keytab: keys}
	t.Cleanup(func() { r.write(t) })
	return r
}

type recordingAcceptor struct {
	gss.Acceptor
	keytab []byte

	mu  sync.Mutex
	all []*recordingExchange
}

func (r *recordingAcceptor) Accept(o gss.AcceptOptions) gss.Exchange {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := &recordingExchange{Exchange: r.Acceptor.Accept(o), transcript: transcript{Now: time.Now().UTC(), Keytab: r.keytab, DCEStyle: o.DCEStyle}}
	r.all = append(r.all, e)
	return e
}

// write keeps the first two logons of each kind.
func (r *recordingAcceptor) write(t *testing.T) {
	r.mu.Lock()
	defer r.mu.Unlock()
	count := make(map[bool]int)
	for _, e := range r.all {
		dce := len(e.Legs) > 1
		if e.SID == "" || count[dce] == 2 || dce && len(e.Messages) == 0 {
			continue
		}
		count[dce]++
		b, err := json.MarshalIndent(&e.transcript, "", "\t")
		if err != nil {
			t.Error(err)
		}
		kind := map[bool]string{false: "smb", true: "rpc"}[dce]
		name := filepath.Join(*recordKerberos, fmt.Sprintf("samba-%s-%d.json", kind, count[dce]))
		if err := os.WriteFile(name, b, 0o644); err != nil {
			t.Error(err)
		}
	}
}

type recordingExchange struct {
	gss.Exchange
	transcript
}

func (e *recordingExchange) Step(ctx context.Context, in []byte) ([]byte, gss.Context, error) {
	out, sc, err := e.Exchange.Step(ctx, in)
	e.Legs = append(e.Legs, transcriptLeg{bytes.Clone(in), bytes.Clone(out)})
	if sc == nil || err != nil {
		return out, sc, err
	}
	e.SID = sc.Identity().SID.String()
	return out, &recordingContext{sc, e}, nil
}

type recordingContext struct {
	gss.Context
	e *recordingExchange
}

func (c *recordingContext) Unseal(msg []byte, from, to int, sig []byte) error {
	m := transcriptMessage{Sealed: true, Message: bytes.Clone(msg), From: from, To: to, Token: bytes.Clone(sig)}
	err := c.Context.Unseal(msg, from, to, sig)
	m.Plain = bytes.Clone(msg)
	c.e.Messages = append(c.e.Messages, m)
	return err
}

func (c *recordingContext) Verify(msg, sig []byte) error {
	c.e.Messages = append(c.e.Messages, transcriptMessage{Message: bytes.Clone(msg), Token: bytes.Clone(sig)})
	return c.Context.Verify(msg, sig)
}
