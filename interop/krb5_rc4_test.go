package interop

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/dcerpc"
	"github.com/seed05845750/bkrp/internal/gss"
	"github.com/seed05845750/bkrp/internal/smb2"
	"github.com/seed05845750/bkrp/interop/peers"
)

// TestKerberosRC4 has an account of the domain that is kept to RC4, in tickets
// and in session keys: Samba's clients and impacket are served by it where the
// configuration says so, in SMB and in signed and sealed RPC.
func TestKerberosRC4(t *testing.T) {
	peers.Need(t, "smbclient", "rpcclient")
	dc := DC(t)
	const host = "srv4.bkrp.test"
	m, err := dc.Member(t.Context(), host)
	if err != nil {
		t.Fatal(err)
	}
	if err := dc.Enctypes(t.Context(), m, peers.RC4, "cifs/"+host, "host/"+host); err != nil {
		t.Fatal(err)
	}
	cfg := krb5Config{keytab: m.Keytab, rc4: true}
	port, logged := krb5ServerOf(t, dc, cfg, smb2.Config{})
	user := peers.Alice + "@" + dc.Realm() + "%" + dc.Password(peers.Alice)
	rpcclient := func(t *testing.T, port, binding string) peers.Output {
		t.Helper()
		out, err := dc.Exec(t.Context(), "rpcclient", "-s", dc.Conf(), "-p", port, "-U", user, "--use-kerberos=required",
			"-c", "getusername;lookupnames alice", "ncacn_np:"+host+"["+binding+"]")
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	for dialect, protection := range map[string]string{"SMB2_02": "sign", "SMB3_00": "encrypt", "SMB3_11": "encrypt"} {
		t.Run(dialect, func(t *testing.T) {
			out, err := dc.Exec(t.Context(), "smbclient", "-s", dc.Conf(), "//"+host+"/IPC$", "-p", port, "-U", user,
				"--use-kerberos=required", "--client-protection="+protection, "-m", dialect, "-c", "open echo")
			if err != nil || !strings.Contains(out.String(), "fnum 1") {
				t.Errorf("%v, %v\n%s", out, err, logged)
			}
		})
	}
	for _, binding := range []string{"seal", "sign", "krb5,seal", "krb5,sign", "spnego,seal", "seal,bigendian"} {
		t.Run(binding, func(t *testing.T) {
			if out := rpcclient(t, port, binding); !strings.Contains(out.Stdout, "Account Name: alice") || !strings.Contains(out.Stdout, sidOf(t, dc, peers.Alice)) {
				t.Errorf("%v\n%s", out, logged)
			}
		})
	}
	if text := logged.String(); !strings.Contains(text, "type=rc4-hmac") || strings.Contains(text, "type=aes") {
		t.Errorf("log: %s", text)
	}
	t.Run("impacket", func(t *testing.T) {
		if err := peers.MissingImpacket(t.Context()); err != nil {
			peers.Unavailable(t, err)
		}
		cache, err := dc.Kinit(t.Context(), peers.Alice, "cifs/"+host, "host/"+host)
		if err != nil {
			t.Fatal(err)
		}
		negotiated, bare, rpcLogged := krb5AcceptorsOf(t, cfg)
		rpcPort := serveRPC(t, &dcerpc.Server{
			Interfaces: []dcerpc.Interface{backuprkeyEchoFor(dtyp.MustParseSID(sidOf(t, dc, peers.Alice)))},
			Acceptors:  map[dcerpc.AuthType]gss.Acceptor{dcerpc.AuthSPNEGO: negotiated, dcerpc.AuthKerberos: bare},
		}, dcerpc.Transport{PipeName: `\PIPE\protected_storage`})
		script, err := filepath.Abs("testdata/krb5_impacket.py")
		if err != nil {
			t.Fatal(err)
		}
		// impacket pads a sealed message to 8 octets with RC4 and says so nowhere:
		// these sizes need none, and of others the stub has octets too many.
		sizes := []string{"1", "17", "4281", "10001"}
		out, err := dc.Exec(t.Context(), append([]string{"env", "KRB5CCNAME=" + cache, "/usr/bin/python3", script,
			host, port, rpcPort, dc.Addr, peers.Alice, dc.Realm()}, sizes...)...)
		if err != nil {
			t.Fatal(err)
		}
		want := []string{"smb 0x202 ok", "smb 0x300 ok", "smb 0x311 ok"}
		for _, n := range sizes {
			want = append(want, "rpc "+n+" ok")
		}
		for _, line := range want {
			if !strings.Contains(out.Stdout, line+"\n") {
				t.Errorf("no %q", line)
			}
		}
		if t.Failed() {
			t.Logf("%v\n%s", out, rpcLogged)
		}
	})
	t.Run("refused by default", func(t *testing.T) {
		port, logged := krb5ServerOf(t, dc, krb5Config{keytab: m.Keytab}, smb2.Config{})
		if out := rpcclient(t, port, "seal"); out.Code == 0 || !strings.Contains(logged.String(), "rc4-hmac is not allowed by the configuration") {
			t.Errorf("%v\n%s", out, logged)
		}
	})
	// Tickets of AES and session keys of RC4, for a client that wants those.
	t.Run("session key alone", func(t *testing.T) {
		if err := dc.Enctypes(t.Context(), m, peers.RC4|peers.AES128|peers.AES256, "cifs/"+host, "host/"+host); err != nil {
			t.Fatal(err)
		}
		port, logged := krb5ServerOf(t, dc, krb5Config{keytab: m.Keytab}, smb2.Config{})
		conf := weakConf(t, dc)
		out, err := dc.Exec(t.Context(), "env", "KRB5_CONFIG="+conf, "rpcclient", "-s", dc.Conf(), "-p", port, "-U", user,
			"--use-kerberos=required", "-c", "getusername", "ncacn_np:"+host+"[seal]")
		if err != nil || out.Code == 0 || !strings.Contains(logged.String(), "the session key is of rc4-hmac") {
			t.Errorf("%v, %v\n%s", out, err, logged)
		}
	})
}

// weakConf is the domain's krb5.conf for a client that wants RC4 alone.
func weakConf(t *testing.T, dc *peers.Domain) string {
	t.Helper()
	text, err := os.ReadFile(dc.Krb5Conf())
	if err != nil {
		t.Fatal(err)
	}
	weak := "[libdefaults]\n\tallow_weak_crypto = true\n"
	for _, key := range []string{"default_etypes", "default_tgs_etypes", "default_tgs_enctypes"} {
		weak += "\t" + key + " = arcfour-hmac-md5\n"
	}
	path := filepath.Join(t.TempDir(), "krb5.conf")
	if err := os.WriteFile(path, []byte(strings.Replace(string(text), "[libdefaults]\n", weak, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}
