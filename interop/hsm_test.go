package interop

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/interop/peers"
	"github.com/seed05845750/bkrp/keystore"
	"github.com/seed05845750/bkrp/keystore/lsastore"
)

const (
	tokenLabel = "bkrp"
	kekLabel   = "kek"
)

// newSoftHSM makes a token for servers of this test.
func newSoftHSM(t *testing.T) *peers.SoftHSM {
	t.Helper()
	peers.Need(t, "gcc", "bash")
	h := peers.NewSoftHSM(t, t.TempDir(), tokenLabel)
	t.Setenv("SOFTHSM2_CONF", h.Conf)
	return h
}

// kekIn has the store sealed by a key in the token.
func kekIn(h *peers.SoftHSM) []string {
	return []string{"--kek", "kms:" + h.URI(tokenLabel, kekLabel)}
}

// keysIn has ClientWrap keys made in the token.
func keysIn(h *peers.SoftHSM) []string {
	return []string{"--set", "hsm.token=kms:" + h.URI(tokenLabel, ""), "--set", "hsm.clientwrap_keys=token"}
}

// tortureRestores runs the suite as an ordinary user and as an administrator.
func tortureRestores(t *testing.T, s *server) {
	t.Helper()
	for user, want := range map[string]expectation{
		peers.Alice:         noOracle().and(deniedSecrets()),
		peers.Administrator: noOracle(),
	} {
		torture(t, s.client, "ncacn_np:"+s.host+"[seal]", s.credentials(user), want, "--option=smb ports="+s.port)
	}
}

// The suite against a server whose store is sealed by a key in a token, and one
// whose private keys are in it.
func TestHSMTorture(t *testing.T) {
	peers.Need(t, "smbtorture", "unshare")
	h := newSoftHSM(t)
	for name, initialize := range map[string][]string{"KEK": kekIn(h), "ClientWrap keys": keysIn(h)} {
		t.Run(name, func(t *testing.T) {
			s := startBkrpd(t, options{
				tags: "pkcs11", initialize: initialize,
				settings:       map[string]string{"error_codes": `"windows"`},
				administrators: []string{peers.Administrator},
			})
			tortureRestores(t, s)
		})
	}
}

// What our client does, and a server that is started again, with everything in
// the token; two servers use it at the same time.
func TestHSMRestart(t *testing.T) {
	h := newSoftHSM(t)
	o := options{tags: "pkcs11", initialize: append(kekIn(h), keysIn(h)...)}
	s, other := startBkrpd(t, o), startBkrpd(t, o)
	s.target().client(t)
	other.target().client(t)

	secret := []byte("survives a restart")
	blob := s.wrapClient(t, secret)
	s.stop()
	s.serve(t, buildTagged(t, "bkrpd", "pkcs11"), "127.0.0.1:0")
	s.wantOpens(t, blob, secret)

	// Without the token its key is there and cannot be used.
	s.stop()
	s.configure(t, options{settings: map[string]string{"hsm.token": `""`, "hsm.clientwrap_keys": `"store"`}})
	s.serve(t, buildTagged(t, "bkrpd", "pkcs11"), "127.0.0.1:0")
	s.wantInternalError(t, blob)

	// It does not come out, neither for us nor as an LSA secret.
	_, stderr, code := try(t, nil, "", buildTagged(t, "bkrpd", "pkcs11"), "keys", "export", "--plaintext", "--format", "lsa",
		"-o", filepath.Join(t.TempDir(), "keys"), s.keyGUID(t), "--config", s.config())
	if code == 0 || !strings.Contains(stderr, "cannot be read out of") {
		t.Errorf("export: exit code %d: %s", code, stderr)
	}
}

