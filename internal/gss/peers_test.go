package gss_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	smb2 "github.com/cloudsoda/go-smb2"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/gss"
	"github.com/seed05845750/bkrp/internal/gss/ntlm"
	"github.com/seed05845750/bkrp/internal/gss/spnego"
)

// The tests of this file put both ends against implementations that have never
// heard of them: Samba's ntlm_auth, impacket and go-smb2.

const (
	domain   = "BKRP"
	user     = "alice"
	password = "Passw0rd.2"
)

var sid = dtyp.MustParseSID("S-1-5-21-1-2-3-1104")

func lookup(_ context.Context, name string) (ntlm.LocalAccount, error) {
	if !strings.EqualFold(name, user) {
		return ntlm.LocalAccount{}, gss.ErrLogon
	}
	return ntlm.LocalAccount{Hash: ntlm.HashPassword(password), SID: sid, Name: user}, nil
}

func ntlmAcceptor() gss.Acceptor {
	return ntlm.NewAcceptor(ntlm.Config{
		Source:        ntlm.LocalSource(lookup, domain, "bkrp.test"),
		NetBIOSDomain: domain, DNSDomain: "bkrp.test",
		NetBIOSComputer: "DC1", DNSComputer: "dc1.bkrp.test",
	})
}

func spnegoAcceptor(t testing.TB) gss.Acceptor {
	t.Helper()
	a, err := spnego.NewAcceptor(spnego.Mechanism{OIDs: []asn1.ObjectIdentifier{spnego.NTLM()}, Acceptor: ntlmAcceptor()})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func ntlmInitiator(password string) gss.Initiator {
	return ntlm.NewInitiator(ntlm.Credential{Domain: domain, User: user, Hash: ntlm.HashPassword(password), Workstation: "CLIENT1"})
}

func spnegoInitiator(password string) gss.Initiator {
	return spnego.NewInitiator(spnego.InitiatorMechanism{OIDs: []asn1.ObjectIdentifier{spnego.NTLM()}, Initiator: ntlmInitiator(password)})
}

var sealed = gss.InitiateOptions{Target: "cifs/dc1.bkrp.test", Flags: gss.Integrity | gss.Confidentiality}

// missing skips for want of a peer, or fails where peers are required.
func missing(t *testing.T, what string, err error) {
	t.Helper()
	if os.Getenv("BKRP_PEERS") == "required" {
		t.Fatalf("%s: %v", what, err)
	}
	t.Skipf("%s: %v", what, err)
}

// lineProcess is a peer that answers a line with a line.
type lineProcess struct {
	t   *testing.T
	in  io.Writer
	out *bufio.Scanner
}

func startLines(t *testing.T, name string, args ...string) *lineProcess {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		missing(t, name+" is not installed", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stderr = t.Output()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		io.Copy(io.Discard, out)
		_ = cmd.Wait()
		cancel()
	})
	return &lineProcess{t, in, bufio.NewScanner(out)}
}

// ask sends a line and gives the answer's first word and the rest.
func (p *lineProcess) ask(line string) (verb, rest string) {
	p.t.Helper()
	if _, err := fmt.Fprintln(p.in, line); err != nil {
		p.t.Fatal(err)
	}
	if !p.out.Scan() {
		p.t.Fatalf("no answer to %.20q: %v", line, p.out.Err())
	}
	verb, rest, _ = strings.Cut(p.out.Text(), " ")
	return verb, rest
}

// token is ask for an answer that carries a token in base64 as its first word.
func (p *lineProcess) token(line string) (verb string, token []byte) {
	p.t.Helper()
	verb, rest := p.ask(line)
	word, _, _ := strings.Cut(rest, " ")
	token, err := base64.StdEncoding.DecodeString(word)
	if err != nil && word != "*" {
		p.t.Fatalf("answer %s %s", verb, rest)
	}
	return verb, token
}

func startNTLMAuth(t *testing.T, protocol string, args ...string) *lineProcess {
	t.Helper()
	dir := t.TempDir()
	conf := filepath.Join(dir, "smb.conf")
	text := "[global]\n\tunix charset = UTF-8\n\tworkgroup = BKRP\n\tnetbios name = CLIENT1\n"
	for _, d := range []string{"lock directory", "private dir", "state directory", "cache directory", "pid directory"} {
		text += "\t" + d + " = " + dir + "\n"
	}
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	args = append([]string{"--helper-protocol=" + protocol, "--configfile=" + conf, "--username=" + user, "--domain=" + domain, "--password=" + password}, args...)
	p := startLines(t, "ntlm_auth", args...)
	if verb, rest := p.ask("SF NTLMSSP_FEATURE_SIGN NTLMSSP_FEATURE_SEAL NTLMSSP_FEATURE_SESSION_KEY"); verb != "OK" {
		t.Fatalf("setting features: %s %s", verb, rest)
	}
	return p
}

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

