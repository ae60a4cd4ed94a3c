package main

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// option is one key of a configuration and the field that holds its value.
type option struct {
	// key is the full key with its tables, such as "smb.encryption".
	key   string
	doc   string
	oneof []string
	value reflect.Value
}

// options lists the fields of *c in their order.
func (c *config) options() []option {
	return appendOptions(nil, "", reflect.ValueOf(c).Elem())
}

func appendOptions(list []option, prefix string, table reflect.Value) []option {
	for i := range table.NumField() {
		field := table.Type().Field(i)
		if field.Tag.Get("toml") == "-" {
			continue
		}
		key := prefix + field.Tag.Get("toml")
		doc, leaf := field.Tag.Lookup("doc")
		if !leaf {
			list = appendOptions(list, key+".", table.Field(i))
			continue
		}
		o := option{key: key, doc: doc, value: table.Field(i)}
		if values, ok := field.Tag.Lookup("oneof"); ok {
			o.oneof = strings.Split(values, "|")
		}
		list = append(list, o)
	}
	return list
}

// environment is the name of the variable that sets the option.
func (o option) environment() string {
	return environmentPrefix + strings.ToUpper(strings.ReplaceAll(o.key, ".", "_"))
}

// set takes a value as the TOML decoder gives it.
func (o option) set(v any) error {
	list, isList := v.([]any)
	if o.value.Kind() != reflect.Slice {
		return o.setOne(o.value, v)
	}
	if !isList {
		return errors.New("must be a list in brackets")
	}
	values := reflect.MakeSlice(o.value.Type(), len(list), len(list))
	for i, element := range list {
		if err := o.setOne(values.Index(i), element); err != nil {
			return err
		}
	}
	o.value.Set(values)
	return nil
}

// setText takes a value from the environment or the command line, where the
// elements of a list are separated by commas.
func (o option) setText(text string) error {
	switch o.value.Kind() {
	case reflect.Slice:
		list := []any{}
		for element := range strings.SplitSeq(text, ",") {
			if element = strings.TrimSpace(element); element != "" {
				list = append(list, element)
			}
		}
		return o.set(list)
	case reflect.Int:
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return errors.New("must be a whole number")
		}
		return o.set(n)
	default:
		return o.set(text)
	}
}

func (o option) setOne(field reflect.Value, v any) error {
	if field.Kind() == reflect.Int {
		n, ok := v.(int64)
		if !ok || field.OverflowInt(n) {
			return errors.New("must be a whole number")
		}
		field.SetInt(n)
		return nil
	}
	text, ok := v.(string)
	if !ok {
		return errors.New("must be a string in quotes")
	}
	if u, ok := field.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return u.UnmarshalText([]byte(text))
	}
	if o.oneof != nil && !slices.Contains(o.oneof, text) {
		return fmt.Errorf("%q is not supported by this build, only %s", text, quoteAll(o.oneof))
	}
	field.SetString(text)
	return nil
}

func quoteAll(values []string) string {
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = strconv.Quote(v)
	}
	last := len(quoted) - 1
	if last == 0 {
		return quoted[0]
	}
	return strings.Join(quoted[:last], ", ") + " and " + quoted[last]
}
