package keyform

import (
	"bytes"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
)

// FuzzParse reads keys in the clear. What is read is written as octets that read
// as the same key.
func FuzzParse(f *testing.F) {
	pair, server := pairKey(f), serverKey(f)
	for _, form := range []Form{LSA, PVK, PEM} {
		b, err := pair.Marshal(form)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, true)
		f.Add(b, false)
	}
	f.Add(server.Secret, true)
	certificate := pairCertificate(pair.Secret)
	f.Fuzz(func(t *testing.T, b []byte, withCertificate bool) {
		form, err := Detect(b)
		if err != nil || form == Age {
			return
		}
		given := Given{GUID: serverGUID, Domain: "bkrp.example", Now: time.Unix(1e9, 0)}
		if withCertificate {
			given = Given{Certificate: certificate}
		}
		if form == LSA {
			given.Certificate = nil
		}
		k, err := Parse(form, b, given)
		if err != nil {
			return
		}
		out, err := k.Marshal(form)
		if err != nil {
			t.Fatalf("%s: %v", form, err)
		}
		given = Given{GUID: k.GUID}
		if form == PVK {
			given.Certificate = pairCertificate(k.Secret)
		}
		again, err := Parse(form, out, given)
		if err != nil || !bytes.Equal(again.Secret, k.Secret) {
			t.Fatalf("%s: reads as another key (%v)", form, err)
		}
	})
}

// FuzzSplitPEM takes PEM files apart, without the arithmetic that makes FuzzParse
// slow.
func FuzzSplitPEM(f *testing.F) {
	b, err := pairKey(f).Marshal(PEM)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		blob, certificate, err := splitPEM(b)
		if err != nil {
			return
		}
		out, err := marshalPEM(blob, certificate)
		if err != nil {
			t.Fatal(err)
		}
		again, other, err := splitPEM(out)
		if err != nil || !bytes.Equal(again, blob) || !bytes.Equal(other, certificate) {
			t.Fatalf("reads as another file (%v)", err)
		}
	})
}

// FuzzGUIDInName looks for GUIDs in the names of files.
func FuzzGUIDInName(f *testing.F) {
	f.Add("ntds_capi_0_45cbf2fb-b468-471a-a374-3ca17b50cf3b.pvk")
	f.Fuzz(func(t *testing.T, name string) {
		if guid, ok := GUIDInName(name); ok && !strings.Contains(strings.ToLower(name), guid.String()) {
			t.Errorf("%v is not in %q", guid, name)
		}
	})
}

// FuzzParsePKCS8 reads the DER of a private key.
func FuzzParsePKCS8(f *testing.F) {
	der, err := marshalPKCS8(pairBlob(pairKey(f).Secret))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der)
	f.Add(der[26:]) // the PKCS#1 key in it
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, parse := range []func([]byte) ([]byte, error){parsePKCS8, parsePKCS1} {
			blob, err := parse(b)
			if err != nil {
				continue
			}
			der, err := marshalPKCS8(blob)
			if err != nil {
				t.Fatal(err)
			}
			if again, err := parsePKCS8(der); err != nil || !bytes.Equal(again, blob) {
				t.Fatalf("reads as other numbers (%v)", err)
			}
		}
	})
}

// FuzzParseBundle reads the plaintext of a bundle, which is written in one way.
func FuzzParseBundle(f *testing.F) {
	plain, err := newBundle(f).marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(plain)
	// One without RSA's arithmetic, for speed.
	small := &Bundle{Domain: "bkrp.example", Keys: []*Key{serverKey(f)}}
	if plain, err = small.marshal(); err != nil {
		f.Fatal(err)
	}
	f.Add(plain)
	f.Add([]byte(`{"format":"bkrp-keys","version":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		bundle, err := parseBundle(b)
		if err != nil {
			return
		}
		if again, err := bundle.marshal(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("is written otherwise (%v)", err)
		}
	})
}

// FuzzOpenBundle reads what comes as an age file.
func FuzzOpenBundle(f *testing.F) {
	ids, err := age.ParseIdentities(bytes.NewReader(testdata(f, "identity.txt")))
	if err != nil {
		f.Fatal(err)
	}
	sealed := testdata(f, "bundle.age")
	f.Add(sealed)
	if block, _ := pem.Decode(sealed); block != nil {
		f.Add(block.Bytes)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if bundle, err := OpenBundle(b, ids...); err == nil {
			if err := bundle.check(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// FuzzParseCertificateFile takes certificates out of PEM.
func FuzzParseCertificateFile(f *testing.F) {
	b, err := pairKey(f).Marshal(PEM)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(pairCertificate(pairKey(f).Secret))
	f.Fuzz(func(t *testing.T, b []byte) {
		der, err := ParseCertificateFile(b)
		if err != nil {
			return
		}
		text := pem.EncodeToMemory(&pem.Block{Type: labelCertificate, Bytes: der})
		if again, err := ParseCertificateFile(text); err != nil || !bytes.Equal(again, der) {
			t.Fatalf("reads as another one (%v)", err)
		}
	})
}
