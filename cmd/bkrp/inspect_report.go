package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/seed05845750/bkrp/internal/cli"
)

// report is what is to be said about a file.
type report struct {
	kind    string // for programs, "client-wrapped-secret"
	title   string // for people
	section string // of [MS-BKRP], or ""
	size    int
	fields  []field
}

// field is one line of a report. A name is what the specification calls the
// field; a key is what JSON calls it.
type field struct {
	name, key string
	value     any // string, int, bool or *report
	note      string
}

func newReport(kind, title, section string, data []byte) *report {
	return &report{kind: kind, title: title, section: section, size: len(data)}
}

// add appends a field.
func (r *report) add(name, key string, value any) *field {
	r.fields = append(r.fields, field{name: name, key: key, value: value})
	return &r.fields[len(r.fields)-1]
}

// octets appends a field of which only the length is shown.
func (r *report) octets(name, key string, n int, note string) {
	r.add(name, key+"_length", n).note = note
}

// print prints the report for people.
func (r *report) print(w io.Writer) error {
	var b strings.Builder
	r.write(&b, "", func(heading string) string { return cli.Paint(w, cli.Bold, heading) })
	_, err := io.WriteString(w, b.String())
	return err
}

// write writes the report with its headings as paint has them.
func (r *report) write(b *strings.Builder, indent string, paint func(heading string) string) {
	fmt.Fprintf(b, "%s%s, %d octets", indent, paint(r.title), r.size)
	if r.section != "" {
		fmt.Fprintf(b, " ([MS-BKRP] %s)", r.section)
	}
	b.WriteByte('\n')
	width := 0
	for _, f := range r.fields {
		width = max(width, utf8.RuneCountInString(f.name))
	}
	for _, f := range r.fields {
		if sub, ok := f.value.(*report); ok {
			fmt.Fprintf(b, "%s  %s:\n", indent, paint(f.name))
			sub.write(b, indent+"    ", paint)
			continue
		}
		value := cli.OneLine(fmt.Sprint(f.value))
		if strings.HasSuffix(f.key, "_length") {
			value += " octets"
		}
		fmt.Fprintf(b, "%s  %-*s  %s", indent, width, f.name, value)
		if f.note != "" {
			fmt.Fprintf(b, "  (%s)", cli.OneLine(f.note))
		}
		b.WriteByte('\n')
	}
}

// MarshalJSON gives an object with kind, section, size and the fields, in
// their order.
func (r *report) MarshalJSON() ([]byte, error) {
	fields, err := objectOf(r.fields)
	if err != nil {
		return nil, err
	}
	return objectOf([]field{
		{key: "kind", value: r.kind},
		{key: "section", value: r.section},
		{key: "size", value: r.size},
		{key: "fields", value: json.RawMessage(fields)},
	})
}

func objectOf(fields []field) ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, f := range fields {
		if i > 0 {
			b.WriteByte(',')
		}
		v, err := json.Marshal(f.value)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "%q:%s", f.key, v)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// fingerprint is the SHA-256 of b in hexadecimal.
func fingerprint(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