func checkKey(t *testing.T, p *lineProcess, sc gss.Context) {
	t.Helper()
	if verb, key := p.token("GK"); verb != "GK" || !bytes.Equal(key, sc.SessionKey()) {
		t.Errorf("peer's session key: %s %x, ours %x", verb, key, sc.SessionKey())
	}
}

// TestSambaClient is Samba's client against our acceptor.
func TestSambaClient(t *testing.T) {
	for protocol, a := range map[string]gss.Acceptor{"ntlmssp-client-1": ntlmAcceptor(), "gss-spnego-client": spnegoAcceptor(t)} {
		t.Run(protocol, func(t *testing.T) {
			p := startNTLMAuth(t, protocol)
			x := a.Accept(gss.AcceptOptions{})
			verb, in := p.token("YR")
			for range 4 {
				out, sc, err := x.Step(context.Background(), in)
				if err != nil {
					t.Fatalf("after %s: %v", verb, err)
				}
				if sc != nil {
					if sc.Identity().SID != sid || sc.Flags()&sealed.Flags != sealed.Flags {
						t.Errorf("context of %v, flags %b", sc.Identity(), sc.Flags())
					}
					if out != nil {
						if verb, rest := p.ask("TT " + b64(out)); verb != "AF" {
							t.Errorf("client does not take our mechListMIC: %s %s", verb, rest)
						}
					}
					checkKey(t, p, sc)
					return
				}
				verb, in = p.token("TT " + b64(out))
			}
			t.Error("no context after four legs")
		})
	}
}

