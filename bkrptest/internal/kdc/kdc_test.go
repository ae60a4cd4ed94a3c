package kdc

import (
	"context"
	"encoding/hex"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oiweiwei/gokrb5.fork/v9/client"
	"github.com/oiweiwei/gokrb5.fork/v9/config"
	"github.com/oiweiwei/gokrb5.fork/v9/keytab"
	"github.com/oiweiwei/gokrb5.fork/v9/messages"
	"github.com/oiweiwei/gokrb5.fork/v9/types"
	"go.uber.org/goleak"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/gss/pac"
	"github.com/seed05845750/bkrp/interop/peers"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var alice = User{Name: "alice", SID: dtyp.MustParseSID("S-1-5-21-1004336348-1177238915-682003330-1104"), Password: "Correct.Horse.9"}

func newKDC() *KDC {
	return New(Config{
		Realm: "BKRP.TEST", NetBIOSName: "BKRP", Hosts: []string{"dc1.bkrp.test"},
		User: func(name string) (User, bool) {
			switch strings.ToLower(name) {
			case "alice":
				return alice, true
			case "gone":
				return User{Name: "gone", SID: alice.SID, Password: "x", Disabled: true}, true
			}
			return User{}, false
		},
	})
}

func samplePAC(t testing.TB, k *KDC, authTime time.Time) []byte {
	t.Helper()
	b, err := k.pac(alice, types.PrincipalName{NameType: 1, NameString: []string{"alice"}}, authTime, k.services)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestPAC has the parser that serves read it, which is tested against those of
// real domain controllers.
func TestPAC(t *testing.T) {
	k, at := newKDC(), now()
	p, err := pac.Parse(samplePAC(t, k, at))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.CheckClient("alice", "BKRP.TEST", at); err != nil {
		t.Error(err)
	}
	if err := p.VerifyServer(checksumAES256, func(data []byte) ([]byte, error) { return signature(k.services, data) }); err != nil {
		t.Error(err)
	}
	if sid, err := p.SID(); err != nil || sid != alice.SID || p.Logon.LogonDomainName != "BKRP" || p.Logon.EffectiveName != "alice" {
		t.Errorf("%v, %v, %+v", sid, err, p.Logon)
	}
	if groups := p.Groups(); len(groups) != 1 || !strings.HasSuffix(groups[0].String(), "-513") {
		t.Errorf("groups %v", groups)
	}
}

// TestPACBySamba has Samba read it.
func TestPACBySamba(t *testing.T) {
	peers.Need(t, "ndrdump")
	name := filepath.Join(t.TempDir(), "pac")
	if err := os.WriteFile(name, samplePAC(t, newKDC(), now()), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "ndrdump", "krb5pac", "PAC_DATA", "struct", name, "--validate").CombinedOutput()
	text := string(out)
	if err != nil || !strings.Contains(text, "pull returned Success") || !strings.Contains(text, "dump OK") || strings.Contains(text, "WARNING") {
		t.Fatalf("ndrdump: %v\n%s", err, text)
	}
	for _, want := range []string{"'alice'", "'BKRP'", "S-1-5-21-1004336348-1177238915-682003330", "0x00000450 (1104)"} {
		if !strings.Contains(text, want) {
			t.Errorf("Samba does not see %s:\n%s", want, text)
		}
	}
}

// TestExchanges has the library's client get tickets, by UDP and by TCP.
func TestExchanges(t *testing.T) {
	k := newKDC()
	l, err := Listen(k)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var keys keytab.Keytab
	if err := keys.Unmarshal(k.Keytab()); err != nil {
		t.Fatal(err)
	}
	for name, limit := range map[string]string{"UDP": "32000", "TCP": "1"} {
		cfg, err := config.NewFromString("[libdefaults]\n default_realm = BKRP.TEST\n dns_lookup_kdc = false\n udp_preference_limit = " +
			limit + "\n[realms]\n BKRP.TEST = {\n  kdc = " + l.Addr() + "\n }\n")
		if err != nil {
			t.Fatal(err)
		}
		t.Run(name, func(t *testing.T) {
			c := client.NewWithPassword("alice", "BKRP.TEST", alice.Password, cfg, client.DisablePAFXFAST(true))
			defer c.Destroy()
			if err := c.Login(); err != nil {
				t.Fatal(err)
			}
			ticket, _, err := c.GetServiceTicket("cifs/dc1.bkrp.test")
			if err != nil {
				t.Fatal(err)
			}
			if err := ticket.Decrypt(k.services); err != nil {
				t.Fatal(err)
			}
			if part := ticket.DecryptedEncPart; part.CName.PrincipalNameString() != "alice" || part.CRealm != "BKRP.TEST" {
				t.Errorf("%+v", part)
			}
			if _, _, err := c.GetServiceTicket("cifs/other.bkrp.test"); err == nil || !strings.Contains(err.Error(), "KDC_ERR_S_PRINCIPAL_UNKNOWN") {
				t.Errorf("a service that is not there: %v", err)
			}
		})
		for what, tt := range map[string]struct{ user, password, want string }{
			"wrong password": {"alice", "wrong", "KDC_ERR_PREAUTH_FAILED"},
			"nobody":         {"nobody", "x", "KDC_ERR_C_PRINCIPAL_UNKNOWN"},
			"disabled":       {"gone", "x", "KDC_ERR_CLIENT_REVOKED"},
		} {
			t.Run(name+", "+what, func(t *testing.T) {
				c := client.NewWithPassword(tt.user, "BKRP.TEST", tt.password, cfg, client.DisablePAFXFAST(true))
				defer c.Destroy()
				if err := c.Login(); err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Error(err)
				}
			})
		}
	}
}

// TestForged refuses a ticket-granting ticket of another KDC.
func TestForged(t *testing.T) {
	k, other := newKDC(), newKDC()
	name := types.PrincipalName{NameType: 1, NameString: []string{"alice"}}
	for what, tt := range map[string]struct {
		by   *KDC
		want byte
	}{"its own": {k, tagTGSReq + 1}, "another's": {other, 0x60 | 30}} {
		t.Run(what, func(t *testing.T) {
			tgt, err := tt.by.issue(order{user: alice, client: name, service: k.ticketGranting(), etype: aes256, initial: true})
			if err != nil {
				t.Fatal(err)
			}
			q, err := messages.NewTGSReq(name, "BKRP.TEST", config.New(), tgt.ticket, tgt.key,
				types.PrincipalName{NameType: 2, NameString: []string{"host", "DC1.bkrp.test"}}, false)
			if err != nil {
				t.Fatal(err)
			}
			b, err := q.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			if reply := k.Answer(b); len(reply) == 0 || reply[0] != tt.want {
				t.Errorf("% x", reply[:min(8, len(reply))])
			}
		})
	}
}

// TestClose ends with a client in the middle of a request.
func TestClose(t *testing.T) {
	l, err := Listen(newKDC())
	if err != nil {
		t.Fatal(err)
	}
	c, err := new(net.Dialer).DialContext(context.Background(), "tcp", l.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte{0, 0, 1, 0, 0x6A}); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// FuzzAnswer has no message end the process, and no answer be something else
// than a reply or an error.
func FuzzAnswer(f *testing.F) {
	k := newKDC()
	as, err := messages.NewASReqForTGT("BKRP.TEST", config.New(), types.PrincipalName{NameType: 1, NameString: []string{"alice"}})
	if err != nil {
		f.Fatal(err)
	}
	b, err := as.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	// An AS-REQ cut short, and tags that are nobody's.
	short, _ := hex.DecodeString("6a03020105")
	f.Add(short)
	f.Add([]byte{tagTGSReq, 0})
	f.Fuzz(func(t *testing.T, m []byte) {
		if reply := k.Answer(m); len(reply) > 0 && reply[0] != 0x60|11 && reply[0] != 0x60|13 && reply[0] != 0x60|30 {
			t.Errorf("% x", reply[:8])
		}
	})
}
