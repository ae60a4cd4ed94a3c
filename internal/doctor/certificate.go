package doctor

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/seed05845750/bkrp"
)

// certificateLife is the validity of 2.2.1 (W-2.2.1-10).
const certificateLife = 365 * 24 * time.Hour

// keyBits is the length of the modulus (W-2.2.1-02).
const keyBits = 2048

const nextReissue = "clients of Windows take it all the same; a server that made it otherwise than 2.2.1 says is worth an update, and then a new key (bkrpd keys rotate)"

// judgeCertificate compares the certificate with 2.2.1.
func judgeCertificate(s *Server, cert *bkrp.Certificate, domain string, now time.Time) {
	s.Key = &Key{
		GUID: cert.GUID.String(), SHA256: fingerprint(cert), Bits: cert.PublicKey.N.BitLen(),
		NotBefore: cert.NotBefore.UTC(), NotAfter: cert.NotAfter.UTC(),
	}
	s.add(CheckCertificate, OK, "", "key %v, RSA %d bits, %s", cert.GUID, s.Key.Bits, describeAge(now.Sub(cert.NotBefore)))
	warn := func(next, format string, args ...any) { s.add(CheckCertificate, Warning, next, format, args...) }
	if s.Key.Bits != keyBits {
		warn("replace the key: 2.2.1 has exactly 2048 bits, and there are clients that take no others", "the key has %d bits", s.Key.Bits)
	}
	if cert.Version != 2 {
		warn(nextReissue, "it is X.509 version %d, not 3", cert.Version+1)
	}
	if !bytes.Equal(cert.IssuerUniqueID, cert.GUID[:]) {
		warn(nextReissue, "issuerUniqueID is not the key's GUID")
	}
	if !cert.SerialIsGUID() {
		warn(nextReissue, "the serial number is not the key's GUID")
	}
	if domain != "" && !strings.EqualFold(cert.Subject, domain) {
		warn("see whether the server is one of this domain, and whether the domain was renamed", "the subject is %q, not the domain's name", cert.Subject)
	}
	if cert.Issuer != cert.Subject {
		warn(nextReissue, "the issuer is %q, and the subject %q", cert.Issuer, cert.Subject)
	}
	if err := cert.CheckSignature(); err != nil {
		warn("compare the certificate with that of another server: it was altered, or made by other software", "%v", err)
	}
	if life := cert.NotAfter.Sub(cert.NotBefore); life != certificateLife {
		warn(nextReissue, "it is valid for %v, not for 365 days", life)
	}
	switch {
	case now.Add(skewWarning).Before(cert.NotBefore):
		warn("look at the clock of the server that made the key", "it is valid from %s on, which is not yet", s.Key.NotBefore.Format(time.RFC3339))
	case now.After(cert.NotAfter):
		s.add(CheckCertificate, Note, "nothing has to be done: no client looks at the dates; a new key (bkrpd keys rotate) would have new ones",
			"it was valid until %s", s.Key.NotAfter.Format(time.DateOnly))
	}
}

// fingerprint tells public keys apart.
func fingerprint(cert *bkrp.Certificate) string {
	sum := sha256.Sum256(x509.MarshalPKCS1PublicKey(cert.PublicKey))
	return hex.EncodeToString(sum[:])
}

func describeAge(age time.Duration) string {
	switch days := int(age / (24 * time.Hour)); {
	case age < 0:
		return "not yet valid"
	case days == 0:
		return "made today"
	case days == 1:
		return "1 day old"
	default:
		return fmt.Sprintf("%d days old", days)
	}
}
