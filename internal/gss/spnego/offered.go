package spnego

import "encoding/asn1"

// Offered gives the mechanisms that the token lists by which a server speaks
// first, NegTokenInit2 ([MS-SPNG] 2.2.1), in its order of preference.
func Offered(token []byte) ([]asn1.ObjectIdentifier, error) {
	t, err := parseInit(token)
	if err != nil {
		return nil, err
	}
	return t.mechTypes, nil
}
