package docs_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed05845750/bkrp/internal/doctest"
)

// TestBench runs docs/bench.md on two servers of bkrpd, with few calls. The second
// one stands for Samba, which TestBench of interop has in its place; that one also
// prints the tables.
func TestBench(t *testing.T) {
	doc := doctest.Open(t, "bench.md")
	doc.Exempt("machine  ", "printed by TestBench of interop with -load")
	sh, dir := newShell(t, "BKRP_PASSWORD_FILE=password", "BKRP_COMPARE_PASSWORD_FILE=password")
	write(t, filepath.Join(dir, "password"), "Correct.Horse.1\n")
	serve := func(name, netbios string) (addr, pid string) {
		config := filepath.Join(dir, name, "bkrpd.toml")
		sh.Must("bkrpd init --dir "+name+" --domain example.com --netbios "+netbios, "")
		sh.Must("bkrpd user add alice --config "+config, "Correct.Horse.1\n")
		s := sh.Serve("bkrpd serve --listen 127.0.0.1:0 --config " + config)
		return strings.TrimPrefix(s.Said, "listening on "), fmt.Sprint(s.PID())
	}
	ours, pid := serve("ours", "EXAMPLE")
	theirs, theirPID := serve("theirs", "SAMDOM")
	write(t, filepath.Join(dir, "samba.pid"), theirPID+"\n")
	doc.Follow(doctest.Script{
		Shell: sh,
		Replace: []string{
			"bkrp bench ", "bkrp bench --count 20 ",
			"127.0.0.1:4445", ours, "$(pidof bkrpd)", pid,
			"127.0.0.2", theirs, "/run/samba/samba.pid", "samba.pid",
		},
	})
}
