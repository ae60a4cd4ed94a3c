package interop

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/seed05845750/bkrp/internal/doctest"
)

// worksTests are the tests that each row of the README's table of what works against
// what stands on, by its client and its server.
var worksTests = map[string][]func(*testing.T){
	"`smbtorture` | bkrpd":        {TestTorture, TestTortureSpecCodes},
	"Samba's `rpcclient` | bkrpd": {TestRPCClient, TestDialectRefused},
	"Samba's `smbclient`, impacket's SMB | bkrpd's SMB server alone":                                                            {TestSMBSambaClient, TestSMBImpacket},
	"`smbtorture` with Kerberos | bkrpd as a member of the Samba domain":                                                        {TestTortureKerberos},
	"`smbtorture` with NTLM, judged by the domain controller | bkrpd with `auth.ntlm = \"netlogon\"`":                           {TestNetlogon},
	"impacket with Kerberos; go-msrpc with Kerberos and NTLM | bkrpd as a member of the Samba domain":                           {TestMemberClients},
	"`bkrp` with tickets of MIT's KDC 1.20, which have no PAC that tells a SID | bkrpd with `auth.principal_sids`":              {TestMITRealm},
	"`smbtorture`, impacket, `bkrp` | bkrpd behind Samba's own smbd (`listen = \"samba:DIR\"`, [docs/samba.md](docs/samba.md))": {TestBehindSamba, TestSambaDocument},
	"impacket 0.10 | bkrpd": {TestImpacket},
	"`bkrp --kerberos` | bkrpd as a member of the Samba domain": {TestBkrpKerberos},
	"`bkrp` | Samba, bkrpd":           {TestOursOnSamba, TestOursOnOurs},
	"`bkrp`, impacket | Samba, bkrpd": {TestBlobsAcrossClients},
	"`smbtorture`, `bkrp` | bkrpd with its keys in a SoftHSM ([docs/hsm.md](docs/hsm.md))":               {TestHSMTorture, TestHSMRestart, TestHSMDocument},
	"`bkrp`, our own | three bkrpd on an etcd cluster of three":                                          {TestCluster},
	"bkrpd with `store.backend = \"lsa\"` | Samba's LSA secrets":                                         {TestDomainStore, TestKeysImport, TestSambaDocument},
	"`bkrp doctor` | Samba, bkrpd, a domain with dead, read-only and strange servers":                    {TestDoctorOnSamba, TestDoctorOnOurs, TestDoctorOnDomain, TestDoctorOnStranger},
	"MIT's `kinit` and `kvno`, Samba's `rpcclient` with Kerberos | the KDC and the server of `bkrptest`": {TestBkrptestMIT, TestBkrptestSambaClient},
	"Windows": {TestKeyFilesOfWindows, TestRecoverWindowsMasterKey, TestRecoverByTickets, TestRecoverByExportedKey},
}

// TestWorksTable: each row of the table has its tests, and its numbers of cases are
// those that the tests expect.
func TestWorksTable(t *testing.T) {
	readme := doctest.Read(t, filepath.Join("..", "README.md")).Text
	_, part, ok := strings.Cut(readme, "\n## What works against what\n")
	if !ok {
		t.Fatal("the README has no such part")
	}
	part, _, _ = strings.Cut(part, "\n## ")
	rows := map[string]bool{"client | server": true, "--- | ---": true}
	for name := range worksTests {
		rows[name] = false
	}
	for line := range strings.Lines(part) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		if !strings.HasPrefix(line, "|") {
			continue
		}
		name := strings.TrimSpace(cells[0])
		if len(cells) == 3 {
			name += " | " + strings.TrimSpace(cells[1])
		}
		if _, ok := rows[name]; !ok {
			t.Errorf("no test stands behind the row %q", name)
		}
		rows[name] = true
	}
	for name, there := range rows {
		if !there {
			t.Errorf("there is no row %q", name)
		}
	}

	cases := len(clientWrapCases) + len(serverWrapCases) + len(administratorCases)
	administrator := cases - len(noOracle())
	ordinary := administrator - len(deniedSecrets())
	prose := strings.Join(strings.Fields(part), " ")
	sentence := fmt.Sprintf("with %d cases, of which an administrator passes %d and an ordinary user, who may not read the server's keys, %d.",
		cases, administrator, ordinary)
	if !strings.Contains(prose, sentence) {
		t.Errorf("the README does not say %q", sentence)
	}
	for _, said := range regexp.MustCompile(`[^ ]+ (and \d+ )?cases`).FindAllString(prose, -1) {
		switch said {
		case fmt.Sprintf("%d cases", cases), fmt.Sprintf("%d and %d cases", administrator, ordinary), fmt.Sprintf("%d cases", ordinary), "more cases":
		default:
			t.Errorf("the README says %q", said)
		}
	}
}
