package spnego

import (
	"encoding/asn1"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// negState is NegState (RFC 4178 4.2.2).
type negState uint8

const (
	acceptCompleted  negState = 0
	acceptIncomplete negState = 1
	reject           negState = 2
	requestMIC       negState = 3
	noState          negState = 0xff // the field is not there
)

// negTokenResp is NegTokenResp (RFC 4178 4.2.2), every token but the first.
type negTokenResp struct {
	state         negState              // negState [0], noState for none
	supportedMech asn1.ObjectIdentifier // supportedMech [1], nil for none
	responseToken []byte                // responseToken [2], nil for none
	mechListMIC   []byte                // mechListMIC [3], nil for none
}

// parseResp reads a NegTokenResp.
func parseResp(token []byte) (*negTokenResp, error) {
	if len(token) > MaxToken {
		return nil, malformed("token: too long")
	}
	s := cryptobyte.String(token)
	var choice, seq, inner cryptobyte.String
	if !s.ReadASN1(&choice, tagResp) || !s.Empty() ||
		!choice.ReadASN1(&seq, cbasn1.SEQUENCE) || !choice.Empty() {
		return nil, malformed("response token")
	}
	t := &negTokenResp{state: noState}
	var present, ok bool
	if !seq.ReadOptionalASN1(&inner, &present, field(0)) {
		return nil, malformed("negState")
	}
	if present {
		var state int
		if !inner.ReadASN1Enum(&state) || !inner.Empty() || state < 0 || state > int(requestMIC) {
			return nil, malformed("negState")
		}
		t.state = negState(state)
	}
	if !seq.ReadOptionalASN1(&inner, &present, field(1)) ||
		present && (!inner.ReadASN1ObjectIdentifier(&t.supportedMech) || !inner.Empty()) {
		return nil, malformed("supportedMech")
	}
	if t.responseToken, ok = cutOctets(&seq, 2); !ok {
		return nil, malformed("responseToken")
	}
	if t.mechListMIC, ok = cutOctets(&seq, 3); !ok || !seq.Empty() {
		return nil, malformed("mechListMIC")
	}
	return t, nil
}

// marshal gives the token.
func (t *negTokenResp) marshal() ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(tagResp, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			if t.state != noState {
				b.AddASN1(field(0), func(b *cryptobyte.Builder) { b.AddASN1Enum(int64(t.state)) })
			}
			if t.supportedMech != nil {
				b.AddASN1(field(1), func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(t.supportedMech) })
			}
			addOctets(b, 2, t.responseToken)
			addOctets(b, 3, t.mechListMIC)
		})
	})
	return finish(&b)
}
