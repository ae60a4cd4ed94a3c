package main

import (
	"encoding"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
)

// writeSample writes values as a configuration file: every key there is, each
// with its line of explanation. "bkrpd init" makes its file with it.
func writeSample(w io.Writer, values config) error {
	var text strings.Builder
	text.WriteString("# Configuration of bkrpd. BKRPD_SMB_ENCRYPTION in the environment overrides\n" +
		"# smb.encryption, and so on. Relative paths start from this file's directory.\n")
	table := ""
	for _, o := range values.options() {
		name := o.key
		if i := strings.LastIndexByte(o.key, '.'); i >= 0 {
			if o.key[:i] != table {
				table = o.key[:i]
				fmt.Fprintf(&text, "\n[%s]", table)
			}
			name = o.key[i+1:]
		}
		value, err := tomlValue(o.value)
		if err != nil {
			return fmt.Errorf("writing %s: %w", o.key, err)
		}
		fmt.Fprintf(&text, "\n# %s%s\n%s = %s\n", o.doc, choices(o.oneof), name, value)
	}
	_, err := io.WriteString(w, text.String())
	return err
}

// choices is the end of an option's explanation: what it can be.
func choices(values []string) string {
	if len(values) < 2 {
		return ""
	}
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = strconv.Quote(v)
	}
	return " One of " + strings.Join(quoted, ", ") + "."
}

// tomlValue writes a value in TOML's syntax.
func tomlValue(v reflect.Value) (string, error) {
	switch m, ok := v.Interface().(encoding.TextMarshaler); {
	case ok:
		text, err := m.MarshalText()
		return tomlString(string(text)), err
	case v.Kind() == reflect.String:
		return tomlString(v.String()), nil
	case v.Kind() == reflect.Int:
		return strconv.FormatInt(v.Int(), 10), nil
	case v.Kind() == reflect.Slice:
		elements := make([]string, v.Len())
		for i := range elements {
			var err error
			if elements[i], err = tomlValue(v.Index(i)); err != nil {
				return "", err
			}
		}
		return "[" + strings.Join(elements, ", ") + "]", nil
	}
	return "", fmt.Errorf("no TOML for %s", v.Type())
}

// tomlString writes a basic string: TOML has \u and \U escapes, but no \x.
func tomlString(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
