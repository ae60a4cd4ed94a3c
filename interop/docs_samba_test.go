package interop

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/internal/doctest"
	"github.com/seed05845750/bkrp/interop/peers"
)

// TestSambaDocument goes through docs/samba.md step by step, on a domain controller
// as Samba makes one, there and back.
func TestSambaDocument(t *testing.T) {
	doc := doctest.Open(t, filepath.Join("..", "docs", "samba.md"))
	d := &sambaDocument{
		T: t, settings: doc.Take("listen = ["), withNTLM: doc.Take("[auth]\nntlm = \"netlogon\""),
		global: strings.TrimSpace(doc.Take("dcerpc endpoint servers").Text),
	}
	if d.global != withoutBackupKey {
		t.Errorf("the document has %q in smb.conf, and the other tests %q", d.global, withoutBackupKey)
	}
	d.start()
	before := wrapByTickets(t, d.dc, d.dc.Host, t.TempDir()) // by Samba's own service

	doc.Follow(doctest.Script{Shell: d.sh, Replace: d.replace, Steps: map[string]doctest.Step{
		"testparm -s --parameter-name='ncalrpc dir' …": {After: d.wantPrinted(d.dc.NCALRPCDir())},
		"testparm -s --parameter-name='private dir' …": {After: d.wantPrinted(d.private())},
		"net getdomainsid …":                           {After: d.domainSID},
		"bkrpd init …": {After: func(doctest.Result) {
			// For the alternative of step 3, which is another server.
			d.sh.Must("cp -r $DIR $DIR-bolt", "")
			applySettings(t, d.config(), d.settings, d.replace...)
		}},
		"bkrpd keys import --from-dc …": {Instead: d.importKeys},
		"bkrpd serve …": {Before: func() { d.restart(d.global) }, Instead: func(command string) {
			d.serve = command
			d.startServer()
			openByTickets(t, d.dc, d.dc.Host, before) // "nothing is lost on the way there"
		}},
		"smbtorture …": {Instead: d.torture},
		"(umask 077; cat > /var/lib/bkrpd/dc.password)": {Stdin: d.dc.Password(peers.Administrator) + "\n"},
		"(umask 077; cat > /var/lib/bkrpd/machine.password)…": {Stdin: machinePassword + "\n", After: func(doctest.Result) {
			d.sh.Must(`test "$(stat -c %a $DIR/machine.password)" = 600`, "")
		}},
	}})

	d.ntlm()
	d.wayBack()
}

// sambaDocument is the document's domain with bkrpd in it.
type sambaDocument struct {
	*testing.T
	settings, withNTLM *doctest.Block
	global             string
	dc                 *peers.Domain
	sh                 *doctest.Shell
	dir                string
	replace            []string
	serve              string // the document's command
	server             *doctest.Server
}

func (d *sambaDocument) config() string { return filepath.Join(d.dir, "bkrpd.toml") }

func (d *sambaDocument) private() string { return filepath.Dir(d.dc.Keytab()) }

// start starts the domain controller and a shell on it.
func (d *sambaDocument) start() {
	d.Helper()
	peers.Need(d, append([]string{"smbtorture", "testparm", "net"}, peers.DomainPrograms...)...)
	ctx, cancel := context.WithTimeout(d.Context(), 3*time.Minute)
	defer cancel()
	var err error
	if d.dc, err = peers.StartDomain(ctx); err != nil {
		d.Fatal(err)
	}
	d.Cleanup(func() {
		if err := d.dc.Close(); err != nil {
			d.Error(err)
		}
	})
	within, env := d.dc.OnController()
	passwords := d.TempDir()
	writePassword(d.T, filepath.Join(passwords, "administrator"), d.dc.Password(peers.Administrator))
	writePassword(d.T, filepath.Join(passwords, "alice"), d.dc.Password(peers.Alice))
	d.dir = filepath.Join(d.TempDir(), "bkrpd")
	d.sh, _ = documentShell(d.T, append(env, "DIR="+d.dir,
		// In the place of the terminal: for keys import, and for smbtorture.
		"BKRPD_PASSWORD_FILE="+filepath.Join(passwords, "administrator"), "PASSWD_FILE="+filepath.Join(passwords, "alice"),
	), within...)
	realm := d.dc.Realm()
	d.replace = []string{
		"/var/lib/bkrpd", d.dir, "/run/samba/ncalrpc", d.dc.NCALRPCDir(), "/var/lib/samba/private", d.private(),
		"dc1.example.com", d.dc.Host, "EXAMPLE.COM", realm, "example.com", strings.ToLower(realm), "EXAMPLE", d.dc.NetBIOS(),
		"S-1-5-21-...", "", // what net getdomainsid prints
		"setpassword 'BKRPD$'", "setpassword 'BKRPD$' --newpassword=" + machinePassword, // asked for otherwise
	}
}

