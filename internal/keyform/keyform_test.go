package keyform

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"filippo.io/age/armor"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/dtyp"
)

var update = flag.Bool("update", false, "make the files of testdata anew: that old ones are read is then not shown any more")

// testdata is a file that was written once and is read for ever: pair.lsa, a key
// pair for bkrp.example of 2024-02-29 12:34:56; server.lsa, a ServerWrap key;
// bundle.json and bundle.age, both of them as newBundle has them, in the clear
// and encrypted to the identity in identity.txt. The keys are these tests' only.
func testdata(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil || len(b) == 0 {
		t.Fatalf("%s: %d octets (%v)", name, len(b), err)
	}
	return b
}

func TestMain(m *testing.M) {
	flag.Parse()
	if *update {
		if err := makeTestdata(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func makeTestdata() error {
	pair, err := bkrp.GenerateKeyPair("bkrp.example", time.Date(2024, 2, 29, 12, 34, 56, 0, time.UTC))
	if err != nil {
		return err
	}
	secret, errPair := pair.AppendBinary(nil)
	server, errServer := bkrp.GenerateServerKey().AppendBinary(nil)
	id, errID := age.GenerateX25519Identity()
	if err := errors.Join(errPair, errServer, errID); err != nil {
		return err
	}
	bundle := bundleOf(&Key{Secret: secret}, &Key{GUID: serverGUID, Secret: server})
	bundle.Keys[0].GUID = pair.GUID()
	var sealed bytes.Buffer
	if err := bundle.Seal(&sealed, id.Recipient()); err != nil {
		return err
	}
	plain, err := bundle.marshal()
	for name, b := range map[string][]byte{
		"pair.lsa": secret, "server.lsa": server, "bundle.json": plain, "bundle.age": sealed.Bytes(), "identity.txt": []byte(id.String() + "\n"),
	} {
		err = errors.Join(err, os.WriteFile(filepath.Join("testdata", name), b, 0o644))
	}
	return err
}

func pairKey(t testing.TB) *Key {
	t.Helper()
	k, err := New(dtyp.GUID{}, testdata(t, "pair.lsa"))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

var serverGUID = dtyp.MustParseGUID("01234567-89ab-4def-8123-456789abcdef")

func serverKey(t testing.TB) *Key {
	t.Helper()
	k, err := New(serverGUID, testdata(t, "server.lsa"))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// vector is recorded data of a real domain, from beside the repository.
func vector(t testing.TB, set, name string) []byte {
	t.Helper()
	root := filepath.Join("..", "..", "..", "shared", "vectors")
	if _, err := os.Stat(root); err != nil {
		t.Skipf("no recorded data of real domains: %v", err)
	}
	b, err := os.ReadFile(filepath.Join(root, set, name))
	if err != nil || len(b) == 0 {
		t.Fatalf("%s/%s: %d octets (%v)", set, name, len(b), err)
	}
	return b
}

const (
	adatum     = "dsinternals-adatum"
	adatumPair = "lsa_secret_BCKUPKEY_efe756ec-f87c-493a-902f-259030203445.bin"
	nemesis    = "nemesis-oldformat"
	nemesisPVK = "backupkey_45cbf2fb-b468-471a-a374-3ca17b50cf3b.pvk"
)

func TestFormsRoundTrip(t *testing.T) {
	pair, server := pairKey(t), serverKey(t)
	if !pair.Created.Equal(time.Date(2024, 2, 29, 12, 34, 56, 0, time.UTC)) {
		t.Errorf("created %v", pair.Created)
	}
	certificate := pairCertificate(pair.Secret)
	for _, tt := range []struct {
		key   *Key
		form  Form
		given Given
	}{
		{pair, LSA, Given{}},
		{pair, LSA, Given{GUID: pair.GUID}},
		{server, LSA, Given{GUID: serverGUID}},
		{pair, PVK, Given{Certificate: certificate}},
		{pair, PEM, Given{}},
		{pair, PEM, Given{GUID: pair.GUID, Certificate: certificate}},
	} {
		b, err := tt.key.Marshal(tt.form)
		if err != nil {
			t.Fatal(err)
		}
		if form, err := Detect(b); form != tt.form {
			t.Errorf("%s looks like %s (%v)", tt.form, form, err)
		}
		got, err := Parse(tt.form, b, tt.given)
		if err != nil {
			t.Fatalf("%s of a %s: %v", tt.form, tt.key.Kind, err)
		}
		if got.GUID != tt.key.GUID || got.Kind != tt.key.Kind || !bytes.Equal(got.Secret, tt.key.Secret) {
			t.Errorf("%s of a %s reads as another key", tt.form, tt.key.Kind)
		}
	}
}

// An RSA key without a certificate gets a new one, for the GUID that is given.
func TestBareKey(t *testing.T) {
	pair := pairKey(t)
	other := dtyp.MustParseGUID("45cbf2fb-b468-471a-a374-3ca17b50cf3b")
	der, err := marshalPKCS8(pairBlob(pair.Secret))
	if err != nil {
		t.Fatal(err)
	}
	pvk, err := pair.Marshal(PVK)
	if err != nil {
		t.Fatal(err)
	}
	for form, b := range map[Form][]byte{PVK: pvk, PEM: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})} {
		if _, err := Parse(form, b, Given{Domain: "x.example"}); !errors.Is(err, ErrNoGUID) {
			t.Errorf("%s: %v", form, err)
		}
		k, err := Parse(form, b, Given{GUID: other, Domain: "x.example", Now: time.Unix(1e9, 0)})
		if err != nil {
			t.Fatal(err)
		}
		c, err := bkrp.ParseCertificate(pairCertificate(k.Secret))
		if err != nil || c.GUID != other || c.Subject != "x.example" || !bytes.Equal(pairBlob(k.Secret), pairBlob(pair.Secret)) {
			t.Errorf("%s: %v, %v", form, k, err)
		}
	}
}

// The key pair of a Windows domain, with its negative serial number and its name
// in UTF-16, and one whose first prime is the smaller.
func TestWindowsKeys(t *testing.T) {
	t.Run("W-2.2.5-01", func(t *testing.T) {
		secret := vector(t, adatum, adatumPair)
		k, err := Parse(LSA, secret, Given{})
		if err != nil {
			t.Fatal(err)
		}
		b, err := k.Marshal(PEM)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse(PEM, b, Given{})
		if err != nil || !bytes.Equal(again.Secret, secret) {
			t.Errorf("by PEM: another key (%v)", err)
		}
		if _, err := Parse(LSA, secret, Given{GUID: serverGUID}); !errors.Is(err, ErrOtherKey) {
			t.Errorf("another GUID: %v", err)
		}
		pvk := vector(t, nemesis, nemesisPVK)
		if _, err := Parse(PVK, pvk, Given{Certificate: pairCertificate(secret)}); !errors.Is(err, ErrFormat) {
			t.Errorf("another key's certificate: %v", err)
		}
	})
	t.Run("A-35", func(t *testing.T) {
		pvk := vector(t, nemesis, nemesisPVK)
		guid, ok := GUIDInName(nemesisPVK)
		if !ok {
			t.Fatal("the name has no GUID")
		}
		k, err := Parse(PVK, pvk, Given{GUID: guid, Domain: "old.example", Now: time.Unix(1e9, 0)})
		if err != nil {
			t.Fatal(err)
		}
		if b, err := k.Marshal(PVK); err != nil || !bytes.Equal(b, pvk) {
			t.Errorf("written as another file (%v)", err)
		}
	})
	t.Run("W-2.2.7-01", func(t *testing.T) {
		name := "lsa_secret_BCKUPKEY_585c52d5-1778-4d43-9d7b-c22b4f7e5fa4_serverwrap.bin"
		secret := vector(t, adatum, name)
		if _, err := Parse(LSA, secret, Given{}); !errors.Is(err, ErrNoGUID) {
			t.Errorf("without a GUID: %v", err)
		}
		guid, _ := GUIDInName(name)
		if k, err := Parse(LSA, secret, Given{GUID: guid}); err != nil || k.Kind != ServerWrap {
			t.Errorf("%v, %v", k, err)
		}
	})
}

// Each number of the key is looked at, and the error says which is wrong.
func TestDamagedNumbers(t *testing.T) {
	pair := pairKey(t)
	for _, tt := range []struct {
		name   string
		offset int
		want   string
		both   bool // not even a store takes it
	}{
		{"modulus", 20, "", true},
		{"exponent", 17, "", true},
		{"p", 20 + 256 + 5, "primes do not multiply", false},
		{"q", 20 + 256 + 128 + 5, "primes do not multiply", false},
		{"dP", 20 + 256 + 2*128 + 5, "first CRT exponent", false},
		{"dQ", 20 + 256 + 3*128 + 5, "second CRT exponent", false},
		{"qInv", 20 + 256 + 4*128 + 5, "CRT coefficient", false},
		{"d", 20 + 256 + 5*128 + 5, "", true},
		{"header", 0, "", true},
		{"bits", 12, "", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			secret := bytes.Clone(pair.Secret)
			secret[pairHeader+tt.offset] ^= 2
			_, err := New(dtyp.GUID{}, secret)
			if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v", err)
			}
			k := &Key{Secret: secret}
			if err := k.Check(); (err != nil) != tt.both {
				t.Errorf("A-35: Check: %v", err)
			}
			if tt.both {
				return
			}
			if b, err := k.Marshal(LSA); err != nil || !bytes.Equal(b, secret) {
				t.Errorf("A-35: as LSA secret: %v", err)
			}
			for _, form := range []Form{PVK, PEM} {
				if _, err := k.Marshal(form); !errors.Is(err, ErrUnsuited) {
					t.Errorf("as %s: %v", form, err)
				}
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	pair, server := pairKey(t), serverKey(t)
	good, err := pair.Marshal(PEM)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"two keys":         append(bytes.Clone(good), good...),
		"no key":           pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pairCertificate(pair.Secret)}),
		"two certificates": append(bytes.Clone(good), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pairCertificate(pair.Secret)})...),
		"encrypted":        []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"),
		"encrypted, old":   []byte("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n"),
		"another block":    append(bytes.Clone(good), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte{1}})...),
		"cut":              good[:len(good)-40],
		"no DER":           pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte{0x30, 0x80}}),
	} {
		if _, err := Parse(PEM, b, Given{}); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
	zeros := &Key{GUID: serverGUID, Secret: append([]byte{1, 0, 0, 0}, make([]byte, 256)...)}
	if err := zeros.Check(); !errors.Is(err, ErrFormat) {
		t.Errorf("a key of zeros: %v", err)
	}
	for _, form := range []Form{PVK, PEM} {
		if _, err := server.Marshal(form); !errors.Is(err, ErrUnsuited) {
			t.Errorf("a ServerWrap key as %s: %v", form, err)
		}
	}
	for _, b := range [][]byte{nil, []byte("hello"), make([]byte, 1932)} {
		if _, err := Detect(b); !errors.Is(err, ErrFormat) {
			t.Errorf("%q: %v", b[:min(5, len(b))], err)
		}
	}
}

