package peers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// MITPrograms are what [StartMIT] needs to find.
var MITPrograms = []string{"krb5kdc", "kadmin.local", "kdb5_util", "kinit", "kvno", "unshare", "bash"}

// MITRealm is the realm of a [MIT].
const MITRealm = "MIT.TEST"

// MIT is a running KDC of MIT's of the realm MIT.TEST, which is no domain: its
// users alice and bob have names and no SIDs.
type MIT struct {
	*Client

	// Addr is the loopback address it listens on, at port 88.
	Addr string

	passwords map[string]string
	cmd       *exec.Cmd
	stdin     io.WriteCloser
	log       *bytes.Buffer
}

// StartMIT makes a realm in a new directory under the system's temporary one
// and starts its KDC. Each of settings is a line for the realm in its kdc.conf,
// such as "disable_pac = true". [MIT.Close] ends it; so does the end of this
// process.
func StartMIT(ctx context.Context, settings ...string) (*MIT, error) {
	addr, err := freeAddress()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "bkrp-mit-kdc-")
	if err != nil {
		return nil, fmt.Errorf("making the realm's directory: %w", err)
	}
	k := &MIT{Addr: addr, passwords: map[string]string{Alice: "Passw0rd.2", Bob: "Passw0rd.3"}, log: new(bytes.Buffer)}
	err = k.writeFiles(dir, settings)
	if err == nil {
		err = k.fill(ctx)
	}
	if err == nil {
		err = k.start(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return k, nil
}

func (k *MIT) writeFiles(dir string, settings []string) error {
	client, err := NewClient(dir, "MIT", MITRealm)
	if err != nil {
		return err
	}
	client.namespace = true
	k.Client = client
	domain := strings.ToLower(MITRealm)
	for name, text := range map[string]string{
		"hosts":       "127.0.0.1 localhost\n",
		"resolv.conf": "search " + domain + "\n",
		"krb5.conf": fmt.Sprintf("[libdefaults]\n\tdefault_realm = %[1]s\n\tdns_lookup_realm = false\n"+
			"\tdns_lookup_kdc = false\n\trdns = false\n\tdns_canonicalize_hostname = false\n"+
			"[realms]\n\t%[1]s = {\n\t\tkdc = %[2]s\n\t}\n[domain_realm]\n\t.%[3]s = %[1]s\n\t%[3]s = %[1]s\n",
			MITRealm, k.Addr, domain),
		"kdc.conf": fmt.Sprintf("[kdcdefaults]\n\tkdc_listen = %[1]s:88\n\tkdc_tcp_listen = %[1]s:88\n"+
			"[realms]\n\t%[2]s = {\n\t\tdatabase_name = %[3]s/principal\n\t\tkey_stash_file = %[3]s/stash\n"+
			"\t\tsupported_enctypes = aes256-sha2:normal aes256-cts:normal aes128-sha2:normal aes128-cts:normal\n"+
			"\t\t%[4]s\n\t}\n[logging]\n\tkdc = STDERR\n\tadmin_server = STDERR\n",
			k.Addr, MITRealm, dir, strings.Join(settings, "\n\t\t")),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("writing the realm's files: %w", err)
		}
	}
	return nil
}

// fill makes the database and its users.
func (k *MIT) fill(ctx context.Context) error {
	out, err := k.Exec(ctx, k.admin("kdb5_util", "create", "-s", "-r", MITRealm, "-P", "master.Passw0rd")...)
	if err == nil && out.Code != 0 {
		err = errors.New(out.String())
	}
	if err != nil {
		return fmt.Errorf("peers: making the realm: %w", err)
	}
	for user, password := range k.passwords {
		if err := k.Admin(ctx, "addprinc -pw "+password+" "+user); err != nil {
			return err
		}
	}
	return nil
}

