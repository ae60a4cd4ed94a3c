package interop

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jcmturner/gofork/encoding/asn1"
	"github.com/oiweiwei/gokrb5.fork/v9/asn1tools"
	"github.com/oiweiwei/gokrb5.fork/v9/client"
	"github.com/oiweiwei/gokrb5.fork/v9/config"
	"github.com/oiweiwei/gokrb5.fork/v9/crypto"
	"github.com/oiweiwei/gokrb5.fork/v9/iana/adtype"
	"github.com/oiweiwei/gokrb5.fork/v9/iana/asnAppTag"
	"github.com/oiweiwei/gokrb5.fork/v9/iana/keyusage"
	"github.com/oiweiwei/gokrb5.fork/v9/keytab"
	"github.com/oiweiwei/gokrb5.fork/v9/messages"
	"github.com/oiweiwei/gokrb5.fork/v9/types"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/gss"
	"github.com/seed05845750/bkrp/internal/gss/spnego"
	"github.com/seed05845750/bkrp/internal/smbclient"
	"github.com/seed05845750/bkrp/interop/peers"
)

// TestKerberosRefused has a running server judge what was made of tickets of the
// domain: opened with its own keytab, altered, and sealed again by another
// implementation. Each is refused, with a line of the log that says why.
func TestKerberosRefused(t *testing.T) {
	s, dc := startMember(t, options{})
	_, m := member(t)
	alice := dtyp.MustParseSID(sidOf(t, dc, peers.Alice))
	_, rid, _ := alice.Cut()
	issued := issue(t, dc, m)
	now := time.Now().UTC()
	for _, c := range []struct {
		name   string
		change func(t *testing.T, f *forgedTicket)
		again  int
		log    string
	}{
		{name: "expired ticket", change: func(_ *testing.T, f *forgedTicket) { f.part().EndTime = now.Add(-time.Hour) },
			log: "the ticket has expired"},
		{name: "ticket of tomorrow", change: func(_ *testing.T, f *forgedTicket) { f.part().StartTime = now.Add(24 * time.Hour) },
			log: "the ticket is not valid yet"},
		{name: "clock ahead", change: func(_ *testing.T, f *forgedTicket) { f.auth.CTime = now.Add(time.Hour) },
			log: "the clocks are too far apart: gss: logon failure: the client's is "},
		{name: "clock behind", change: func(_ *testing.T, f *forgedTicket) { f.auth.CTime = now.Add(-time.Hour) },
			log: "the clocks are too far apart: gss: logon failure: the client's is -"},
		{name: "replayed request", again: 1,
			log: "the request was seen before"},
		{name: "wrong SPN", change: func(_ *testing.T, f *forgedTicket) { f.ticket.SName.NameString[1] = "other.bkrp.test" },
			log: "the keytab does not have the service of the ticket"},
		{name: "another service's key", change: func(_ *testing.T, f *forgedTicket) { rand.Read(f.key.KeyValue) },
			log: "sealed with another key than the keytab's"},
		{name: "name in the authenticator", change: func(_ *testing.T, f *forgedTicket) { f.auth.CName.NameString[0] = peers.Administrator },
			log: "names another client than the ticket"},
		{name: "no PAC", change: func(_ *testing.T, f *forgedTicket) { f.part().AuthorizationData = nil },
			log: "the ticket has no PAC"},
		{name: "cut PAC", change: func(t *testing.T, f *forgedTicket) { f.changePAC(t, func(p []byte) []byte { return p[:len(p)-16] }) },
			log: "pac: malformed"},
		{name: "altered PAC", change: func(t *testing.T, f *forgedTicket) {
			f.changePAC(t, func(p []byte) []byte {
				return bytes.Replace(p, binary.LittleEndian.AppendUint32(nil, rid), binary.LittleEndian.AppendUint32(nil, 500), 1)
			})
		}, log: "pac: bad server signature"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := issued(t)
			if c.change != nil {
				c.change(t, f)
			}
			token := f.token(t)
			for range c.again {
				if _, err := logOnWith(t, s, token); !errors.Is(err, errTaken) {
					t.Fatalf("the first time: %v", err)
				}
			}
			seen := len(s.log.String())
			if session, err := logOnWith(t, s, token); !errors.Is(err, smbclient.ErrLogon) {
				t.Fatalf("session %v, %v", session, err)
			}
			if !logs(s, seen, `msg="kerberos logon refused"`, c.log, "client=") {
				t.Errorf("the log does not say %q:\n%s", c.log, s.log)
			}
		})
	}
	// Opened and sealed again as it was, a ticket is as good as before.
	t.Run("nothing altered", func(t *testing.T) {
		if _, err := logOnWith(t, s, issued(t).token(t)); !errors.Is(err, errTaken) {
			t.Fatal(err)
		}
		if !logs(s, 0, `msg="kerberos logon"`, "sid="+alice.String()) {
			t.Errorf("log:\n%s", s.log)
		}
	})
}

// logs waits until a line of the server's log, from an offset on, has all parts:
// it comes through a pipe, and may be behind the server's answer.
func logs(s *server, from int, parts ...string) bool {
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if hasLine(s.log.String()[from:], parts...) {
			return true
		}
	}
	return false
}

// hasLine tells whether some line of a log has all parts.
func hasLine(log string, parts ...string) bool {
	for line := range strings.Lines(log) {
		if !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(line, part) }) {
			return true
		}
	}
	return false
}

