package interop

import (
	"strings"
	"testing"

	"github.com/seed05845750/bkrp/interop/peers"
)

// The peers themselves, before anything of ours is held against them: when
// these fail, the machine or the peer is broken and not this module.
func TestDomain(t *testing.T) {
	dc := DC(t)
	t.Run("SIDs", func(t *testing.T) {
		administrator, err := dc.SID(t.Context(), peers.Administrator)
		if err != nil {
			t.Fatal(err)
		}
		alice, err := dc.SID(t.Context(), peers.Alice)
		if err != nil {
			t.Fatal(err)
		}
		domainSID, isAdministrator := strings.CutSuffix(administrator, "-500")
		if !isAdministrator || !strings.HasPrefix(alice, domainSID+"-") {
			t.Errorf("administrator is %s, alice %s", administrator, alice)
		}
	})
	t.Run("wrong password is refused", func(t *testing.T) {
		who := dc.Credentials(peers.Alice)
		who.Password += "x"
		out, err := dc.RPCClient(t.Context(), dc.Addr, "445", who, "getusername")
		if err != nil {
			t.Fatal(err)
		}
		if out.Code == 0 || !strings.Contains(out.String(), "NT_STATUS_LOGON_FAILURE") {
			t.Errorf("getusername with a wrong password: %s", out)
		}
	})
	t.Run("names and Kerberos inside the domain", func(t *testing.T) {
		out, err := dc.Exec(t.Context(), "rpcclient", "-s", dc.Conf(), "-c", "getusername", dc.Host,
			"-U", "alice@"+dc.Realm()+"%"+dc.Password(peers.Alice), "--use-kerberos=required")
		if err != nil {
			t.Fatal(err)
		}
		if out.Code != 0 || !strings.Contains(out.Stdout, "Account Name: alice") {
			t.Errorf("getusername with Kerberos: %s", out)
		}
	})
}
