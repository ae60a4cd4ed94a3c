package smb2

import (
	"bytes"
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"github.com/seed05845750/bkrp/internal/smb2/wire"
)

// vectors reads a sample of testdata: names and octets.
func vectors(t testing.TB, name string) map[string][]byte {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name + ".txt")
	if err != nil {
		t.Fatal(err)
	}
	v := make(map[string][]byte)
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if v[key], err = hex.DecodeString(value); err != nil || len(v[key]) == 0 {
			t.Fatalf("%s: %q: %v", name, key, err)
		}
	}
	return v
}

// TestPreauthVector is the sample that Microsoft published for 3.1.1.
func TestPreauthVector(t *testing.T) {
	v := vectors(t, "preauth-311")
	var p preauthHash
	for i, name := range []string{"negotiate-request", "negotiate-response",
		"session-setup-request-1", "session-setup-response-1", "session-setup-request-2"} {
		p.add(v[name])
		if want := v["hash-"+string(rune('1'+i))]; !bytes.Equal(p[:], want) {
			t.Fatalf("hash after %s is %x, want %x", name, p, want)
		}
	}
	keys := deriveKeys(Dialect311, wire.AES128GCM, v["session-key"], &p)
	if !bytes.Equal(keys.signing, v["signing-key"]) {
		t.Errorf("signing key is %x, want %x", keys.signing, v["signing-key"])
	}
}

// TestEncryptionVectors are the samples that Microsoft published for 3.0 (CCM)
// and 3.1.1 (GCM): keys, and a request and a response encrypted by Windows.
func TestEncryptionVectors(t *testing.T) {
	for name, x := range map[string]struct {
		dialect Dialect
		cipher  wire.Cipher
	}{
		"encryption-300": {Dialect300, wire.AES128CCM},
		"encryption-311": {Dialect311, wire.AES128GCM},
	} {
		t.Run(name, func(t *testing.T) {
			v := vectors(t, name)
			var p preauthHash
			copy(p[:], v["hash"])
			keys := deriveKeys(x.dialect, x.cipher, v["session-key"], &p)
			if !bytes.Equal(keys.decryption, v["client-key"]) || !bytes.Equal(keys.encryption, v["server-key"]) {
				t.Fatalf("keys %x, %x; want %x, %x", keys.decryption, keys.encryption, v["client-key"], v["server-key"])
			}
			for direction, key := range map[string][]byte{"request": keys.decryption, "response": keys.encryption} {
				s, err := newSealer(x.cipher, key)
				if err != nil {
					t.Fatal(err)
				}
				sealed := bytes.Clone(v[direction+"-encrypted"])
				tr, _, err := wire.ParseTransform(sealed)
				if err != nil {
					t.Fatal(err)
				}
				text, err := s.open(sealed, &tr)
				if err != nil || !bytes.Equal(text, v[direction]) {
					t.Errorf("%s: %x, %v", direction, text, err)
				}
				// The same nonce gives the same octets when sealing.
				want := v[direction+"-encrypted"]
				again := s.aead.Seal(nil, tr.Nonce[:s.aead.NonceSize()], v[direction], want[wire.TransformSignedFrom:wire.TransformSize])
				if !bytes.Equal(again[:len(text)], want[wire.TransformSize:]) || !bytes.Equal(again[len(text):], want[4:20]) {
					t.Errorf("%s: sealed to %x", direction, again)
				}
				for i := range want {
					if i >= 36 && i < 52 || i < 4 || i >= 20+s.aead.NonceSize() && i < 36 {
						continue // the parser's to check
					}
					bad := bytes.Clone(want)
					bad[i] ^= 0x40
					tr, _, err := wire.ParseTransform(bad)
					if err != nil {
						t.Fatal(err)
					}
					if _, err := s.open(bad, &tr); err == nil {
						t.Fatalf("%s: a change of octet %d was not seen", direction, i)
					}
				}
			}
		})
	}
}

