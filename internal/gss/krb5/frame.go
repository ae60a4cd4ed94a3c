package krb5

import (
	"encoding/asn1"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Token identifiers of RFC 4121 4.1.
const (
	tokenAPReq = 0x0100
	tokenAPRep = 0x0200
	tokenError = 0x0300
)

// mechanism is the identifier of Kerberos 5 (RFC 4121 4).
func mechanism() asn1.ObjectIdentifier { return asn1.ObjectIdentifier{1, 2, 840, 113554, 1, 2, 2} }

const tagFrame = cbasn1.Tag(0x60) // InitialContextToken, [APPLICATION 0]

// frame puts a message into the frame of GSS-API (RFC 2743 3.1) with its
// identifier.
func frame(id uint16, message []byte) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(tagFrame, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(mechanism())
		b.AddUint16(id)
		b.AddBytes(message)
	})
	return b.Bytes()
}

// unframe is the inverse of frame. A token without a frame, as DCE RPC has
// them ([MS-KILE] 3.4.5.1), is known by the tag of its message; framed is then
// false.
func unframe(token []byte) (id uint16, message []byte, framed bool, err error) {
	if len(token) == 0 {
		return 0, nil, false, malformed("token")
	}
	switch cbasn1.Tag(token[0]) {
	case application(typeAPReq):
		return tokenAPReq, token, false, nil
	case application(typeAPRep):
		return tokenAPRep, token, false, nil
	case application(typeError):
		return tokenError, token, false, nil
	}
	s := cryptobyte.String(token)
	var body cryptobyte.String
	var oid asn1.ObjectIdentifier
	if !s.ReadASN1(&body, tagFrame) || !s.Empty() || !body.ReadASN1ObjectIdentifier(&oid) ||
		!oid.Equal(mechanism()) || !body.ReadUint16(&id) {
		return 0, nil, true, malformed("token")
	}
	return id, body, true, nil
}
