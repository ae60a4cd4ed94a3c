package interop

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/interop/peers"
)

// options say how startBkrpd sets its server up.
type options struct {
	// settings are values of the configuration file as TOML, by key, such
	// as "smb.encryption": `"require"`.
	settings map[string]string
	// administrators are users that may read LSA secrets.
	administrators []string
	// firstSID is to be that of alice; zero for any, in a domain with a random
	// SID.
	firstSID dtyp.SID
	// passwords are the users', Administrator, alice and bob; nil for others
	// than those of the Samba domain.
	passwords map[string]string
	// listen is where it serves; "" for a port of its own.
	listen string
	// tags are those that the command is built with, and cgo; "" for the command
	// as it is shipped.
	tags string
	// initialize are further arguments of bkrpd init.
	initialize []string
}

// server is a running bkrpd of the domain BKRP with the users Administrator,
// alice and bob.
type server struct {
	addr, host, port string
	pid              int // of the shell that the server runs under
	dir              string
	client           *peers.Client
	passwords        map[string]string
	sids             map[string]string
	log              *lockedBuffer
	// stop stops it, once, and waits.
	stop func()
}

func (s *server) config() string { return filepath.Join(s.dir, "bkrpd.toml") }

func (s *server) credentials(user string) peers.Credentials {
	return peers.Credentials{Domain: s.client.NetBIOS(), User: user, Password: s.passwords[user]}
}

// startBkrpd sets up and starts a server as an operator would, with the
// built commands and a configuration file, and stops it after the test.
func startBkrpd(t *testing.T, o options) *server {
	t.Helper()
	dir := t.TempDir()
	s := &server{
		dir:       filepath.Join(dir, "server"),
		passwords: map[string]string{peers.Administrator: "Correct.Horse.1", peers.Alice: "Correct.Horse.2", peers.Bob: "Correct.Horse.3"},
		sids:      map[string]string{},
	}
	if o.passwords != nil {
		s.passwords = o.passwords
	}
	clientDir := filepath.Join(dir, "client")
	if err := os.Mkdir(clientDir, 0o700); err != nil {
		t.Fatal(err)
	}
	var err error
	if s.client, err = peers.NewClient(clientDir, "BKRP", "BKRP.TEST"); err != nil {
		t.Fatal(err)
	}
	bkrpd := buildTagged(t, "bkrpd", o.tags)
	initialize := append([]string{bkrpd, "init", "--dir", s.dir, "--domain", "bkrp.test", "--netbios", "BKRP"}, o.initialize...)
	if domain, _, ok := o.firstSID.Cut(); ok {
		initialize = append(initialize, "--sid", domain.String())
	}
	command(t, "", initialize...)
	if !o.firstSID.IsZero() {
		s.addNobodies(t, o.firstSID)
	}
	for _, user := range []string{peers.Administrator, peers.Alice, peers.Bob} {
		command(t, s.passwords[user]+"\n", bkrpd, "user", "add", user, "--config", s.config())
	}
	for _, line := range strings.Split(command(t, "", bkrpd, "user", "list", "--config", s.config()), "\n") {
		if fields := strings.Fields(line); len(fields) >= 2 {
			s.sids[fields[0]] = fields[1]
		}
	}
	s.configure(t, o)
	if o.listen == "" {
		o.listen = "127.0.0.1:0"
	}
	s.serve(t, bkrpd, o.listen)
	return s
}

func (s *server) configure(t *testing.T, o options) {
	t.Helper()
	text, err := os.ReadFile(s.config())
	if err != nil {
		t.Fatal(err)
	}
	edited := string(text)
	for key, value := range o.settings {
		edited = setKey(t, edited, key, value)
	}
	if len(o.administrators) > 0 {
		var sids []string
		for _, user := range o.administrators {
			if s.sids[user] == "" {
				t.Fatalf("bkrpd user list does not show the SID of %s", user)
			}
			sids = append(sids, fmt.Sprintf("%q", s.sids[user]))
		}
		edited = setKey(t, edited, "lsa.administrators", "["+strings.Join(sids, ", ")+"]")
	}
	if err := os.WriteFile(s.config(), []byte(edited), 0o600); err != nil {
		t.Fatal(err)
	}
}