func TestGUIDInName(t *testing.T) {
	const a, b = "45cbf2fb-b468-471a-a374-3ca17b50cf3b", "01234567-89ab-4def-8123-456789abcdef"
	for name, want := range map[string]string{
		"ntds_capi_0_" + a + ".pvk": a, "{" + a + "}": a, strings.ToUpper(a): a,
		a + "_" + a: a, a + b: "", "x.pvk": "", "": "", a[1:]: "",
	} {
		got, ok := GUIDInName(name)
		if ok != (want != "") || ok && got.String() != want {
			t.Errorf("%q: %v, %v", name, got, ok)
		}
	}
}

func newIdentity(t testing.TB) *age.X25519Identity {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func newBundle(t testing.TB) *Bundle { return bundleOf(pairKey(t), serverKey(t)) }

func bundleOf(pair, server *Key) *Bundle {
	pair.Current = true
	return &Bundle{
		Domain: "bkrp.example", SID: dtyp.MustParseSID("S-1-5-21-1-2-3"),
		Exported: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), Keys: []*Key{pair, server},
	}
}

// What was exported once is read for ever.
func TestBundleOfOld(t *testing.T) {
	want := newBundle(t)
	plain, err := want.marshal()
	if err != nil || !bytes.Equal(plain, testdata(t, "bundle.json")) {
		t.Errorf("the inner format is another one (%v): %s", err, plain)
	}
	ids, err := age.ParseIdentities(bytes.NewReader(testdata(t, "identity.txt")))
	if err != nil {
		t.Fatal(err)
	}
	got, err := OpenBundle(testdata(t, "bundle.age"), ids...)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := got.marshal(); err != nil || !bytes.Equal(again, plain) {
		t.Errorf("reads as another bundle (%v)", err)
	}
}

