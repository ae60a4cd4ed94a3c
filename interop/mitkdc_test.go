package interop

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/interop/peers"
)

const (
	mitHost  = "srv1.mit.test"
	mitAlice = "S-1-5-21-1004336348-1177238915-682003330-2001"
	mitBob   = "S-1-5-21-1004336348-1177238915-682003330-2002"
)

// startMIT starts a KDC of MIT's for the test.
func startMIT(t *testing.T, settings ...string) *peers.MIT {
	t.Helper()
	peers.Need(t, peers.MITPrograms...)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	kdc, err := peers.StartMIT(ctx, settings...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := kdc.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := kdc.Host(mitHost); err != nil {
		t.Fatal(err)
	}
	return kdc
}

// mitService makes the service principals of our server, with keys of the
// types, and gives their keytab.
func mitService(t *testing.T, kdc *peers.MIT, etypes string) string {
	t.Helper()
	keytab := filepath.Join(t.TempDir(), "bkrpd.keytab")
	names := []string{"cifs/" + mitHost, "host/" + mitHost}
	if err := kdc.Service(t.Context(), etypes, names...); err != nil {
		t.Fatal(err)
	}
	if err := kdc.Keytab(t.Context(), keytab, names...); err != nil {
		t.Fatal(err)
	}
	return keytab
}

// serveMIT starts our server with a keytab and says who is who.
func serveMIT(t *testing.T, keytab string, sids map[string]string) *server {
	t.Helper()
	var list []string
	for user, sid := range sids {
		list = append(list, strconv.Quote(user+"@"+peers.MITRealm+"="+sid))
	}
	return startBkrpd(t, options{settings: map[string]string{
		"auth.keytab": strconv.Quote(keytab), "auth.ntlm": `"off"`,
		"auth.principal_sids": "[" + strings.Join(list, ", ") + "]",
	}})
}

// mitUser has a user of the realm run our client with the tickets of kinit.
func mitUser(t *testing.T, kdc *peers.MIT, s *server, user string) func(args ...string) peers.Output {
	t.Helper()
	cache, err := kdc.Kinit(t.Context(), user)
	if err != nil {
		t.Fatal(err)
	}
	return func(args ...string) peers.Output {
		t.Helper()
		args = append([]string{"env", "-u", "BKRP_PASSWORD_FILE", "KRB5CCNAME=FILE:" + cache, build(t, "bkrp")}, args...)
		out, err := kdc.Exec(t.Context(), append(args, "--server", mitHost+":"+s.port, "--kerberos", "--require-mutual")...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
}

// TestMITRealm has the users of a KDC that knows no SIDs, with none of a
// domain's data in its tickets and with the little that MIT's own puts there:
// who the configuration names is served, and nobody else.
func TestMITRealm(t *testing.T) {
	for name, tt := range map[string]struct{ setting, reason string }{
		"no PAC":        {"disable_pac = true", "the ticket has no PAC"},
		"MIT's own PAC": {"disable_pac = false", "the PAC has no LOGON_INFO"},
	} {
		t.Run(name, func(t *testing.T) {
			kdc := startMIT(t, tt.setting)
			keytab := mitService(t, kdc, "")
			t.Run("refused by default", func(t *testing.T) {
				s := serveMIT(t, keytab, nil)
				if out := mitUser(t, kdc, s, peers.Alice)("sid"); out.Code == 0 {
					t.Errorf("bkrp sid: %s", out)
				}
				s.wantLogged(t, 0, tt.reason, "auth.principal_sids")
			})
			t.Run("principal_sids", func(t *testing.T) {
				s := serveMIT(t, keytab, map[string]string{peers.Alice: mitAlice, peers.Bob: mitBob})
				mitWrapUnwrap(t, mitUser(t, kdc, s, peers.Alice), mitUser(t, kdc, s, peers.Bob))
				mitPipeline(t, kdc, s)
			})
			t.Run("somebody else named", func(t *testing.T) {
				s := serveMIT(t, keytab, map[string]string{peers.Alice: mitAlice})
				if out := mitUser(t, kdc, s, peers.Bob)("sid"); out.Code == 0 {
					t.Errorf("bkrp sid: %s", out)
				}
				s.wantLogged(t, 0, tt.reason)
			})
		})
	}
}

// mitWrapUnwrap has alice wrap and unwrap a secret in each way, and bob be
// refused it.
func mitWrapUnwrap(t *testing.T, alice, bob func(args ...string) peers.Output) {
	t.Helper()
	if out := alice("sid"); strings.TrimSpace(out.Stdout) != mitAlice {
		t.Errorf("bkrp sid: %s", out)
	}
	dir := t.TempDir()
	secret, blob := filepath.Join(dir, "secret"), filepath.Join(dir, "blob")
	if err := os.WriteFile(secret, []byte("correct horse battery staple"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, way := range [][]string{{"--mode", "client", "--version", "2"}, {"--mode", "client", "--version", "3"}, {"--mode", "server"}} {
		if out := alice(append([]string{"wrap", "-i", secret, "-o", blob}, way...)...); out.Code != 0 {
			t.Fatalf("%v: bkrp wrap: %s", way, out)
		}
		if out := alice("unwrap", "-i", blob); out.Code != 0 || out.Stdout != "correct horse battery staple" {
			t.Errorf("%v: bkrp unwrap: %s", way, out)
		}
		if out := bob("unwrap", "-i", blob); out.Code != 4 || !strings.Contains(out.String(), "ERROR_INVALID_ACCESS") {
			t.Errorf("%v: bkrp unwrap as bob: %s", way, out)
		}
		if err := os.Remove(blob); err != nil {
			t.Fatal(err)
		}
	}
}

// mitPipeline has alice do it all in one line of a shell, as she would.
func mitPipeline(t *testing.T, kdc *peers.MIT, s *server) {
	t.Helper()
	const line = `set -eo pipefail
export KRB5CCNAME="FILE:$1"
echo "$2" | kinit alice >&2
printf %s 'correct horse' | "$3" wrap --server "$4" -k | "$3" unwrap --server "$4" -k`
	cache := filepath.Join(t.TempDir(), "cache")
	out, err := kdc.Exec(t.Context(), "bash", "-c", line, "line", cache, kdc.Password(peers.Alice), build(t, "bkrp"), mitHost+":"+s.port)
	if err != nil || out.Code != 0 || out.Stdout != "correct horse" {
		t.Errorf("kinit, wrap, unwrap: %v, %v", out, err)
	}
}

// TestMITKeytabMode has a server not start whose keytab everybody may read.
func TestMITKeytabMode(t *testing.T) {
	kdc := startMIT(t)
	keytab := mitService(t, kdc, "")
	s := serveMIT(t, keytab, map[string]string{peers.Alice: mitAlice})
	s.stop()
	if err := os.Chmod(keytab, 0o644); err != nil {
		t.Fatal(err)
	}
	_, stderr, code := try(t, nil, "", build(t, "bkrpd"), "serve", "--config", s.config(), "--listen", "127.0.0.1:0")
	if code == 0 || !strings.Contains(stderr, "chmod 600 "+keytab) {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

// TestMITKeyTypes has a service with keys of one type each, which the session
// keys are of then, too.
func TestMITKeyTypes(t *testing.T) {
	for _, etype := range []string{"aes256-cts-hmac-sha384-192", "aes128-cts-hmac-sha256-128", "aes256-cts-hmac-sha1-96", "aes128-cts-hmac-sha1-96"} {
		t.Run(etype, func(t *testing.T) {
			kdc := startMIT(t)
			s := serveMIT(t, mitService(t, kdc, etype+":normal"), map[string]string{peers.Alice: mitAlice, peers.Bob: mitBob})
			mitWrapUnwrap(t, mitUser(t, kdc, s, peers.Alice), mitUser(t, kdc, s, peers.Bob))
			s.wantLogged(t, 0, "type="+etype)
		})
	}
}

// TestMITNewKeys gives the service new keys while the server runs: tickets of
// the old ones are good as long as the keytab has them.
func TestMITNewKeys(t *testing.T) {
	kdc := startMIT(t)
	keytab := mitService(t, kdc, "")
	s := serveMIT(t, keytab, map[string]string{peers.Alice: mitAlice})
	names := []string{"cifs/" + mitHost, "host/" + mitHost}
	cache, err := kdc.Kinit(t.Context(), peers.Alice, names...)
	if err != nil {
		t.Fatal(err)
	}
	// The tickets in the cache stay those of the first keys.
	sid := func() peers.Output {
		t.Helper()
		out, err := kdc.Exec(t.Context(), "env", "KRB5CCNAME=FILE:"+cache, build(t, "bkrp"), "sid", "--server", mitHost+":"+s.port, "-k")
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if out := sid(); out.Code != 0 {
		t.Fatalf("bkrp sid: %s", out)
	}
	if err := kdc.NewKeys(t.Context(), keytab, names...); err != nil {
		t.Fatal(err)
	}
	if out := sid(); out.Code != 0 {
		t.Errorf("an old ticket, both versions in the keytab: %s", out)
	}
	if out := mitUser(t, kdc, s, peers.Alice)("sid"); out.Code != 0 {
		t.Errorf("a new ticket, both versions in the keytab: %s", out)
	}
	s.wantLogged(t, 0, "keytab read again")
	if cache, err = kdc.Kinit(t.Context(), peers.Alice, names...); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(keytab); err != nil {
		t.Fatal(err)
	}
	if err := kdc.NewKeys(t.Context(), keytab, names...); err != nil {
		t.Fatal(err)
	}
	if out := sid(); out.Code == 0 {
		t.Errorf("an old ticket, the new version in the keytab: %s", out)
	}
	s.wantLogged(t, 0, "does not have the key version")
	if out := mitUser(t, kdc, s, peers.Alice)("sid"); out.Code != 0 {
		t.Errorf("a new ticket: %s", out)
	}
}
