package peers

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

//go:embed samba-dc
var sambaDC string

// The accounts of a [Domain], besides those every domain has.
const (
	Administrator = "Administrator"
	Alice         = "alice"
	Bob           = "bob"
)

const (
	domainRealm   = "BKRP.TEST"
	domainNetBIOS = "BKRP"
	domainHost    = "dc1.bkrp.test"
)

// DomainPrograms are what [StartDomain] needs to find.
var DomainPrograms = []string{"samba", "samba-tool", "rpcclient", "unshare", "bash"}

// Domain is a running Samba Active Directory domain controller of the realm
// BKRP.TEST and its users Administrator, alice and bob.
type Domain struct {
	*Client

	// Addr is the loopback address it listens on, without a port: SMB is at
	// 445, Kerberos at 88, LDAP at 389.
	Addr string
	// Host is its name, dc1.bkrp.test, which [Client.Exec] resolves.
	Host string

	passwords map[string]string
	cmd       *exec.Cmd
	stdin     io.WriteCloser
	stdout    *bufio.Scanner
	log       *bytes.Buffer
}

// StartDomain provisions a domain in a new directory under the system's
// temporary one, and starts it. It takes 5 to 20 seconds. Each of global is a
// line for [global] in its smb.conf. [Domain.Close] ends it; so does the end
// of this process.
func StartDomain(ctx context.Context, global ...string) (*Domain, error) {
	addr, err := freeAddress()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "bkrp-samba-dc-")
	if err != nil {
		return nil, fmt.Errorf("making the domain's directory: %w", err)
	}
	d := &Domain{
		Addr:      addr,
		Host:      domainHost,
		passwords: map[string]string{Administrator: "Passw0rd.1", Alice: "Passw0rd.2", Bob: "Passw0rd.3"},
		log:       new(bytes.Buffer),
	}
	if err := d.writeFiles(dir, global); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if err := d.start(ctx, dir); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return d, nil
}

// freeAddress draws loopback addresses until it finds one where nothing
// listens on the ports of a domain controller.
func freeAddress() (string, error) {
	for range 20 {
		addr := fmt.Sprintf("127.%d.%d.%d", 2+rand.IntN(250), rand.IntN(256), 1+rand.IntN(254))
		if portsFree(addr) {
			return addr, nil
		}
	}
	return "", errors.New("peers: no loopback address with the ports of a domain controller free")
}

func portsFree(addr string) bool {
	for _, port := range []string{"53", "88", "135", "389", "445", "464"} {
		l, err := net.Listen("tcp", net.JoinHostPort(addr, port))
		if err != nil {
			return false
		}
		l.Close()
	}
	return true
}

func (d *Domain) writeFiles(dir string, global []string) error {
	client, err := NewClient(dir, domainNetBIOS, domainRealm)
	if err != nil {
		return err
	}
	client.namespace = true
	d.Client = client
	files := map[string]string{
		"samba-dc":    sambaDC,
		"global":      globalLines(global),
		"hosts":       fmt.Sprintf("127.0.0.1 localhost\n%s %s dc1\n", d.Addr, d.Host),
		"resolv.conf": fmt.Sprintf("search %s\nnameserver %s\n", strings.ToLower(domainRealm), d.Addr),
		"krb5.conf": fmt.Sprintf("[libdefaults]\n\tdefault_realm = %[1]s\n\tdns_lookup_realm = false\n"+
			"\tdns_lookup_kdc = false\n\trdns = false\n\tdns_canonicalize_hostname = false\n"+
			"\tdefault_ccache_name = FILE:%[2]s/krb5cc_%%{uid}\n[realms]\n\t%[1]s = {\n\t\tkdc = %[3]s\n"+
			"\t\tadmin_server = %[3]s\n\t}\n[domain_realm]\n\t.%[4]s = %[1]s\n\t%[4]s = %[1]s\n",
			domainRealm, dir, d.Addr, strings.ToLower(domainRealm)),
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("writing the domain's files: %w", err)
		}
	}
	return nil
}

