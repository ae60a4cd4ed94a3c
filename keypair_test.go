package bkrp

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
)

func TestIssuedCertificate(t *testing.T) {
	key := generated(t)
	c := key.Certificate()
	x, err := x509.ParseCertificate(c.Raw)
	if err != nil {
		t.Fatalf("W-2.2.1-01: crypto/x509 does not read it: %v", err)
	}
	if x.PublicKeyAlgorithm != x509.RSA || key.PublicKey().N.BitLen() != 2048 || !key.PublicKey().Equal(x.PublicKey) {
		t.Errorf("W-2.2.1-02, -03: %v, %d bits", x.PublicKeyAlgorithm, key.PublicKey().N.BitLen())
	}
	ids := x.RawTBSCertificate[len(x.RawTBSCertificate)-38:]
	want := append([]byte{0x81, 17, 0}, c.GUID[:]...)
	want = append(append(want, 0x82, 17, 0), c.GUID[:]...)
	if !bytes.Equal(ids, want) {
		t.Errorf("W-2.2.1-04, -05, -11: unique identifiers are % x", ids)
	}
	if x.Subject.CommonName != "bkrp.example" || x.Issuer.CommonName != "bkrp.example" {
		t.Errorf("W-2.2.1-06, A-31: %v, %v", x.Subject, x.Issuer)
	}
	if x.Version != 3 || c.Version != 2 {
		t.Errorf("W-2.2.1-07: version %d", x.Version)
	}
	if x.SerialNumber.Sign() != 1 || len(c.Serial) != 16 || !bytes.Equal(x.SerialNumber.Bytes(), reversed(c.GUID[:])) {
		t.Errorf("W-2.2.1-08, A-27: serial %x of key %v", x.SerialNumber, c.GUID)
	}
	if !x.NotBefore.Equal(time.Date(2024, 2, 29, 12, 34, 56, 0, time.UTC)) || !x.NotBefore.Equal(c.NotBefore) {
		t.Errorf("W-2.2.1-09: %v", x.NotBefore)
	}
	if x.NotAfter.Sub(x.NotBefore) != 31536000*time.Second || !x.NotAfter.Equal(c.NotAfter) {
		t.Errorf("W-2.2.1-10: %v", x.NotAfter)
	}
	if x.SignatureAlgorithm != x509.SHA256WithRSA {
		t.Errorf("A-29: %v", x.SignatureAlgorithm)
	}
	if err := x.CheckSignature(x.SignatureAlgorithm, x.RawTBSCertificate, x.Signature); err != nil {
		t.Errorf("W-2.2.1-12: %v", err)
	}
	if err := c.CheckSignature(); err != nil || !c.SerialIsGUID() {
		t.Errorf("W-2.2.1-08, -12: %v", err)
	}
}

