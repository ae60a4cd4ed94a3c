package keystore_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/keystore"
)

// An RSA key without a certificate, as a PVK file has it, gets a new one whenever
// it is imported. It stays the same key, and the certificate that clients have
// stays the key's.
func TestImportKeyPairWithOtherCertificate(t *testing.T) {
	sealer, err := keystore.NewPassphrase([]byte("correct horse"))
	if err != nil {
		t.Fatal(err)
	}
	backend := keystore.NewMemory()
	defer backend.Close()
	domain := keystore.Domain{DNSName: "bkrp.example", NetBIOSName: "BKRP", SID: keystore.RandomDomainSID()}
	if err := keystore.Create(t.Context(), backend, sealer, domain); err != nil {
		t.Fatal(err)
	}
	store, err := keystore.Open(t.Context(), backend, sealer, keystore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()

	first, err := bkrp.GenerateKeyPair("one.example", time.Unix(1e9, 0))
	if err != nil {
		t.Fatal(err)
	}
	second, err := bkrp.KeyPairFromPVK(first.AppendPVK(nil), first.GUID(), "two.example", time.Unix(2e9, 0))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.ImportKeyPair(t.Context(), first, false); err != nil {
		t.Fatal(err)
	}
	k, err := store.ImportKeyPair(t.Context(), second, true)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(k.Certificate(), first.Certificate().Raw) {
		t.Error("the certificate was replaced")
	}
	if current, err := store.CurrentClientWrapKey(t.Context()); err != nil || current.GUID() != first.GUID() {
		t.Errorf("it did not become the current key (%v)", err)
	}
	stranger, err := bkrp.GenerateKeyPair("one.example", time.Unix(1e9, 0))
	if err != nil {
		t.Fatal(err)
	}
	forged, err := bkrp.KeyPairFromPVK(stranger.AppendPVK(nil), first.GUID(), "one.example", time.Unix(1e9, 0))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.ImportKeyPair(t.Context(), forged, true); !errors.Is(err, keystore.ErrKeyExists) {
		t.Errorf("another key of the same GUID: %v", err)
	}
}