// start runs the script and waits for its "ready". The script ends when its
// standard input does, hence with this process at the latest.
func (d *Domain) start(ctx context.Context, dir string) error {
	d.cmd = exec.Command("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
		"bash", filepath.Join(dir, "samba-dc"), dir, d.Addr, domainRealm, domainNetBIOS)
	d.cmd.Stderr = d.log
	d.cmd.WaitDelay = 5 * time.Second
	stdin, err := d.cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("starting the domain: %w", err)
	}
	d.stdin = stdin
	stdout, err := d.cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("starting the domain: %w", err)
	}
	if err := d.cmd.Start(); err != nil {
		return fmt.Errorf("starting the domain: %w", err)
	}
	d.stdout = bufio.NewScanner(stdout)
	fmt.Fprintf(stdin, "%s\n%s %s\n%s %s\n\n", d.passwords[Administrator],
		Alice, d.passwords[Alice], Bob, d.passwords[Bob])
	if err := d.ready(ctx); err != nil {
		d.cmd.Process.Kill()
		d.cmd.Wait()
		return fmt.Errorf("%w: %s", err, tail(d.log.String(), 4096))
	}
	return nil
}

// ready waits until the script says so.
func (d *Domain) ready(ctx context.Context) error {
	// Whatever keeps the script from getting ready, its death ends the scan.
	stop := context.AfterFunc(ctx, func() { d.cmd.Process.Kill() })
	defer stop()
	for d.stdout.Scan() {
		if d.stdout.Text() == "ready" {
			return nil
		}
	}
	return fmt.Errorf("peers: the domain controller did not get ready (%v)", context.Cause(ctx))
}

func globalLines(global []string) string { return strings.Join(global, "\n") + "\n" }

// Restart stops Samba and starts it again, as an operator would, with other
// lines for [global] than before.
func (d *Domain) Restart(ctx context.Context, global ...string) error {
	if err := os.WriteFile(filepath.Join(d.dir, "global"), []byte(globalLines(global)), 0o644); err != nil {
		return fmt.Errorf("restarting the domain: %w", err)
	}
	if _, err := io.WriteString(d.stdin, "restart\n"); err != nil {
		return fmt.Errorf("restarting the domain: %w", err)
	}
	return d.ready(ctx)
}

// OnController is as [Client.Within], for programs that run on the domain controller
// itself: they find its smb.conf in the usual place.
func (d *Domain) OnController() (command, env []string) {
	command, env = d.Within()
	return command, append(env, "PEER_CONF="+filepath.Join(d.dir, "etc", "smb.conf"))
}

// Keytab is the file with the domain controller's own keys, which Samba keeps.
func (d *Domain) Keytab() string { return filepath.Join(d.dir, "private", "secrets.keytab") }

// NCALRPCDir is Samba's "ncalrpc dir": the sockets of its named pipes stand in
// its folder np.
func (d *Domain) NCALRPCDir() string { return filepath.Join(d.dir, "ncalrpc") }

func tail(s string, n int) string {
	return s[max(0, len(s)-n):]
}

// Close stops the domain controller and removes its directory.
func (d *Domain) Close() error {
	d.stdin.Close()
	timer := time.AfterFunc(20*time.Second, func() { d.cmd.Process.Kill() })
	defer timer.Stop()
	if err := d.cmd.Wait(); err != nil {
		return errors.Join(fmt.Errorf("stopping the domain: %w: %s", err, tail(d.log.String(), 4096)), os.RemoveAll(d.dir))
	}
	return nil
}

// PID is the root of the process tree of the domain controller.
func (d *Domain) PID() int { return d.cmd.Process.Pid }

// Credentials are those of one of the domain's users.
func (d *Domain) Credentials(user string) Credentials {
	return Credentials{Domain: d.netbios, User: user, Password: d.Password(user)}
}

// Password is the password of one of the domain's users.
func (d *Domain) Password(user string) string { return d.passwords[user] }

// SID is the SID of an account, as the domain controller itself says it.
func (d *Domain) SID(ctx context.Context, user string) (string, error) {
	out, err := d.RPCClient(ctx, d.Addr, "445", d.Credentials(Administrator), "lookupnames "+user)
	if err != nil {
		return "", err
	}
	for _, word := range strings.Fields(out.Stdout) {
		if strings.HasPrefix(word, "S-1-") {
			return word, nil
		}
	}
	return "", fmt.Errorf("peers: no SID for %s: %s", user, out)
}