// Two servers on one cluster and one token, and with it the key that the first
// one makes while the other one has logged in.
func TestHSMReplicas(t *testing.T) {
	h, e := newSoftHSM(t), startEtcd(t)
	one := startBkrpd(t, options{tags: "pkcs11", initialize: append(keysIn(h),
		"--set", "store.backend=etcd", "--set", "store.etcd.endpoints="+strings.Join(e.Endpoints(), ","),
		"--set", "store.etcd.ca_file="+e.Client.CA, "--set", "store.etcd.cert_file="+e.Client.Cert, "--set", "store.etcd.key_file="+e.Client.Key)})
	two := &server{dir: filepath.Join(t.TempDir(), "two"), client: one.client, passwords: one.passwords, sids: one.sids}
	if err := os.Mkdir(two.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"kek.bin", "bkrpd.toml"} {
		text, err := os.ReadFile(filepath.Join(one.dir, file))
		if err == nil {
			err = os.WriteFile(filepath.Join(two.dir, file), text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	two.serve(t, buildTagged(t, "bkrpd", "pkcs11"), "127.0.0.1:0")
	secret := []byte("wrapped at one server")
	blob := one.wrapClient(t, secret)
	two.wantOpens(t, blob, secret)
	one.wantOpens(t, two.wrapClient(t, secret), secret)
	if one.keyGUID(t) != two.keyGUID(t) {
		t.Error("the servers have different keys")
	}
	if log := two.log.String(); strings.Contains(log, "does not do its work") {
		t.Errorf("the other server did not find the key at once:\n%s", log)
	}
}

// An administrator who may read the domain's keys as LSA secrets is told that
// there is none by the name of a key in the token.
func TestHSMSecret(t *testing.T) {
	h := newSoftHSM(t)
	for name, c := range map[string]struct {
		initialize []string
		there      bool
	}{"in the store": {nil, true}, "in the token": {keysIn(h), false}} {
		t.Run(name, func(t *testing.T) {
			s := startBkrpd(t, options{tags: "pkcs11", initialize: c.initialize, administrators: []string{peers.Administrator}})
			admin := s.credentials(peers.Administrator)
			secrets, err := lsastore.Open(t.Context(), lsastore.Config{
				Server: s.addr, Domain: admin.Domain, User: admin.User, Password: lsastore.Password(admin.Password),
			})
			if err != nil {
				t.Fatal(err)
			}
			defer secrets.Close()
			value, _, err := secrets.Get(t.Context(), keystore.SecretPrefix+s.keyGUID(t))
			if c.there && (err != nil || len(value) == 0) || !c.there && !errors.Is(err, keystore.ErrNotFound) {
				t.Errorf("%d octets, %v", len(value), err)
			}
		})
	}
}

// The token is taken away from a running server and given back.
func TestHSMRemoved(t *testing.T) {
	h := newSoftHSM(t)
	s := startBkrpd(t, options{tags: "pkcs11", initialize: keysIn(h)})
	secret := []byte("waits for the token")
	blob := s.wrapClient(t, secret)
	away := h.TokenDir() + ".away"
	if err := os.Rename(h.TokenDir(), away); err != nil {
		t.Fatal(err)
	}
	s.wantInternalError(t, blob)
	if err := os.Rename(away, h.TokenDir()); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(200 * time.Millisecond) {
		out, stderr, code := s.target().bkrp(t, s.credentials(peers.Alice), blob, "unwrap")
		if code == bkrpOK && out == string(secret) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the token is back: exit code %d: %s", code, stderr)
		}
	}
	s.wantOpens(t, blob, secret)
}

// A server does not start with the wrong PIN, token, key or build, and says why.
func TestHSMRefused(t *testing.T) {
	h := newSoftHSM(t)
	h.AddToken(t, "other")
	bkrpd := buildTagged(t, "bkrpd", "pkcs11")
	dir := filepath.Join(t.TempDir(), "server")
	command(t, "", append([]string{bkrpd, "init", "--dir", dir, "--domain", "bkrp.test"}, kekIn(h)...)...)
	config := filepath.Join(dir, "bkrpd.toml")
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "4711") {
		t.Error("the configuration has the PIN")
	}
	wrongPIN := filepath.Join(t.TempDir(), "pin")
	if err := os.WriteFile(wrongPIN, []byte("0815\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// Another store makes the key of its name in the other token.
	command(t, "", bkrpd, "init", "--dir", filepath.Join(t.TempDir(), "another"), "--domain", "bkrp.test", "--kek", "kms:"+h.URI("other", kekLabel))
	right := "kms:" + h.URI(tokenLabel, kekLabel)
	for _, c := range []struct{ name, program, kek, want string }{
		{"wrong PIN", bkrpd, strings.Replace(right, h.PINFile, wrongPIN, 1), "PIN is not usable"},
		{"no PIN file", bkrpd, strings.Replace(right, h.PINFile, wrongPIN+"x", 1), "PIN is not usable"},
		{"no such token", bkrpd, "kms:" + h.URI("nobody", kekLabel), "token is not available"},
		{"no such key", bkrpd, "kms:" + h.URI(tokenLabel, "nothing"), "no such key in the token"},
		{"another key", bkrpd, "kms:" + h.URI("other", kekLabel), "sealed under another key-encryption key"},
		{"no library", bkrpd, strings.Replace(right, h.Module, h.Conf, 1), "cannot be loaded as a PKCS#11 library"},
		{"built without", build(t, "bkrpd"), right, "go build -tags pkcs11"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, stderr, code := try(t, []string{"BKRPD_SEAL_KEK=" + c.kek}, "", c.program, "serve", "--config", config, "--listen", "127.0.0.1:0")
			if code == 0 || !strings.Contains(stderr, c.want) || strings.Contains(stderr, "4711") || strings.Contains(stderr, "0815") {
				t.Errorf("exit code %d: %s", code, stderr)
			}
		})
	}
}

// wrapClient wraps a secret of alice's under the ClientWrap key.
func (s *server) wrapClient(t *testing.T, secret []byte) []byte {
	t.Helper()
	blob, stderr, code := s.target().bkrp(t, s.credentials(peers.Alice), secret, "wrap", "--mode", "client")
	if code != bkrpOK {
		t.Fatalf("wrapping: exit code %d: %s", code, stderr)
	}
	return []byte(blob)
}

func (s *server) wantOpens(t *testing.T, blob, secret []byte) {
	t.Helper()
	out, stderr, code := s.target().bkrp(t, s.credentials(peers.Alice), blob, "unwrap")
	if code != bkrpOK || out != string(secret) {
		t.Errorf("unwrapping: exit code %d, %q: %s", code, out, stderr)
	}
}

// wantInternalError wants the answer that says nothing of the key: neither that
// it is unknown nor that the blob is wrong.
func (s *server) wantInternalError(t *testing.T, blob []byte) {
	t.Helper()
	out, stderr, code := s.target().bkrp(t, s.credentials(peers.Alice), blob, "unwrap")
	if code == bkrpOK || !strings.Contains(stderr, "0x54F") && !strings.Contains(stderr, "INTERNAL_ERROR") {
		t.Errorf("unwrapping without the token: exit code %d, %q: %s", code, out, stderr)
	}
}

// keyGUID is the current ClientWrap key's.
func (s *server) keyGUID(t *testing.T) string {
	t.Helper()
	out, stderr, code := s.target().bkrp(t, s.credentials(peers.Alice), nil, "cert", "--json")
	_, rest, ok := strings.Cut(out, `"key"`)
	if code != bkrpOK || !ok {
		t.Fatalf("cert: exit code %d, %s: %s", code, out, stderr)
	}
	_, rest, _ = strings.Cut(rest, `"`)
	guid, _, _ := strings.Cut(rest, `"`)
	return guid
}
