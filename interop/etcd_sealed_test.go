package interop

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed05845750/bkrp/internal/nthash"
	"github.com/seed05845750/bkrp/interop/peers"
	"github.com/seed05845750/bkrp/keystore"
	"github.com/seed05845750/bkrp/keystore/etcdstore"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// etcdClient is a client of the cluster without our code; user may be "".
func etcdClient(t *testing.T, e *peers.Etcd, user, password string) *clientv3.Client {
	t.Helper()
	cfg, err := e.ClientTLS()
	if err != nil {
		t.Fatal(err)
	}
	c, err := clientv3.New(clientv3.Config{Endpoints: e.Endpoints(), TLS: cfg, Username: user, Password: password, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// What etcd has of a store tells its reader the names of entries, and nothing
// of what is in them (SEC-5.1-01).
func TestEtcdHoldsSealedValuesOnly(t *testing.T) {
	e := startEtcd(t)
	ctx := t.Context()
	file := filepath.Join(t.TempDir(), "kek.bin")
	kek, err := keystore.CreateKeyFile(file)
	if err != nil {
		t.Fatal(err)
	}
	backend := openEtcd(t, etcdOptions(e, ""))
	domain := keystore.Domain{DNSName: "sealed.example", NetBIOSName: "SEALED", SID: keystore.RandomDomainSID()}
	if err := keystore.Create(ctx, backend, kek, domain); err != nil {
		t.Fatal(err)
	}
	if err := keystore.Create(ctx, backend, kek, domain); !errors.Is(err, keystore.ErrStoreExists) {
		t.Errorf("a second store under the prefix: %v, want ErrStoreExists", err)
	}
	store, err := keystore.Open(ctx, backend, kek, keystore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if _, err := store.CurrentClientWrapKey(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := store.CurrentServerWrapKey(ctx); err != nil {
		t.Fatal(err)
	}
	const password = "Correct.Horse.42"
	account, err := store.AddAccount(ctx, "alice", password)
	if err != nil {
		t.Fatal(err)
	}

	secrets := etcdSecrets(t, store, file, password)
	secrets["SID of the domain"] = []byte(domain.SID.String())
	secrets["SID of the account"] = []byte(account.SID.String())
	dump, err := etcdClient(t, e, "", "").Get(ctx, "", clientv3.WithFromKey())
	if err != nil {
		t.Fatal(err)
	}
	if len(dump.Kvs) < 6 {
		t.Fatalf("the cluster holds %d entries only", len(dump.Kvs))
	}
	visible := false
	for _, kv := range dump.Kvs {
		visible = visible || strings.HasPrefix(string(kv.Key), etcdstore.DefaultPrefix+"account/ALICE")
		for what, secret := range secrets {
			if at := etcdShares(secret, kv.Key); at >= 0 {
				t.Errorf("the name %q tells octet %d of %s", kv.Key, at, what)
			}
			if at := etcdShares(secret, kv.Value); at >= 0 {
				t.Errorf("the value of %q tells octet %d of %s", kv.Key, at, what)
			}
		}
	}
	if !visible {
		t.Error("names of accounts are not names of entries any more: say so in SECURITY.md")
	}
}

// etcdSecrets are the octets that nobody is to see.
func etcdSecrets(t *testing.T, store *keystore.Store, kekFile, password string) map[string][]byte {
	t.Helper()
	hash := nthash.Sum(password)
	secrets := map[string][]byte{
		"password": []byte(password), "NT hash": hash[:], "NT hash in hexadecimal": []byte(hex.EncodeToString(hash[:])),
		"NT hash in base64": []byte(base64.StdEncoding.EncodeToString(hash[:])),
	}
	names, err := store.SecretNames(t.Context())
	if err != nil || len(names) != 4 {
		t.Fatalf("secrets %q, %v; want two keys and two pointers", names, err)
	}
	for _, name := range names {
		if secrets[name], err = store.Secret(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		secrets[name+" in base64"] = []byte(base64.StdEncoding.EncodeToString(secrets[name]))
	}
	text, err := os.ReadFile(kekFile)
	if err != nil {
		t.Fatal(err)
	}
	_, key, ok := strings.Cut(string(text), "\nkey ")
	if !ok {
		t.Fatal("the key file has no line with the key")
	}
	secrets["KEK's text"] = []byte(strings.TrimSpace(key))
	if secrets["KEK"], err = base64.RawStdEncoding.DecodeString(strings.TrimSpace(key)); err != nil {
		t.Fatal(err)
	}
	return secrets
}

// etcdShares gives the place in secret of 16 octets, not all the same, that are
// in data too, or -1.
func etcdShares(secret, data []byte) int {
	const window = 16
	if len(secret) <= window {
		if bytes.Contains(data, secret) {
			return 0
		}
		return -1
	}
	for at := 0; at+window <= len(secret); at++ {
		piece := secret[at : at+window]
		if bytes.Count(piece, piece[:1]) != window && bytes.Contains(data, piece) {
			return at
		}
	}
	return -1
}

// What somebody else put under the prefix is named, and hides nothing else.
func TestEtcdForeignEntries(t *testing.T) {
	e := startEtcd(t)
	s := openEtcd(t, etcdOptions(e, ""))
	if _, err := s.CompareAndSwap(t.Context(), "good", 0, []byte("1")); err != nil {
		t.Fatal(err)
	}
	c := etcdClient(t, e, "", "")
	for name, value := range map[string]string{"empty": "", "short": "\x01short", "other": strings.Repeat("\x02", 40)} {
		if _, err := c.Put(t.Context(), etcdstore.DefaultPrefix+name, value); err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.Get(t.Context(), name); !errors.Is(err, keystore.ErrCorrupt) || !strings.Contains(err.Error(), name) {
			t.Errorf("Get of %q: %v, want ErrCorrupt with the name", value, err)
		}
		if _, err := s.CompareAndSwap(t.Context(), name, 0, []byte("1")); !errors.Is(err, keystore.ErrConflict) {
			t.Errorf("a swap over %q: %v, want ErrConflict", value, err)
		}
	}
	if value, _, err := s.Get(t.Context(), "good"); err != nil || string(value) != "1" {
		t.Errorf("the entry beside them: %q, %v", value, err)
	}
}

// Two bkrpd on one cluster: what one wrapped the other opens, and an account
// made at one logs on at the other.
func TestEtcdTwoServers(t *testing.T) {
	e := startEtcd(t)
	bkrpd, bkrp := build(t, "bkrpd"), build(t, "bkrp")
	dir := t.TempDir()
	one, two := &server{dir: filepath.Join(dir, "one")}, &server{dir: filepath.Join(dir, "two")}
	initialize := []string{bkrpd, "init", "--dir", one.dir, "--domain", "bkrp.test", "--netbios", "BKRP",
		"--set", "store.backend=etcd", "--set", "store.etcd.endpoints=" + strings.Join(e.Endpoints(), ","),
		"--set", "store.etcd.ca_file=" + e.Client.CA, "--set", "store.etcd.cert_file=" + e.Client.Cert, "--set", "store.etcd.key_file=" + e.Client.Key}
	command(t, "", initialize...)
	if _, err := os.Stat(filepath.Join(one.dir, "bkrpd.db")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("there is a file for the store: %v", err)
	}
	initialize[3] = filepath.Join(dir, "again")
	if _, stderr, code := try(t, nil, "", initialize...); code == 0 || !strings.Contains(stderr, "there is a store here already") {
		t.Errorf("a second init on the cluster: exit code %d: %s", code, stderr)
	}
	if err := os.CopyFS(two.dir, os.DirFS(one.dir)); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"kek.bin", "bkrpd.toml"} { // CopyFS does not keep modes
		if err := os.Chmod(filepath.Join(two.dir, file), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	one.serve(t, bkrpd, "127.0.0.1:0")
	two.serve(t, bkrpd, "127.0.0.1:0")
	const password = "Correct.Horse.2"
	command(t, password+"\n", bkrpd, "user", "add", "alice", "--config", one.config())
	passwordFile := filepath.Join(dir, "password")
	if err := os.WriteFile(passwordFile, []byte(password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := []string{"BKRP_PASSWORD_FILE=" + passwordFile}
	for _, mode := range []string{"client", "server"} {
		secret := "secret of mode " + mode
		blob, stderr, code := try(t, env, secret, bkrp, "wrap", "--server", one.addr, "-U", `BKRP\alice`, "--mode", mode)
		if code != 0 {
			t.Fatalf("wrapping at one: exit code %d: %s", code, stderr)
		}
		opened, stderr, code := try(t, env, blob, bkrp, "unwrap", "--server", two.addr, "-U", `BKRP\alice`)
		if code != 0 || opened != secret {
			t.Errorf("unwrapping at two: exit code %d, %q: %s", code, opened, stderr)
		}
	}
}
