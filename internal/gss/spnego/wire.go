package spnego

import (
	"encoding/asn1"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/seed05845750/bkrp/internal/gss"
)

// OID is the identifier of SPNEGO itself (RFC 4178 1).
func OID() asn1.ObjectIdentifier { return asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 2} }

// NTLM is the identifier of NTLM ([MS-SPNG] 1.9).
func NTLM() asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 2, 10}
}

// Kerberos is the identifier of Kerberos 5 (RFC 4121 4).
func Kerberos() asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 2, 840, 113554, 1, 2, 2}
}

// MSKerberos is the identifier by which Windows 2000 called Kerberos 5, one
// bit shorter, and which its successors still put first ([MS-SPNG] 3.1.5.2).
func MSKerberos() asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 2, 840, 48018, 1, 2, 2}
}

const (
	// MaxToken bounds a token in either direction, in octets: the Kerberos
	// ticket of a member of very many groups fits.
	MaxToken = 64 << 10
	// MaxLegs bounds the tokens that one end takes.
	MaxLegs = 8
	// maxMechs bounds the client's list, and maxList its octets: it is kept until
	// the logon ends, and a refusal quotes it. Real ones have less than 100.
	maxMechs = 16
	maxList  = 1 << 10
)

// Tags of RFC 4178 4.2 and RFC 2743 3.1.
const (
	tagApplication = cbasn1.Tag(0x60) // InitialContextToken, [APPLICATION 0]
	tagInit        = cbasn1.Tag(0xa0) // NegotiationToken, negTokenInit [0]
	tagResp        = cbasn1.Tag(0xa1) // negTokenResp [1]
	tagHintName    = cbasn1.Tag(27)   // GeneralString
)

// field is the tag of the explicit context tag n within a sequence.
func field(n uint8) cbasn1.Tag { return cbasn1.Tag(n).ContextSpecific().Constructed() }

func malformed(what string) error {
	return fmt.Errorf("spnego: malformed %s: %w", what, gss.ErrToken)
}

// cutOctets reads the optional field n as an OCTET STRING. nil stands for a
// field that is not there, an empty slice for one that is empty.
func cutOctets(s *cryptobyte.String, n uint8) (b []byte, ok bool) {
	var inner, value cryptobyte.String
	var present bool
	if !s.ReadOptionalASN1(&inner, &present, field(n)) {
		return nil, false
	}
	if !present {
		return nil, true
	}
	if !inner.ReadASN1(&value, cbasn1.OCTET_STRING) || !inner.Empty() {
		return nil, false
	}
	return append([]byte{}, value...), true
}

// addOctets writes what cutOctets reads.
func addOctets(b *cryptobyte.Builder, n uint8, value []byte) {
	if value == nil {
		return
	}
	b.AddASN1(field(n), func(b *cryptobyte.Builder) { b.AddASN1OctetString(value) })
}

// marshalMechList is MechTypeList (RFC 4178 4.1), over which mechListMIC goes.
func marshalMechList(mechs []asn1.ObjectIdentifier) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, m := range mechs {
			b.AddASN1ObjectIdentifier(m)
		}
	})
	return finish(&b)
}

// finish gives what was built. Building fails only on an identifier that is
// none, which is the caller's.
func finish(b *cryptobyte.Builder) ([]byte, error) {
	out, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("spnego: building a token: %w", err)
	}
	return out, nil
}
