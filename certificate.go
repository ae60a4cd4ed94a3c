package bkrp

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/asn1"
	"fmt"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
)

// maxModulusBits bounds the key of a certificate that is used.
const maxModulusBits = 8192

// 2.2.1 Server public key for ClientWrap subprotocol

// Certificate is the X.509 certificate in which a domain hands out its public
// key ([MS-BKRP] 2.2.1). It proves nothing: it is self-signed, and trust in it
// comes from the channel it was fetched over. Nobody looks at its dates
// either.
type Certificate struct {
	// Raw is the whole certificate, DER.
	Raw []byte
	// Version is the field's value, 2 for X.509 v3.
	Version int
	// GUID is the subjectUniqueID: the name of the key.
	GUID dtyp.GUID
	// IssuerUniqueID is the content of that field, 16 octets and the same as
	// GUID where the server follows the text, nil where the field is absent.
	IssuerUniqueID []byte
	// PublicKey is an RSA key of at least 2048 bits.
	PublicKey *rsa.PublicKey
	// Serial has the content octets of the serial number: big-endian, in two's
	// complement, so that Windows's are often negative.
	Serial []byte
	// Subject and Issuer are the first common names, the DNS name of the
	// domain, without control characters; "" where there is none.
	Subject, Issuer string
	// NotBefore and NotAfter are the dates, UTC.
	NotBefore, NotAfter time.Time
	// SignatureAlgorithm is the object identifier.
	SignatureAlgorithm asn1.ObjectIdentifier

	tbs, signature []byte
}

// SerialIsGUID says whether the serial number is GUID with its octets reversed,
// as Windows and Samba make it (W-2.2.1-08, A-27); one leading zero does not
// count.
func (c *Certificate) SerialIsGUID() bool {
	s := c.Serial
	if len(s) == dtyp.GUIDSize+1 && s[0] == 0 {
		s = s[1:]
	}
	return string(s) == string(reversed(c.GUID[:]))
}

// Object identifiers of signature algorithms, each of RSASSA-PKCS1-v1_5.
var (
	oidSHA1WithRSA    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 5}
	oidSHA256WithRSA  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}
	oidOIWSHA1WithRSA = asn1.ObjectIdentifier{1, 3, 14, 3, 2, 29} // Windows
)

// CheckSignature says whether the certificate is signed by its own key
// (W-2.2.1-12). It is of use in a diagnosis; anybody can make a certificate
// that passes. Errors wrap ErrCertificate.
func (c *Certificate) CheckSignature() error {
	var (
		hash crypto.Hash
		sum  []byte
	)
	switch a := c.SignatureAlgorithm; {
	case a.Equal(oidSHA256WithRSA):
		s := sha256.Sum256(c.tbs)
		hash, sum = crypto.SHA256, s[:]
	case a.Equal(oidSHA1WithRSA), a.Equal(oidOIWSHA1WithRSA):
		s := sha1.Sum(c.tbs)
		hash, sum = crypto.SHA1, s[:]
	default:
		return fmt.Errorf("%w: signature algorithm %v is not known", ErrCertificate, a)
	}
	if err := rsa.VerifyPKCS1v15(c.PublicKey, hash, sum, c.signature); err != nil {
		return fmt.Errorf("%w: it is not signed by its own key", ErrCertificate)
	}
	return nil
}