func TestIssuedCertificateByOpenSSL(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	dir := t.TempDir()
	der, pem := filepath.Join(dir, "c.der"), filepath.Join(dir, "c.pem")
	if err := os.WriteFile(der, generated(t).Certificate().Raw, 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(arg ...string) string {
		out, err := exec.Command(openssl, arg...).CombinedOutput()
		if err != nil {
			t.Fatalf("openssl %v: %v\n%s", arg, err, out)
		}
		return string(out)
	}
	run("x509", "-inform", "der", "-in", der, "-out", pem)
	out := run("verify", "-check_ss_sig", "-attime", "1709300000", "-CAfile", pem, pem)
	if !strings.Contains(out, ": OK") {
		t.Errorf("W-2.2.1-12: %s", out)
	}
	text := run("x509", "-in", pem, "-noout", "-text")
	for _, want := range []string{"Subject Unique ID", "Issuer Unique ID", "2048 bit", "CN = bkrp.example", "rsaEncryption"} {
		if !strings.Contains(text, want) {
			t.Errorf("openssl does not show %q:\n%s", want, text)
		}
	}
}

// TestCertificateOfAnyGUID issues for GUIDs that GenerateKeyPair would not
// draw, as an import may bring them.
func TestCertificateOfAnyGUID(t *testing.T) {
	for _, last := range []byte{0x00, 0x01, 0x7f, 0x80, 0xff} {
		guid := dtyp.GUID{1, 2, 3, 15: last}
		der, err := issueCertificate(generated(t).key.public, generated(t).key.decrypt, guid, "any.example", time.Unix(1e9, 0))
		if err != nil {
			t.Fatal(err)
		}
		c, err := ParseCertificate(der)
		if err != nil {
			t.Fatalf("A-28: last octet %#x: %v", last, err)
		}
		if c.GUID != guid || !c.SerialIsGUID() || c.CheckSignature() != nil {
			t.Errorf("last octet %#x: %v, serial % x", last, c.GUID, c.Serial)
		}
	}
	for range 200 {
		if g := NewKeyGUID(); g[15] == 0 || g[15] > 0x7f || g[7]>>4 != 4 || g[8]>>6 != 2 {
			t.Fatalf("A-27, A-53: drew %v", g)
		}
	}
}

func TestCertificateNames(t *testing.T) {
	for in, want := range map[string]string{
		"BKRP.Example":               "bkrp.example",
		"bücher.example":             "bücher.example",
		strings.Repeat("a.", 60):     strings.Repeat("a.", 32),
		"under_score.example":        "under_score.example",
		"trailing-dot.example.":      "trailing-dot.example",
		"xn--bcher-kva.example.test": "xn--bcher-kva.example.test",
	} {
		der, err := issueCertificate(generated(t).key.public, generated(t).key.decrypt, dtyp.GUID{15: 1}, in, time.Date(2049, 6, 1, 0, 0, 0, 0, time.UTC))
		if err != nil {
			t.Fatal(err)
		}
		c, err := ParseCertificate(der)
		if err != nil || c.Subject != want || c.NotAfter.Year() != 2050 {
			t.Errorf("%q: %v, %v", in, c, err)
		}
		if x, err := x509.ParseCertificate(der); err != nil || x.Subject.CommonName != want || x.NotAfter.Year() != 2050 {
			t.Errorf("%q: crypto/x509: %v", in, err)
		}
	}
	for _, bad := range []string{"", ".", "two words", "nul\x00", "\xff\xfe"} {
		if _, err := GenerateKeyPair(bad, time.Unix(0, 0)); err == nil {
			t.Errorf("%q is a domain", bad)
		}
	}
}

func TestParseCertificateRefuses(t *testing.T) {
	good := generated(t).Certificate().Raw
	for n := range good {
		if _, err := ParseCertificate(good[:n]); !errors.Is(err, ErrCertificate) {
			t.Fatalf("C-3.2.4.1-04: cut to %d octets: %v", n, err)
		}
	}
	if _, err := ParseCertificate(append(bytes.Clone(good), 0)); !errors.Is(err, ErrCertificate) {
		t.Errorf("an octet follows: %v", err)
	}
	replace := func(old, new string) []byte {
		if bytes.Count(good, []byte(old)) != 1 {
			t.Fatalf("% x does not occur once", old)
		}
		return bytes.Replace(good, []byte(old), []byte(new), 1)
	}
	guid := string(generated(t).certificate.GUID[:])
	for _, tt := range []struct {
		name string
		b    []byte
	}{
		{"W-2.2.1-04 no subjectUniqueID", replace("\x82\x11\x00"+guid, "\xa3\x11\x00"+guid)},
		{"W-2.2.1-05 unused bits", replace("\x82\x11\x00"+guid, "\x82\x11\x01"+guid)},
		{"W-2.2.1-03 other algorithm", replace("\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01", "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x07")},
		{"W-2.2.1-02 even exponent", replace("\x02\x03\x01\x00\x01\x81", "\x02\x03\x01\x00\x02\x81")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if c, err := ParseCertificate(tt.b); !errors.Is(err, ErrCertificate) || c != nil {
				t.Errorf("got %v, %v", c, err)
			}
		})
	}
	broken := bytes.Clone(good)
	broken[len(broken)-1] ^= 1
	c, err := ParseCertificate(broken)
	if err != nil {
		t.Fatalf("A-29: a wrong signature is not the parser's business: %v", err)
	}
	if err := c.CheckSignature(); !errors.Is(err, ErrCertificate) {
		t.Errorf("W-2.2.1-12: a wrong signature: %v", err)
	}
}

