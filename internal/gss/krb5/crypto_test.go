package krb5

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"errors"
	"fmt"
	"testing"

	"github.com/oiweiwei/gokrb5.fork/v9/crypto"
	"github.com/oiweiwei/gokrb5.fork/v9/types"

	"github.com/seed05845750/bkrp/internal/gss"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// RFC 3961 A.1.
func TestFold(t *testing.T) {
	for _, tt := range []struct {
		in   string
		size int
		want string
	}{
		{"012345", 8, "be072631276b1955"},
		{"password", 7, "78a07b6caf85fa"},
		{"Rough Consensus, and Running Code", 8, "bb6ed30870b7f0e0"},
		{"password", 21, "59e4a8ca7c0385c3c37b3f6d2000247cb6e6bd5b3e"},
		{"MASSACHVSETTS INSTITVTE OF TECHNOLOGY", 24, "db3b0d8f0b061e603282b308a50841229ad798fab9540c1b"},
		{"Q", 21, "518a54a215a8452a518a54a215a8452a518a54a215"},
		{"ba", 21, "fb25d531ae8974499f52fd92ea9857c4ba24cf297e"},
		{"kerberos", 8, "6b65726265726f73"},
		{"kerberos", 16, "6b65726265726f737b9b5b2b93132b93"},
		{"kerberos", 21, "8372c236344e5f1550cd0747e15d62ca7a5a3bcea4"},
		{"kerberos", 32, "6b65726265726f737b9b5b2b93132b935c9bdcdad95c9899c4cae4dee6d6cae4"},
	} {
		if got := hex.EncodeToString(fold([]byte(tt.in), tt.size)); got != tt.want {
			t.Errorf("%q to %d octets: %s, want %s", tt.in, tt.size, got, tt.want)
		}
	}
}