// admin is a command of the KDC's own, with its configuration.
func (k *MIT) admin(args ...string) []string {
	return append([]string{"env", "KRB5_KDC_PROFILE=" + filepath.Join(k.dir, "kdc.conf")}, args...)
}

// Admin runs a command of kadmin, such as "modprinc +requires_preauth alice".
func (k *MIT) Admin(ctx context.Context, command string) error {
	out, err := k.Exec(ctx, k.admin("kadmin.local", "-r", MITRealm, "-q", command)...)
	// kadmin.local -q ends with 0 when the command fails as well.
	if err == nil && (out.Code != 0 || strings.Contains(out.Stderr, "while ")) {
		err = errors.New(out.String())
	}
	if err != nil {
		return fmt.Errorf("peers: kadmin: %s: %w", command, err)
	}
	return nil
}

// Service makes service principals such as "cifs/srv1.mit.test", with keys of
// the types, such as "aes256-sha2:normal,aes256-cts:normal", or of all if
// there are none given.
func (k *MIT) Service(ctx context.Context, etypes string, names ...string) error {
	for _, name := range names {
		command := "addprinc -randkey "
		if etypes != "" {
			command += "-e " + etypes + " "
		}
		if err := k.Admin(ctx, command+name); err != nil {
			return err
		}
	}
	return nil
}

// Keytab writes the keys of principals as they are into a keytab, beside what
// is in it, and makes it readable for its owner alone.
func (k *MIT) Keytab(ctx context.Context, path string, names ...string) error {
	return k.Admin(ctx, "ktadd -norandkey -k "+path+" "+strings.Join(names, " "))
}

// NewKeys gives principals keys of the next version and writes them into a
// keytab, beside what is in it.
func (k *MIT) NewKeys(ctx context.Context, path string, names ...string) error {
	return k.Admin(ctx, "ktadd -k "+path+" "+strings.Join(names, " "))
}

// Host makes names resolve to 127.0.0.1 for commands of the realm.
func (k *MIT) Host(names ...string) error { return k.addHost(names...) }

// untilEnd runs a daemon until standard input ends.
const untilEnd = `"$@" </dev/null & exec >&-
cat >/dev/null
kill -TERM $!
wait $!`

// start runs the KDC and waits until it listens.
func (k *MIT) start(ctx context.Context) error {
	args := append([]string{"-c", untilEnd, "until-end"}, k.admin("krb5kdc", "-n", "-r", MITRealm)...)
	k.cmd = exec.Command("bash", args...)
	k.cmd.Env = append(os.Environ(), "KRB5_CONFIG="+k.Krb5Conf())
	k.cmd.Stderr = k.log
	k.cmd.WaitDelay = 5 * time.Second
	stdin, err := k.cmd.StdinPipe()
	if err == nil {
		k.stdin = stdin
		err = k.cmd.Start()
	}
	if err != nil {
		return fmt.Errorf("starting the KDC: %w", err)
	}
	for {
		conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", net.JoinHostPort(k.Addr, "88"))
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("peers: the KDC did not get ready: %w", err), k.stop())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// stop ends the KDC and waits for it.
func (k *MIT) stop() error {
	k.stdin.Close()
	insist := time.AfterFunc(10*time.Second, func() { k.cmd.Process.Kill() })
	defer insist.Stop()
	if err := k.cmd.Wait(); err != nil {
		return fmt.Errorf("stopping the KDC: %w: %s", err, tail(k.log.String(), 4096))
	}
	return nil
}

// Close stops the KDC and removes its directory.
func (k *MIT) Close() error { return errors.Join(k.stop(), os.RemoveAll(k.dir)) }

// Password is the password of one of the realm's users.
func (k *MIT) Password(user string) string { return k.passwords[user] }

// Kinit gets a user's ticket-granting ticket, and tickets for the services,
// and gives the path of their cache.
func (k *MIT) Kinit(ctx context.Context, user string, services ...string) (string, error) {
	return k.kinit(ctx, user, k.passwords[user], services)
}
