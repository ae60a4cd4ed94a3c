package cli

import (
	"encoding/json"
	"io"

	"github.com/spf13/cobra"
)

// AddJSONFlag gives a command the flag --json: by it the command prints what came
// of it by PrintJSON, and nothing else to standard output. Text for people (progress,
// hints, warnings) goes to standard error then, as errors always do, and exit codes
// are the same.
func AddJSONFlag(cmd *cobra.Command, asJSON *bool) {
	cmd.Flags().BoolVar(asJSON, "json", false, "print JSON, one object")
}

// PrintJSON prints v, which is to be one JSON object, indented. Secrets have no place
// in it.
func PrintJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
