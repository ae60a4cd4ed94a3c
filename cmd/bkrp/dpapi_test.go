package main

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/dpapi"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/keyform"
	"github.com/seed05845750/bkrp/keystore"
)

const (
	// The owner of the recorded master key is the Administrator of its domain,
	// and that account has RID 500 in every domain.
	adatumSID     = "S-1-5-21-4534338-1127018997-2609994386"
	administrator = "Administrator"

	adatumPair = "lsa_secret_BCKUPKEY_efe756ec-f87c-493a-902f-259030203445.bin"
)

// TestDPAPIScript runs the command lines of testdata/dpapi on the files that
// dpapiFiles makes, with $SERVER a server that has their keys.
func TestDPAPIScript(t *testing.T) {
	store := newStore(t, adatumSID)
	for _, user := range []string{administrator, "alice", "bob"} {
		if _, err := store.AddAccount(t.Context(), user, "Correct.Horse."+user); err != nil {
			t.Fatal(err)
		}
	}
	alice, err := store.Account(t.Context(), "alice")
	if err != nil {
		t.Fatal(err)
	}
	files, names := dpapiFiles(t, store, alice.SID)
	for _, user := range []string{administrator, "alice", "bob"} {
		files[user] = []byte("Correct.Horse." + user + "\n")
	}
	vectors := recorded(t, store)
	addr := serve(t, store)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/dpapi",
		RequireExplicitExec: true,
		Condition: func(name string) (bool, error) {
			if name != "vectors" {
				return false, fmt.Errorf("no condition %q", name)
			}
			return vectors != "", nil
		},
		Setup: func(e *testscript.Env) error {
			e.Setenv("SERVER", addr)
			e.Setenv("VECTORS", vectors)
			e.Setenv("ALICE", alice.SID.String())
			e.Setenv("ADATUM", adatumSID+"-500")
			for name, guid := range names {
				e.Setenv(name, guid.String())
			}
			for name, b := range files {
				if err := os.WriteFile(filepath.Join(e.WorkDir, name), b, 0o600); err != nil {
					return err
				}
			}
			return nil
		},
	})
}

// recorded is the folder of recorded data of real domains, or "" where it is
// absent. The store gets the key pair that it has.
func recorded(t *testing.T, store *keystore.Store) string {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("..", "..", "..", "shared", "vectors"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(root); err != nil {
		t.Logf("no recorded data of real domains: %v", err)
		return ""
	}
	b, err := os.ReadFile(filepath.Join(root, "dsinternals-adatum", adatumPair))
	if err != nil {
		t.Fatal(err)
	}
	pair, err := bkrp.ParseKeyPair(b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.ImportKeyPair(t.Context(), pair, false); err != nil {
		t.Fatal(err)
	}
	return root
}

// dpapiFiles are master key files of a user, one for each kind of wrapped secret,
// what is to come out of them, and their domain's keys in every form, which names
// say the GUIDs of. The store gets the keys.
func dpapiFiles(t *testing.T, store *keystore.Store, owner dtyp.SID) (files map[string][]byte, names map[string]dtyp.GUID) {
	t.Helper()
	pair, err := bkrp.GenerateKeyPair("bkrp.example", time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	old, oldGUID := bkrp.GenerateServerKey(), dtyp.GUID{1, 2, 3, 15: 4}
	_, errPair := store.ImportKeyPair(t.Context(), pair, true)
	_, errOld := store.ImportServerKey(t.Context(), oldGUID, old, true)
	if errPair != nil || errOld != nil {
		t.Fatal(errPair, errOld)
	}
	key := dpapi.GenerateMasterKey()
	files, other := keyFiles(t, pair, old, oldGUID)
	names = map[string]dtyp.GUID{"NEEDED": pair.GUID(), "OLD": oldGUID, "OTHER": other, "MASTER": key.GUID}
	sum := key.SHA1()
	files["key.raw"] = key.Octets()
	files["key.hex"] = []byte(hex.EncodeToString(key.Octets()) + "\n")
	files["key.sha1"] = fmt.Appendf(nil, "{%v}:%X\n", key.GUID, sum)

	secret := key.Octets()
	v2, err2 := bkrp.WrapClient(pair.Certificate(), owner, secret, 2)
	v3, err3 := bkrp.WrapClient(pair.Certificate(), owner, secret, 3)
	short, errShort := bkrp.WrapClient(pair.Certificate(), owner, secret[:20], 2)
	derive := func(form bkrp.SrvKeyForm) func([]byte) [20]byte {
		return func(salt []byte) [20]byte { return old.Derive(form, salt) }
	}
	full, errFull := bkrp.WrapServer(derive(bkrp.SrvKeyFull), oldGUID, owner, secret)
	leading, errLeading := bkrp.WrapServer(derive(bkrp.SrvKeyLeading64), oldGUID, owner, secret)
	for _, err := range []error{err2, err3, errShort, errFull, errLeading} {
		if err != nil {
			t.Fatal(err)
		}
	}
	damaged := bytes.Clone(v2)
	damaged[len(damaged)-1] ^= 1
	for name, blob := range map[string][]byte{
		"v2": v2, "v3": v3, "full": full, "leading": leading, "short": short, "damaged": damaged, "local": nil,
	} {
		f := dpapi.MasterKeyFile{Version: 2, GUID: key.GUID, DomainKey: blob}
		if files[name+".mkf"], err = f.AppendBinary(nil); err != nil {
			t.Fatal(err)
		}
		files[name+".blob"] = blob
	}
	return files, names
}

// keyFiles are the keys of a domain in every form, and the key pair of another one.
func keyFiles(t *testing.T, pair *bkrp.KeyPair, old *bkrp.ServerKey, oldGUID dtyp.GUID) (files map[string][]byte, otherGUID dtyp.GUID) {
	t.Helper()
	stored, _ := pair.AppendBinary(nil)
	storedOld, _ := old.AppendBinary(nil)
	other, err := bkrp.GenerateKeyPair("other.example", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	storedOther, _ := other.AppendBinary(nil)
	key, errKey := keyform.New(dtyp.GUID{}, stored)
	oldKey, errOld := keyform.New(oldGUID, storedOld)
	otherKey, errOther := keyform.New(dtyp.GUID{}, storedOther)
	identity, errID := age.GenerateX25519Identity()
	stranger, errStranger := age.GenerateX25519Identity()
	for _, err := range []error{errKey, errOld, errOther, errID, errStranger} {
		if err != nil {
			t.Fatal(err)
		}
	}
	inPEM, err := key.Marshal(keyform.PEM)
	if err != nil {
		t.Fatal(err)
	}
	seal := func(keys ...*keyform.Key) []byte {
		var b bytes.Buffer
		bundle := &keyform.Bundle{Domain: "bkrp.example", SID: dtyp.MustParseSID(adatumSID), Keys: keys}
		if err := bundle.Seal(&b, identity.Recipient()); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	return map[string][]byte{
		"pair.lsa": stored, "pair.pvk": pair.AppendPVK(nil), "pair.pem": inPEM, "old.lsa": storedOld,
		"bare.pem":  inPEM[:bytes.Index(inPEM, []byte("-----BEGIN CERTIFICATE"))],
		"keys.age":  seal(otherKey, key, oldKey),
		"other.lsa": storedOther, "other.pvk": other.AppendPVK(nil), "other.age": seal(otherKey),
		"me.key": []byte(identity.String() + "\n"), "stranger.key": []byte(stranger.String() + "\n"),
	}, other.GUID()
}
