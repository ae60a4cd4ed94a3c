package interop

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed05845750/bkrp/internal/doctest"
	"github.com/seed05845750/bkrp/interop/peers"
)

// documentShell is a shell that finds both programs as they are shipped, in a new
// directory, which is its home as well.
func documentShell(t *testing.T, env []string, within ...string) (sh *doctest.Shell, dir string) {
	t.Helper()
	dir = t.TempDir()
	path := filepath.Dir(build(t, "bkrp")) + ":" + filepath.Dir(build(t, "bkrpd")) + ":" + os.Getenv("PATH")
	return doctest.NewShell(t, dir, append([]string{"PATH=" + path, "HOME=" + dir}, env...), within...), dir
}

// applySettings changes a configuration as a reader of a document would, by a block
// of TOML in it, with what stands for the document's names.
func applySettings(t *testing.T, config string, block *doctest.Block, replace ...string) {
	t.Helper()
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	edited, table, changed := string(text), "", 0
	for line := range strings.Lines(strings.NewReplacer(replace...).Replace(block.Text)) {
		line, _, _ = strings.Cut(line, " #")
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "["); ok && strings.HasSuffix(line, "]") {
			table = strings.TrimSuffix(name, "]") + "."
			continue
		}
		if name, value, ok := strings.Cut(line, "="); ok {
			edited = setKey(t, edited, table+strings.TrimSpace(name), strings.TrimSpace(value))
			changed++
		}
	}
	if changed == 0 {
		t.Fatalf("%v sets nothing", block)
	}
	if err := os.WriteFile(config, []byte(edited), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestRecoveryDocument runs docs/recovery.md on a file of Windows.
func TestRecoveryDocument(t *testing.T) {
	doc := doctest.Open(t, filepath.Join("..", "docs", "recovery.md"))
	doc.Exempt(`%APPDATA%\`, "where Windows keeps the file")
	r, file, pair := adatumFiles(t)
	peers.Need(t, "bash")
	s := startAdatum(t, pair)
	who := s.credentials(peers.Administrator)
	me := newIdentity(t)
	sh, dir := documentShell(t, []string{"BKRP_PASSWORD_FILE=password", "RECIPIENT=" + me.Recipient().String()})
	replace := []string{
		"FILE=7fc19508-7b85-4a7c-9e5d-15f9e00e7ce5", "FILE=" + file,
		"dc1.example.com", s.addr, `EXAMPLE\alice`, who.Domain + `\` + who.User, "/var/lib/bkrpd/bkrpd.toml", s.config(),
	}
	writePassword(t, filepath.Join(dir, "password"), who.Password)
	writePassword(t, filepath.Join(dir, "me.key"), me.String())
	gives := func(name string) {
		t.Helper()
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(b) != r.masterKey() {
			t.Errorf("%s: %d octets, %v", name, len(b), err)
		}
	}
	doc.Follow(doctest.Script{Shell: sh, Replace: replace, Steps: map[string]doctest.Step{
		"bkrp inspect $FILE": {After: func(out doctest.Result) {
			if !strings.Contains(out.Stdout, "DPAPI master key file") {
				t.Errorf("inspect: %s", out.Stdout)
			}
			sh.Must(`KEY=$(bkrp inspect $FILE | awk '/domain key/ {seen = 1} seen && $1 == "guidKey" {print $2; exit}')`, "")
			if key := strings.TrimSpace(sh.Must("echo $KEY", "")); key != adatumKey {
				t.Fatalf("inspect shows the key %q:\n%s", key, out.Stdout)
			}
		}},
		`bkrp dpapi recover $FILE --server $SERVER -U "$OWNER" -o master.key`: {After: func(doctest.Result) {
			gives("master.key")
			for format, length := range map[string]string{"raw": "64", "sha1": "80"} { // {GUID}:SHA1 and a line end
				n := sh.Must(`bkrp dpapi recover $FILE --server $SERVER -U "$OWNER" --format `+format+" | wc -c", "")
				if strings.TrimSpace(n) != length {
					t.Errorf("--format %s gives %s octets", format, n)
				}
			}
		}},
		"bkrp dpapi recover $FILE --key-file …": {After: func(out doctest.Result) {
			gives("by-authority.key")
			if !strings.Contains(out.Stderr, "of "+adatumSID+"-500, opened by ClientWrap key "+adatumKey) {
				t.Errorf("it does not say whose the key is: %s", out.Stderr)
			}
		}},
	}})
}