// TestSambaClientNames is Samba's client with names whose upper case is not
// that of Go's table, and one where it is.
func TestSambaClientNames(t *testing.T) {
	for _, name := range []string{"jürgen", "иван", "ștefan", "გიორგი", "ı", "straße", "ÿµ"} {
		p := startNTLMAuth(t, "ntlmssp-client-1", "--username="+name)
		source := ntlm.LocalSource(func(_ context.Context, got string) (ntlm.LocalAccount, error) {
			if got != name {
				t.Errorf("client says it is %q, want %q", got, name)
			}
			return ntlm.LocalAccount{Hash: ntlm.HashPassword(password), SID: sid, Name: name}, nil
		}, domain)
		x := ntlm.NewAcceptor(ntlm.Config{Source: source}).Accept(gss.AcceptOptions{})
		_, in := p.token("YR")
		out, _, err := x.Step(context.Background(), in)
		if err != nil {
			t.Fatal(err)
		}
		_, in = p.token("TT " + b64(out))
		if _, _, err = x.Step(context.Background(), in); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSambaServer is our initiator against Samba's server.
func TestSambaServer(t *testing.T) {
	for protocol, i := range map[string]func(string) gss.Initiator{"squid-2.5-ntlmssp": ntlmInitiator, "gss-spnego": spnegoInitiator} {
		t.Run(protocol, func(t *testing.T) {
			p := startNTLMAuth(t, protocol)
			x := i(password).Initiate(sealed)
			out, _, err := x.Step(context.Background(), nil)
			if err != nil {
				t.Fatal(err)
			}
			verb, in := p.token("YR " + b64(out))
			if verb != "TT" {
				t.Fatalf("answer %s", verb)
			}
			out, sc, err := x.Step(context.Background(), in)
			if err != nil {
				t.Fatal(err)
			}
			verb, rest := p.ask("KK " + b64(out))
			if verb != "AF" {
				t.Fatalf("server refuses us: %s %s", verb, rest)
			}
			if sc == nil {
				in, err := base64.StdEncoding.DecodeString(strings.Fields(rest)[0])
				if err != nil {
					t.Fatalf("answer %s", rest)
				}
				if _, sc, err = x.Step(context.Background(), in); err != nil || sc == nil {
					t.Fatalf("last leg %x: %v", in, err)
				}
			}
			checkKey(t, p, sc)
		})
		t.Run(protocol+" wrong password", func(t *testing.T) {
			p := startNTLMAuth(t, protocol)
			x := i(password + "x").Initiate(sealed)
			out, _, err := x.Step(context.Background(), nil)
			if err != nil {
				t.Fatal(err)
			}
			_, in := p.token("YR " + b64(out))
			if out, _, err = x.Step(context.Background(), in); err != nil {
				t.Fatal(err)
			}
			if verb, rest := p.ask("KK " + b64(out)); verb != "NA" && verb != "BH" {
				t.Errorf("server takes a wrong password: %s %s", verb, rest)
			}
		})
	}
}

// impacketClient logs on with impacket's ntlm module, then seals a message and
// opens one.
const impacketClient = `
import sys
from impacket import ntlm
from Cryptodome.Cipher import ARC4
def say(b): print('OK', b.hex(), flush=True)
def hear(): return bytes.fromhex(sys.stdin.readline().strip())
sys.stdin.readline()
t1 = ntlm.getNTLMSSPType1('', '', True, use_ntlmv2=True)
say(t1.getData())
t3, key = ntlm.getNTLMSSPType3(t1, hear(), 'alice', 'Passw0rd.2', 'BKRP', '', '', True)
say(t3.getData())
f = t3['flags']
hear(); say(key)
sign = [ntlm.SIGNKEY(f, key, m) for m in ('Client', 'Server')]
seal = [ARC4.new(ntlm.SEALKEY(f, key, m)).encrypt for m in ('Client', 'Server')]
for n in range(3):
    text = hear()
    out, sig = ntlm.SEAL(f, sign[0], None, text, text, n, seal[0])
    say(out + sig.getData())
    got = hear()
    plain = seal[1](got[:-16])
    sig = ntlm.MAC(f, seal[1], sign[1], n, plain)
    say(plain if sig.getData() == got[-16:] else b'')
`

// impacketPython is the interpreter Debian's packages belong to; the first of
// the path may be another one.
func impacketPython(t *testing.T) string {
	t.Helper()
	reason := errors.New("no interpreter was found")
	for _, python := range []string{"/usr/bin/python3", "python3"} {
		out, err := exec.Command(python, "-c", "import impacket, Cryptodome").CombinedOutput()
		if err == nil {
			return python
		}
		reason = fmt.Errorf("%w: %s", err, bytes.TrimSpace(out))
	}
	missing(t, "python3-impacket is not installed", reason)
	return ""
}

// TestImpacketClient is impacket against our acceptor: no MIC, no version.
func TestImpacketClient(t *testing.T) {
	p := startLines(t, impacketPython(t), "-c", impacketClient)
	ask := func(b []byte) []byte {
		verb, rest := p.ask(hex.EncodeToString(b))
		got, err := hex.DecodeString(rest)
		if verb != "OK" || err != nil {
			t.Fatalf("answer %s %s", verb, rest)
		}
		return got
	}
	x := ntlmAcceptor().Accept(gss.AcceptOptions{})
	out, _, err := x.Step(context.Background(), ask(nil))
	if err != nil {
		t.Fatal(err)
	}
	_, sc, err := x.Step(context.Background(), ask(out))
	if err != nil {
		t.Fatal(err)
	}
	if key := ask(nil); !bytes.Equal(key, sc.SessionKey()) {
		t.Errorf("impacket's session key %x, ours %x", key, sc.SessionKey())
	}
	for n := range 3 {
		text := []byte(fmt.Sprintf("message %d", n))
		got := ask(text)
		msg, sig := got[:len(text)], got[len(text):]
		if err := sc.Unseal(msg, 0, len(msg), sig); err != nil || !bytes.Equal(msg, text) {
			t.Errorf("message %d: %q, %v", n, msg, err)
		}
		sig, err := sc.Seal(nil, msg, 0, len(msg))
		if err != nil {
			t.Fatal(err)
		}
		if got := ask(append(msg, sig...)); !bytes.Equal(got, text) {
			t.Errorf("impacket opens %q", got)
		}
	}
}

// TestGoSMB2Client is go-smb2's initiator against our acceptor.
func TestGoSMB2Client(t *testing.T) {
	i := &smb2.NTLMInitiator{User: user, Password: password, Domain: domain, TargetSPN: "cifs/dc1.bkrp.test"}
	x := ntlmAcceptor().Accept(gss.AcceptOptions{})
	in, err := i.InitSecContext()
	if err != nil {
		t.Fatal(err)
	}
	out, _, err := x.Step(context.Background(), in)
	if err != nil {
		t.Fatal(err)
	}
	if in, err = i.AcceptSecContext(out); err != nil {
		t.Fatal(err)
	}
	_, sc, err := x.Step(context.Background(), in)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(i.SessionKey(), sc.SessionKey()) {
		t.Errorf("go-smb2's session key %x, ours %x", i.SessionKey(), sc.SessionKey())
	}
	text := []byte("a list of mechanisms")
	if err := sc.Verify(text, i.Sum(text)); err != nil {
		t.Error(err)
	}
}
