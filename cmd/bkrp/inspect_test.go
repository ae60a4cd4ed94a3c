package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"filippo.io/age/armor"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/keyform"
)

// object is a report as a program reads it.
type object struct {
	Kind    string
	Section string
	Size    int
	Fields  map[string]any
}

func (o *object) sub(t *testing.T, key string) *object {
	t.Helper()
	b, err := json.Marshal(o.Fields[key])
	if err != nil {
		t.Fatal(err)
	}
	s := new(object)
	if err := json.Unmarshal(b, s); err != nil || s.Kind == "" {
		t.Fatalf("%s is no report: %s", key, b)
	}
	return s
}

func inspected(t *testing.T, data []byte) (*object, string) {
	t.Helper()
	r, err := inspect(data)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	o := new(object)
	if err := json.Unmarshal(b, o); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	if o.Size == 0 || len(o.Fields) == 0 {
		t.Errorf("report %s", b)
	}
	return o, reportText(t, r) + string(b)
}

// reportText is the report for people.
func reportText(t *testing.T, r *report) string {
	t.Helper()
	var b strings.Builder
	if err := r.print(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestInspectWindowsFiles looks at each file of the recorded data of real
// domains: none may be unknown.
func TestInspectWindowsFiles(t *testing.T) {
	root := filepath.Join("..", "..", "..", "shared", "vectors")
	if _, err := os.Stat(root); err != nil {
		t.Skipf("no recorded data of real domains: %v", err)
	}
	const domainKey = "efe756ec-f87c-493a-902f-259030203445"
	want := map[string]struct{ kind, key, value string }{
		"cert.der":                       {"certificate", "guid", domainKey},
		"client_side_wrapped_secret.bin": {"client-wrapped-secret", "key", ""},
		"lsa_secret_BCKUPKEY_585c52d5-1778-4d43-9d7b-c22b4f7e5fa4_serverwrap.bin": {"server-key", "", ""},
		"lsa_secret_BCKUPKEY_P.bin":                                    {"key-pointer", "guid", "585c52d5-1778-4d43-9d7b-c22b4f7e5fa4"},
		"lsa_secret_BCKUPKEY_PREFERRED.bin":                            {"key-pointer", "secret_name", "G$BCKUPKEY_" + domainKey},
		"lsa_secret_BCKUPKEY_efe756ec-f87c-493a-902f-259030203445.bin": {"key-pair", "guid", domainKey},
		"masterkey_7fc19508-7b85-4a7c-9e5d-15f9e00e7ce5.mkf":           {"master-key-file", "guid", "7fc19508-7b85-4a7c-9e5d-15f9e00e7ce5"},
		"roamed_credential_masterkey.bin":                              {"roamed-credential", "name", "7fc19508-7b85-4a7c-9e5d-15f9e00e7ce5"},
		"masterkey.mkf":                                                {"master-key-file", "guid", "ab998260-e99d-4871-8f4b-d922b2848ce6"},
		"backupkey_45cbf2fb-b468-471a-a374-3ca17b50cf3b.pvk":           {"pvk", "", ""},
		"expected_secret.bin":                                          {"bare-secret", "", ""},
	}
	files, err := filepath.Glob(filepath.Join(root, "*", "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s holds nothing (%v)", root, err)
	}
	for _, name := range files {
		base := filepath.Base(name)
		if base == "README" {
			continue
		}
		t.Run(base, func(t *testing.T) {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			w, ok := want[base]
			if !ok {
				t.Fatal("the test does not know this file")
			}
			o, all := inspected(t, data)
			if o.Kind != w.kind || w.value != "" && o.Fields[w.key] != w.value {
				t.Errorf("got %s, %v", o.Kind, o.Fields)
			}
			noSecrets(t, data, all)
		})
	}
}

// noSecrets fails if a run of the file's octets stands in the output, in
// hexadecimal of either order, other than what is public by its nature.
func noSecrets(t *testing.T, data []byte, out string) {
	t.Helper()
	const run = 20 // longer than a GUID or a serial number
	for i := 0; i+run <= len(data); i++ {
		piece := data[i : i+run]
		if len(bytes.Trim(piece, "\x00")) == 0 {
			continue
		}
		if strings.Contains(out, hex.EncodeToString(piece)) {
			t.Fatalf("octets %d to %d of the file are shown", i, i+run)
		}
	}
}

func TestInspectOurs(t *testing.T) {
	pair, err := bkrp.GenerateKeyPair("bkrp.example", time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	serverKey := bkrp.GenerateServerKey()
	sid := dtyp.MustParseSID("S-1-5-21-1-2-3-1103")
	client, err := bkrp.WrapClient(pair.Certificate(), sid, []byte("a secret"), 3)
	if err != nil {
		t.Fatal(err)
	}
	derive := func(salt []byte) [20]byte { return serverKey.Derive(bkrp.SrvKeyFull, salt) }
	server, err := bkrp.WrapServer(derive, dtyp.GUID{1}, sid, bytes.Repeat([]byte{1}, 300))
	if err != nil {
		t.Fatal(err)
	}
	short, err := bkrp.WrapServer(derive, dtyp.GUID{1}, sid, make([]byte, bkrp.ServerKeySize-96-52-28))
	if err != nil || len(short) != bkrp.ServerKeySize {
		t.Fatalf("%d octets, %v", len(short), err)
	}
	stored, _ := pair.AppendBinary(nil)
	storedKey, _ := serverKey.AppendBinary(nil)
	guid := pair.GUID()
	pemKey, armored, binary := exported(t, stored)
	asPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate().Raw})
	for _, tt := range []struct {
		kind  string
		data  []byte
		key   string
		value any
	}{
		{"client-wrapped-secret", client, "key", guid.String()},
		{"client-wrapped-secret", client, "secret_limit", 181.0},
		{"server-wrapped-secret", server, "secret_length", 300.0},
		{"server-wrapped-secret", server, "consistent", true},
		{"server-wrapped-secret", short, "secret_length", 84.0},
		{"key-pair", stored, "guid", guid.String()},
		{"key-pair", stored, "consistent", true},
		{"key-pair", stored, "modulus_sha256", fingerprint(pair.PublicKey().N.Bytes())},
		{"server-key", storedKey, "key_length", 256.0},
		{"key-pointer", guid[:], "guid", guid.String()},
		{"certificate", pair.Certificate().Raw, "subject", "bkrp.example"},
		{"certificate", pair.Certificate().Raw, "not_after", "2027-01-02T03:04:05Z"},
		{"certificate", asPEM, "self_signed", true},
		{"pvk", pair.AppendPVK(nil), "modulus_sha256", fingerprint(pair.PublicKey().N.Bytes())},
		{"pem-key", pemKey, "guid", guid.String()},
		{"pem-key", pemKey[:bytes.Index(pemKey, []byte("-----BEGIN CERT"))], "modulus_sha256", fingerprint(pair.PublicKey().N.Bytes())},
		{"age-file", armored, "recipients", 2.0},
		{"age-file", armored, "armored", true},
		{"age-file", binary, "armored", false},
		{"bare-secret", bytes.Repeat([]byte{0, 1, 2, 3}, 16), "data_length", 64.0},
	} {
		t.Run(tt.kind+"/"+tt.key, func(t *testing.T) {
			o, all := inspected(t, tt.data)
			if o.Kind != tt.kind || o.Fields[tt.key] != tt.value {
				t.Errorf("got %s, %v", o.Kind, o.Fields)
			}
			if tt.kind != "certificate" {
				noSecrets(t, tt.data, all)
			}
		})
	}
	o, _ := inspected(t, stored)
	if c := o.sub(t, "certificate"); c.Kind != "certificate" || c.Fields["serial_matches"] != true {
		t.Errorf("certificate of the pair: %v", c)
	}
}

// exported is a key pair as bkrpd exports it: in PEM, and encrypted to two
// recipients, in armor and without.
func exported(t *testing.T, stored []byte) (inPEM, armored, binary []byte) {
	t.Helper()
	key, err := keyform.New(dtyp.GUID{}, stored)
	if err != nil {
		t.Fatal(err)
	}
	if inPEM, err = key.Marshal(keyform.PEM); err != nil {
		t.Fatal(err)
	}
	var recipients []age.Recipient
	for range 2 {
		identity, err := age.GenerateX25519Identity()
		if err != nil {
			t.Fatal(err)
		}
		recipients = append(recipients, identity.Recipient())
	}
	var b bytes.Buffer
	bundle := &keyform.Bundle{Domain: "bkrp.example", SID: dtyp.MustParseSID("S-1-5-21-1-2-3"), Keys: []*keyform.Key{key}}
	if err := bundle.Seal(&b, recipients...); err != nil {
		t.Fatal(err)
	}
	if binary, err = io.ReadAll(armor.NewReader(bytes.NewReader(b.Bytes()))); err != nil {
		t.Fatal(err)
	}
	return inPEM, b.Bytes(), binary
}

func TestInspectRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		data string
		want error // nil for a file of no known kind
	}{
		"empty":                   {"", nil},
		"text":                    {"hello, world\n", nil},
		"first word 78":           {"\x4e\x00\x00\x00 and so on", nil},
		"ClientWrap cut short":    {"\x02\x00\x00\x00\x00\x01\x00\x00\x58\x00\x00\x00", bkrp.ErrFormat},
		"ServerWrap cut short":    {"\x01\x00\x00\x00\x00\x01\x00\x00\x58\x00\x00\x00", bkrp.ErrFormat},
		"key pair cut short":      {"\x02\x00\x00\x00\x94\x04\x00\x00\x58\x00\x00\x00", bkrp.ErrKeyFormat},
		"PVK cut short":           {"\x1e\xf1\xb5\xb0\x00\x00\x00\x00", bkrp.ErrKeyFormat},
		"certificate cut short":   {"\x30\x82\x02\xe8\x30\x82", bkrp.ErrCertificate},
		"PEM of something else":   {"-----BEGIN X-----\nAAAA\n-----END X-----\n", nil},
		"PEM with no private key": {"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", keyform.ErrFormat},
		"age cut short":           {"age-encryption.org/v1\n-> X25519 AAAA\n", nil},
		"age to nobody":           {"age-encryption.org/v1\n--- AAAA\n", nil},
		"age armor of something":  {"-----BEGIN AGE ENCRYPTED FILE-----\nAAAA\n-----END AGE ENCRYPTED FILE-----\n", nil},
		"64 characters":           {strings.Repeat("six ", 16), nil},
		"PEM with no certificate": {"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", nil},
	} {
		r, err := inspect([]byte(tt.data))
		if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, %v", name, r, err)
		}
		if errors.Is(err, errUnknown) {
			t.Errorf("%s: the answer is the bare %v", name, err)
		}
	}
}

