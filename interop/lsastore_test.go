package interop

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/bkrpserver"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/interop/peers"
	"github.com/seed05845750/bkrp/keystore"
	"github.com/seed05845750/bkrp/keystore/boltstore"
	"github.com/seed05845750/bkrp/keystore/lsastore"
)

// inDomainStore is our service on the keys that a domain controller keeps.
type inDomainStore struct {
	dc      *peers.Domain
	store   *keystore.Store
	service *bkrpserver.Service
	sids    map[string]dtyp.SID
}

func openDomainStore(t *testing.T, dc *peers.Domain) *inDomainStore {
	t.Helper()
	d := &inDomainStore{dc: dc, sids: map[string]dtyp.SID{}}
	for _, user := range []string{peers.Alice, peers.Bob, peers.Administrator} {
		text, err := dc.SID(t.Context(), user)
		if err != nil {
			t.Fatal(err)
		}
		d.sids[user] = dtyp.MustParseSID(text)
	}
	backend, err := lsastore.Open(t.Context(), lsastore.Config{
		Server: dc.Addr, Domain: dc.NetBIOS(), User: peers.Administrator,
		Password: lsastore.Password(dc.Password(peers.Administrator)), Poll: 50 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { backend.Close() })
	if self, err := backend.Self(t.Context()); err != nil || self != d.sids[peers.Administrator] {
		t.Fatalf("logged on as %v, %v", self, err)
	}
	domainSID, _, _ := d.sids[peers.Alice].Cut()
	d.store, err = keystore.OpenDomain(t.Context(), backend, keystore.Domain{
		DNSName: strings.ToLower(dc.Realm()), NetBIOSName: dc.NetBIOS(), SID: domainSID,
	}, keystore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.store.Close() })
	d.service = &bkrpserver.Service{Store: d.store}
	return d
}

// ours calls our service as a user of the domain.
func (d *inDomainStore) ours(ctx context.Context, user string, action bkrp.Action, in []byte) ([]byte, bkrp.Status) {
	return d.service.BackuprKey(ctx, bkrpserver.Caller{SID: d.sids[user], Name: user}, action, in)
}

