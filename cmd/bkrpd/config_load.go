package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

const environmentPrefix = "BKRPD_"

// flagSetting is a value given on the command line.
type flagSetting struct {
	// flag is how the user wrote it, such as "--listen".
	flag string
	// key is the option it sets, such as "listen".
	key string
	// value is its text; the elements of a list are separated by commas.
	value string
}

// loadConfig reads the configuration file at path under the environment's and
// the command line's settings. Its error has one line for each thing that is
// wrong, with the file, line and key, or the variable or flag.
func loadConfig(path string, flags []flagSetting) (*config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	c, err := parseConfig(path, string(text), os.Environ(), flags)
	if err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	c.resolve(dir)
	c.Source = filepath.Join(dir, filepath.Base(path))
	return c, nil
}

// parseConfig is loadConfig without the file system: paths stay as they are.
func parseConfig(name, text string, environ []string, flags []flagSetting) (*config, error) {
	c := defaultConfig()
	l := loader{name: name, text: text, options: c.options(), origin: make(map[string]string)}
	if err := l.file(); err != nil {
		return nil, err
	}
	l.environment(environ)
	for _, f := range flags {
		l.override(f.flag, f.key, f.value)
	}
	if c.Auth.Keytab != "" && !l.given("auth.ntlm") {
		// Who has Kerberos has to say so to have NTLM as well.
		c.Auth.NTLM = ntlmOff
	}
	if len(l.errs) == 0 {
		for _, f := range c.check() {
			l.fail(l.where(f.key), f.key, f.err)
		}
	}
	if len(l.errs) > 0 {
		return nil, errors.Join(l.errs...)
	}
	return &c, nil
}

// loader fills a configuration from its sources, the strongest last, and
// gathers everything that is wrong with them.
type loader struct {
	name, text string
	options    []option
	// origin says for each key that is not from the file who set it.
	origin map[string]string
	errs   []error
}

// given reports whether some source sets the key.
func (l *loader) given(key string) bool {
	_, override := l.origin[key]
	return override || lineOf(l.text, strings.Split(key, ".")) > 0
}

func (l *loader) fail(where, key string, err error) {
	l.errs = append(l.errs, fmt.Errorf("%s: %s: %w", where, key, err))
}

// where is the place of the value of a key: a variable, a flag, or a line.
func (l *loader) where(key string) string {
	if origin, ok := l.origin[key]; ok {
		return origin
	}
	if line := lineOf(l.text, strings.Split(key, ".")); line > 0 {
		return fmt.Sprintf("%s:%d", l.name, line)
	}
	return l.name
}

func (l *loader) option(key string) (option, bool) {
	i := slices.IndexFunc(l.options, func(o option) bool { return o.key == key })
	if i < 0 {
		return option{}, false
	}
	return l.options[i], true
}

// isTable reports whether key is a table that holds options.
func (l *loader) isTable(key string) bool {
	return slices.ContainsFunc(l.options, func(o option) bool { return strings.HasPrefix(o.key, key+".") })
}

// file reads the file. It returns an error when that is not TOML, where
// nothing else of it can be judged.
func (l *loader) file() error {
	var tree map[string]any
	meta, err := toml.Decode(l.text, &tree)
	if err != nil {
		var syntax toml.ParseError
		if errors.As(err, &syntax) {
			return fmt.Errorf("%s:%d: %s", l.name, syntax.Position.Line, syntax.Message)
		}
		return fmt.Errorf("%s: %w", l.name, err)
	}
	var refused []toml.Key
	for _, key := range meta.Keys() {
		if slices.ContainsFunc(refused, func(r toml.Key) bool { return len(r) <= len(key) && slices.Equal(r, key[:len(r)]) }) {
			continue
		}
		dotted := strings.Join(key, ".")
		o, known := l.option(dotted)
		value := lookup(tree, key)
		_, isTable := value.(map[string]any)
		switch {
		case known && !isTable:
			if err := o.set(value); err != nil {
				l.fail(l.where(dotted), dotted, err)
			}
			continue
		case known:
			l.fail(l.where(dotted), dotted, errors.New("must be a value, not a table"))
		case !l.isTable(dotted):
			l.fail(l.where(dotted), dotted, l.unknown(dotted))
		case !isTable:
			l.fail(l.where(dotted), dotted, errors.New("must be a table, not a value"))
		default:
			continue
		}
		refused = append(refused, key)
	}
	return nil
}

func lookup(tree map[string]any, key toml.Key) any {
	var v any = tree
	for _, name := range key {
		table, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = table[name]
	}
	return v
}

// environment takes the variables that begin with BKRPD_. One that is no
// option is refused like an unknown key: it was meant to change something.
func (l *loader) environment(environ []string) {
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(name, environmentPrefix) || name == passwordFileEnv {
			continue
		}
		i := slices.IndexFunc(l.options, func(o option) bool { return o.environment() == name })
		if i < 0 {
			key := strings.ToLower(strings.TrimPrefix(name, environmentPrefix))
			l.errs = append(l.errs, fmt.Errorf("environment: %s: %w", name, l.unknown(key)))
			continue
		}
		l.override("environment "+name, l.options[i].key, value)
	}
}

func (l *loader) override(origin, key, value string) {
	l.origin[key] = origin
	o, ok := l.option(key)
	if !ok {
		l.fail(origin, key, l.unknown(key))
		return
	}
	if err := o.setText(value); err != nil {
		l.fail(origin, key, err)
	}
}

// unknown is the error for a key that is no option, with the one that was
// perhaps meant.
func (l *loader) unknown(key string) error {
	if near := nearest(key, l.options); near != "" {
		return fmt.Errorf("unknown key; did you mean %s?", near)
	}
	return errors.New("unknown key")
}

// nearest is the option whose key is a few slips of the keyboard away from
// key, or whose last part is that of key, or "".
func nearest(key string, options []option) string {
	best, distance := "", 1+max(2, len(key)/4)
	for _, o := range options {
		if d := slips(normal(key), normal(o.key)); d < distance {
			best, distance = o.key, d
		}
	}
	if best != "" {
		return best
	}
	last := key[strings.LastIndexByte(key, '.')+1:]
	for _, o := range options {
		if strings.HasSuffix(o.key, "."+last) {
			return o.key
		}
	}
	return ""
}

// normal folds what does not tell two keys apart for a person.
func normal(key string) string {
	return strings.NewReplacer("_", "", "-", "", ".", "").Replace(strings.ToLower(key))
}

// slips is how many letters have to be added, dropped or changed to make b of
// a (Levenshtein's distance).
func slips(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// lineOf is the line of text where the value of key stands, or 0. The decoder
// knows it but tells it only in the errors of values that refuse to be
// decoded, so that is what this one does.
func lineOf(text string, key toml.Key) int {
	var table map[string]toml.Primitive
	meta, err := toml.Decode(text, &table)
	for i := 0; err == nil && i < len(key); i++ {
		value, ok := table[key[i]]
		if !ok {
			return 0
		}
		if i == len(key)-1 {
			err = meta.PrimitiveDecode(value, refuser{})
			break
		}
		table = nil
		err = meta.PrimitiveDecode(value, &table)
	}
	var position toml.ParseError
	if errors.As(err, &position) {
		return position.Position.Line
	}
	return 0
}

// refuser is a value that takes nothing.
type refuser struct{}

func (refuser) UnmarshalTOML(any) error { return errors.New("refused") }
