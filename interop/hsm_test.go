package interop

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/interop/peers"
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