// theirs logs a user on to the domain controller's own service.
func (d *inDomainStore) theirs(t *testing.T, user string) *bkrpclient.Client {
	t.Helper()
	c, err := bkrpclient.Dial(t.Context(), bkrpclient.Config{Server: d.dc.Addr, Credential: bkrpclient.Credential{
		Domain: d.dc.NetBIOS(), User: user, Password: bkrpclient.Password(d.dc.Password(user)),
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// opens checks that both services give a wrapped secret to alice and refuse it
// to bob.
func (d *inDomainStore) opens(t *testing.T, what string, blob, secret []byte) {
	t.Helper()
	out, status := d.ours(t.Context(), peers.Alice, bkrp.ActionRestore, blob)
	if status != bkrp.StatusOK || !bytes.HasSuffix(out, secret) {
		t.Errorf("%s: alice at ours: %v", what, status)
	}
	if out, status := d.ours(t.Context(), peers.Bob, bkrp.ActionRestore, blob); status == bkrp.StatusOK || out != nil {
		t.Errorf("%s: bob at ours: %v", what, status)
	}
	if got, err := d.theirs(t, peers.Alice).Unwrap(t.Context(), blob); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("%s: alice at the domain controller: %v", what, err)
	}
	if got, err := d.theirs(t, peers.Bob).Unwrap(t.Context(), blob); err == nil {
		t.Errorf("%s: bob at the domain controller: %x", what, got)
	}
}

// wrapThere has alice wrap on the domain controller's own service, both ways.
func (d *inDomainStore) wrapThere(t *testing.T, secret []byte) map[string][]byte {
	t.Helper()
	alice := d.theirs(t, peers.Alice)
	blobs := map[string][]byte{}
	for name, o := range map[string]bkrpclient.WrapOptions{
		"ServerWrap":    {Mode: bkrpclient.ModeServer},
		"ClientWrap v2": {Mode: bkrpclient.ModeClient, Version: 2},
		"ClientWrap v3": {Mode: bkrpclient.ModeClient, Version: 3},
	} {
		blob, err := alice.Wrap(t.Context(), secret, o)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		blobs[name] = blob
	}
	return blobs
}

// The keys stand where the domain keeps them (G-1.3.1-02): what one service has
// wrapped the other opens.
func TestDomainStore(t *testing.T) {
	dc := DC(t)
	d := openDomainStore(t, dc)
	secret := []byte("\x00a domain's secret\xff")

	t.Run("wrapped there", func(t *testing.T) {
		for name, blob := range d.wrapThere(t, secret) {
			d.opens(t, name, blob, secret)
		}
	})
	t.Run("wrapped here", func(t *testing.T) {
		blob, status := d.ours(t.Context(), peers.Alice, bkrp.ActionBackup, secret)
		if status != bkrp.StatusOK {
			t.Fatal(status)
		}
		d.opens(t, "ServerWrap", blob, secret)
		certificate, status := d.ours(t.Context(), peers.Alice, bkrp.ActionRetrieve, nil)
		theirs, err := d.theirs(t, peers.Alice).RetrieveKey(t.Context())
		if status != bkrp.StatusOK || err != nil || !bytes.Equal(certificate, theirs.Raw) {
			t.Errorf("the services have different certificates: %v, %v", status, err)
		}
	})
	t.Run("S-3.1.6-01 S-3.1.6-02 new keys", func(t *testing.T) {
		before := d.wrapThere(t, secret)
		replica := openDomainStore(t, dc)
		if _, status := replica.ours(t.Context(), peers.Alice, bkrp.ActionRetrieve, nil); status != bkrp.StatusOK {
			t.Fatal(status)
		}
		client, err := d.store.RotateClientWrapKey(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		server, err := d.store.RotateServerWrapKey(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := d.theirs(t, peers.Alice).RetrieveKey(t.Context()); err != nil || got.GUID != client.GUID() {
			t.Errorf("the domain controller does not take the new ClientWrap key: %v", err)
		}
		after := d.wrapThere(t, secret)
		if !bytes.Contains(after["ServerWrap"][:64], guidOctets(server.GUID())) {
			t.Error("the domain controller does not take the new ServerWrap key")
		}
		for name, blob := range before {
			d.opens(t, "before: "+name, blob, secret)
		}
		for name, blob := range after {
			d.opens(t, "after: "+name, blob, secret)
			replica.opens(t, "replica: "+name, blob, secret)
		}
		for { // the replica comes to see the new pointer, or the test's time is up
			key, err := replica.store.CurrentClientWrapKey(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if key.GUID() == client.GUID() {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
	t.Run("who is no administrator", func(t *testing.T) {
		for _, c := range []lsastore.Config{
			{User: peers.Alice, Password: lsastore.Password(dc.Password(peers.Alice))},
			{User: peers.Administrator, Password: "wrong"},
		} {
			c.Server, c.Domain = dc.Addr, dc.NetBIOS()
			if b, err := lsastore.Open(t.Context(), c); err == nil {
				b.Close()
				t.Errorf("%s may read the secrets", c.User)
			} else if strings.Contains(fmt.Sprintf("%v %+v", err, c), dc.Password(peers.Alice)) {
				t.Error("the password is printed")
			}
		}
	})
}

// The daemon's own configuration of it: the controller has to be of the domain
// that is served, and accounts are not the store's.
func TestDomainStoreConfiguration(t *testing.T) {
	dc := DC(t)
	administrator, err := dc.SID(t.Context(), peers.Administrator)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	password := filepath.Join(dir, "password")
	if err := os.WriteFile(password, []byte(dc.Password(peers.Administrator)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	bkrpd, config := build(t, "bkrpd"), filepath.Join(dir, "d", "bkrpd.toml")
	if _, errs, code := try(t, nil, "", bkrpd, "init", "--dir", filepath.Join(dir, "d"), "--domain", strings.ToLower(dc.Realm())); code != 0 {
		t.Fatal(errs)
	}
	env := []string{"BKRPD_STORE_BACKEND=lsa", "BKRPD_STORE_LSA_SERVER=" + dc.Addr,
		"BKRPD_STORE_LSA_USER=" + dc.NetBIOS() + `\` + peers.Administrator, "BKRPD_STORE_LSA_PASSWORD_FILE=" + password}
	domainSID := strings.TrimSuffix(administrator, "-500")
	if _, errs, code := try(t, env, "", bkrpd, "user", "list", "--config", config); code == 0 || !strings.Contains(errs, domainSID) {
		t.Errorf("the controller of another domain: exit code %d: %s", code, errs)
	}
	env = append(env, "BKRPD_DOMAIN_SID="+domainSID)
	if out, errs, code := try(t, env, "", bkrpd, "user", "list", "--config", config); code != 0 || out != "" {
		t.Errorf("user list: exit code %d: %s%s", code, out, errs)
	}
	if _, errs, code := try(t, env, "Correct.Horse.1\n", bkrpd, "user", "add", "alice", "--config", config); code == 0 ||
		!strings.Contains(errs, "the domain keeps its accounts itself") {
		t.Errorf("user add: exit code %d: %s", code, errs)
	}
}

func guidOctets(g dtyp.GUID) []byte { return g[:] }

// A domain's keys are copied into a sealed store, and what its users have had
// wrapped is opened there, without the domain.
func TestKeysImport(t *testing.T) {
	dc := DC(t)
	d := openDomainStore(t, dc)
	secret := []byte("wrapped before the move")
	old := d.wrapThere(t, secret)
	oldClient, err := d.store.CurrentClientWrapKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.store.RotateClientWrapKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	current := d.wrapThere(t, secret)

	bkrpd, dir := build(t, "bkrpd"), filepath.Join(t.TempDir(), "d")
	if _, errs, code := try(t, nil, "", bkrpd, "init", "--dir", dir, "--domain", "bkrp.test"); code != 0 {
		t.Fatal(errs)
	}
	args := []string{bkrpd, "keys", "import", "--from-dc", dc.Addr, "-U", dc.NetBIOS() + `\` + peers.Administrator,
		"--config", filepath.Join(dir, "bkrpd.toml"), "--key", oldClient.GUID().String()}
	for range 2 { // the second time there is nothing new, which is no error
		out, errs, code := try(t, nil, dc.Password(peers.Administrator)+"\n", args...)
		if code != 0 || strings.Count(out, "imported ") != 3 || strings.Count(out, "now current") != 2 {
			t.Fatalf("exit code %d: %s%s", code, out, errs)
		}
		if !strings.Contains(errs, "warning: the keys are of the domain") {
			t.Errorf("no warning of another domain's SIDs: %s", errs)
		}
	}
	var imported struct {
		Format string
		Keys   []struct{ Current bool }
	}
	out, errs, code := try(t, nil, dc.Password(peers.Administrator)+"\n", append(args[:len(args):len(args)], "--json")...)
	if err := json.Unmarshal([]byte(out), &imported); err != nil || code != 0 || imported.Format != "from-dc" || len(imported.Keys) != 3 ||
		!imported.Keys[0].Current || !imported.Keys[1].Current || imported.Keys[2].Current {
		t.Errorf("as JSON: exit code %d, %v: %s%s", code, err, out, errs)
	}
	unknown := append(args[:len(args):len(args)], "--key", "01234567-89ab-cdef-0123-456789abcdef")
	if out, errs, code := try(t, nil, dc.Password(peers.Administrator)+"\n", unknown...); code == 0 || out != "" {
		t.Errorf("a key that is not there: exit code %d: %s%s", code, out, errs)
	}

	sealer, err := keystore.ReadKeyFile(filepath.Join(dir, "kek.bin"))
	if err != nil {
		t.Fatal(err)
	}
	backend, err := boltstore.Open(filepath.Join(dir, "bkrpd.db"), boltstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer backend.Close()
	store, err := keystore.Open(t.Context(), backend, sealer, keystore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	moved := &inDomainStore{service: &bkrpserver.Service{Store: store}, sids: d.sids}
	for _, blobs := range []map[string][]byte{old, current} {
		for name, blob := range blobs {
			if out, status := moved.ours(t.Context(), peers.Alice, bkrp.ActionRestore, blob); status != bkrp.StatusOK || !bytes.HasSuffix(out, secret) {
				t.Errorf("%s: alice: %v", name, status)
			}
			if _, status := moved.ours(t.Context(), peers.Bob, bkrp.ActionRestore, blob); status != bkrp.StatusInvalidAccess {
				t.Errorf("%s: bob: %v", name, status)
			}
		}
	}
}
