package spnego

import (
	"encoding/asn1"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// hintName is what servers put where RFC 4178 has no hint ([MS-SPNG] 2.2.1).
const hintName = "not_defined_in_RFC4178@please_ignore"

// negTokenInit is NegTokenInit (RFC 4178 4.2.1), the client's first token, and
// NegTokenInit2 ([MS-SPNG] 2.2.1), by which a server speaks first. reqFlags
// are read over.
type negTokenInit struct {
	mechTypes   []asn1.ObjectIdentifier // mechTypes [0], not empty
	mechToken   []byte                  // mechToken [2], nil for none
	hints       bool                    // negHints [3]: this is NegTokenInit2
	mechListMIC []byte                  // mechListMIC [3], or [4] beside hints; nil for none

	// list is MechTypeList as it stood on the wire, for the mechListMIC.
	list []byte
}

// parseInit reads a NegTokenInit in its InitialContextToken (RFC 2743 3.1).
func parseInit(token []byte) (*negTokenInit, error) {
	if len(token) > MaxToken {
		return nil, malformed("token: too long")
	}
	s := cryptobyte.String(token)
	var frame, choice, seq cryptobyte.String
	var mech asn1.ObjectIdentifier
	if !s.ReadASN1(&frame, tagApplication) || !s.Empty() ||
		!frame.ReadASN1ObjectIdentifier(&mech) || !mech.Equal(OID()) ||
		!frame.ReadASN1(&choice, tagInit) || !frame.Empty() ||
		!choice.ReadASN1(&seq, cbasn1.SEQUENCE) || !choice.Empty() {
		return nil, malformed("initial token")
	}
	t := &negTokenInit{}
	if !t.cutMechTypes(&seq) || !seq.SkipOptionalASN1(field(1)) {
		return nil, malformed("mechanism list")
	}
	var ok bool
	if t.mechToken, ok = cutOctets(&seq, 2); !ok {
		return nil, malformed("mechToken")
	}
	if !t.cutMIC(&seq) || !seq.Empty() {
		return nil, malformed("initial token")
	}
	return t, nil
}

func (t *negTokenInit) cutMechTypes(seq *cryptobyte.String) bool {
	var inner, list cryptobyte.String
	if !seq.ReadASN1(&inner, field(0)) || len(inner) > maxList {
		return false
	}
	t.list = append([]byte(nil), inner...)
	if !inner.ReadASN1(&list, cbasn1.SEQUENCE) || !inner.Empty() || list.Empty() {
		return false
	}
	for !list.Empty() {
		var m asn1.ObjectIdentifier
		if len(t.mechTypes) == maxMechs || !list.ReadASN1ObjectIdentifier(&m) {
			return false
		}
		t.mechTypes = append(t.mechTypes, m)
	}
	return true
}

// cutMIC reads field 3, which is a mechListMIC or, in NegTokenInit2, the hints
// that come before it.
func (t *negTokenInit) cutMIC(seq *cryptobyte.String) (ok bool) {
	var hints, inner cryptobyte.String
	peek := *seq
	if peek.ReadASN1(&hints, field(3)) && hints.PeekASN1Tag(cbasn1.SEQUENCE) {
		if !hints.ReadASN1(&inner, cbasn1.SEQUENCE) || !hints.Empty() {
			return false
		}
		t.hints = true
		*seq = peek
		t.mechListMIC, ok = cutOctets(seq, 4)
		return ok
	}
	t.mechListMIC, ok = cutOctets(seq, 3)
	return ok
}

// marshal gives the token. list is not used: the mechanisms are written anew.
func (t *negTokenInit) marshal() ([]byte, error) {
	list, err := marshalMechList(t.mechTypes)
	if err != nil {
		return nil, err
	}
	var b cryptobyte.Builder
	b.AddASN1(tagApplication, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(OID())
		b.AddASN1(tagInit, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1(field(0), func(b *cryptobyte.Builder) { b.AddBytes(list) })
				addOctets(b, 2, t.mechToken)
				if !t.hints {
					addOctets(b, 3, t.mechListMIC)
					return
				}
				b.AddASN1(field(3), addHints)
				addOctets(b, 4, t.mechListMIC)
			})
		})
	})
	return finish(&b)
}

// addHints writes NegHints ([MS-SPNG] 2.2.1) with the name that says nothing.
func addHints(b *cryptobyte.Builder) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(field(0), func(b *cryptobyte.Builder) {
			b.AddASN1(tagHintName, func(b *cryptobyte.Builder) { b.AddBytes([]byte(hintName)) })
		})
	})
}