func TestKeyPairAltered(t *testing.T) {
	key := generated(t)
	good, err := key.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseKeyPair(good)
	if err != nil {
		t.Fatal(err)
	}
	if again.GUID() != key.GUID() || *again.RejectionKey() != *key.RejectionKey() || !again.CRT() {
		t.Error("A-57: the parsed pair is another one")
	}
	for _, tt := range []struct {
		id         string
		at         int
		serves     bool // without the theorem's numbers
		wantParsed error
	}{
		{"W-2.2.5-02 version", 0, false, ErrKeyFormat},
		{"W-2.2.5-02 key length", 4, false, ErrKeyFormat},
		{"W-2.2.5-03", 8, false, ErrKeyFormat},
		{"W-2.2.5-02 BLOBHEADER", 12, false, ErrKeyFormat},
		{"W-2.2.5-02 algorithm", 17, false, ErrKeyFormat},
		{"W-2.2.5-02 magic", 20, false, ErrKeyFormat},
		{"W-2.2.5-02 bits", 25, false, ErrKeyFormat},
		{"W-2.2.5-04", 28, false, ErrKeyFormat},
		{"W-2.2.5-05 low octet", 32, false, ErrKeyFormat},
		{"W-2.2.5-05", 100, false, ErrKeyFormat},
		{"W-2.2.5-05 high octet", 287, false, ErrKeyFormat},
		{"W-2.2.5-06", 300, true, nil},
		{"W-2.2.5-07", 430, true, nil},
		{"W-2.2.5-08", 560, true, nil},
		{"W-2.2.5-09", 690, true, nil},
		{"W-2.2.5-10", 820, true, nil},
		{"W-2.2.5-11", 930, false, ErrKeyFormat},
		{"W-2.2.5-12 certificate's key", 1184 + 400, false, ErrKeyFormat},
	} {
		t.Run(tt.id, func(t *testing.T) {
			b := bytes.Clone(good)
			b[tt.at] ^= 0x80
			k, err := ParseKeyPair(b)
			if !tt.serves {
				if !errors.Is(err, tt.wantParsed) || k != nil {
					t.Errorf("got %v, %v", k, err)
				}
				return
			}
			if err != nil || k.CRT() {
				t.Fatalf("A-35: %v", err)
			}
			if b2, _ := k.AppendBinary(nil); !bytes.Equal(b2, b) {
				t.Error("AppendBinary differs from what was parsed")
			}
			opens(t, k)
		})
	}
	for n := 0; n < len(good); n += 7 {
		if _, err := ParseKeyPair(good[:n]); !errors.Is(err, ErrKeyFormat) {
			t.Fatalf("cut to %d octets: %v", n, err)
		}
	}
	if _, err := ParseKeyPair(append(bytes.Clone(good), 0)); !errors.Is(err, ErrKeyFormat) {
		t.Errorf("an octet follows: %v", err)
	}
	other, err := GenerateKeyPair("other.example", time.Unix(1e9, 0))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := newKeyPair(key.blob, other.certificate.Raw); !errors.Is(err, ErrKeyFormat) {
		t.Errorf("W-2.2.5-12: another key's certificate: %v", err)
	}
	other.Clear()
	if _, err := other.DecryptRaw(make([]byte, modulusSize)); err == nil && other.key.d[0] != 0 {
		t.Error("Clear leaves the private exponent")
	}
}

// opens wraps a secret and opens it with k.
func opens(t *testing.T, k *KeyPair) {
	t.Helper()
	blob, err := WrapClient(k.Certificate(), testSID, []byte("secret"), 2)
	if err != nil {
		t.Fatal(err)
	}
	w, err := ParseClientWrapped(blob)
	if err != nil {
		t.Fatal(err)
	}
	if s, err := w.Open(k.DecryptRaw, k.RejectionKey()); err != nil || string(s.Secret) != "secret" {
		t.Errorf("got %v, %v", s, err)
	}
}

// TestFaultIsCaught breaks one half of the computation: without the check, the
// wrong result would give a prime away.
func TestFaultIsCaught(t *testing.T) {
	good, _ := generated(t).AppendBinary(nil)
	k, err := ParseKeyPair(good)
	if err != nil {
		t.Fatal(err)
	}
	k.key.crt.dP[40] ^= 1
	c := bytes.Repeat([]byte{0x21}, modulusSize)
	if m, err := k.DecryptRaw(c); err != errFault || m != nil {
		t.Errorf("got %d octets, %v", len(m), err)
	}
}

