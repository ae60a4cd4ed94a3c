package interop

import (
	"bytes"
	"context"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/dcerpc"
	"github.com/seed05845750/bkrp/internal/lsarpc"
)

// The LSA as impacket asks it, in NDR and NDR64: unlike Samba's clients it
// sends and reads every field of the structures.
func TestRPCLsarpcImpacket(t *testing.T) {
	domain, rid, _ := rpcSID.Cut()
	secret := []byte("sixteen octets!!")
	account := lsarpc.Account{Name: rpcUser, SID: rpcSID}
	iface := lsarpc.New(lsarpc.Config{
		Domain: lsarpc.Domain{DNSName: "bkrp.test", NetBIOS: "BKRP", SID: domain},
		AccountByName: func(_ context.Context, name string) (lsarpc.Account, error) {
			if strings.EqualFold(name, rpcUser) {
				return account, nil
			}
			return lsarpc.Account{}, lsarpc.ErrNoAccount
		},
		AccountBySID: func(_ context.Context, sid dtyp.SID) (lsarpc.Account, error) {
			if sid == rpcSID && rid == 1103 {
				return account, nil
			}
			return lsarpc.Account{}, lsarpc.ErrNoAccount
		},
		Secret: func(_ context.Context, name string) ([]byte, error) {
			if name == "G$BCKUPKEY_P" {
				return bytes.Clone(secret), nil
			}
			return nil, lsarpc.ErrNoSecret
		},
		Administrators: []dtyp.SID{rpcSID},
	})
	key := []byte("0123456789abcdef")
	port := serveRPC(t, &dcerpc.Server{
		Interfaces: []dcerpc.Interface{iface}, Acceptors: rpcAcceptors(t),
	}, dcerpc.Transport{PipeName: `\PIPE\lsass`, SessionKey: key})
	out := runImpacketRPC(t, "testdata/rpc_lsarpc.py", port, rpcUser, rpcPassword, hex.EncodeToString(key))
	for _, syntax := range []string{"ndr", "ndr64"} {
		for _, line := range []string{
			"user alice domain b''", // the domain was not asked for
			"sid 1 1103 BKRP S-1-5-21-1-2-3", "sid 1 501 BKRP S-1-5-21-1-2-3", "sid 5 18 NT AUTHORITY S-1-5",
			"name 1 alice BKRP S-1-5-21-1-2-3", "name 1 Guest BKRP S-1-5-21-1-2-3", "name 5 SYSTEM NT AUTHORITY S-1-5",
			"one of two 0x107", "none 0xc0000073",
			"private " + hex.EncodeToString(secret), "absent 0xc0000034", "secret " + hex.EncodeToString(secret),
			"closed nca_s_fault_context_mismatch ",
		} {
			if !strings.Contains(out, syntax+" "+line+"\n") {
				t.Errorf("no %q", syntax+" "+line)
			}
		}
	}
	if t.Failed() {
		t.Logf("impacket said:\n%s", out)
	}
}