// TestCMAC has the vectors of RFC 4493 4.
func TestCMAC(t *testing.T) {
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	m := unhex("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51" +
		"30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710")
	c, err := newCMAC(unhex("2b7e151628aed2a6abf7158809cf4f3c"))
	if err != nil {
		t.Fatal(err)
	}
	if hex.EncodeToString(c.k1[:]) != "fbeed618357133667c85e08f7236a8de" || hex.EncodeToString(c.k2[:]) != "f7ddac306ae266ccf90bc11ee46d513b" {
		t.Errorf("subkeys %x, %x", c.k1, c.k2)
	}
	for n, want := range map[int]string{
		0: "bb1d6929e95937287fa37d129b756746", 16: "070a16b46b4d4144f79bdd9dd04a287c",
		40: "dfa66747de9ae63030ca32611497c827", 64: "51f0bebf7e3b9d92fc49741779363cfe",
	} {
		if got := hex.EncodeToString(c.sum(m[:n])); got != want {
			t.Errorf("%d octets: %s, want %s", n, got, want)
		}
		if n >= 16 {
			if got := hex.EncodeToString(c.sum(m[:16], m[16:n])); n > 16 && got != want {
				t.Errorf("%d octets in two parts: %s, want %s", n, got, want)
			}
		}
	}
}

// TestNoAllocations holds what each request costs at least.
func TestNoAllocations(t *testing.T) {
	msg := (&wire.Header{Command: wire.Ioctl, Flags: wire.FlagSigned}).Append(nil)
	msg = append(msg, make([]byte, 400)...)
	for _, a := range []wire.SigningAlgorithm{wire.HMACSHA256, wire.AESCMAC, wire.AESGMAC} {
		s, err := newSigner(Dialect311, a, make([]byte, 16))
		if err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(100, func() {
			sign(s, msg)
			if !verify(s, msg) {
				t.Error("it does not verify")
			}
		}); n > 0 {
			t.Errorf("signing with algorithm %d allocates %v times", a, n)
		}
	}
	for _, c := range ciphers {
		size := 16
		if c == wire.AES256CCM || c == wire.AES256GCM {
			size = 32
		}
		s, err := newSealer(c, make([]byte, size))
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 600, 700)
		if n := testing.AllocsPerRun(100, func() {
			s.seal(b, 1)
			tr, _, err := wire.ParseTransform(b)
			if err == nil {
				_, err = s.open(b, &tr)
			}
			if err != nil {
				t.Error(err)
			}
		}); n > 0 {
			t.Errorf("cipher %d allocates %v times", c, n)
		}
	}
}

// TestWindow holds the window against a plain model of it.
func TestWindow(t *testing.T) {
	w := newWindow(8)
	granted := uint64(1)
	used := map[uint64]bool{}
	seed := uint64(1)
	for range 20000 {
		seed = seed*6364136223846793005 + 1442695040888963407
		id, charge := w.low+(seed>>33)%20-2, uint16(1+(seed>>60)%3)
		want := id+uint64(charge) <= granted && id+uint64(charge) > id
		for i := id; want && i < id+uint64(charge); i++ {
			want = !used[i]
		}
		if got := w.take(id, charge); got != want {
			t.Fatalf("take(%d, %d) = %v with %d granted", id, charge, got, granted)
		}
		if want {
			for i := id; i < id+uint64(charge); i++ {
				used[i] = true
			}
		}
		granted += uint64(w.grant(uint16(seed>>50)%5, 8))
		held := granted - uint64(len(used))
		if held > 8 || w.available != held || w.high != granted {
			t.Fatalf("%d credits are held, the window says %d", held, w.available)
		}
		if w.low > 0 && !used[w.low-1] || used[w.low] {
			t.Fatalf("low is %d", w.low)
		}
		if held == 0 && w.high-w.low == 16 {
			return // stuck behind a hole, as it should be
		}
	}
}

// TestSealersOfOneKey has two sessions come to the same key, as those of a client
// do in SMB 3.0 that has no key of its own for each and goes by its ticket's: no
// nonce is used by both, or what they encrypt would show its difference.
func TestSealersOfOneKey(t *testing.T) {
	for _, cipher := range ciphers {
		keys := deriveKeys(Dialect311, cipher, bytes.Repeat([]byte{7}, 32), new(preauthHash))
		seen := make(map[[16]byte]bool)
		for range 2 {
			s, err := newSealer(cipher, keys.encryption)
			if err != nil {
				t.Fatal(err)
			}
			for range 100 {
				msg := make([]byte, wire.TransformSize+8, wire.TransformSize+8+16)
				s.seal(msg, 1)
				tr, _, err := wire.ParseTransform(msg)
				if err != nil {
					t.Fatal(err)
				}
				if seen[tr.Nonce] {
					t.Fatalf("cipher %d: the nonce %x twice", cipher, tr.Nonce)
				}
				seen[tr.Nonce] = true
				if rest := tr.Nonce[s.aead.NonceSize():]; !bytes.Equal(rest, make([]byte, len(rest))) {
					t.Errorf("cipher %d: %x behind the nonce", cipher, rest)
				}
			}
		}
	}
}
