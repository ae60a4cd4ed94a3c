package docs_test

import (
	"path/filepath"
	"testing"

	"github.com/seed05845750/bkrp/internal/doctest"
)

// TestKeys runs docs/keys.md on a store that no daemon has open, and again with one.
func TestKeys(t *testing.T) {
	t.Run("without a daemon", func(t *testing.T) { keysAreRun(t, false) })
	t.Run("with a daemon", func(t *testing.T) { keysAreRun(t, true) })
}

func keysAreRun(t *testing.T, daemon bool) {
	doc := doctest.Open(t, "keys.md")
	sh, home := newShell(t)
	dir := filepath.Join(home, "domain")
	config := filepath.Join(dir, "bkrpd.toml")
	sh.Must("bkrpd init --domain example.com --dir "+dir, "")
	if daemon {
		sh.Serve("bkrpd serve --listen 127.0.0.1:0 --config " + config)
	}
	sh.Must("bkrpd keys rotate client --config "+config, "")
	sh.Must("bkrpd keys rotate server --config "+config, "")
	doc.Follow(doctest.Script{
		Shell:   sh,
		Replace: []string{"/var/lib/bkrpd", dir},
		Steps: map[string]doctest.Step{
			"bkrpd keys list --config $CONFIG": {After: func(r doctest.Result) {
				want(t, "list", r.Stdout, `ServerWrap\s+active\s+yes`)
				sh.Must(`KEY=$(bkrpd keys list --config $CONFIG | awk '$2 == "ClientWrap" && $4 == "yes" {print $1}'); test -n "$KEY"`, "")
			}},
			"bkrpd keys rollback client --config $CONFIG": {After: func(r doctest.Result) { want(t, "rollback", r.Stdout, ".") }},
			"bkrpd keys retire $KEY --config $CONFIG":     {After: keyIs(t, sh, "retired")},
			"bkrpd keys lock $KEY --config $CONFIG":       {After: keyIs(t, sh, "locked")},
			"bkrpd keys activate $KEY --config $CONFIG":   {After: keyIs(t, sh, "active")},
			// What stands between these two, for each configuration.
			"bkrpd rekey --status --config $CONFIG": {Before: func() {
				sh.Must(`sed -i 's|^kek = .*|kek = "file:kek-2.bin"|' $CONFIG`, "")
			}},
			"bkrpd rekey --finish --config $CONFIG": {After: func(doctest.Result) {
				sh.Must("rm $DIR/kek.bin && bkrpd keys list --config $CONFIG", "")
			}},
			// It can be given up before the last step, so not the one that is done.
			"bkrpd rekey --abandon --config $CONFIG": {Before: func() {
				sh.Must("bkrpd rekey --to file:$DIR/kek-3.bin --create --config $CONFIG", "")
			}, After: func(doctest.Result) {
				sh.Must("rm $DIR/kek-3.bin && bkrpd keys list --config $CONFIG", "")
			}},
		},
	})
	for _, command := range []string{"list", "show $KEY", "who $KEY"} { // "all three take --json"
		sh.Must("bkrpd keys "+command+" --json --config $CONFIG", "")
	}
}

// keyIs demands that a key is in a state.
func keyIs(t *testing.T, sh *doctest.Shell, state string) func(doctest.Result) {
	return func(doctest.Result) {
		t.Helper()
		want(t, "keys list", sh.Must("bkrpd keys list --config $CONFIG | grep $KEY", ""), `ClientWrap\s+`+state+`\s`)
	}
}
