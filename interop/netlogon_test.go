package interop

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/interop/peers"
)

const (
	machineName     = "SRV2"
	machinePassword = "Machine.Passw0rd.1"
)

// netlogonDomain is a domain of its own, with a machine account: the tests stop
// and start it. The account's password stands in a file.
func netlogonDomain(t *testing.T, global ...string) (dc *peers.Domain, passwordFile string) {
	t.Helper()
	peers.Need(t, peers.DomainPrograms...)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	dc, err := peers.StartDomain(ctx, global...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dc.Close() }) // a test may have closed it before
	sambaTool(t, dc, "computer", "create", machineName)
	sambaTool(t, dc, "user", "setpassword", machineName+"$", "--newpassword="+machinePassword)
	passwordFile = filepath.Join(t.TempDir(), "machine.password")
	writePassword(t, passwordFile, machinePassword)
	return dc, passwordFile
}

func writePassword(t *testing.T, file, password string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// sambaTool administers the domain, on its domain controller.
func sambaTool(t *testing.T, dc *peers.Domain, args ...string) {
	t.Helper()
	conf := filepath.Join(filepath.Dir(dc.NCALRPCDir()), "etc", "smb.conf")
	out, err := dc.Exec(t.Context(), append(append([]string{"samba-tool"}, args...), "-s", conf)...)
	if err != nil {
		t.Fatal(err)
	}
	if out.Code != 0 {
		t.Fatalf("samba-tool %s: %s", strings.Join(args, " "), out)
	}
}

// wantLogged has a line of the log, from an offset on, have all parts.
func (s *server) wantLogged(t *testing.T, from int, parts ...string) {
	t.Helper()
	if !logs(s, from, parts...) {
		t.Errorf("no line of the log has %q:\n%s", parts, s.log.String()[from:])
	}
}

// startNetlogon starts our server as a member of the domain whose NTLM logons
// the domain controller judges. Our own store has users of the same names with
// other passwords.
func startNetlogon(t *testing.T, dc *peers.Domain, passwordFile string, o options) *server {
	t.Helper()
	domain, _, ok := dtyp.MustParseSID(sidOf(t, dc, peers.Alice)).Cut()
	if !ok {
		t.Fatal("alice's SID has no domain")
	}
	var err error
	if o.firstSID, err = domain.Child(1101); err != nil {
		t.Fatal(err)
	}
	if o.settings == nil {
		o.settings = map[string]string{}
	}
	for key, value := range map[string]string{
		"auth.ntlm": "netlogon", "netlogon.server": dc.Addr, "netlogon.account": machineName + "$",
		"netlogon.password_file": passwordFile,
	} {
		if o.settings[key] == "" {
			o.settings[key] = fmt.Sprintf("%q", value)
		}
	}
	return startBkrpd(t, o)
}

func TestNetlogon(t *testing.T) {
	peers.Need(t, "smbtorture")
	dc, password := netlogonDomain(t)
	s := startNetlogon(t, dc, password, options{
		settings:       map[string]string{"error_codes": `"windows"`, "netlogon.timeout": `"20s"`},
		administrators: []string{peers.Administrator},
	})
	g := sambaTarget(t, dc)
	g.host, g.port = s.host, s.port
	alice := sidOf(t, dc, peers.Alice)
	t.Run("bkrp", func(t *testing.T) { g.client(t) })
	t.Run("smbtorture", func(t *testing.T) {
		for _, c := range []struct {
			user    string
			binding string
			want    expectation
			options []string
		}{
			{peers.Administrator, "[seal]", noOracle(), nil},
			{peers.Administrator, "[seal,ntlm]", noOracle(), dialect("SMB2_10")},
			{peers.Alice, "[seal]", noOracle().and(deniedSecrets()), nil},
			{peers.Alice, "[spnego,seal]", noOracle().and(deniedSecrets()), []string{"--option=client smb encrypt=required"}},
		} {
			t.Run(c.user+" "+c.binding, func(t *testing.T) {
				options := append([]string{"--option=smb ports=" + s.port}, c.options...)
				torture(t, s.client, "ncacn_np:"+s.host+c.binding, dc.Credentials(c.user), c.want, options...)
			})
		}
	})
	t.Run("at a time", func(t *testing.T) { netlogonAtOnce(t, dc, s) })
	t.Run("refused", func(t *testing.T) { netlogonRefusals(t, dc, s, g) })
	t.Run("the domain controller restarts", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		defer cancel()
		if err := dc.Restart(ctx, withoutBackupKey); err != nil {
			t.Fatal(err)
		}
		untilWrapped(t, func() (string, string, int) {
			return g.bkrp(t, g.login(peers.Alice), []byte("secret"), "wrap", "--mode", "server")
		})
	})
	t.Run("behind smbd", func(t *testing.T) { netlogonBehindSamba(t, dc, password) })
	t.Run("a wrong machine password", func(t *testing.T) { netlogonWrongPassword(t, dc) })
	t.Run("no domain controller", func(t *testing.T) { netlogonDown(t, dc, s, g) })
	logged := s.log.String()
	for _, secret := range []string{machinePassword, dc.Password(peers.Alice), dc.Password(peers.Administrator)} {
		if strings.Contains(logged, secret) {
			t.Errorf("the log has %q", secret)
		}
	}
	if !strings.Contains(logged, "sid="+alice) {
		t.Error("alice was not let in by the SID that the domain has for her")
	}
}