func TestInspectCommand(t *testing.T) {
	var out bytes.Buffer
	cmd := newInspectCommand(bytes.NewReader(make([]byte, 16)), &out)
	cmd.SetArgs([]string{"-"})
	if err := cmd.Execute(); err != nil {
		t.Fatal(err)
	}
	if want := "pointer to a domain's current key, 16 octets ([MS-BKRP] 3.1.4.1.1, 3.1.4.1.3)\n"; !strings.HasPrefix(out.String(), want) {
		t.Errorf("got %q", out.String())
	}
	out.Reset()
	name := filepath.Join(t.TempDir(), "pointer")
	if err := os.WriteFile(name, make([]byte, 16), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd = newInspectCommand(nil, &out)
	cmd.SetArgs([]string{"--json", name})
	if err := cmd.Execute(); err != nil || !json.Valid(out.Bytes()) {
		t.Errorf("%v: %q", err, out.String())
	}
}

func FuzzInspect(f *testing.F) {
	files, _ := filepath.Glob(filepath.Join("..", "..", "..", "shared", "vectors", "*", "*"))
	bundles, _ := filepath.Glob(filepath.Join("..", "..", "internal", "keyform", "testdata", "*.*"))
	for _, name := range append(files, bundles...) {
		if b, err := os.ReadFile(name); err == nil {
			f.Add(b)
		}
	}
	f.Add(make([]byte, 16))
	f.Add([]byte("age-encryption.org/v1\n-> X25519 AAAA\nBBBB\n-> scrypt CC 18\nDDDD\n--- EEEE\nFFFF"))
	f.Add([]byte("-----BEGIN RSA PRIVATE KEY-----\nMAA=\n-----END RSA PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := inspect(b)
		if err != nil {
			return
		}
		out, err := json.Marshal(r)
		if err != nil || !json.Valid(out) {
			t.Errorf("%v: %s", err, out)
		}
		if text := reportText(t, r); strings.ContainsFunc(text, func(c rune) bool { return c < ' ' && c != '\n' || c == 0x7f }) {
			t.Errorf("control characters in %q", text)
		}
	})
}
