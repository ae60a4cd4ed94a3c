package clitest

import (
	"encoding/json"
	"io"
	"os"
	"strings"
	"testing"
)

// jsonDocument says what each command prints by --json. Tests of a command run in
// its directory.
const jsonDocument = "../../docs/json.md"

// DecodeJSON decodes what a command printed by --json into v, which has to have a
// place for all of it. It is to be one object and nothing else, and each name in it,
// and in what it contains, is to stand in the section of the command in docs/json.md.
func DecodeJSON(t *testing.T, command, printed string, v any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(printed))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		t.Fatalf("%s: %v in %q", command, err, printed)
	}
	if _, err := d.Token(); err != io.EOF {
		t.Errorf("%s: there is more than one object: %q", command, printed)
	}
	var all map[string]any
	if err := json.Unmarshal([]byte(printed), &all); err != nil {
		t.Fatalf("%s: %v in %q", command, err, printed)
	}
	section, seen := jsonSection(t, command), make(map[string]bool)
	eachName(all, func(name string) {
		if !seen[name] && !strings.Contains(section, "`"+name+"`") {
			t.Errorf("%s: %q is not in its section of docs/json.md", command, name)
		}
		seen[name] = true
	})
}

// jsonSection is the section of a command in the document.
func jsonSection(t *testing.T, command string) string {
	t.Helper()
	text, err := os.ReadFile(jsonDocument)
	if err != nil {
		t.Fatal(err)
	}
	for _, section := range strings.Split(string(text), "\n### ")[1:] {
		heading, body, _ := strings.Cut(section, "\n")
		if strings.Contains(heading, "`"+command+"`") {
			body, _, _ = strings.Cut(body, "\n## ")
			return body
		}
	}
	t.Errorf("docs/json.md has no section on %s", command)
	return ""
}

// eachName calls visit for the names in a decoded value.
func eachName(v any, visit func(string)) {
	switch v := v.(type) {
	case map[string]any:
		for name, value := range v {
			visit(name)
			eachName(value, visit)
		}
	case []any:
		for _, value := range v {
			eachName(value, visit)
		}
	}
}
