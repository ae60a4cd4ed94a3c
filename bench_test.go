package bkrp

import (
	"crypto/rand"
	"crypto/rsa"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
)

// BenchmarkRSA2048Decrypt is crypto/rsa's own decryption: the limit of what an
// unwrapping can cost.
func BenchmarkRSA2048Decrypt(b *testing.B) {
	key, err := rsa.GenerateKey(rand.Reader, modulusBits)
	if err != nil {
		b.Fatal(err)
	}
	//lint:ignore SA1019 it is what is compared with
	c, err := rsa.EncryptPKCS1v15(rand.Reader, &key.PublicKey, make([]byte, 100))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		//lint:ignore SA1019 it is what is compared with
		if _, err := rsa.DecryptPKCS1v15(nil, key, c); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecryptRaw(b *testing.B) {
	key := generated(b)
	c := make([]byte, modulusSize)
	rand.Read(c[1:])
	b.ReportAllocs()
	for b.Loop() {
		if _, err := key.DecryptRaw(c); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkClientWrapped(b *testing.B) {
	key := generated(b)
	for _, version := range []uint32{2, 3} {
		blob, err := WrapClient(key.Certificate(), testSID, make([]byte, 64), version)
		if err != nil {
			b.Fatal(err)
		}
		name := []string{"v2", "v3"}[version-2]
		b.Run("Open/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				w, err := ParseClientWrapped(blob)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := w.Open(key.DecryptRaw, key.RejectionKey()); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("Wrap/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := WrapClient(key.Certificate(), testSID, make([]byte, 64), version); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkServerWrapped(b *testing.B) {
	key := GenerateServerKey()
	derive := func(salt []byte) [20]byte { return key.Derive(SrvKeyFull, salt) }
	blob, err := WrapServer(derive, dtyp.GUID{1}, testSID, make([]byte, 64))
	if err != nil {
		b.Fatal(err)
	}
	b.Run("Wrap", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := WrapServer(derive, dtyp.GUID{1}, testSID, make([]byte, 64)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Open", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			w, err := ParseServerWrapped(blob)
			if err != nil {
				b.Fatal(err)
			}
			if _, _, err := w.Open(derive); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkGenerateKeyPair(b *testing.B) {
	for b.Loop() {
		if _, err := GenerateKeyPair("bench.example", time.Unix(1e9, 0)); err != nil {
			b.Fatal(err)
		}
	}
}
