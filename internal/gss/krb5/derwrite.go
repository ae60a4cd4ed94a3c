package krb5

import (
	"fmt"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// build writes the sequence of one message within its application tag.
func build(tag cbasn1.Tag, fields func(w writer)) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(tag, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { fields(writer{b}) })
	})
	out, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("krb5: building a message: %w", err)
	}
	return out, nil
}

// writer writes what a reader reads.
type writer struct{ *cryptobyte.Builder }

func (w writer) explicit(n uint8, content func(b *cryptobyte.Builder)) { w.AddASN1(field(n), content) }

func (w writer) sequence(n uint8, fields func(w writer)) {
	w.explicit(n, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { fields(writer{b}) })
	})
}

func (w writer) integer(n uint8, v int64) {
	w.explicit(n, func(b *cryptobyte.Builder) { b.AddASN1Int64(v) })
}

func (w writer) octets(n uint8, v []byte) {
	w.explicit(n, func(b *cryptobyte.Builder) { b.AddASN1OctetString(v) })
}

func (w writer) text(n uint8, v string) {
	w.explicit(n, func(b *cryptobyte.Builder) { addText(b, v) })
}

func addText(b *cryptobyte.Builder, v string) {
	b.AddASN1(tagGeneralString, func(b *cryptobyte.Builder) { b.AddBytes([]byte(v)) })
}

func (w writer) time(n uint8, t time.Time) {
	w.explicit(n, func(b *cryptobyte.Builder) { b.AddASN1GeneralizedTime(t.UTC()) })
}

func (w writer) flags(n uint8, f uint32) {
	w.explicit(n, func(b *cryptobyte.Builder) {
		b.AddASN1BitString([]byte{byte(f >> 24), byte(f >> 16), byte(f >> 8), byte(f)})
	})
}

func (w writer) principal(n uint8, p principal) {
	w.sequence(n, func(w writer) {
		w.integer(0, int64(p.kind))
		w.explicit(1, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				for _, part := range p.parts {
					addText(b, part)
				}
			})
		})
	})
}

func (w writer) key(n uint8, k Key) {
	w.sequence(n, func(w writer) {
		w.integer(0, int64(k.Type))
		w.octets(1, k.Value)
	})
}

func (w writer) encrypted(n uint8, e encrypted) {
	w.sequence(n, func(w writer) {
		w.integer(0, int64(e.etype))
		if e.hasKvno {
			w.integer(1, int64(e.kvno))
		}
		w.octets(2, e.cipher)
	})
}
