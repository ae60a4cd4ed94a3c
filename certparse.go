package bkrp

import (
	"crypto/rsa"
	"encoding/asn1"
	"fmt"
	"math/big"
	"strings"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/seed05845750/bkrp/dtyp"
	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

var (
	oidRSAEncryption = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidCommonName    = asn1.ObjectIdentifier{2, 5, 4, 3}

	tagVersion         = cbasn1.Tag(0).ContextSpecific().Constructed()
	tagIssuerUniqueID  = cbasn1.Tag(1).ContextSpecific()
	tagSubjectUniqueID = cbasn1.Tag(2).ContextSpecific()
)

// tbsFields are the fields of a TBSCertificate, cut apart and not yet read.
type tbsFields struct {
	version                         int
	serial                          []byte
	signature, issuer, validity     cryptobyte.String
	subject, spki                   cryptobyte.String
	issuerUniqueID, subjectUniqueID []byte
}

// ParseCertificate reads the certificate that fills der (2.2.1). It takes what
// real domain controllers issue and stricter parsers refuse: negative serial
// numbers, and UTF-16 where the type says PrintableString. What it
// insists on is the structure, an RSA key of 2048 bits or more, and a
// subjectUniqueID of 16 octets. The result refers to der. Errors wrap
// ErrCertificate.
func ParseCertificate(der []byte) (*Certificate, error) {
	bad := func(what string) (*Certificate, error) {
		return nil, fmt.Errorf("%w: %s", ErrCertificate, what)
	}
	var outer, tbs, algorithm cryptobyte.String
	var signature []byte
	input := cryptobyte.String(der)
	c := &Certificate{}
	if !input.ReadASN1(&outer, cbasn1.SEQUENCE) || !input.Empty() ||
		!outer.ReadASN1Element(&tbs, cbasn1.SEQUENCE) ||
		!outer.ReadASN1(&algorithm, cbasn1.SEQUENCE) ||
		!outer.ReadASN1BitStringAsBytes(&signature) || !outer.Empty() {
		return bad("not the structure of X.509")
	}
	c.Raw, c.tbs, c.signature = der, tbs, signature
	f, ok := cutTBS(tbs)
	if !ok {
		return bad("not the structure of a TBSCertificate")
	}
	c.Version, c.Serial, c.IssuerUniqueID = f.version, f.serial, f.issuerUniqueID
	if !algorithm.ReadASN1ObjectIdentifier(&c.SignatureAlgorithm) {
		return bad("signature algorithm is not readable")
	}
	if len(f.subjectUniqueID) != dtyp.GUIDSize {
		return bad("no subjectUniqueID of 16 octets")
	}
	c.GUID = dtyp.GUID(f.subjectUniqueID)
	if c.PublicKey, ok = parseSPKI(f.spki); !ok {
		return bad("no usable RSA public key")
	}
	if c.Subject, ok = commonName(f.subject); !ok {
		return bad("subject is not readable")
	}
	if c.Issuer, ok = commonName(f.issuer); !ok {
		return bad("issuer is not readable")
	}
	if !readTime(&f.validity, &c.NotBefore) || !readTime(&f.validity, &c.NotAfter) || !f.validity.Empty() {
		return bad("validity is not readable")
	}
	return c, nil
}

// cutTBS cuts the fields apart. Extensions are read over.
func cutTBS(element cryptobyte.String) (f tbsFields, ok bool) {
	var tbs, version, extensions cryptobyte.String
	var hasVersion, hasIssuer, hasSubject, hasExtensions bool
	if !element.ReadASN1(&tbs, cbasn1.SEQUENCE) ||
		!tbs.ReadOptionalASN1(&version, &hasVersion, tagVersion) ||
		hasVersion && (!version.ReadASN1Integer(&f.version) || !version.Empty()) ||
		!tbs.ReadASN1((*cryptobyte.String)(&f.serial), cbasn1.INTEGER) ||
		!tbs.ReadASN1(&f.signature, cbasn1.SEQUENCE) ||
		!tbs.ReadASN1(&f.issuer, cbasn1.SEQUENCE) ||
		!tbs.ReadASN1(&f.validity, cbasn1.SEQUENCE) ||
		!tbs.ReadASN1(&f.subject, cbasn1.SEQUENCE) ||
		!tbs.ReadASN1(&f.spki, cbasn1.SEQUENCE) {
		return f, false
	}
	var issuerID, subjectID cryptobyte.String
	if !tbs.ReadOptionalASN1(&issuerID, &hasIssuer, tagIssuerUniqueID) ||
		!tbs.ReadOptionalASN1(&subjectID, &hasSubject, tagSubjectUniqueID) ||
		!tbs.ReadOptionalASN1(&extensions, &hasExtensions, cbasn1.Tag(3).ContextSpecific().Constructed()) ||
		!tbs.Empty() {
		return f, false
	}
	f.issuerUniqueID, ok = wholeOctets(issuerID, hasIssuer)
	if !ok {
		return f, false
	}
	f.subjectUniqueID, ok = wholeOctets(subjectID, hasSubject)
	return f, ok && len(f.serial) > 0
}

// wholeOctets is the content of an IMPLICIT BIT STRING without unused bits.
func wholeOctets(s cryptobyte.String, present bool) ([]byte, bool) {
	if !present {
		return nil, true
	}
	if len(s) == 0 || s[0] != 0 {
		return nil, false
	}
	return s[1:], true
}

// parseSPKI reads the public key, with parameters NULL or absent.
func parseSPKI(spki cryptobyte.String) (*rsa.PublicKey, bool) {
	var algorithm, key cryptobyte.String
	var bits []byte
	var oid asn1.ObjectIdentifier
	if !spki.ReadASN1(&algorithm, cbasn1.SEQUENCE) ||
		!algorithm.ReadASN1ObjectIdentifier(&oid) || !oid.Equal(oidRSAEncryption) ||
		!spki.ReadASN1BitStringAsBytes(&bits) || !spki.Empty() {
		return nil, false
	}
	pub := &rsa.PublicKey{N: new(big.Int)}
	outer := cryptobyte.String(bits)
	if !outer.ReadASN1(&key, cbasn1.SEQUENCE) || !outer.Empty() ||
		!key.ReadASN1Integer(pub.N) || !key.ReadASN1Integer(&pub.E) || !key.Empty() {
		return nil, false
	}
	n := pub.N.BitLen()
	usable := pub.N.Sign() > 0 && n >= modulusBits && n <= maxModulusBits && pub.N.Bit(0) == 1 &&
		pub.E >= 3 && pub.E <= 1<<31-1 && pub.E&1 == 1
	return pub, usable
}

// commonName is the first common name of a Name, "" if it has none.
func commonName(name cryptobyte.String) (string, bool) {
	found := ""
	for !name.Empty() {
		var set cryptobyte.String
		if !name.ReadASN1(&set, cbasn1.SET) {
			return "", false
		}
		for !set.Empty() {
			var attribute, value cryptobyte.String
			var oid asn1.ObjectIdentifier
			var tag cbasn1.Tag
			if !set.ReadASN1(&attribute, cbasn1.SEQUENCE) || !attribute.ReadASN1ObjectIdentifier(&oid) ||
				!attribute.ReadAnyASN1(&value, &tag) || !attribute.Empty() {
				return "", false
			}
			if found == "" && oid.Equal(oidCommonName) {
				found = decodeName(value, tag)
			}
		}
	}
	return found, true
}

// decodeName reads a string of any type. Windows writes UTF-16LE with a
// terminating NUL as PrintableString (L-14), which a NUL gives away.
func decodeName(b []byte, tag cbasn1.Tag) string {
	s := string(b)
	switch {
	case tag == cbasn1.Tag(30): // BMPString
		s = decodeUTF16(b, 1, 0)
	case len(b)%2 == 0 && strings.IndexByte(s, 0) >= 0:
		s = decodeUTF16(b, 0, 1)
	case tag == cbasn1.T61String && !utf8.ValidString(s):
		r := make([]rune, len(b))
		for i, c := range b {
			r[i] = rune(c)
		}
		s = string(r)
	}
	s = strings.TrimRight(s, "\x00")
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}

// decodeUTF16 decodes pairs of octets, of which those at lo are the low ones.
func decodeUTF16(b []byte, lo, hi int) string {
	u := make([]uint16, len(b)/2)
	for i := range u {
		u[i] = uint16(b[2*i+lo]) | uint16(b[2*i+hi])<<8
	}
	return string(utf16.Decode(u))
}

// readTime reads a UTCTime or a GeneralizedTime.
func readTime(s *cryptobyte.String, t *time.Time) bool {
	switch {
	case s.PeekASN1Tag(cbasn1.UTCTime):
		return s.ReadASN1UTCTime(t)
	case s.PeekASN1Tag(cbasn1.GeneralizedTime):
		return s.ReadASN1GeneralizedTime(t)
	}
	return false
}
