package interop

import (
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/interop/peers"
)

// startMember starts our server as a member of the Samba domain: its SID, its
// users by Kerberos alone unless the settings have NTLM too, the member account's
// keytab.
func startMember(t *testing.T, o options) (*server, *peers.Domain) {
	t.Helper()
	dc, m := member(t)
	domain, _, ok := dtyp.MustParseSID(sidOf(t, dc, peers.Alice)).Cut()
	if !ok {
		t.Fatal("alice's SID has no domain")
	}
	if o.firstSID.IsZero() {
		var err error
		if o.firstSID, err = domain.Child(1101); err != nil {
			t.Fatal(err)
		}
	}
	settings := map[string]string{"auth.keytab": strconv.Quote(m.Keytab), "auth.ntlm": `"off"`}
	maps.Copy(settings, o.settings)
	o.settings = settings
	return startBkrpd(t, o), dc
}

// TestTortureKerberos is the suite by Kerberos, against our server as a member
// of the domain. Its users are not in our store, but for Administrator, whose
// SID is well-known.
func TestTortureKerberos(t *testing.T) {
	peers.Need(t, "smbtorture", "unshare", "bash")
	s, dc := startMember(t, options{
		settings:       map[string]string{"error_codes": `"windows"`},
		administrators: []string{peers.Administrator},
	})
	for _, c := range []struct {
		user string
		want expectation
	}{
		{peers.Administrator, noOracle()},
		{peers.Alice, noOracle().and(deniedSecrets())},
	} {
		for _, how := range []string{"--use-kerberos=required", "-kyes"} {
			t.Run(c.user+" "+how, func(t *testing.T) {
				who := dc.Credentials(c.user)
				who.Domain = dc.Realm()
				torture(t, dc.Client, "ncacn_np:"+krb5Host+"[seal]", who, c.want, how, "--option=smb ports="+s.port)
			})
		}
	}
}

// TestBkrpKerberos has our client wrap and unwrap with tickets and no password
// anywhere, and be refused what belongs to another user.
func TestBkrpKerberos(t *testing.T) {
	peers.Need(t, "kinit", "unshare", "bash")
	s, dc := startMember(t, options{})
	bkrp := build(t, "bkrp")
	address := krb5Host + ":" + s.port
	wrapByTickets(t, dc, address, t.TempDir())
	t.Run("in a pipe", func(t *testing.T) {
		cache, err := dc.Kinit(t.Context(), peers.Alice)
		if err != nil {
			t.Fatal(err)
		}
		out, err := dc.Exec(t.Context(), "env", "-u", "BKRP_PASSWORD_FILE", "KRB5CCNAME=FILE:"+cache, "bash", "-o", "pipefail", "-c",
			`printf %s "$3" | "$1" wrap --server "$2" -k | "$1" unwrap --server "$2" -k`, "pipe", bkrp, address, ticketSecret)
		if err != nil || out.Code != bkrpOK || out.Stdout != ticketSecret {
			t.Errorf("%s, %v", out, err)
		}
	})
	t.Run("no tickets", func(t *testing.T) {
		out, err := dc.Exec(t.Context(), "env", "KRB5CCNAME=FILE:/nonexistent", bkrp, "sid", "--server", address, "-k")
		if err != nil || out.Code != 3 || !strings.Contains(out.String(), "run kinit") {
			t.Errorf("%s, %v", out, err)
		}
	})
	t.Run("NTLM is off", func(t *testing.T) {
		password := filepath.Join(t.TempDir(), "password")
		if err := os.WriteFile(password, []byte(s.passwords[peers.Alice]+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := dc.Exec(t.Context(), "env", "BKRP_PASSWORD_FILE="+password, bkrp, "sid", "--server", address, "-U", `BKRP\alice`)
		if err != nil || out.Code != bkrpLogon {
			t.Errorf("%s, %v", out, err)
		}
	})
}

const ticketSecret = "correct horse battery staple"

// byTickets runs our client at a server of the domain with what kinit gives a
// user, and no password anywhere.
func byTickets(t *testing.T, dc *peers.Domain, address, user string, args ...string) peers.Output {
	t.Helper()
	cache, err := dc.Kinit(t.Context(), user)
	if err != nil {
		t.Fatal(err)
	}
	args = append(args, "--server", address, "--kerberos", "--require-mutual")
	out, err := dc.Exec(t.Context(), append([]string{"env", "-u", "BKRP_PASSWORD_FILE", "KRB5CCNAME=FILE:" + cache, build(t, "bkrp")}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// wrapByTickets has alice wrap in each way, and gives the names of the files,
// which she can open and bob cannot.
func wrapByTickets(t *testing.T, dc *peers.Domain, address, dir string) (blobs []string) {
	t.Helper()
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte(ticketSecret), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := byTickets(t, dc, address, peers.Alice, "sid"); strings.TrimSpace(out.Stdout) != sidOf(t, dc, peers.Alice) {
		t.Errorf("bkrp sid: %s", out)
	}
	for _, way := range [][]string{{"--mode", "client", "--version", "2"}, {"--mode", "client", "--version", "3"}, {"--mode", "server"}} {
		blob := filepath.Join(dir, strings.Join(way, ""))
		if out := byTickets(t, dc, address, peers.Alice, append([]string{"wrap", "-i", secret, "-o", blob}, way...)...); out.Code != bkrpOK {
			t.Fatalf("bkrp wrap %v: %s", way, out)
		}
		blobs = append(blobs, blob)
	}
	openByTickets(t, dc, address, blobs)
	return blobs
}

// openByTickets has alice and bob try to open what alice wrapped.
func openByTickets(t *testing.T, dc *peers.Domain, address string, blobs []string) {
	t.Helper()
	if len(blobs) == 0 {
		t.Fatal("there is nothing to open")
	}
	for _, blob := range blobs {
		if out := byTickets(t, dc, address, peers.Alice, "unwrap", "-i", blob); out.Code != bkrpOK || out.Stdout != ticketSecret {
			t.Errorf("bkrp unwrap %s: %s", filepath.Base(blob), out)
		}
		if out := byTickets(t, dc, address, peers.Bob, "unwrap", "-i", blob); out.Code != bkrpRefused || out.Stdout != "" || !strings.Contains(out.String(), "ERROR_INVALID_ACCESS") {
			t.Errorf("bkrp unwrap %s as bob: %s", filepath.Base(blob), out)
		}
	}
}
