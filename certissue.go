package bkrp

import (
	"crypto/rsa"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/seed05845750/bkrp/dtyp"
	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

const (
	// certificateLifetime is exactly 365 days (W-2.2.1-10).
	certificateLifetime = 365 * 24 * time.Hour

	// maxCommonName is the most characters a common name has (RFC 5280 A.1,
	// ub-common-name). A DNS name may have more, and then its tail says less
	// than its head.
	maxCommonName = 64
)

// issueCertificate makes the self-signed certificate of a key (W-2.2.1-*), DER.
// raw is the key's private operation, and its result has been proved.
// It is written out here since no issuer at hand writes the unique identifiers
// or takes a serial number as octets. now becomes notBefore, in whole seconds.
func issueCertificate(public *rsa.PublicKey, raw RawRSA, guid dtyp.GUID, domain string, now time.Time) ([]byte, error) {
	name, err := certificateName(domain)
	if err != nil {
		return nil, err
	}
	tbs, err := buildTBS(public, guid, name, now.UTC().Truncate(time.Second))
	if err != nil {
		return nil, fmt.Errorf("bkrp: issuing a certificate for %q: %w", domain, err)
	}
	sum := sha256.Sum256(tbs)
	signature, err := raw(signatureMessage(sum[:]))
	if err != nil {
		return nil, fmt.Errorf("bkrp: signing the certificate for %q: %w", domain, err)
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(tbs)
		addSignatureAlgorithm(b)
		b.AddASN1BitString(signature)
	})
	return b.Bytes()
}

// certificateName is the name of a domain as issuer and subject carry it:
// lower case, without the root's dot.
func certificateName(domain string) (string, error) {
	name := strings.ToLower(strings.TrimSuffix(domain, "."))
	if name == "" || !utf8.ValidString(domain) || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return "", fmt.Errorf("bkrp: %q is no DNS name of a domain", domain)
	}
	if r := []rune(name); len(r) > maxCommonName {
		name = string(r[:maxCommonName])
	}
	return name, nil
}

func buildTBS(pub *rsa.PublicKey, guid dtyp.GUID, name string, notBefore time.Time) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(tagVersion, func(b *cryptobyte.Builder) { b.AddASN1Int64(2) })
		// All 16 octets, as the unique identifiers have them, and reversed:
		// clients compare the two. GenerateKeyPair draws GUIDs which
		// make this a proper positive INTEGER.
		b.AddASN1(cbasn1.INTEGER, func(b *cryptobyte.Builder) { b.AddBytes(reversed(guid[:])) })
		addSignatureAlgorithm(b)
		addName(b, name)
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			addTime(b, notBefore)
			addTime(b, notBefore.Add(certificateLifetime))
		})
		addName(b, name)
		addSPKI(b, pub)
		for _, tag := range []cbasn1.Tag{tagIssuerUniqueID, tagSubjectUniqueID} {
			b.AddASN1(tag, func(b *cryptobyte.Builder) {
				b.AddUint8(0) // no unused bits
				b.AddBytes(guid[:])
			})
		}
	})
	return b.Bytes()
}

func addSignatureAlgorithm(b *cryptobyte.Builder) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oidSHA256WithRSA)
		b.AddASN1NULL()
	})
}

func addName(b *cryptobyte.Builder, name string) {
	tag := cbasn1.UTF8String
	if !strings.ContainsFunc(name, notPrintableString) {
		tag = cbasn1.PrintableString
	}
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(oidCommonName)
				b.AddASN1(tag, func(b *cryptobyte.Builder) { b.AddBytes([]byte(name)) })
			})
		})
	})
}

// notPrintableString says whether r is no letter, digit, dot or hyphen, which
// is what a DNS name has of the type PrintableString.
func notPrintableString(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '.' || r == '-')
}

// addTime writes a UTCTime as long as that is unambiguous (RFC 5280 4.1.2.5).
func addTime(b *cryptobyte.Builder, t time.Time) {
	if y := t.Year(); y >= 1950 && y < 2050 {
		b.AddASN1UTCTime(t)
	} else {
		b.AddASN1GeneralizedTime(t)
	}
}

func addSPKI(b *cryptobyte.Builder, pub *rsa.PublicKey) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(oidRSAEncryption)
			b.AddASN1NULL()
		})
		b.AddASN1(cbasn1.BIT_STRING, func(b *cryptobyte.Builder) {
			b.AddUint8(0)
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1BigInt(pub.N)
				b.AddASN1Int64(int64(pub.E))
			})
		})
	})
}

// signatureMessage is the encoded message of RSASSA-PKCS1-v1_5 (RFC 8017 9.2)
// for a SHA-256 sum: 00 01 FF... 00 and a DigestInfo.
func signatureMessage(sum []byte) []byte {
	digestInfo := append([]byte{
		0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20,
	}, sum...)
	em := make([]byte, modulusSize)
	for i := range em {
		em[i] = 0xff
	}
	em[0], em[1] = 0, 1
	em[len(em)-len(digestInfo)-1] = 0
	copy(em[len(em)-len(digestInfo):], digestInfo)
	return em
}

// reversed is a copy of b, last octet first.
func reversed(b []byte) []byte {
	r := slices.Clone(b)
	slices.Reverse(r)
	return r
}
