package bkrp

import (
	"bytes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/seed05845750/bkrp/dtyp"
)

// crafted is a ClientWrap blob whose inside can be spoiled at every level.
type crafted struct {
	f       *clientFormat
	secret  []byte // the message of EncryptedSecret
	check   []byte // the AccessCheck in the clear
	em      []byte
	payload []byte
}

func craft(t testing.TB, version uint32) *crafted {
	t.Helper()
	f := formatOf(version)
	c := &crafted{f: f, payload: f.newPayloadKey()}
	c.secret = f.appendSecret(nil, []byte("a secret of some length"), c.payload)
	var err error
	c.check, err = f.appendAccessCheck(nil, bytes.Repeat([]byte{7}, nonceSize), testSID)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// rehash makes the hash of the AccessCheck right again.
func (c *crafted) rehash() {
	split := len(c.check) - c.f.hashSize
	copy(c.check[split:], c.f.sum(c.check[:split]))
}

// pad is the encoded message for c.secret, unless em was set.
func (c *crafted) pad() []byte {
	if c.em == nil {
		c.em = bytes.Repeat([]byte{0xaa}, modulusSize)
		c.em[0], c.em[1] = 0, 2
		c.em[modulusSize-len(c.secret)-1] = 0
		copy(c.em[modulusSize-len(c.secret):], c.secret)
	}
	return c.em
}

func (c *crafted) encryptedCheck(t testing.TB) []byte {
	t.Helper()
	block, err := c.f.newCipher(c.payload[:c.f.keySize])
	if err != nil {
		t.Fatal(err)
	}
	out := bytes.Clone(c.check)
	whole := len(out) / c.f.blockSize * c.f.blockSize
	cipher.NewCBCEncrypter(block, c.payload[c.f.keySize:]).CryptBlocks(out[:whole], out[:whole])
	return out
}

// blob encrypts all of it under the key.
func (c *crafted) blob(t testing.TB, key *KeyPair) *ClientWrapped {
	t.Helper()
	m := new(big.Int).SetBytes(c.pad())
	m.Exp(m, big.NewInt(int64(key.key.public.E)), key.key.public.N)
	encrypted := m.FillBytes(make([]byte, modulusSize))
	slices.Reverse(encrypted)
	return &ClientWrapped{Version: c.f.version, KeyGUID: key.GUID(), EncryptedSecret: encrypted, AccessCheck: c.encryptedCheck(t)}
}

// spoilings are the ways in which the inside of a blob can be wrong.
var spoilings = []struct {
	id, name string
	version  uint32 // 0 for both
	spoil    func(c *crafted)
}{
	{"S-3.1.4.1.4-09", "first octet of padding", 0, func(c *crafted) { c.pad()[0] = 1 }},
	{"S-3.1.4.1.4-09", "block type of padding", 0, func(c *crafted) { c.pad()[1] = 1 }},
	{"S-3.1.4.1.4-09", "padding shorter than eight", 0, func(c *crafted) { c.pad()[9] = 0 }},
	{"S-3.1.4.1.4-09", "seven octets of padding before a sound message", 0, func(c *crafted) {
		n := modulusSize - (pkcs1Overhead - 1) - c.f.secretHeader() - c.f.payloadKey()
		c.secret = c.f.appendSecret(nil, bytes.Repeat([]byte{5}, n), c.payload)
	}},
	{"S-3.1.4.1.4-09", "padding of no octets", 0, func(c *crafted) { c.pad()[2] = 0 }},
	{"S-3.1.4.1.4-09", "no end of padding", 0, func(c *crafted) {
		c.em = bytes.Repeat([]byte{0x11}, modulusSize)
		c.em[0], c.em[1] = 0, 2
	}},
	{"S-3.1.4.1.4-11", "message of no octets", 0, func(c *crafted) {
		c.em = bytes.Repeat([]byte{0x11}, modulusSize)
		c.em[0], c.em[1], c.em[modulusSize-1] = 0, 2, 0
	}},
	{"S-3.1.4.1.4-11", "message of two octets", 0, func(c *crafted) {
		c.em = bytes.Repeat([]byte{0x11}, modulusSize)
		c.em[0], c.em[1], c.em[modulusSize-3] = 0, 2, 0
	}},
	{"W-2.2.2.1-02", "length word of PayloadKey", 0, func(c *crafted) { c.secret[4]++ }},
	{"W-2.2.2.2-02", "algorithm of the cipher", 3, func(c *crafted) { c.secret[8]++ }},
	{"W-2.2.2.2-02", "algorithm of the hash", 3, func(c *crafted) { c.secret[13]++ }},
	{"W-2.2.2.1-05", "cbSecret too small", 0, func(c *crafted) { c.secret[0]-- }},
	{"W-2.2.2.1-05", "cbSecret too large", 0, func(c *crafted) { c.secret[0]++ }},
	{"W-2.2.2.1-05", "cbSecret huge", 0, func(c *crafted) { binary.LittleEndian.PutUint32(c.secret, 0xffffffff) }},
	{"W-2.2.2.1-05", "cbSecret wraps round", 0, func(c *crafted) {
		binary.LittleEndian.PutUint32(c.secret, uint32(-(c.f.secretHeader()+c.f.payloadKey()))+uint32(len(c.secret)))
		c.secret[3] ^= 0x80
	}},
	{"W-2.2.2.1-04", "PayloadKey", 0, func(c *crafted) { c.secret[len(c.secret)-20] ^= 0x10 }},
	{"W-2.2.2.3-01", "first word of AccessCheck", 0, func(c *crafted) { c.check[0] = 2; c.rehash() }},
	{"W-2.2.2.3-02", "cbNonce too small", 0, func(c *crafted) { c.check[4]--; c.rehash() }},
	{"W-2.2.2.3-02", "cbNonce too large", 0, func(c *crafted) { c.check[4] += 4; c.rehash() }},
	{"W-2.2.2.3-02", "cbNonce at the end", 0, func(c *crafted) { c.check[4] = byte(len(c.check) - 9); c.rehash() }},
	{"W-2.2.2.3-02", "cbNonce huge", 0, func(c *crafted) { binary.LittleEndian.PutUint32(c.check[4:], 0xffffffff); c.rehash() }},
	{"W-2.2.2.3-04", "revision of the SID", 0, func(c *crafted) { c.check[8+nonceSize] = 2; c.rehash() }},
	{"W-2.2.2.3-04", "SID longer than the structure", 0, func(c *crafted) { c.check[9+nonceSize] = 15; c.rehash() }},
	{"W-2.2.2.3-04", "SID of too many sub-authorities", 0, func(c *crafted) { c.check[9+nonceSize] = 16; c.rehash() }},
	{"W-2.2.2.3-05", "a block of padding too many", 0, func(c *crafted) {
		c.check = append(c.check, make([]byte, c.f.blockSize)...)
		c.rehash()
	}},
	{"W-2.2.2.3-06", "hash", 0, func(c *crafted) { c.check[len(c.check)-1] ^= 1 }},
	{"W-2.2.2.3-06", "first octet of the hash", 0, func(c *crafted) { c.check[len(c.check)-c.f.hashSize] ^= 1 }},
	{"W-2.2.2.3-06", "SID behind the hash's back", 0, func(c *crafted) { c.check[8+nonceSize+12] ^= 1 }},
}

// openSteps are what a blob goes through whatever is wrong inside.
var openSteps = []string{"unpad", "synthesize", "align", "secret format", "decrypt", "access check format", "hash"}

// TestOpenIsNoOracle spoils the inside of blobs in every way there is: the
// error is the same, and so are the steps.
func TestOpenIsNoOracle(t *testing.T) {
	key := generated(t)
	run := func(t *testing.T, c *crafted) (*ClientSecret, error) {
		t.Helper()
		blob := c.blob(t, key)
		ciphertext := reversed(blob.EncryptedSecret)
		em, err := key.DecryptRaw(ciphertext)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(em, c.pad()) {
			t.Fatal("the RSA operation does not give the message back")
		}
		var steps []string
		o := opening{f: c.f, em: em, access: blob.AccessCheck, trace: func(s string) { steps = append(steps, s) }}
		s, err := o.run(ciphertext, key.RejectionKey())
		if !slices.Equal(steps, openSteps) {
			t.Errorf("steps were %q", steps)
		}
		if _, errOpen := blob.Open(key.DecryptRaw, key.RejectionKey()); fmt.Sprint(errOpen) != fmt.Sprint(err) {
			t.Errorf("Open says %v, its steps say %v", errOpen, err)
		}
		return s, err
	}
	for _, version := range []uint32{2, 3} {
		t.Run(fmt.Sprintf("v%d/sound", version), func(t *testing.T) {
			s, err := run(t, craft(t, version))
			if err != nil {
				t.Fatal(err)
			}
			if s.SID != testSID || string(s.Secret) != "a secret of some length" || len(s.Nonce) != nonceSize {
				t.Errorf("got the secret %q of %v", s.Secret, s.SID)
			}
		})
		for _, tt := range spoilings {
			if tt.version != 0 && tt.version != version {
				continue
			}
			t.Run(fmt.Sprintf("v%d/%s %s", version, tt.id, tt.name), func(t *testing.T) {
				c := craft(t, version)
				tt.spoil(c)
				s, err := run(t, c)
				if err != ErrClientSecret || s != nil {
					t.Errorf("got %v, %v", s, err)
				}
			})
		}
	}
}

// TestOpenTakesWhatTheTextAllows has the sound cases that are easily refused.
func TestOpenTakesWhatTheTextAllows(t *testing.T) {
	key := generated(t)
	for _, version := range []uint32{2, 3} {
		for n := 0; n <= dtyp.MaxSubAuthorities; n++ {
			sid, err := dtyp.NewSID(5, slices.Repeat([]uint32{0xfffffffe}, n)...)
			if err != nil {
				t.Fatal(err)
			}
			for _, nonce := range []int{0, 1, 31, 32, 33, 40, 300} {
				c := craft(t, version)
				c.check, err = c.f.appendAccessCheck(nil, bytes.Repeat([]byte{9}, nonce), sid)
				if err != nil {
					t.Fatal(err)
				}
				if len(c.check)%c.f.blockSize != 0 {
					t.Fatalf("W-2.2.2.3-05: AccessCheck of %d octets", len(c.check))
				}
				o := opening{f: c.f, em: c.pad(), access: c.encryptedCheck(t)}
				s, err := o.run(make([]byte, modulusSize), key.RejectionKey())
				if err != nil || s.SID != sid || len(s.Nonce) != nonce {
					t.Errorf("v%d, %d sub-authorities, A-49 nonce of %d: %v", version, n, nonce, err)
				}
			}
		}
	}
}

// TestOpenRefusesWhatAnyoneCanSee has what is refused before RSA, with the
// same error.
func TestOpenRefusesWhatAnyoneCanSee(t *testing.T) {
	key := generated(t)
	for _, tt := range []struct {
		name  string
		spoil func(w *ClientWrapped)
	}{
		{"S-3.1.4.1.4-09 ciphertext not below the modulus", func(w *ClientWrapped) { w.EncryptedSecret = bytes.Repeat([]byte{0xff}, modulusSize) }},
		{"W-2.2.2-05 ciphertext too short", func(w *ClientWrapped) { w.EncryptedSecret = w.EncryptedSecret[1:] }},
		{"W-2.2.2-05 ciphertext too long", func(w *ClientWrapped) { w.EncryptedSecret = append(w.EncryptedSecret, 0) }},
		{"W-2.2.2-05 no ciphertext", func(w *ClientWrapped) { w.EncryptedSecret = nil }},
		{"A-03 AccessCheck not in blocks", func(w *ClientWrapped) { w.AccessCheck = append(w.AccessCheck, 0) }},
		{"W-2.2.2-06 no AccessCheck", func(w *ClientWrapped) { w.AccessCheck = nil }},
		{"W-2.2.2-06 AccessCheck too short", func(w *ClientWrapped) { w.AccessCheck = w.AccessCheck[:32] }},
		{"W-2.2.2-06 AccessCheck too long", func(w *ClientWrapped) { w.AccessCheck = make([]byte, maxAccessCheck+16) }},
		{"S-3.1.4.1.4-01 version", func(w *ClientWrapped) { w.Version = 78 }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := craft(t, 3).blob(t, key)
			tt.spoil(w)
			if s, err := w.Open(key.DecryptRaw, key.RejectionKey()); err != ErrClientSecret || s != nil {
				t.Errorf("got %v, %v", s, err)
			}
		})
	}
}