func (d *sambaDocument) wantPrinted(want string) func(doctest.Result) {
	return func(r doctest.Result) {
		d.Helper()
		if got := strings.TrimSpace(r.Stdout); got != want {
			d.Errorf("it prints %q, want %q", got, want)
		}
	}
}

// domainSID takes the domain's SID from what net prints of it and the machine's.
func (d *sambaDocument) domainSID(r doctest.Result) {
	d.Helper()
	_, sid, ok := strings.Cut(r.Stdout, "SID for domain "+d.dc.NetBIOS()+" is: ")
	sid = strings.TrimSpace(sid)
	if alice := sidOf(d.T, d.dc, peers.Alice); !ok || !strings.HasPrefix(alice, sid+"-") {
		d.Fatalf("alice is %s, and net getdomainsid prints %q", alice, r.Stdout)
	}
	for i, old := range d.replace {
		if old == "S-1-5-21-..." {
			d.replace[i+1] = sid
		}
	}
}

// importKeys copies the keys into the store of the other server, which has not been
// configured for those in the domain.
func (d *sambaDocument) importKeys(command string) {
	d.Helper()
	other := d.dir + "-bolt/bkrpd.toml"
	out := d.sh.Must(strings.ReplaceAll(command, d.config(), other), "")
	listed := d.sh.Must("bkrpd keys list --config "+other, "")
	for _, kind := range []string{"ClientWrap", "ServerWrap"} {
		if !strings.Contains(listed, kind) {
			d.Errorf("no %s key was copied: %s\n%s", kind, out, listed)
		}
	}
}

// restart restarts Samba with a line of smb.conf.
func (d *sambaDocument) restart(global ...string) {
	d.Helper()
	ctx, cancel := context.WithTimeout(d.Context(), 3*time.Minute)
	defer cancel()
	if err := d.dc.Restart(ctx, global...); err != nil {
		d.Fatal(err)
	}
	untilSambaAnswers(d.T, d.dc)
}

func (d *sambaDocument) startServer() {
	d.Helper()
	text, err := os.ReadFile(d.dc.Keytab())
	if err != nil || len(text) == 0 {
		d.Fatalf("Samba's keytab: %v", err)
	}
	d.server = d.sh.Serve(d.serve)
	if want := listening + "samba:" + d.dc.NCALRPCDir(); d.server.Said != want {
		d.Fatalf("it says %q, want %q", d.server.Said, want)
	}
}

// torture runs the suite as the document says, as an ordinary user.
func (d *sambaDocument) torture(command string) {
	d.Helper()
	r := d.sh.Run("cd && { "+command+"\n} 2>&1", "")
	results, err := peers.ParseTorture(r.Stdout)
	if err != nil {
		d.Fatalf("%v\n%s%s", err, r.Stdout, r.Stderr)
	}
	if !checkTorture(d.T, results, noOracle().and(deniedSecrets())) || r.Code == 0 {
		d.Errorf("exit code %d:\n%s", r.Code, r.Stdout)
	}
	// "For each call there is a line".
	if alice := sidOf(d.T, d.dc, peers.Alice); !hasLine(d.server.Log(), "msg=audit", "mechanism=krb5", "sid="+alice) {
		d.Errorf("no call is on the audit trail as alice's, %s, by Kerberos:\n%s", alice, d.server.Log())
	}
}

// ntlm has logons judged by the domain controller, as the document's part on NTLM
// says.
func (d *sambaDocument) ntlm() {
	d.Helper()
	applySettings(d.T, d.config(), d.withNTLM, d.replace...)
	d.server.Stop()
	d.startServer()
	sambaTarget(d.T, d.dc).client(d.T)
}

// wayBack is the document's last part.
func (d *sambaDocument) wayBack() {
	d.Helper()
	ours := wrapByTickets(d.T, d.dc, d.dc.Host, d.TempDir())
	d.server.Stop()
	d.restart()
	openByTickets(d.T, d.dc, d.dc.Host, ours)
}