// netlogonAtOnce has users log on faster than one secure channel lets them: each
// of the further ones has a session key of its own, which the domain controller,
// that knows the channel by the computer alone, has to take beside the others.
func netlogonAtOnce(t *testing.T, dc *peers.Domain, s *server) {
	const users, logons = 12, 4
	results := make(chan error, users)
	for i := range users {
		who := peers.Alice
		if i%2 == 1 {
			who = peers.Bob
		}
		go func() {
			var err error
			for range logons {
				var client *bkrpclient.Client
				client, err = bkrpclient.Dial(t.Context(), bkrpclient.Config{
					Server:     net.JoinHostPort(s.host, s.port),
					Credential: bkrpclient.Credential{Domain: "BKRP", User: who, Password: bkrpclient.Password(dc.Password(who))},
				})
				if err != nil {
					break
				}
				client.Close()
			}
			results <- err
		}()
	}
	for range users {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if logged := s.log.String(); strings.Contains(logged, "the secure channel") {
		t.Errorf("a channel ended:\n%s", logged)
	}
}

// netlogonRefusals are logons that the domain does not let in, each with what
// the log has to say about it.
func netlogonRefusals(t *testing.T, dc *peers.Domain, s *server, g target) {
	sambaTool(t, dc, "user", "create", "carol", "Passw0rd.4")
	sambaTool(t, dc, "user", "disable", "carol")
	sambaTool(t, dc, "user", "create", "dave", "Passw0rd.5", "--must-change-at-next-login")
	for _, c := range []struct{ name, user, password, want string }{
		{"wrong password", peers.Alice, "Passw0rd.x", "wrong name or password"},
		{"our store's password", peers.Alice, s.passwords[peers.Alice], "wrong name or password"},
		{"no such user", "nobody", "x", "wrong name or password"},
		{"disabled account", "carol", "Passw0rd.4", "the account is disabled"},
		{"password to be changed", "dave", "Passw0rd.5", "the password has to be changed first"},
		{"computer", machineName + "$", machinePassword, "account of a computer"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := len(s.log.String())
			who := peers.Credentials{Domain: "BKRP", User: c.user, Password: c.password}
			if _, stderr, code := g.bkrp(t, who, []byte("secret"), "wrap", "--mode", "server"); code == bkrpOK {
				t.Errorf("let in: %s", stderr)
			}
			s.wantLogged(t, before, "ntlm logon refused", c.want)
		})
	}
}

// netlogonWrongPassword has an operator told of a wrong password of the machine
// account.
func netlogonWrongPassword(t *testing.T, dc *peers.Domain) {
	file := filepath.Join(t.TempDir(), "machine.password")
	writePassword(t, file, "not.the.Passw0rd")
	s := startNetlogon(t, dc, file, options{})
	who := dc.Credentials(peers.Alice)
	if _, stderr, code := s.target().bkrp(t, who, nil, "sid"); code == bkrpOK {
		t.Errorf("let in: %s", stderr)
	}
	s.wantLogged(t, 0, "password is wrong", "netlogon.password_file")
}

// netlogonDown stops the domain controller: who is logged on goes on, others are
// refused in time.
func netlogonDown(t *testing.T, dc *peers.Domain, s *server, g target) {
	client, err := bkrpclient.Dial(t.Context(), bkrpclient.Config{
		Server:     net.JoinHostPort(s.host, s.port),
		Credential: bkrpclient.Credential{Domain: "BKRP", User: peers.Alice, Password: bkrpclient.Password(dc.Password(peers.Alice))},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	wrap := func() ([]byte, error) {
		return client.Wrap(t.Context(), []byte("secret"), bkrpclient.WrapOptions{Mode: bkrpclient.ModeServer})
	}
	if _, err := wrap(); err != nil {
		t.Fatal(err)
	}
	alice := g.login(peers.Alice)
	if err := dc.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, stderr, code := g.bkrp(t, alice, []byte("secret"), "wrap", "--mode", "server"); code == bkrpOK {
			t.Errorf("let in: %s", stderr)
		}
		if _, err := wrap(); err != nil {
			t.Errorf("who was logged on before: %v", err)
		}
	}
	s.wantLogged(t, 0, "no secure channel to the domain controller")
}

// netlogonBehindSamba serves the domain controller's own pipe, with NTLM.
func netlogonBehindSamba(t *testing.T, dc *peers.Domain, password string) {
	s := startNetlogon(t, dc, password, options{listen: "samba:" + dc.NCALRPCDir()})
	sambaTarget(t, dc).client(t)
	s.stop()
	if log := s.log.String(); !strings.Contains(log, "mechanism=ntlm") || !strings.Contains(log, "sid="+sidOf(t, dc, peers.Alice)) {
		t.Error("alice was not let in by NTLM as who she is in the domain")
	}
}
