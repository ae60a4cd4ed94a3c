package bkrp

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
)

// vectorDir is the folder of recorded data of real domains, beside the
// repository. A test that needs it skips where it is absent; a folder that is
// there and empty is an error.
func vectorDir(t testing.TB, set string) string {
	t.Helper()
	root := filepath.Join("..", "shared", "vectors")
	if _, err := os.Stat(root); err != nil {
		t.Skipf("no recorded data of real domains: %v", err)
	}
	dir := filepath.Join(root, set)
	if entries, err := os.ReadDir(dir); err != nil || len(entries) == 0 {
		t.Fatalf("%s holds nothing (%v)", dir, err)
	}
	return dir
}

func vector(t testing.TB, set, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(vectorDir(t, set), name))
	if err != nil {
		t.Fatal(err)
	}
	if len(b) == 0 {
		t.Fatalf("%s/%s is empty", set, name)
	}
	return b
}

const (
	adatum  = "dsinternals-adatum"
	nemesis = "nemesis-oldformat"

	adatumPair      = "lsa_secret_BCKUPKEY_efe756ec-f87c-493a-902f-259030203445.bin"
	adatumServerKey = "lsa_secret_BCKUPKEY_585c52d5-1778-4d43-9d7b-c22b4f7e5fa4_serverwrap.bin"
	nemesisPVK      = "backupkey_45cbf2fb-b468-471a-a374-3ca17b50cf3b.pvk"
)

// The account of the Adatum master key, as the folder's README has it.
const adatumSID = "S-1-5-21-4534338-1127018997-2609994386-500"