func TestOpenPassesOnTheModulesError(t *testing.T) {
	w := craft(t, 2).blob(t, generated(t))
	module := errors.New("module: not there")
	_, err := w.Open(func([]byte) ([]byte, error) { return nil, module }, generated(t).RejectionKey())
	if !errors.Is(err, module) || errors.Is(err, ErrClientSecret) {
		t.Errorf("got %v", err)
	}
	_, err = w.Open(func(c []byte) ([]byte, error) { return c[1:], nil }, generated(t).RejectionKey())
	if err == nil || errors.Is(err, ErrClientSecret) {
		t.Errorf("a message shorter than the modulus: %v", err)
	}
}

// TestEveryAlteredOctet flips each octet of a sound blob: nothing opens, and
// only the outer form and the key's name can be told apart.
func TestEveryAlteredOctet(t *testing.T) {
	key := generated(t)
	for _, version := range []uint32{2, 3} {
		blob, err := WrapClient(key.Certificate(), testSID, []byte("secret"), version)
		if err != nil {
			t.Fatal(err)
		}
		for i := range blob {
			if i >= 12 && i < clientWrappedHeader || i > 40 && i < 260 && i%16 != 0 {
				continue // the name of the key; most of the RSA ciphertext, for time
			}
			b := bytes.Clone(blob)
			b[i] ^= 0x80
			w, err := ParseClientWrapped(b)
			if err != nil {
				if i >= 12 || !errors.Is(err, ErrFormat) {
					t.Errorf("v%d, octet %d: %v", version, i, err)
				}
				continue
			}
			if _, err := w.Open(key.DecryptRaw, key.RejectionKey()); err != ErrClientSecret {
				t.Errorf("v%d, octet %d: %v", version, i, err)
			}
		}
	}
}

