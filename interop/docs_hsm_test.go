package interop

import (
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/seed05845750/bkrp/internal/doctest"
	"github.com/seed05845750/bkrp/interop/peers"
	"github.com/seed05845750/bkrp/keystore/hsm"
)

func newIdentity(t *testing.T) *age.X25519Identity {
	t.Helper()
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return identity
}

// TestHSMDocument runs docs/hsm.md with SoftHSM, from building bkrpd to a secret that
// the token unwraps.
func TestHSMDocument(t *testing.T) {
	doc := doctest.Open(t, filepath.Join("..", "docs", "hsm.md"))
	naming := doc.Take("kms:pkcs11:token=LABEL")
	settings := doc.Take("[hsm]\n")
	uri, err := hsm.ParseURI(strings.TrimSpace(strings.TrimPrefix(naming.Text, "kms:")))
	if err != nil || uri.Token != "LABEL" || uri.Object != "NAME" || uri.Module != "/LIBRARY" || uri.PINSource != "/FILE" {
		t.Errorf("%v: %+v, %v", naming, uri, err)
	}

	peers.Need(t, "gcc", "bash")
	h := peers.NewSoftHSM(t, t.TempDir()) // without tokens
	sh, dir := documentShell(t, append(doctest.GoEnvironment(t), h.Environment(), "BKRP_PASSWORD_FILE=password", "GOBIN="))
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	server, config := filepath.Join(dir, "server"), filepath.Join(dir, "server", "bkrpd.toml")
	writePassword(t, filepath.Join(dir, "password"), "Correct.Horse.1")
	replace := []string{"/var/lib/bkrpd", server, "/etc/bkrpd.pin", filepath.Join(dir, "pin"), "/usr/lib/softhsm/libsofthsm2.so", h.Module}
	doc.Follow(doctest.Script{
		Shell: sh,
		Replace: append([]string{
			"--label bkrp", "--label bkrp --pin 4711 --so-pin 1147", // asked for otherwise
		}, replace...),
		Steps: map[string]doctest.Step{
			"CGO_ENABLED=1 go install -tags pkcs11 ./cmd/bkrpd": {
				Before: func() { sh.Must("export GOPATH=$HOME/go && cd "+root, "") },
				After:  func(doctest.Result) { sh.Must("cd && export PATH=$HOME/go/bin:$PATH", "") },
			},
			"(umask 077; cat > …": {Stdin: "4711\n"},
			"bkrpd init …": {After: func(doctest.Result) {
				// A key of 3072 bits, in the token, and its URI in the configuration.
				sh.Must(`test "$(stat -c %a pin)" = 600 && test ! -e server/kek.bin`, "")
				sh.Must("grep '^kek = \"kms:pkcs11:token=bkrp;object=kek' "+config, "")
			}},
		},
	})

	applySettings(t, config, settings, replace[2:]...)
	sh.Must("bkrpd user add alice --config "+config, "Correct.Horse.1\n")
	s := sh.Serve("bkrpd serve --listen 127.0.0.1:0 --config " + config)
	sh.Must("SERVER="+strings.TrimPrefix(s.Said, listening), "")
	sh.Must(`bkrp wrap --server $SERVER -U 'EXAMPLE\alice' --mode client -o wrapped`, "in the token")
	const unwrap = `bkrp unwrap --server $SERVER -U 'EXAMPLE\alice' -i wrapped`
	if got := sh.Must(unwrap, ""); got != "in the token" {
		t.Errorf("unwrapped is %q", got)
	}
	// "cannot be exported: it is left out, and said".
	r := sh.Run("bkrpd keys export --plaintext --format lsa -o exported $(bkrpd keys list --config "+config+
		" | awk '$2 == \"ClientWrap\" {print $1}') --config "+config, "")
	if r.Code == 0 || !strings.Contains(r.Stderr, "cannot be read out of") {
		t.Errorf("export: exit code %d: %s", r.Code, r.Stderr)
	}
	s.Stop()
}
