package interop

import (
	"strings"
	"testing"

	"github.com/seed05845750/bkrp/interop/peers"
)

// What clients ask the LSA of a domain around BKRP (D-20), of Samba and of
// our server in the same words.
func TestRPCClientSamba(t *testing.T) {
	dc := DC(t)
	sambaTarget(t, dc).lsa(t, dc.Client)
}

func TestRPCClient(t *testing.T) {
	peers.Need(t, "rpcclient", "bash")
	s := startBkrpd(t, options{administrators: []string{peers.Administrator}})
	s.target().lsa(t, s.client)
	t.Run("dialects", func(t *testing.T) {
		for _, name := range []string{"SMB2_02", "SMB2_10", "SMB3_00", "SMB3_02", "SMB3_11"} {
			out, err := s.client.RPCClient(t.Context(), s.host, s.port, s.credentials(peers.Alice), "getusername", dialect(name)...)
			if err != nil || out.Code != 0 {
				t.Errorf("%s: %v %s", name, err, out)
			}
		}
	})
	t.Run("SMB1 is not spoken", func(t *testing.T) {
		out, err := s.client.RPCClient(t.Context(), s.host, s.port, s.credentials(peers.Alice), "getusername",
			dialect("NT1")...)
		if err != nil {
			t.Fatal(err)
		}
		if out.Code == 0 {
			t.Errorf("getusername over SMB1: %s", out)
		}
	})
	t.Run("SMB1 negotiate leads to SMB2", func(t *testing.T) {
		out, err := s.client.RPCClient(t.Context(), s.host, s.port, s.credentials(peers.Alice), "getusername",
			dialects("NT1", "SMB3")...)
		if err != nil || out.Code != 0 {
			t.Errorf("%v %s", err, out)
		}
	})
}

func (g target) lsa(t *testing.T, client *peers.Client) {
	alice, domainSID := g.sid(peers.Alice), ""
	if i := strings.LastIndexByte(alice, '-'); i > 0 {
		domainSID = alice[:i]
	}
	for _, c := range []struct {
		name     string
		who      peers.Credentials
		commands string
		code     int
		want     string
	}{
		{"own name", g.login(peers.Alice), "getusername", 0, "Account Name: alice, Authority Name: BKRP"},
		{"another name", g.login(peers.Alice), "lookupnames bob", 0, "bob " + g.sid(peers.Bob) + " (User: 1)"},
		{"name with domain", g.login(peers.Bob), `lookupnames BKRP\\alice`, 0, alice + " (User: 1)"},
		{"Guest", g.login(peers.Alice), "lookupnames guest", 0, domainSID + "-501 (User: 1)"},
		{"Administrator", g.login(peers.Alice), "lookupnames administrator", 0, domainSID + "-500 (User: 1)"},
		{"SID", g.login(peers.Bob), "lookupsids " + alice, 0, alice + ` BKRP\alice (1)`},
		{"no such name", g.login(peers.Alice), "lookupnames nobody-here", 1, "NT_STATUS_NONE_MAPPED"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, err := client.RPCClient(t.Context(), g.host, g.port, c.who, c.commands)
			if err != nil {
				t.Fatal(err)
			}
			if out.Code != c.code || !strings.Contains(out.String(), c.want) {
				t.Errorf("%s: want exit code %d and %q: %s", c.commands, c.code, c.want, out)
			}
		})
	}
}