// RFC 3962 B: CBC with ciphertext stealing.
func TestCTS(t *testing.T) {
	text := []byte("I would like the General Gau's Chicken, please, and wonton soup.")
	block, err := aes.NewCipher([]byte("chicken teriyaki"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := newCipher(Key{AES128SHA1, []byte("chicken teriyaki")}, 0)
	if err != nil {
		t.Fatal(err)
	}
	c.block = block
	c.enc, c.dec = modes(t, block)
	for _, want := range []string{
		"c6353568f2bf8cb4d8a580362da7ff7f97",
		"fc00783e0efdb2c1d445d4c8eff7ed2297687268d6ecccc0c07b25e25ecfe5",
		"39312523a78662d5be7fcbcc98ebf5a897687268d6ecccc0c07b25e25ecfe584",
		"97687268d6ecccc0c07b25e25ecfe584b3fffd940c16a18c1b5549d2f838029e39312523a78662d5be7fcbcc98ebf5",
		"97687268d6ecccc0c07b25e25ecfe5849dad8bbb96c4cdc03bc103e1a194bbd839312523a78662d5be7fcbcc98ebf5a8",
		"97687268d6ecccc0c07b25e25ecfe58439312523a78662d5be7fcbcc98ebf5a84807efe836ee89a526730dbc2f7bc8409dad8bbb96c4cdc03bc103e1a194bbd8",
	} {
		b := append([]byte(nil), text[:len(want)/2]...)
		c.encryptCTS(b)
		if hex.EncodeToString(b) != want {
			t.Errorf("%d octets: %x, want %s", len(b), b, want)
		}
		c.decryptCTS(b)
		if !bytes.Equal(b, text[:len(b)]) {
			t.Errorf("%d octets come back as %q", len(b), b)
		}
	}
}

// RFC 8009 A, key derivation.
func TestDeriveSHA2(t *testing.T) {
	for _, tt := range []struct {
		etype      EncType
		base       string
		kc, ke, ki string
	}{
		{AES128SHA2, "3705d96080c17728a0e800eab6e0d23c",
			"b31a018a48f54776f403e9a396325dc3", "9b197dd1e8c5609d6e67c3e37c62c72e", "9fda0e56ab2d85e1569a688696c26a6c"},
		{AES256SHA2, "6d404d37faf79f9df0d33568d320669800eb4836472ea8a026d16b7182460c52",
			"ef5718be86cc84963d8bbb5031e9f5c4ba41f28faf69e73d", "56ab22bee63d82d7bc5227f6773f8ea7a5eb1c825160c38312980c442e5c7e49", "69b16514e3cd8e56b82010d5c73012b622c4d00ffc23ed1f"},
	} {
		k := Key{tt.etype, unhex(t, tt.base)}
		p, _ := tt.etype.profile()
		for purpose, want := range map[byte]string{forChecksum: tt.kc, forEncryption: tt.ke, forIntegrity: tt.ki} {
			if got := hex.EncodeToString(derive(k, p, 2, purpose)); got != want {
				t.Errorf("%v, %x: %s, want %s", tt.etype, purpose, got, want)
			}
		}
	}
}

// What one implementation encrypts the other decrypts, and the checksums are
// the same.
func TestAgainstLibrary(t *testing.T) {
	for _, etype := range []EncType{AES128SHA1, AES256SHA1, AES128SHA2, AES256SHA2, RC4HMAC} {
		t.Run(etype.String(), func(t *testing.T) {
			k, err := newKey(etype)
			if err != nil {
				t.Fatal(err)
			}
			theirs := types.EncryptionKey{KeyType: int32(etype), KeyValue: k.Value}
			lib, err := crypto.GetEtype(int32(etype))
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range []int{0, 1, 15, 16, 17, 31, 32, 33, 100, 1000} {
				text := bytes.Repeat([]byte{byte(n)}, n)
				sealed, err := k.encrypt(usageTicket, text)
				if err != nil {
					t.Fatal(err)
				}
				got, err := crypto.DecryptMessage(sealed, theirs, usageTicket)
				if err != nil || !bytes.Equal(got, text) {
					t.Errorf("%d octets: the library opens %x, %v", n, got, err)
				}
				ed, err := crypto.GetEncryptedData(text, theirs, usageTicket, 1)
				if err != nil {
					t.Fatal(err)
				}
				if got, err := k.decrypt(usageTicket, ed.Cipher); err != nil || !bytes.Equal(got, text) {
					t.Errorf("%d octets: we open %x, %v", n, got, err)
				}
				if _, err := k.decrypt(usageTicket+1, ed.Cipher); !errors.Is(err, errDecrypt) {
					t.Errorf("another usage: %v", err)
				}
				ed.Cipher[n%len(ed.Cipher)] ^= 1
				if _, err := k.decrypt(usageTicket, ed.Cipher); !errors.Is(err, errDecrypt) {
					t.Errorf("one bit changed: %v", err)
				}
				sum, err := k.checksum(usagePAC, text)
				if err != nil {
					t.Fatal(err)
				}
				want, err := lib.GetChecksumHash(k.Value, text, usagePAC)
				if err != nil || !bytes.Equal(sum, want) {
					t.Errorf("%d octets: checksum %x, the library's %x, %v", n, sum, want, err)
				}
			}
			if lib.GetHashID() != k.checksumType() {
				t.Errorf("checksum of type %d, the library's %d", k.checksumType(), lib.GetHashID())
			}
		})
	}
}

func TestShortCiphertext(t *testing.T) {
	for _, etype := range []EncType{AES128SHA1, AES256SHA1, AES128SHA2, AES256SHA2, RC4HMAC} {
		k, err := newKey(etype)
		if err != nil {
			t.Fatal(err)
		}
		for n := range 64 {
			if _, err := k.decrypt(usageTicket, make([]byte, n)); !errors.Is(err, errDecrypt) {
				t.Errorf("%v, %d octets: %v", etype, n, err)
			}
		}
	}
}

func TestKeyCheck(t *testing.T) {
	for _, k := range []Key{{}, {Type: 3, Value: make([]byte, 8)}, {Type: AES256SHA1, Value: make([]byte, 16)}, {Type: AES128SHA1}, {Type: RC4HMAC, Value: make([]byte, 17)}} {
		if _, err := k.encrypt(usageTicket, nil); !errors.Is(err, gss.ErrToken) && !errors.Is(err, gss.ErrRefused) {
			t.Errorf("%v of %d octets: %v", k, len(k.Value), err)
		}
	}
	k := Key{AES128SHA1, []byte("sixteen octets!!")}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q"} {
		if got := fmt.Sprintf(verb, k); got != "[key of aes128-cts-hmac-sha1-96]" {
			t.Errorf("%s prints %s", verb, got)
		}
	}
}
func modes(t *testing.T, block cipher.Block) (enc, dec ivMode) {
	t.Helper()
	enc, ok1 := cipher.NewCBCEncrypter(block, zeroBlock[:]).(ivMode)
	dec, ok2 := cipher.NewCBCDecrypter(block, zeroBlock[:]).(ivMode)
	if !ok1 || !ok2 {
		t.Fatal("no SetIV")
	}
	return enc, dec
}