// forgedTicket is a ticket with what seals it, and the authenticator beside it.
type forgedTicket struct {
	ticket messages.Ticket
	key    types.EncryptionKey // of the service
	auth   types.Authenticator
}

func (f *forgedTicket) part() *messages.EncTicketPart { return &f.ticket.DecryptedEncPart }

// issue gets alice's ticket for our server from the domain, and gives it out
// opened, with a new authenticator each time.
func issue(t *testing.T, dc *peers.Domain, m *peers.Member) func(*testing.T) *forgedTicket {
	t.Helper()
	conf, err := config.Load(dc.Krb5Conf())
	if err != nil {
		t.Fatal(err)
	}
	keys, err := keytab.Load(m.Keytab)
	if err != nil {
		t.Fatal(err)
	}
	c := client.NewWithPassword(peers.Alice, dc.Realm(), dc.Password(peers.Alice), conf, client.DisablePAFXFAST(true))
	defer c.Destroy()
	if err := c.Login(); err != nil {
		t.Fatal(err)
	}
	ticket, _, err := c.GetServiceTicket("cifs/" + krb5Host)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := ticket.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return func(t *testing.T) *forgedTicket {
		t.Helper()
		f := new(forgedTicket)
		if err := f.ticket.Unmarshal(sealed); err != nil {
			t.Fatal(err)
		}
		key, _, err := keys.GetEncryptionKey(f.ticket.SName, dc.Realm(), f.ticket.EncPart.KVNO, f.ticket.EncPart.EType)
		if err != nil {
			t.Fatal(err)
		}
		f.key = types.EncryptionKey{KeyType: key.KeyType, KeyValue: bytes.Clone(key.KeyValue)}
		if err := f.ticket.Decrypt(f.key); err != nil {
			t.Fatal(err)
		}
		name := f.part().CName
		name.NameString = slices.Clone(name.NameString)
		if f.auth, err = types.NewAuthenticator(dc.Realm(), name); err != nil {
			t.Fatal(err)
		}
		// RFC 4121 4.1.1: 16 octets of channel bindings, none; integrity.
		f.auth.Cksum = types.Checksum{CksumType: 0x8003, Checksum: append(append([]byte{16, 0, 0, 0}, make([]byte, 16)...), 0x20, 0, 0, 0)}
		return f
	}
}

// changePAC alters the PAC in a ticket.
func (f *forgedTicket) changePAC(t *testing.T, change func([]byte) []byte) {
	t.Helper()
	for i, outer := range f.part().AuthorizationData {
		var inner types.AuthorizationData
		if outer.ADType != adtype.ADIfRelevant || inner.Unmarshal(outer.ADData) != nil {
			continue
		}
		for j, entry := range inner {
			if entry.ADType != adtype.ADWin2KPAC {
				continue
			}
			changed := change(entry.ADData)
			if bytes.Equal(changed, entry.ADData) {
				t.Fatal("the PAC is as it was")
			}
			inner[j].ADData = changed
			b, err := asn1.Marshal(inner)
			if err != nil {
				t.Fatal(err)
			}
			f.part().AuthorizationData[i].ADData = b
			return
		}
	}
	t.Fatal("the ticket has no PAC")
}

// token seals all of it, and makes an AP-REQ with the frame of RFC 4121 4.1.
func (f *forgedTicket) token(t *testing.T) []byte {
	t.Helper()
	sealed := func(plain []byte, err error, key types.EncryptionKey, usage uint32, kvno int) types.EncryptedData {
		if err != nil {
			t.Fatal(err)
		}
		e, err := crypto.GetEncryptedData(plain, key, usage, kvno)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	part, err := asn1.Marshal(*f.part())
	f.ticket.EncPart = sealed(asn1tools.AddASNAppTag(part, asnAppTag.EncTicketPart), err, f.key, keyusage.KDC_REP_TICKET, f.ticket.EncPart.KVNO)
	opened := f.ticket
	opened.DecryptedEncPart = messages.EncTicketPart{}
	request, err := messages.NewAPReq(opened, f.part().Key, f.auth)
	if err != nil {
		t.Fatal(err)
	}
	types.SetFlag(&request.APOptions, 2) // mutual authentication
	b, err := request.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	mechanism, err := asn1.Marshal(asn1.ObjectIdentifier(spnego.Kerberos()))
	if err != nil {
		t.Fatal(err)
	}
	return asn1tools.AddASNAppTag(slices.Concat(mechanism, []byte{1, 0}, b), 0)
}

// logOnWith logs on to SMB with one token. The error is errTaken, or one of
// [smbclient.ErrLogon].
func logOnWith(t *testing.T, s *server, token []byte) (*smbclient.Session, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	return smbclient.Dial(ctx, smbclient.Config{Host: krb5Host, Address: s.addr, Initiator: oneToken(token), Mechanism: spnego.Kerberos()})
}

// errTaken says that the server has let oneToken in.
var errTaken = errors.New("the token was taken")

// oneToken sends itself, and is satisfied with any answer.
type oneToken []byte

func (o oneToken) Initiate(gss.InitiateOptions) gss.Exchange { return o }

func (o oneToken) Step(_ context.Context, in []byte) ([]byte, gss.Context, error) {
	if in == nil {
		return o, nil, nil
	}
	return nil, nil, errTaken
}