func TestSyntheticMessage(t *testing.T) {
	r := NewRejectionKey([]byte{1, 2, 3})
	if *r != *NewRejectionKey([]byte{0, 0, 1, 2, 3}) {
		t.Error("leading zeros of the exponent count")
	}
	seen := map[uint64]bool{}
	for i := range 2000 {
		c := make([]byte, modulusSize)
		binary.BigEndian.PutUint32(c, uint32(i))
		em, n, err := r.synthesize(c)
		if err != nil {
			t.Fatal(err)
		}
		if len(em) != modulusSize || n > modulusSize-pkcs1Overhead {
			t.Fatalf("message of %d in %d octets", n, len(em))
		}
		again, m, err := r.synthesize(c)
		if err != nil || !bytes.Equal(em, again) || m != n {
			t.Fatal("the same ciphertext has two messages")
		}
		other, _, err := NewRejectionKey([]byte{1, 2, 4}).synthesize(c)
		if err != nil || bytes.Equal(em, other) {
			t.Fatal("two keys have the same message")
		}
		seen[n] = true
	}
	if len(seen) < 200 {
		t.Errorf("only %d lengths occur", len(seen))
	}
}

func TestUnpadAndShift(t *testing.T) {
	for n := 0; n <= modulusSize-pkcs1Overhead; n++ {
		em := bytes.Repeat([]byte{0xcc}, modulusSize)
		em[0], em[1], em[modulusSize-n-1] = 0, 2, 0
		for i := range n {
			em[modulusSize-n+i] = byte(i) // zeros in the message do not matter
		}
		want := bytes.Clone(em[modulusSize-n:])
		ok, got := unpad(em)
		if ok != yes || got != uint64(n) {
			t.Fatalf("unpad of %d octets: %v, %d", n, ok, got)
		}
		shiftLeft(em, uint64(modulusSize-n))
		if !bytes.Equal(em[:n], want) || !bytes.Equal(em[n:], make([]byte, modulusSize-n)) {
			t.Fatalf("a message of %d octets is not at the front", n)
		}
	}
}