func TestBundle(t *testing.T) {
	b := newBundle(t)
	one, two, third := newIdentity(t), newIdentity(t), newIdentity(t)
	var sealed bytes.Buffer
	if err := b.Seal(&sealed, one.Recipient(), two.Recipient()); err != nil {
		t.Fatal(err)
	}
	if form, err := Detect(sealed.Bytes()); form != Age {
		t.Errorf("looks like %s (%v)", form, err)
	}
	if bytes.Contains(sealed.Bytes(), []byte(base64.StdEncoding.EncodeToString(b.Keys[1].Secret[4:40])[:40])) {
		t.Error("a key shows")
	}
	for _, id := range []age.Identity{one, two} {
		got, err := OpenBundle(sealed.Bytes(), third, id)
		if err != nil {
			t.Fatal(err)
		}
		if got.Domain != b.Domain || got.SID != b.SID || !got.Exported.Equal(b.Exported.Truncate(time.Second)) || len(got.Keys) != 2 {
			t.Fatalf("%+v", got)
		}
		for i, k := range got.Keys {
			if want := b.Keys[i]; k.GUID != want.GUID || k.Kind != want.Kind || k.Current != want.Current || !k.Created.Equal(want.Created) || !bytes.Equal(k.Secret, want.Secret) {
				t.Errorf("key %d differs", i)
			}
		}
	}
	if _, err := OpenBundle(sealed.Bytes(), third); !errors.Is(err, ErrIdentity) {
		t.Errorf("another identity: %v", err)
	}
	for i := 0; i < sealed.Len(); i += 37 {
		damaged := bytes.Clone(sealed.Bytes())
		damaged[i] ^= 1
		if got, err := OpenBundle(damaged, one); err == nil {
			t.Fatalf("octet %d: %v", i, got)
		}
	}
	if _, err := OpenBundle(sealed.Bytes()[:sealed.Len()/2], one); !errors.Is(err, ErrFormat) {
		t.Errorf("cut: %v", err)
	}
}