func adatumKeyPair(t testing.TB) *KeyPair {
	t.Helper()
	k, err := ParseKeyPair(vector(t, adatum, adatumPair))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func nemesisKeyPair(t testing.TB) *KeyPair {
	t.Helper()
	guid := dtyp.MustParseGUID("45cbf2fb-b468-471a-a374-3ca17b50cf3b")
	k, err := KeyPairFromPVK(vector(t, nemesis, nemesisPVK), guid, "old.example", time.Unix(1e9, 0))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestWindowsSecretOpens(t *testing.T) {
	for _, tt := range []struct {
		set string
		key func(testing.TB) *KeyPair
		sid string
	}{
		{adatum, adatumKeyPair, adatumSID},
		{nemesis, nemesisKeyPair, ""},
	} {
		t.Run(tt.set+"/S-3.1.4.1.4-08", func(t *testing.T) {
			blob := vector(t, tt.set, "client_side_wrapped_secret.bin")
			w, err := ParseClientWrapped(blob)
			if err != nil {
				t.Fatal(err)
			}
			again, err := w.AppendBinary(nil)
			if err != nil || !bytes.Equal(again, blob) {
				t.Errorf("AppendBinary differs from the blob (%v)", err)
			}
			key := tt.key(t)
			if w.KeyGUID != key.GUID() {
				t.Errorf("blob names key %v, the key is %v", w.KeyGUID, key.GUID())
			}
			s, err := w.Open(key.DecryptRaw, key.RejectionKey())
			if err != nil {
				t.Fatal(err)
			}
			if want := vector(t, tt.set, "expected_secret.bin"); !bytes.Equal(s.Secret, want) {
				t.Error("the secret is not the expected one")
			}
			if tt.sid != "" && s.SID != dtyp.MustParseSID(tt.sid) {
				t.Errorf("SID = %v, want %v", s.SID, tt.sid)
			}
			if s.SID.IsZero() || len(s.Nonce) < nonceSize {
				t.Errorf("SID %v, nonce of %d octets", s.SID, len(s.Nonce))
			}
		})
	}
}

func TestWindowsKeyPair(t *testing.T) {
	raw := vector(t, adatum, adatumPair)
	k := adatumKeyPair(t)
	t.Run("W-2.2.5-01", func(t *testing.T) {
		if b, _ := k.AppendBinary(nil); !bytes.Equal(b, raw) {
			t.Error("AppendBinary differs from what Windows stored")
		}
		if !k.CRT() {
			t.Error("Windows's numbers for the CRT are not used")
		}
	})
	t.Run("W-2.2.5-05 to -13", func(t *testing.T) {
		numbers, err := parseRSABlob(k.blob)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(numbers.appendRSABlob(nil), k.blob) {
			t.Error("the numbers marshal to other octets")
		}
	})
	t.Run("S-3.1.4.1.3-02", func(t *testing.T) {
		if got := vector(t, adatum, "lsa_secret_BCKUPKEY_PREFERRED.bin"); !bytes.Equal(got, k.certificate.GUID[:]) {
			t.Errorf("pointer % x does not name %v", got, k.GUID())
		}
	})
	t.Run("A-35", func(t *testing.T) {
		broken := bytes.Clone(raw)
		broken[544] ^= 1 // dP
		slow, err := ParseKeyPair(broken)
		if err != nil {
			t.Fatal(err)
		}
		if slow.CRT() {
			t.Error("a wrong dP is used")
		}
		c := bytes.Repeat([]byte{0x5a}, modulusSize)
		a, errA := k.DecryptRaw(c)
		b, errB := slow.DecryptRaw(c)
		if errA != nil || errB != nil || !bytes.Equal(a, b) {
			t.Errorf("the two ways differ (%v, %v)", errA, errB)
		}
	})
}

func TestWindowsPVK(t *testing.T) {
	k := nemesisKeyPair(t)
	if b := k.AppendPVK(nil); !bytes.Equal(b, vector(t, nemesis, nemesisPVK)) {
		t.Error("AppendPVK differs from the file")
	}
	if !k.CRT() { // p is smaller than q here
		t.Error("the CRT is not used")
	}
	again, err := k.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseKeyPair(again); err != nil {
		t.Errorf("the pair made of it does not parse: %v", err)
	}
}

func TestWindowsServerKey(t *testing.T) {
	raw := vector(t, adatum, adatumServerKey)
	k, err := ParseServerKey(raw)
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := k.AppendBinary(nil); !bytes.Equal(b, raw) {
		t.Error("AppendBinary differs from what Windows stored")
	}
	if len(vector(t, adatum, "lsa_secret_BCKUPKEY_P.bin")) != dtyp.GUIDSize {
		t.Error("the pointer is no GUID")
	}
	count := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(i)
		}
		return b
	}
	for _, tt := range []struct {
		name string
		form SrvKeyForm
		salt []byte
		want string
	}{
		{"S-3.1.4.1.1-13 full", SrvKeyFull, count(r2Size), "2db65dffcfecaceea9bec73eea26c53afc6d1b55"},
		{"S-3.1.4.1.1-14 full", SrvKeyFull, count(r3Size), "3be76d3f5c082e2a142ef56f3b1a4b9a40aa6f49"},
		{"S-3.1.4.1.1-09 leading64", SrvKeyLeading64, count(r2Size), "603269f88159bf6d1ae518c7e733005bc8067de1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := k.Derive(tt.form, tt.salt); !bytes.Equal(got[:], unhex(t, tt.want)) {
				t.Errorf("got %x, want %s", got, tt.want)
			}
		})
	}
}

func TestWindowsCertificate(t *testing.T) {
	der := vector(t, adatum, "cert.der")
	c, err := ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	if c.GUID.String() != "efe756ec-f87c-493a-902f-259030203445" {
		t.Errorf("GUID = %v", c.GUID)
	}
	if !c.SerialIsGUID() {
		t.Errorf("serial % x is not the GUID reversed", c.Serial)
	}
	if c.Subject != "Adatum.com" || c.Issuer != "Adatum.com" {
		t.Errorf("subject %q, issuer %q", c.Subject, c.Issuer)
	}
	if c.Version != 2 || !bytes.Equal(c.IssuerUniqueID, c.GUID[:]) || !c.SignatureAlgorithm.Equal(oidOIWSHA1WithRSA) {
		t.Errorf("version %d, issuerUniqueID % x, algorithm %v", c.Version, c.IssuerUniqueID, c.SignatureAlgorithm)
	}
	if c.NotAfter.Sub(c.NotBefore) != certificateLifetime || c.NotBefore.Format(time.DateTime) != "2016-10-26 16:36:07" {
		t.Errorf("from %v to %v", c.NotBefore, c.NotAfter)
	}
	if err := c.CheckSignature(); err != nil {
		t.Error(err)
	}
	k := adatumKeyPair(t)
	if !bytes.Equal(k.Certificate().Raw, der) {
		t.Error("the key pair holds another certificate")
	}
}
