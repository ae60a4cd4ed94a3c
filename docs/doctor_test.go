package docs_test

import (
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/seed05845750/bkrp/bkrptest"
	"github.com/seed05845750/bkrp/internal/dclocator/locatortest"
	"github.com/seed05845750/bkrp/internal/doctest"
	"github.com/seed05845750/bkrp/internal/doctor"
)

// TestDoctor runs docs/doctor.md on a domain whose DNS and server have ports of
// their own.
func TestDoctor(t *testing.T) {
	doc := doctest.Open(t, "doctor.md")
	d := bkrptest.NewDomain(t)
	alice := d.User("alice")
	_, port, err := net.SplitHostPort(d.Addr())
	if err != nil {
		t.Fatal(err)
	}
	dns := locatortest.Start(t, d.Name, &locatortest.DC{Name: "dc1"}).DNS
	sh, dir := newShell(t, "BKRP_PASSWORD_FILE=password")
	write(t, filepath.Join(dir, "password"), string(alice.Password)+"\n")
	doc.Follow(doctest.Script{
		Shell: sh,
		Replace: []string{
			"doctor example.com", "doctor " + d.Name + " --dns " + dns + " --port " + port,
			"dc1.example.com", d.Addr(),
			`EXAMPLE\alice`, d.NetBIOSName + `\alice`,
		},
		Steps: map[string]doctest.Step{
			`bkrp doctor example.com -U 'EXAMPLE\alice' --json`: {After: func(r doctest.Result) {
				for _, field := range []string{"verdict", "servers", "findings", "key", "server_key"} {
					want(t, "--json", r.Stdout, `"`+field+`": `)
				}
			}},
			`bkrp doctor --server dc1.example.com -U 'EXAMPLE\alice' --oracle --yes-these-are-mine`: {After: func(r doctest.Result) {
				sent := 0
				for _, m := range regexp.MustCompile(`\soracle\s+ok\s.*\s(\d+) secrets`).FindAllStringSubmatch(r.Stdout, -1) {
					n, err := strconv.Atoi(m[1])
					if err != nil {
						t.Fatal(err)
					}
					sent += n
				}
				if !strings.Contains(doc.Text, fmt.Sprintf("\nsends %d malformed secrets", sent)) {
					t.Errorf("%d secrets were sent:\n%s", sent, r.Stdout)
				}
			}},
		},
	})
	for _, check := range doctor.Checks() {
		if !strings.Contains(doc.Text, "| `"+check+"` |") {
			t.Errorf("the document does not say what %s is", check)
		}
	}
}
