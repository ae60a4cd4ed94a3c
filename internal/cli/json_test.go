package cli

import (
	"bytes"
	"testing"

	"github.com/spf13/cobra"
)

func TestPrintJSON(t *testing.T) {
	var out bytes.Buffer
	asJSON := false
	root := &cobra.Command{Use: "library"}
	lend := &cobra.Command{Use: "lend", RunE: func(*cobra.Command, []string) error {
		if !asJSON {
			t.Error("--json was not seen")
		}
		return PrintJSON(&out, map[string]any{"title": "Pride & Prejudice", "volumes": []int{1, 2}})
	}}
	AddJSONFlag(lend, &asJSON)
	root.AddCommand(lend)
	var stderr bytes.Buffer
	root.SetErr(&stderr)
	if code := Run(t.Context(), root, []string{"lend", "--json"}, Failures{}); code != ExitOK {
		t.Fatalf("exit code %d: %s", code, &stderr)
	}
	const want = `{
  "title": "Pride & Prejudice",
  "volumes": [
    1,
    2
  ]
}
`
	if out.String() != want {
		t.Errorf("got %s", &out)
	}
}

// A flag is taken by its other name, and no other name is.
func TestOtherNames(t *testing.T) {
	for _, test := range []struct {
		flag string
		code int
		want string
	}{
		{"--out", ExitOK, "file"},
		{"--output", ExitOK, "file"},
		{"-o", ExitOK, "file"},
		{"--outp", ExitUsage, ""},
		{"--input", ExitUsage, ""}, // the command has no --in
	} {
		root := &cobra.Command{Use: "library", Short: "a program"}
		got := ""
		out := ""
		lend := &cobra.Command{Use: "lend", RunE: func(*cobra.Command, []string) error {
			got = out
			return nil
		}}
		lend.Flags().StringVarP(&out, "out", "o", "", "where to")
		lend.MarkFlagRequired("out")
		root.AddCommand(lend)
		Prepare(root, "1")
		var stderr bytes.Buffer
		root.SetErr(&stderr)
		code := Run(t.Context(), root, []string{"lend", test.flag, "file"}, Failures{})
		if code != test.code || got != test.want {
			t.Errorf("%s: exit code %d, %q: %s", test.flag, code, got, &stderr)
		}
	}
}