// The inner format has one way of being written.
func TestBundleIsStrict(t *testing.T) {
	plain, err := newBundle(t).marshal()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parseBundle(plain); err != nil {
		t.Fatal(err)
	}
	s := string(plain)
	for name, text := range map[string]string{
		"nothing":          "",
		"something else":   `{"hello":1}`,
		"a newer version":  strings.Replace(s, `"version":1`, `"version":2`, 1),
		"a field more":     strings.Replace(s, `"version":1`, `"version":1,"x":1`, 1),
		"a field twice":    strings.Replace(s, `"version":1`, `"version":1,"version":1`, 1),
		"upper case":       strings.Replace(s, `"version":1`, `"Version":1`, 1),
		"spaces":           strings.Replace(s, `"version":1`, `"version": 1`, 1),
		"no line end":      strings.TrimSuffix(s, "\n"),
		"text behind":      s + "x",
		"another kind":     strings.Replace(s, `"ServerWrap"`, `"ClientWrap"`, 1),
		"another GUID":     strings.Replace(s, pairKey(t).GUID.String(), "45cbf2fb-b468-471a-a374-3ca17b50cf3b", 1),
		"GUID upper case":  strings.Replace(s, "89ab", "89AB", 1),
		"time with a zone": strings.Replace(s, `12:34:56Z`, `13:34:56+01:00`, 1),
		"a fraction":       strings.Replace(s, `03:04:05Z`, `03:04:05.5Z`, 1),
		"no keys":          s[:strings.Index(s, `"keys"`)] + `"keys":[]}` + "\n",
		"null":             s[:strings.Index(s, `"keys"`)] + `"keys":[null]}` + "\n",
	} {
		if text == s {
			t.Fatalf("%s: nothing was changed", name)
		}
		if _, err := parseBundle([]byte(text)); !errors.Is(err, ErrFormat) && !errors.Is(err, ErrOtherKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, alter := range map[string]func(*Bundle){
		"no keys": func(b *Bundle) { b.Keys = nil },
		"twice":   func(b *Bundle) { b.Keys = append(b.Keys, b.Keys[1]) },
		"two current": func(b *Bundle) {
			k := serverKey(t)
			k.GUID[0]++
			k.Current, b.Keys[1].Current = true, true
			b.Keys = append(b.Keys, k)
		},
		"damaged": func(b *Bundle) { b.Keys[0].Secret[40] ^= 1 },
	} {
		b := newBundle(t)
		alter(b)
		if err := b.Seal(&bytes.Buffer{}, newIdentity(t).Recipient()); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestKeyIsRedacted(t *testing.T) {
	k := serverKey(t)
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "key", k)
	all := fmt.Sprintf("%v %+v %#v %s %x %v", k, k, k, k, k, []*Key{k}) + log.String()
	for _, secret := range []string{fmt.Sprintf("%x", k.Secret[4:10]), strings.Trim(fmt.Sprint(k.Secret[4:8]), "[]"), base64.StdEncoding.EncodeToString(k.Secret[3:9])} {
		if strings.Contains(all, secret) {
			t.Errorf("%s shows in %s", secret, all)
		}
	}
	b, err := json.Marshal(k)
	if err != nil || !bytes.Contains(b, []byte(base64.StdEncoding.EncodeToString(k.Secret))) {
		t.Errorf("JSON lacks the secret (%v)", err)
	}
	k.Clear()
	if !allZero(k.Secret) {
		t.Error("not cleared")
	}
}

// Who knows a recipient can send a bundle of anything. Of a list of nothing little
// is made in memory.
func TestBundleOfNothing(t *testing.T) {
	plain := []byte(`{"format":"bkrp-keys","version":1,"keys":[` + strings.Repeat("{},", 1<<20) + `{}]}`)
	var err error
	allocs := testing.AllocsPerRun(1, func() { _, err = parseBundle(plain) })
	if !errors.Is(err, ErrFormat) || allocs > 100 {
		t.Errorf("%v, %v allocations", err, allocs)
	}
}

// What a bundle becomes is known before it is written: no file is made that would
// not be read.
func TestSealedSize(t *testing.T) {
	id := newIdentity(t)
	for _, n := range []int{0, 1, 47, 48, 1 << 16, 1<<16 + 1, 5<<20 - 1} {
		var file bytes.Buffer
		text := armor.NewWriter(&file)
		w, err := age.Encrypt(text, id.Recipient(), id.Recipient())
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.Write(make([]byte, n))
		if err := errors.Join(err, w.Close(), text.Close()); err != nil {
			t.Fatal(err)
		}
		if got, most := file.Len(), sealedSize(n); got > most || most > got+got/100+100<<10 {
			t.Errorf("%d octets become %d, said to be %d", n, got, most)
		}
	}
}
