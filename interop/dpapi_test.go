package interop

import (
	"bytes"
	"encoding/hex"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/dpapi"
	"github.com/seed05845750/bkrp/interop/peers"
)

// What is recorded of two Windows domains: a master key file of a user, the
// domain's key pair, and the master key.
const (
	adatumSID = "S-1-5-21-4534338-1127018997-2609994386"
	adatumKey = "efe756ec-f87c-493a-902f-259030203445"

	nemesisOwner = "S-1-5-21-937929760-3187473010-80948926-2115"
	nemesisKey   = "45cbf2fb-b468-471a-a374-3ca17b50cf3b"
)

// recordings are a folder of recorded data of real domains.
type recordings struct {
	*testing.T
	dir string
}

func recordingsOf(t *testing.T, set string) recordings {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("..", "..", "shared", "vectors"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(root); err != nil {
		t.Skipf("no recorded data of real domains: %v", err)
	}
	return recordings{T: t, dir: filepath.Join(root, set)}
}

func (r recordings) path(name string) string { return filepath.Join(r.dir, name) }

// masterKey is what recovering gives, in hexadecimal and with a line end.
func (r recordings) masterKey() string {
	r.Helper()
	b, err := os.ReadFile(r.path("expected_secret.bin"))
	if err != nil || len(b) != dpapi.MasterKeySize {
		r.Fatalf("%d octets, %v", len(b), err)
	}
	return hex.EncodeToString(b) + "\n"
}

func adatumFiles(t *testing.T) (r recordings, masterKeyFile, pair string) {
	r = recordingsOf(t, "dsinternals-adatum")
	return r, r.path("masterkey_7fc19508-7b85-4a7c-9e5d-15f9e00e7ce5.mkf"), r.path("lsa_secret_BCKUPKEY_" + adatumKey + ".bin")
}

// startAdatum starts a server of that domain with its key pair imported. The owner
// of the master key is the domain's Administrator, who has RID 500 there as in
// every domain.
func startAdatum(t *testing.T, pair string) *server {
	t.Helper()
	s := startBkrpd(t, options{initialize: []string{"--sid", adatumSID}})
	command(t, "", build(t, "bkrpd"), "keys", "import", pair, "--config", s.config())
	if got, want := s.sids[peers.Administrator], adatumSID+"-500"; got != want {
		t.Fatalf("the Administrator is %s, want %s", got, want)
	}
	return s
}

// recover runs bkrp dpapi recover as a user of the server, by NTLM.
func (s *server) recover(t *testing.T, user, file string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	who := s.credentials(user)
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte(who.Password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	args = append([]string{build(t, "bkrp"), "dpapi", "recover", file, "--server", net.JoinHostPort(s.host, s.port),
		"-U", who.Domain + `\` + who.User}, args...)
	return try(t, []string{"BKRP_PASSWORD_FILE=" + password}, "", args...)
}

// TestRecoverWindowsMasterKey has a master key that a Windows machine made opened
// by our server for its owner, and for nobody else.
func TestRecoverWindowsMasterKey(t *testing.T) {
	r, file, pair := adatumFiles(t)
	peers.Need(t, "bash")
	s := startAdatum(t, pair)
	for _, name := range []string{file, r.path("roamed_credential_masterkey.bin")} {
		for _, args := range [][]string{nil, {"--ndr64"}, {"--pipe", "protected_storage"}} {
			if out, stderr, code := s.recover(t, peers.Administrator, name, args...); code != bkrpOK || out != r.masterKey() {
				t.Errorf("%s %q: exit code %d, %d octets: %s", filepath.Base(name), args, code, len(out), stderr)
			}
		}
		if out, stderr, code := s.recover(t, peers.Alice, name); code != bkrpRefused || out != "" || !strings.Contains(stderr, adatumKey) {
			t.Errorf("%s by another user: exit code %d, %d octets: %s", filepath.Base(name), code, len(out), stderr)
		}
	}
	// The server says which key it has used, and for whom; of the secret nothing.
	if log := s.log.String(); !strings.Contains(log, adatumKey) || strings.Contains(log, strings.TrimSpace(r.masterKey())) {
		t.Errorf("log: %s", log)
	}
	other := recordingsOf(t, "nemesis-oldformat")
	if out, stderr, code := s.recover(t, peers.Administrator, other.path("masterkey.mkf")); code != bkrpRefused || out != "" || !strings.Contains(stderr, nemesisKey) {
		t.Errorf("a file of another domain: exit code %d, %d octets: %s", code, len(out), stderr)
	}
}

// TestRecoverByTickets does the same for a user whose SID the server's
// configuration says, in a realm whose KDC knows none: the RIDs of its own
// accounts do not reach so far without a thousand others.
func TestRecoverByTickets(t *testing.T) {
	r := recordingsOf(t, "nemesis-oldformat")
	kdc := startMIT(t, "disable_pac = true")
	s := serveMIT(t, mitService(t, kdc, ""), map[string]string{peers.Alice: nemesisOwner, peers.Bob: mitBob})
	command(t, "", build(t, "bkrpd"), "keys", "import", r.path("backupkey_"+nemesisKey+".pvk"), "--config", s.config())
	alice, bob := mitUser(t, kdc, s, peers.Alice), mitUser(t, kdc, s, peers.Bob)
	if out := alice("sid"); strings.TrimSpace(out.Stdout) != nemesisOwner {
		t.Fatalf("bkrp sid: %s", out)
	}
	if out := alice("dpapi", "recover", r.path("masterkey.mkf")); out.Code != bkrpOK || out.Stdout != r.masterKey() {
		t.Errorf("its owner: exit code %d, %d octets: %s", out.Code, len(out.Stdout), out.Stderr)
	}
	if out := bob("dpapi", "recover", r.path("masterkey.mkf")); out.Code != bkrpRefused || out.Stdout != "" {
		t.Errorf("somebody else: exit code %d, %d octets: %s", out.Code, len(out.Stdout), out.Stderr)
	}
}

// TestRecoverByExportedKey has an administrator open the same file without a
// server, by what bkrpd exports, in each form.
func TestRecoverByExportedKey(t *testing.T) {
	r, file, pair := adatumFiles(t)
	k := newKeyFiles(t)
	k.importFile(pair)
	run := func(args ...string) (stdout, stderr string, code int) {
		t.Helper()
		return try(t, nil, "", append([]string{build(t, "bkrp")}, args...)...)
	}
	for _, form := range []string{"lsa", "pvk", "pem"} {
		exported := k.export(adatumKey, form)
		if out, stderr, code := run("dpapi", "recover", file, "--key-file", exported); code != bkrpOK || out != r.masterKey() {
			t.Errorf("%s: exit code %d, %d octets: %s", form, code, len(out), stderr)
		}
		out, stderr, code := run("unwrap", "-i", r.path("client_side_wrapped_secret.bin"), "--key-file", exported)
		if code != bkrpOK || hex.EncodeToString([]byte(out))+"\n" != r.masterKey() || !strings.Contains(stderr, adatumSID+"-500") {
			t.Errorf("unwrap by %s: exit code %d, %d octets: %s", form, code, len(out), stderr)
		}
	}
	other := recordingsOf(t, "nemesis-oldformat")
	out, stderr, code := run("dpapi", "recover", other.path("masterkey.mkf"), "--key-file", k.path(adatumKey+".lsa"))
	if code == bkrpOK || out != "" || !strings.Contains(stderr, "it needs ClientWrap key "+nemesisKey) {
		t.Errorf("another domain's file: exit code %d: %s", code, stderr)
	}
}

// dpapiPy runs impacket's tool on a master key file and gives the key it finds,
// in hexadecimal.
func dpapiPy(t *testing.T, file, pvk string) string {
	t.Helper()
	const script = "/usr/share/doc/python3-impacket/examples/dpapi.py"
	needImpacket(t)
	if _, err := os.Stat(script); err != nil {
		peers.Unavailable(t, err)
	}
	out := command(t, "", "/usr/bin/python3", script, "masterkey", "-file", file, "-pvk", pvk)
	_, key, ok := strings.Cut(out, "Decrypted key: 0x")
	if !ok {
		t.Fatalf("dpapi.py does not find a key: %s", out)
	}
	return strings.TrimSpace(key)
}

// TestImpacketReadsMasterKeyFiles has impacket open master key files by the PVK
// file that our server exports: one of Windows, and one of ours, under a key of
// ours, which has the domain key part alone.
func TestImpacketReadsMasterKeyFiles(t *testing.T) {
	needImpacket(t)
	t.Run("of Windows", func(t *testing.T) {
		r, file, pair := adatumFiles(t)
		k := newKeyFiles(t)
		k.importFile(pair)
		if got := dpapiPy(t, file, k.export(adatumKey, "pvk")); got+"\n" != r.masterKey() {
			t.Error("another key")
		}
	})
	t.Run("ours", func(t *testing.T) {
		s := startBkrpd(t, options{})
		key := dpapi.GenerateMasterKey()
		blob, stderr, code := s.target().bkrp(t, s.credentials(peers.Alice), key.Octets(), "wrap")
		if code != bkrpOK {
			t.Fatal(stderr)
		}
		f := &dpapi.MasterKeyFile{Version: 2, GUID: key.GUID, DomainKey: []byte(blob)}
		encoded, err := f.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		name, pvk := filepath.Join(t.TempDir(), key.GUID.String()), filepath.Join(t.TempDir(), "domain.pvk")
		if err := os.WriteFile(name, encoded, 0o600); err != nil {
			t.Fatal(err)
		}
		if out, stderr, code := s.recover(t, peers.Alice, name, "--format", "raw"); code != bkrpOK || !bytes.Equal([]byte(out), key.Octets()) {
			t.Errorf("bkrp dpapi recover: exit code %d, %s", code, stderr)
		}
		w, err := bkrp.ParseClientWrapped(f.DomainKey)
		if err != nil {
			t.Fatal(err)
		}
		command(t, "", build(t, "bkrpd"), "keys", "export", w.KeyGUID.String(), "--format", "pvk", "--plaintext", "-o", pvk, "--config", s.config())
		if got := dpapiPy(t, name, pvk); got != hex.EncodeToString(key.Octets()) {
			t.Error("another key")
		}
	})
}