// DecryptRaw agrees with plain arithmetic, also where a half of the ciphertext
// is above a prime, or the whole a multiple of one.
func TestDecryptRawArithmetic(t *testing.T) {
	for range 4 {
		k, err := GenerateKeyPair("example.com", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		b, err := k.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		numbers, err := parseRSABlob(b[12:1184])
		if err != nil {
			t.Fatal(err)
		}
		one := big.NewInt(1)
		half := new(big.Int).Lsh(one, 1024)
		low := new(big.Int).Sub(half, one) // the low half all ones
		inputs := []*big.Int{
			new(big.Int), one, new(big.Int).Sub(numbers.n, one), numbers.p, numbers.q, low, half,
			new(big.Int).Mul(numbers.p, big.NewInt(3)), new(big.Int).Sub(numbers.n, numbers.q),
			new(big.Int).Add(new(big.Int).Lsh(new(big.Int).Sub(numbers.p, one), 1023), low),
		}
		for range 50 {
			x, err := rand.Int(rand.Reader, numbers.n)
			if err != nil {
				t.Fatal(err)
			}
			inputs = append(inputs, x)
		}
		for _, x := range inputs {
			x.Mod(x, numbers.n)
			want := new(big.Int).Exp(x, numbers.d, numbers.n)
			got, err := k.DecryptRaw(x.FillBytes(make([]byte, modulusSize)))
			if err != nil || new(big.Int).SetBytes(got).Cmp(want) != 0 {
				t.Fatalf("%x: %v", x, err)
			}
		}
	}
}

func TestDecryptRawRange(t *testing.T) {
	k := generated(t)
	n := k.PublicKey().N.Bytes()
	for _, c := range [][]byte{nil, make([]byte, 255), make([]byte, 257), n, bytes.Repeat([]byte{0xff}, 256)} {
		if _, err := k.DecryptRaw(c); !errors.Is(err, ErrCiphertext) {
			t.Errorf("%d octets: %v", len(c), err)
		}
	}
	for _, last := range []byte{0, 1} {
		c := make([]byte, modulusSize)
		c[255] = last
		if m, err := k.DecryptRaw(c); err != nil || !bytes.Equal(m, c) {
			t.Errorf("%d is not its own root: %v", last, err)
		}
	}
}

// TestSignatureMessage compares the hand-made encoding with what crypto/x509
// accepted above, for the one property it does not show: its length.
func TestSignatureMessage(t *testing.T) {
	sum := sha256.Sum256(nil)
	em := signatureMessage(sum[:])
	if len(em) != modulusSize || !bytes.HasSuffix(em, sum[:]) || bytes.Count(em, []byte{0xff}) < 202 {
		t.Errorf("% x", em)
	}
}

func TestPVKRefuses(t *testing.T) {
	good := generated(t).AppendPVK(nil)
	if _, err := ParsePVK(good); err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{0, 4, 8, 12, 16, 20} {
		b := bytes.Clone(good)
		b[at] ^= 1
		if _, err := ParsePVK(b); !errors.Is(err, ErrKeyFormat) {
			t.Errorf("word at %d altered: %v", at, err)
		}
	}
	for _, b := range [][]byte{nil, good[:23], good[:len(good)-1], append(bytes.Clone(good), 0)} {
		if _, err := ParsePVK(b); !errors.Is(err, ErrKeyFormat) {
			t.Errorf("%d octets: %v", len(b), err)
		}
	}
	b := bytes.Clone(good)
	b[24+920] ^= 1 // the private exponent
	if _, err := KeyPairFromPVK(b, dtyp.GUID{15: 1}, "x.example", time.Unix(1e9, 0)); !errors.Is(err, ErrKeyFormat) {
		t.Errorf("a wrong private exponent: %v", err)
	}
}

// TestKeysAreSharedByCallers is for the race detector: one key serves many
// callers at once.
func TestKeysAreSharedByCallers(t *testing.T) {
	pair, server := generated(t), GenerateServerKey()
	derive := func(salt []byte) [20]byte { return server.Derive(SrvKeyFull, salt) }
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			secret := bytes.Repeat([]byte{byte(i)}, 64)
			blob, err := WrapClient(pair.Certificate(), testSID, secret, 2+uint32(i%2))
			if err != nil {
				t.Error(err)
				return
			}
			w, err := ParseClientWrapped(blob)
			if err != nil {
				t.Error(err)
				return
			}
			if s, err := w.Open(pair.DecryptRaw, pair.RejectionKey()); err != nil || !bytes.Equal(s.Secret, secret) {
				t.Errorf("ClientWrap: %v, %v", s, err)
			}
			blob, err = WrapServer(derive, dtyp.GUID{1}, testSID, secret)
			if err != nil {
				t.Error(err)
				return
			}
			v, err := ParseServerWrapped(blob)
			if err != nil {
				t.Error(err)
				return
			}
			if _, got, err := v.Open(derive); err != nil || !bytes.Equal(got, secret) {
				t.Errorf("ServerWrap: %v", err)
			}
		})
	}
	wg.Wait()
}
