package docs_test

import (
	"encoding/json"
	"path/filepath"
	"testing"

	"github.com/seed05845750/bkrp/internal/doctest"
)

// TestJSON runs what docs/json.md shows. That its names are those that are printed
// is tested with the commands.
func TestJSON(t *testing.T) {
	doc := doctest.Open(t, "json.md")
	sh, home := newShell(t)
	dir := filepath.Join(home, "domain")
	sh.Must("bkrpd init --domain example.com --dir "+dir, "")
	doc.Follow(doctest.Script{
		Shell:   sh,
		Replace: []string{"/var/lib/bkrpd", dir},
		Steps: map[string]doctest.Step{
			"bkrpd user add alice …": {Stdin: "Correct.Horse.1\n", After: func(r doctest.Result) {
				var account struct{ Name, SID string }
				if err := json.Unmarshal([]byte(r.Stdout), &account); err != nil || account.Name != "alice" {
					t.Errorf("%q: %v", r.Stdout, err)
				}
				want(t, "the SID", account.SID, "^S-1-5-21-.*-1100$")
			}},
		},
	})
}