func TestMasks(t *testing.T) {
	values := []uint64{0, 1, 2, 0x7f, 0x80, 255, 256, 1 << 31, 1 << 32, 1<<63 - 1}
	for _, a := range values {
		for _, b := range values {
			if (less(a, b) == yes) != (a < b) || (less(a, b) == 0) != (a >= b) {
				t.Errorf("less(%d, %d) = %x", a, b, less(a, b))
			}
			if (equal(a, b) == yes) != (a == b) || (equal(a, b) == 0) != (a != b) {
				t.Errorf("equal(%d, %d) = %x", a, b, equal(a, b))
			}
			if yes.pick(a, b) != a || mask(0).pick(a, b) != b {
				t.Errorf("pick(%d, %d) is wrong", a, b)
			}
		}
	}
	if isZero(1<<63) != 0 || isZero(1<<64-1) != 0 {
		t.Error("isZero of a large number")
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	secret := ClientSecret{SID: testSID, Secret: []byte("hunter2"), Nonce: []byte("nonce77")}
	for _, v := range []any{generated(t), generated(t).RejectionKey(), GenerateServerKey(), *GenerateServerKey(), secret, &secret} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q", "%d"} {
			s := fmt.Sprintf(verb, v)
			if !strings.Contains(s, redacted) || len(s) > 120 {
				t.Errorf("%s of %T prints %q", verb, v, s)
			}
		}
	}
	if s := generated(t).LogValue().String(); s != redacted {
		t.Errorf("LogValue is %q", s)
	}
	if s := secret.LogValue().String(); strings.Contains(s, "hunter2") {
		t.Errorf("LogValue is %q", s)
	}
	secret.Clear()
	if secret.Secret != nil || !secret.SID.IsZero() {
		t.Error("Clear leaves something")
	}
}
