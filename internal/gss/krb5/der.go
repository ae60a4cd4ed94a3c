package krb5

import (
	"encoding/asn1"
	"fmt"
	"math"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/seed05845750/bkrp/internal/gss"
)

const (
	tagGeneralString = cbasn1.Tag(27)
	// maxName bounds each part of a name and a realm, in octets.
	maxName = 1024
	// maxParts bounds the parts of a name.
	maxParts = 16
)

// application is the tag of a message (RFC 4120 5.10).
func application(n uint8) cbasn1.Tag { return cbasn1.Tag(n) | 0x60 }

// field is the tag of the explicit context tag n within a sequence.
func field(n uint8) cbasn1.Tag { return cbasn1.Tag(n).ContextSpecific().Constructed() }

func malformed(what string) error {
	return fmt.Errorf("krb5: malformed %s: %w", what, gss.ErrToken)
}

// reader reads the fields of one sequence in their order. Its first error
// sticks: a parser reads everything and asks once.
type reader struct {
	s   cryptobyte.String
	bad bool
}

// open reads the sequence within an application tag, which fills b.
func open(b []byte, tag cbasn1.Tag) *reader {
	s := cryptobyte.String(b)
	var inner, seq cryptobyte.String
	ok := s.ReadASN1(&inner, tag) && s.Empty() && inner.ReadASN1(&seq, cbasn1.SEQUENCE) && inner.Empty()
	return &reader{s: seq, bad: !ok}
}

// done reports whether everything was read and right.
func (r *reader) done() bool { return !r.bad && r.s.Empty() }

// explicit gives the content of field n; nothing of it may be left over, which
// the caller sees to.
func (r *reader) explicit(n uint8) (inner cryptobyte.String) {
	r.bad = r.bad || !r.s.ReadASN1(&inner, field(n))
	return inner
}

// has reports whether field n comes next.
func (r *reader) has(n uint8) bool { return !r.bad && r.s.PeekASN1Tag(field(n)) }

func (r *reader) sequence(n uint8) *reader {
	inner := r.explicit(n)
	var seq cryptobyte.String
	if !inner.ReadASN1(&seq, cbasn1.SEQUENCE) || !inner.Empty() {
		r.bad = true
	}
	return &reader{s: seq, bad: r.bad}
}

// end takes over the verdict on a sequence inside.
func (r *reader) end(inner *reader) { r.bad = r.bad || !inner.done() }

// int32 reads an Int32 (RFC 4120 5.2.4).
func (r *reader) int32(n uint8) int32 {
	v := r.integer(n)
	r.bad = r.bad || v < math.MinInt32 || v > math.MaxInt32
	return int32(v)
}

// uint32 reads a UInt32, which old peers encode as if it had a sign.
func (r *reader) uint32(n uint8) uint32 {
	v := r.integer(n)
	r.bad = r.bad || v < math.MinInt32 || v > math.MaxUint32
	return uint32(v)
}

func (r *reader) integer(n uint8) (v int64) {
	inner := r.explicit(n)
	r.bad = r.bad || !inner.ReadASN1Integer(&v) || !inner.Empty()
	return v
}

// octets reads an OCTET STRING, not copied.
func (r *reader) octets(n uint8) []byte {
	inner := r.explicit(n)
	var v cryptobyte.String
	r.bad = r.bad || !inner.ReadASN1(&v, cbasn1.OCTET_STRING) || !inner.Empty()
	return v
}

// text reads a KerberosString (RFC 4120 5.2.1).
func (r *reader) text(n uint8) string {
	inner := r.explicit(n)
	v, ok := cutText(&inner)
	r.bad = r.bad || !ok || !inner.Empty()
	return v
}

func cutText(s *cryptobyte.String) (string, bool) {
	var v cryptobyte.String
	if !s.ReadASN1(&v, tagGeneralString) || len(v) > maxName || strings.IndexByte(string(v), 0) >= 0 {
		return "", false
	}
	return string(v), true
}

// time reads a KerberosTime (RFC 4120 5.2.3): UTC, whole seconds.
func (r *reader) time(n uint8) (t time.Time) {
	inner := r.explicit(n)
	r.bad = r.bad || !inner.ReadASN1GeneralizedTime(&t) || !inner.Empty() || t.Year() < 1970
	return t
}

// flags reads KerberosFlags (RFC 4120 5.2.8), of which the first 32 count: bit
// 0 is the highest.
func (r *reader) flags(n uint8) (f uint32) {
	inner := r.explicit(n)
	var bits asn1.BitString
	if r.bad || !inner.ReadASN1BitString(&bits) || !inner.Empty() {
		r.bad = true
		return 0
	}
	for i := range 32 {
		f = f<<1 | uint32(bits.At(i))
	}
	return f
}

// principal is PrincipalName (RFC 4120 5.2.2).
type principal struct {
	kind  int32
	parts []string
}

// quoted marks what separates the parts of a name where it is a part of one.
var quoted = strings.NewReplacer(`\`, `\\`, "/", `\/`, "@", `\@`)

// String is the name without its realm, as other programs write it too. No two
// names have the same one, so that it may be looked up in a configuration.
func (p principal) String() string {
	parts := make([]string, len(p.parts))
	for i, part := range p.parts {
		parts[i] = quoted.Replace(part)
	}
	return strings.Join(parts, "/")
}

// equal compares the parts: the kind is a hint (RFC 4120 6.2).
func (p principal) equal(q principal) bool {
	if len(p.parts) != len(q.parts) {
		return false
	}
	for i := range p.parts {
		if p.parts[i] != q.parts[i] {
			return false
		}
	}
	return true
}

func (r *reader) principal(n uint8) (p principal) {
	seq := r.sequence(n)
	p.kind = seq.int32(0)
	inner := seq.explicit(1)
	var list cryptobyte.String
	if !inner.ReadASN1(&list, cbasn1.SEQUENCE) || !inner.Empty() || list.Empty() {
		seq.bad = true
	}
	for !seq.bad && !list.Empty() {
		part, ok := cutText(&list)
		seq.bad = !ok || len(p.parts) == maxParts
		p.parts = append(p.parts, part)
	}
	r.end(seq)
	return p
}

// key reads an EncryptionKey (RFC 4120 5.2.9), copied.
func (r *reader) key(n uint8) (k Key) {
	seq := r.sequence(n)
	k.Type = EncType(seq.int32(0))
	k.Value = append([]byte(nil), seq.octets(1)...)
	r.end(seq)
	return k
}

// encrypted is EncryptedData (RFC 4120 5.2.9).
type encrypted struct {
	etype   EncType
	kvno    uint32
	hasKvno bool
	cipher  []byte
}

func (r *reader) encrypted(n uint8) (e encrypted) {
	seq := r.sequence(n)
	e.etype = EncType(seq.int32(0))
	if e.hasKvno = seq.has(1); e.hasKvno {
		e.kvno = seq.uint32(1)
	}
	e.cipher = seq.octets(2)
	r.end(seq)
	return e
}
