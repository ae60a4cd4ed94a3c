package docs_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/seed05845750/bkrp/internal/doctest"
)

// TestBackup runs docs/backup.md on a store with a key of each kind and a user.
func TestBackup(t *testing.T) {
	doc := doctest.Open(t, "backup.md")
	me, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	sh, home := newShell(t, "RECIPIENT="+me.Recipient().String())
	write(t, filepath.Join(home, "me.key"), me.String()+"\n")
	dir := filepath.Join(home, "domain")
	sh.Must("bkrpd init --domain example.com --dir "+dir, "")
	for _, command := range []string{"keys rotate client", "keys rotate server", "user add alice"} {
		sh.Must("bkrpd "+command+" --config "+dir+"/bkrpd.toml", "Correct.Horse.1\n")
	}
	proved := func(r doctest.Result) {
		t.Helper()
		want(t, "drill", r.Stdout, `2 of 2 keys open what is wrapped under them, 0 need their token; 1 account, .* 0 things wrong`)
	}
	doc.Follow(doctest.Script{
		Shell:   sh,
		Replace: []string{"/var/lib/bkrpd", dir},
		Steps: map[string]doctest.Step{
			"bkrpd backup -o monday.bkrp …": {After: func(r doctest.Result) {
				// Asked for, or from standard input.
				proved(doctest.Result{Stdout: sh.Must("bkrpd drill monday.bkrp", r.Stdout)})
				if info, err := os.Stat(filepath.Join(home, "monday.bkrp")); err != nil || info.Mode().Perm() != 0o600 {
					t.Errorf("%v, %v", info, err)
				}
			}},
			"bkrpd backup -o tuesday.bkrp …": {After: func(doctest.Result) {
				sh.Must(`test "$(ls shares | wc -l)" = 5`, "")
			}},
			"bkrpd drill wednesday.bkrp --identity me.key": {After: proved},
			"bkrpd drill tuesday.bkrp …":                   {After: proved},
			"bkrpd restore …": {
				Before: func() { sh.Must("rm $DIR/bkrpd.db $DIR/kek.bin", "") },
				After: func(r doctest.Result) {
					want(t, "restore", r.Stdout, `restored example\.com to .*bkrpd\.db: 2 keys, 1 account, .* entries`)
					want(t, "keys list", sh.Must("bkrpd keys list --config $CONFIG | grep -c 'active.*yes'", ""), "^2$")
					want(t, "user list", sh.Must("bkrpd user list --config $CONFIG", ""), `^alice\s+S-1-5-21-.*-1100$`)
					// "A RID that is higher by 100,000".
					want(t, "user add", sh.Must("bkrpd user add bob --config $CONFIG", "Correct.Horse.1\n"), `^bob\s+S-1-5-21-.*-101101$`)
				},
			},
			"bkrpd combine …": {After: func(r doctest.Result) {
				want(t, "combine", r.Stdout, "^$")
				want(t, "mode of the identity", sh.Must("stat -c %a combined.key", ""), "^600$")
				proved(doctest.Result{Stdout: sh.Must("bkrpd drill tuesday.bkrp --identity combined.key", "")})
				// "Without -o it is printed".
				if _, err := age.ParseX25519Identity(strings.TrimSpace(sh.Must("bkrpd combine tuesday.bkrp $(printf -- ' --share-file %s' shares/*-[135]-of-5.txt)", ""))); err != nil {
					t.Error(err)
				}
			}},
		},
	})
}