// setKey changes the value of a key in a configuration file as bkrpd init
// writes it, where each key has one line of its own.
func setKey(t *testing.T, text, key, value string) string {
	t.Helper()
	wantTable, wantName := "", key
	if i := strings.LastIndexByte(key, '.'); i >= 0 {
		wantTable, wantName = key[:i], key[i+1:]
	}
	table := ""
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if name, ok := strings.CutPrefix(line, "["); ok {
			table, _, _ = strings.Cut(name, "]")
			continue
		}
		name, _, ok := strings.Cut(line, "=")
		if ok && table == wantTable && strings.TrimSpace(name) == wantName {
			lines[i] = wantName + " = " + value
			return strings.Join(lines, "\n")
		}
	}
	t.Fatalf("the configuration bkrpd init wrote has no line for %s", key)
	return ""
}

const listening = "listening on "

// untilEOF runs a server until standard input ends, and asks it to stop
// then: so it does not outlive this process, however that ends.
const untilEOF = `"$@" </dev/null & exec >&-
cat >/dev/null
kill -TERM $!
wait $!`

// serve starts the server and waits for the address it says it listens on.
func (s *server) serve(t *testing.T, bkrpd, listen string) {
	t.Helper()
	cmd := exec.Command("bash", "-c", untilEOF, "until-eof", bkrpd, "serve", "--config", s.config(), "--listen", listen)
	s.log = new(lockedBuffer)
	cmd.Stderr = s.log
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.pid = cmd.Process.Pid
	giveUp := time.AfterFunc(2*time.Minute, func() { stdin.Close() })
	defer giveUp.Stop()
	addr := make(chan string, 1)
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		defer close(addr)
		lines := bufio.NewScanner(stdout)
		for said := false; lines.Scan(); {
			if a, ok := strings.CutPrefix(lines.Text(), listening); ok && !said {
				said = true
				addr <- a
			}
		}
	}()
	s.stop = sync.OnceFunc(func() {
		stdin.Close()
		insist := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
		<-drained
		if err := cmd.Wait(); err != nil {
			t.Errorf("bkrpd serve, asked to stop: %v", err)
		}
		insist.Stop()
	})
	t.Cleanup(func() {
		s.stop()
		if t.Failed() {
			t.Logf("bkrpd serve logged:\n%s", s.log)
		}
	})
	a, ok := <-addr
	if !ok {
		t.Fatalf("bkrpd serve ended without %q:\n%s", listening, s.log)
	}
	s.addr = a
	if strings.HasPrefix(a, "samba:") {
		return
	}
	if s.host, s.port, err = net.SplitHostPort(a); err != nil {
		t.Fatal(err)
	}
}

// lockedBuffer is a log two goroutines may use.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// binaries are the commands built for this run, by name.
var binaries struct {
	sync.Mutex
	dir   string
	paths map[string]string
}

// build makes one of the module's commands, once a run, as it is shipped.
func build(t *testing.T, name string) string {
	t.Helper()
	return buildTagged(t, name, "")
}

// buildTagged makes one of the module's commands with build tags and cgo, or
// without tags as it is shipped.
func buildTagged(t *testing.T, command, tags string) string {
	t.Helper()
	name, cgo := command, "CGO_ENABLED=0"
	if tags != "" {
		name, cgo = command+"-"+tags, "CGO_ENABLED=1"
	}
	binaries.Lock()
	defer binaries.Unlock()
	if path, ok := binaries.paths[name]; ok {
		return path
	}
	if binaries.dir == "" {
		dir, err := os.MkdirTemp("", "bkrp-bin-")
		if err != nil {
			t.Fatal(err)
		}
		binaries.dir, binaries.paths = dir, map[string]string{}
	}
	path := filepath.Join(binaries.dir, name)
	cmd := exec.Command("go", "build", "-tags", tags, "-o", path, "../cmd/"+command)
	cmd.Env = append(os.Environ(), cgo)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building %s: %v\n%s", name, err, out)
	}
	binaries.paths[name] = path
	return path
}

// command runs a program that has to succeed and returns what it printed.
func command(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	stdout, stderr, code := try(t, nil, stdin, args...)
	if code != 0 {
		t.Fatalf("%s: exit code %d\n%s%s", strings.Join(args, " "), code, stdout, stderr)
	}
	return stdout
}

// try runs a program and returns what it printed and its exit code.
func try(t *testing.T, env []string, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatalf("running %s: %v", args[0], err)
	}
	if ctx.Err() != nil {
		t.Fatalf("running %s: %v\n%s%s", strings.Join(args, " "), ctx.Err(), out.String(), errs.String())
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}
