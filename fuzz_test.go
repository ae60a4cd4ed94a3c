package bkrp

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// seed adds the recorded data of real domains, where they are, to what a
// fuzzer starts from.
func seed(f *testing.F, known ...[]byte) {
	for _, b := range known {
		f.Add(b)
	}
	files, _ := filepath.Glob(filepath.Join("..", "shared", "vectors", "*", "*"))
	for _, name := range files {
		if b, err := os.ReadFile(name); err == nil && filepath.Base(name) != "README" {
			f.Add(b)
		}
	}
}

func clientBlob(t testing.TB, version uint32) []byte {
	t.Helper()
	b, err := WrapClient(generated(t).Certificate(), testSID, []byte("secret"), version)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// inverse fails unless the marshaller gives back what was parsed.
func inverse(t *testing.T, parsed, marshalled []byte, err error) {
	t.Helper()
	if err != nil || !bytes.Equal(parsed, marshalled) {
		t.Errorf("%d octets were parsed and marshal to %d others (%v)", len(parsed), len(marshalled), err)
	}
}

func FuzzClientWrapped(f *testing.F) {
	seed(f, clientBlob(f, 2), clientBlob(f, 3))
	f.Fuzz(func(t *testing.T, b []byte) {
		w, err := ParseClientWrapped(b)
		if err != nil {
			if !errors.Is(err, ErrFormat) || w != nil {
				t.Errorf("got %v, %v", w, err)
			}
			return
		}
		out, err := w.AppendBinary(nil)
		inverse(t, b, out, err)
	})
}

// FuzzOpening gives the inside of a blob, as it comes out of RSA and of the
// cipher, to every check: what is accepted is well-formed.
func FuzzOpening(f *testing.F) {
	for _, version := range []uint32{2, 3} {
		c := craft(f, version)
		f.Add(version == 3, c.pad(), c.encryptedCheck(f))
	}
	key := generated(f)
	f.Fuzz(func(t *testing.T, v3 bool, em, access []byte) {
		format := &clientFormat2
		if v3 {
			format = &clientFormat3
		}
		if len(em) < format.overhead() || len(em) > 1024 || !format.accessCheckLength(len(access)) {
			return
		}
		ciphertext := bytes.Clone(em)
		o := opening{f: format, em: bytes.Clone(em), access: access}
		s, err := o.run(ciphertext, key.RejectionKey())
		if err != nil {
			if err != ErrClientSecret || s != nil {
				t.Errorf("got %v, %v", s, err)
			}
			return
		}
		if s.SID.IsZero() || len(s.Secret)+format.overhead() > len(em) || !bytes.Contains(em, s.Secret) {
			t.Errorf("a secret of %d octets for %v", len(s.Secret), s.SID)
		}
	})
}

func FuzzServerWrapped(f *testing.F) {
	seed(f, unhex(f, serverVectorFull), unhex(f, serverVectorLeading64))
	key := knownServerKey(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		w, err := ParseServerWrapped(b)
		if err != nil {
			if !errors.Is(err, ErrFormat) || w != nil {
				t.Errorf("got %v, %v", w, err)
			}
			return
		}
		out, err := w.AppendBinary(nil)
		inverse(t, b, out, err)
		for _, derive := range []func([]byte) [20]byte{key.full, key.leading64} {
			sid, secret, err := w.Open(derive)
			if err == nil && (sid.IsZero() || 96+52+sid.Size()+len(secret) != len(b)) {
				t.Errorf("a secret of %d octets for %v in %d", len(secret), sid, len(b))
			}
		}
	})
}

// FuzzServerPayload gives the payload, as it comes out of RC4 and with a right
// MAC, to the parser.
func FuzzServerPayload(f *testing.F) {
	sid, _ := testSID.AppendBinary(nil)
	f.Add(append(sid, "secret"...))
	key := knownServerKey(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		plain := append(make([]byte, payloadHeader), body...)
		mac := macOf(key.full(plain[:r3Size]), body)
		copy(plain[r3Size:], mac[:])
		sid, secret, err := openPayload(key.full, plain)
		if err != nil {
			if err != ErrServerMAC {
				t.Error(err)
			}
			return
		}
		out, err := sid.AppendBinary(nil)
		inverse(t, body, append(out, secret...), err)
	})
}

func FuzzKeyPair(f *testing.F) {
	good, _ := generated(f).AppendBinary(nil)
	seed(f, good)
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := ParseKeyPair(b)
		if err != nil {
			if !errors.Is(err, ErrKeyFormat) || k != nil {
				t.Errorf("got %v, %v", k, err)
			}
			return
		}
		out, err := k.AppendBinary(nil)
		inverse(t, b, out, err)
		if _, err := k.DecryptRaw(make([]byte, modulusSize)); err != nil {
			t.Error(err)
		}
	})
}

func FuzzRSABlob(f *testing.F) {
	f.Add(generated(f).blob)
	f.Fuzz(func(t *testing.T, b []byte) {
		numbers, err := parseRSABlob(b)
		if err != nil {
			return
		}
		inverse(t, b, numbers.appendRSABlob(nil), nil)
		if key, err := newRSAKey(numbers); err == nil && key.prove() != nil {
			t.Error("a key that does not serve was accepted")
		}
	})
}

func FuzzPVK(f *testing.F) {
	seed(f, generated(f).AppendPVK(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		key, err := ParsePVK(b)
		if err != nil {
			if !errors.Is(err, ErrKeyFormat) {
				t.Error(err)
			}
			return
		}
		inverse(t, b, (&KeyPair{blob: key}).AppendPVK(nil), nil)
	})
}

func FuzzServerKey(f *testing.F) {
	good, _ := knownServerKey(f).AppendBinary(nil)
	seed(f, good)
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := ParseServerKey(b)
		if err != nil {
			return
		}
		out, err := k.AppendBinary(nil)
		inverse(t, b, out, err)
	})
}

func FuzzCertificate(f *testing.F) {
	seed(f, generated(f).Certificate().Raw)
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseCertificate(b)
		if err != nil {
			if !errors.Is(err, ErrCertificate) || c != nil {
				t.Errorf("got %v, %v", c, err)
			}
			return
		}
		if c.PublicKey.N.BitLen() < modulusBits || c.GUID != [16]byte(b[bytes.LastIndex(b, c.GUID[:]):]) {
			t.Errorf("key of %d bits, GUID %v", c.PublicKey.N.BitLen(), c.GUID)
		}
		_ = c.CheckSignature() // must not panic
		if _, err := WrapClient(c, testSID, []byte("secret"), 2); err != nil {
			t.Errorf("its key does not wrap: %v", err)
		}
	})
}

func FuzzCrossover(f *testing.F) {
	seed(f, unhex(f, crossoverVector))
	nonce := make([]byte, 32)
	for i := range nonce {
		nonce[i] = byte(i)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := OpenCrossover(b, nonce)
		if err == nil && len(s)+56 != len(b) {
			t.Errorf("a secret of %d octets in %d", len(s), len(b))
		}
		if s, err := ParseUnwrapped(b); err == nil {
			inverse(t, b, AppendUnwrapped(nil, s), nil)
		}
	})
}
