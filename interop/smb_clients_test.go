package interop

import (
	"context"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/gss"
	"github.com/seed05845750/bkrp/internal/gss/ntlm"
	"github.com/seed05845750/bkrp/internal/gss/spnego"
	"github.com/seed05845750/bkrp/internal/smb2"
	"github.com/seed05845750/bkrp/interop/peers"
)

const smbPassword = "Correct.Horse.7"

// smbServer runs the SMB server alone, with a pipe "echo" that answers each
// message, which begins with its length, with itself. It gives its port.
func smbServer(t *testing.T, cfg smb2.Config) string {
	t.Helper()
	lookup := func(_ context.Context, user string) (ntlm.LocalAccount, error) {
		if !strings.EqualFold(user, peers.Alice) {
			return ntlm.LocalAccount{}, gss.ErrLogon
		}
		return ntlm.LocalAccount{Hash: ntlm.HashPassword(smbPassword), SID: dtyp.MustParseSID("S-1-5-21-1-2-3-1104"), Name: user}, nil
	}
	mech := ntlm.NewAcceptor(ntlm.Config{
		Source:        ntlm.LocalSource(lookup, "BKRP", "bkrp.test"),
		NetBIOSDomain: "BKRP", DNSDomain: "bkrp.test", NetBIOSComputer: "DC1", DNSComputer: "dc1.bkrp.test",
	})
	acceptor, err := spnego.NewAcceptor(spnego.Mechanism{OIDs: []asn1.ObjectIdentifier{spnego.NTLM()}, Acceptor: mech})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Pipes = map[string]smb2.PipeFunc{"echo": echoMessages}
	return runSMB(t, cfg, acceptor)
}

// runSMB runs an SMB server and gives its port.
func runSMB(t *testing.T, cfg smb2.Config, acceptor *spnego.Acceptor) string {
	t.Helper()
	cfg.Acceptor, cfg.NegotiateToken = acceptor, acceptor.Hint()
	s, err := smb2.NewServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	_, port, err := net.SplitHostPort(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func echoMessages(_ context.Context, p *smb2.Pipe) {
	for {
		var head [4]byte
		if _, err := io.ReadFull(p, head[:]); err != nil {
			return
		}
		n := binary.LittleEndian.Uint32(head[:])
		if n < 4 || n > 1<<16 {
			return
		}
		m := make([]byte, n)
		copy(m, head[:])
		if _, err := io.ReadFull(p, m[4:]); err != nil {
			return
		}
		if _, err := p.Write(m); err != nil {
			return
		}
	}
}

func smbRun(t *testing.T, args ...string) peers.Output {
	t.Helper()
	dir := t.TempDir()
	client, err := peers.NewClient(dir, "BKRP", "BKRP.TEST")
	if err != nil {
		t.Fatal(err)
	}
	for i, a := range args {
		if a == "CONF" {
			args[i] = client.Conf()
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := client.Exec(ctx, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestSMBSambaClient has Samba's client log on and open a pipe: every dialect,
// signed and encrypted, through SMB1's negotiate and without it, and each
// algorithm alone.
func TestSMBSambaClient(t *testing.T) {
	peers.Need(t, "smbclient")
	const opened = "fnum 1"
	run := func(t *testing.T, port, want string, options ...string) {
		t.Helper()
		args := []string{"smbclient", "-s", "CONF", "//127.0.0.1/IPC$", "-p", port, "-U", `BKRP\alice%` + smbPassword,
			"-c", `open echo; open none`}
		out := smbRun(t, append(args, options...)...)
		text := out.Stdout + out.Stderr
		if !strings.Contains(text, want) {
			t.Errorf("%v: no %q in\n%v", options, want, out)
		}
		if want == opened && !strings.Contains(text, "NT_STATUS_OBJECT_NAME_NOT_FOUND") {
			t.Errorf("%v: a pipe that is not there was opened\n%v", options, out)
		}
	}
	offer, require := smbServer(t, smb2.Config{}), smbServer(t, smb2.Config{Encryption: smb2.EncryptionRequire})
	for _, dialect := range []string{"SMB2_02", "SMB2_10", "SMB3_00", "SMB3_02", "SMB3_11"} {
		for _, lowest := range []string{"SMB2_02", "NT1"} {
			low := "--option=client min protocol=" + lowest
			run(t, offer, opened, "-m", dialect, low, "--client-protection=sign")
			if strings.HasPrefix(dialect, "SMB3") {
				run(t, offer, opened, "-m", dialect, low, "--client-protection=encrypt")
				run(t, require, opened, "-m", dialect, low)
			} else {
				run(t, require, "NT_STATUS_ACCESS_DENIED", "-m", dialect, low)
			}
		}
	}
	for _, c := range []string{"AES-128-GCM", "AES-128-CCM", "AES-256-GCM", "AES-256-CCM"} {
		run(t, require, opened, "--option=client smb3 encryption algorithms="+c)
	}
	for _, a := range []string{"AES-128-GMAC", "AES-128-CMAC", "HMAC-SHA256"} {
		run(t, offer, opened, "--option=client smb3 signing algorithms="+a)
	}
	run(t, offer, "NT_STATUS_LOGON_FAILURE", "-U", `BKRP\alice%wrong`)
	run(t, offer, "NT_STATUS_LOGON_FAILURE", "-N", "-U", "%")
}

// TestSMBTorture has the cases of smbtorture that need no files.
func TestSMBTorture(t *testing.T) {
	peers.Need(t, "smbtorture")
	port := smbServer(t, smb2.Config{Limits: smb2.Limits{Credits: 8192}})
	for _, name := range []string{"smb2.credits.session_setup_credits_granted", "smb2.compound.invalid1", "smb2.session.ntlmssp_bug14932"} {
		out := smbRun(t, "smbtorture", "-s", "CONF", "--basedir="+t.TempDir(), "//127.0.0.1/IPC$", "-p", port,
			"-U", `BKRP\alice%`+smbPassword, name)
		if out.Code != 0 || !strings.Contains(out.Stdout, "success: ") {
			t.Errorf("%s: %v", name, out)
		}
	}
}

// TestSMBImpacket has impacket write, read and transact, in the dialects it
// offers, where it encrypts everything when the server offers that, and in
// 3.1.1, where it signs.
func TestSMBImpacket(t *testing.T) {
	const python = "/usr/bin/python3" // the one that Debian's impacket is for
	if err := exec.Command(python, "-c", "import impacket").Run(); err != nil {
		peers.Unavailable(t, errors.New("impacket is not installed: apt-get install python3-impacket"))
	}
	script, err := filepath.Abs("testdata/smb_echo.py")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []smb2.Encryption{smb2.EncryptionOffer, smb2.EncryptionOff} {
		out := smbRun(t, python, script, smbServer(t, smb2.Config{Encryption: e}), peers.Alice, smbPassword)
		if out.Code != 0 || !strings.Contains(out.Stdout, "0x202 ok\n0x210 ok\n0x300 ok\n0x311 ok\n") {
			t.Errorf("encryption %d: %v", e, out)
		}
	}
}
