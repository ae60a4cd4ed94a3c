package spnego

import (
	"fmt"

	"github.com/seed05845750/bkrp/internal/gss"
)

// mechListSigner is a context whose checksum over the mechanism list is not
// one of its ordinary messages: NTLM's ([MS-SPNG] 3.3.5.1).
type mechListSigner interface {
	SignMechList(dst, list []byte) ([]byte, error)
	VerifyMechList(list, mic []byte) error
}

// signList makes mechListMIC (RFC 4178 4.2.2).
func signList(sc gss.Context, list []byte) ([]byte, error) {
	sign := sc.Sign
	if s, ok := sc.(mechListSigner); ok {
		sign = s.SignMechList
	}
	mic, err := sign(nil, list)
	if err != nil {
		return nil, fmt.Errorf("spnego: signing the mechanism list: %w", err)
	}
	return mic, nil
}

// verifyList checks mechListMIC. A failure means that someone on the way
// changed the list, to have a weaker mechanism chosen.
func verifyList(sc gss.Context, list, mic []byte) error {
	verify := sc.Verify
	if s, ok := sc.(mechListSigner); ok {
		verify = s.VerifyMechList
	}
	if err := verify(list, mic); err != nil {
		return fmt.Errorf("spnego: verifying the mechanism list: %w", err)
	}
	return nil
}
