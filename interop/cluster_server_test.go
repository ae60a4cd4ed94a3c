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
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/interop/peers"
	"github.com/seed05845750/bkrp/keystore"
	"github.com/seed05845750/bkrp/keystore/etcdstore"
)

// wayIsolated is how a server loses etcd, and not its clients.
const wayIsolated = "cut off from etcd"

// clusterSize is the number of servers, and of members of etcd.
const clusterSize = 3

// cluster is three members of etcd and three places for servers, each a host of
// its own that can be cut off.
type cluster struct {
	*etcdNetwork
	places []*peers.Host
	bkrpd  string
}

func startCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{bkrpd: build(t, "bkrpd")}
	c.etcdNetwork = startEtcdNetwork(t)
	for range clusterSize {
		host, err := c.network.Join(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		c.places = append(c.places, host)
	}
	return c
}

// isolate takes etcd away from a server, which clients reach as before.
func (c *cluster) isolate(ctx context.Context, server int) error { return c.route(ctx, server, "add") }

func (c *cluster) rejoin(ctx context.Context, server int) error { return c.route(ctx, server, "del") }

func (c *cluster) route(ctx context.Context, server int, change string) error {
	var errs []error
	for _, member := range c.hosts {
		args := c.places[server].Command("ip", "route", change, "blackhole", member.Addr)
		if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out))
		}
	}
	return errors.Join(errs...)
}

// clusterDomain is a store in the cluster's etcd, and the servers on it.
type clusterDomain struct {
	prefix  string
	kek     keystore.Sealer
	domain  keystore.Domain
	sids    map[string]dtyp.SID
	servers []*clusterServer
}

// Passwords of the users of every domain of a cluster.
var clusterPasswords = map[string]string{peers.Alice: "Correct.Horse.2", peers.Bob: "Correct.Horse.3"}

// newDomain makes a domain with users, as an operator would, and a directory for
// each of its servers. Settings are KEY=VALUE.
func (c *cluster) newDomain(t *testing.T, name string, settings ...string) *clusterDomain {
	t.Helper()
	d := &clusterDomain{prefix: "/" + name + "/", sids: make(map[string]dtyp.SID)}
	dir := t.TempDir()
	first := filepath.Join(dir, "0")
	settings = append(settings, "store.backend=etcd", "store.etcd.prefix="+d.prefix, "store.etcd.endpoints="+strings.Join(c.Endpoints(), ","),
		"store.etcd.ca_file="+c.Client.CA, "store.etcd.cert_file="+c.Client.Cert, "store.etcd.key_file="+c.Client.Key)
	initialize := []string{c.bkrpd, "init", "--dir", first, "--domain", "bkrp.test", "--netbios", "BKRP"}
	for _, setting := range settings {
		initialize = append(initialize, "--set", setting)
	}
	command(t, "", initialize...)
	var err error
	if d.kek, err = keystore.ReadKeyFile(filepath.Join(first, "kek.bin")); err != nil {
		t.Fatal(err)
	}
	d.addUsers(t, c)
	for i, place := range c.places {
		s := &clusterServer{name: fmt.Sprintf("%s%d", name, i), dir: filepath.Join(dir, strconv.Itoa(i)), bkrpd: c.bkrpd, place: place}
		s.copyFrom(t, first)
		d.servers = append(d.servers, s)
	}
	return d
}

func (d *clusterDomain) addUsers(t *testing.T, c *cluster) {
	t.Helper()
	store := d.open(t, c.Etcd)
	d.domain = store.Domain()
	for user, password := range clusterPasswords {
		account, err := store.AddAccount(t.Context(), user, password)
		if err != nil {
			t.Fatal(err)
		}
		d.sids[user] = account.SID
	}
}

// open opens the store in this process, beside the servers.
func (d *clusterDomain) open(t *testing.T, e *peers.Etcd) *keystore.Store {
	t.Helper()
	backend, err := etcdstore.Open(t.Context(), etcdOptions(e, d.prefix))
	if err != nil {
		t.Fatal(err)
	}
	store, err := keystore.Open(t.Context(), backend, d.kek, keystore.Options{})
	if err != nil {
		t.Fatal(errors.Join(err, backend.Close()))
	}
	t.Cleanup(func() {
		if err := errors.Join(store.Close(), backend.Close()); err != nil {
			t.Error(err)
		}
	})
	return store
}

// start starts all servers at once.
func (d *clusterDomain) start(t *testing.T) {
	t.Helper()
	errs := make([]error, len(d.servers))
	var wg sync.WaitGroup
	for i, s := range d.servers {
		t.Cleanup(func() {
			s.kill()
			if t.Failed() {
				t.Logf("bkrpd %s logged:\n%s", s.name, s.log.tail(8<<10))
			}
		})
		wg.Go(func() { errs[i] = s.start() })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// clusterServer is a bkrpd, and while it runs its process.
type clusterServer struct {
	name, dir, bkrpd string
	place            *peers.Host
	log              alarms

	mu      sync.Mutex
	addr    string
	process *peers.Process // nil while it does not run
}

// copyFrom makes the directory of a server on the store that was made in first,
// which is that of the first server.
func (s *clusterServer) copyFrom(t *testing.T, first string) {
	t.Helper()
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"kek.bin", "bkrpd.toml"} {
		text, err := os.ReadFile(filepath.Join(first, name))
		if err != nil {
			t.Fatal(err)
		}
		if name == "bkrpd.toml" {
			text = []byte(setKey(t, string(text), "store.replica", strconv.Quote(s.name)))
		}
		if err := os.WriteFile(filepath.Join(s.dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// start runs the server, at the address it had before if there is one, and
// returns when it says that it listens.
func (s *clusterServer) start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process != nil {
		return fmt.Errorf("bkrpd %s runs already", s.name)
	}
	listen := s.addr
	if listen == "" {
		listen = net.JoinHostPort(s.place.Addr, "0")
	}
	stdout, said, err := os.Pipe()
	if err != nil {
		return err
	}
	defer stdout.Close() // it says nothing else
	s.process, err = peers.StartProcess(said, &s.log, s.place.Command(s.bkrpd, "serve", "--config", filepath.Join(s.dir, "bkrpd.toml"), "--listen", listen)...)
	said.Close()
	if err != nil {
		return err
	}
	if err := stdout.SetReadDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		return err
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	addr, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), listening)
	if err != nil || !ok {
		return fmt.Errorf("bkrpd %s does not say %q: %v\n%s", s.name, listening, err, s.log.tail(2<<10))
	}
	s.addr = addr
	return nil
}

// kill ends the server by SIGKILL.
func (s *clusterServer) kill() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return nil
	}
	err := s.process.Kill()
	s.process = nil
	return err
}

// signal sends SIGSTOP or SIGCONT.
func (s *clusterServer) signal(signal syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return fmt.Errorf("bkrpd %s does not run", s.name)
	}
	return s.process.Signal(signal)
}

// address is where the server listens.
func (s *clusterServer) address() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addr
}

// alarms keeps the lines of a log that say more than that all is well, or that
// nobody was given the secret of another.
type alarms struct {
	mu   sync.Mutex
	rest []byte // of a line whose end has not come yet
	kept []byte
}

// maxAlarms is how much of a log is kept, in octets.
const maxAlarms = 64 << 10

func (a *alarms) Write(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.rest = append(a.rest, p...)
	for {
		line, rest, ok := bytes.Cut(a.rest, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		if !bytes.Contains(line, []byte(" level=INFO ")) && !bytes.Contains(line, []byte("ERROR_INVALID_ACCESS")) {
			a.kept = append(append(a.kept, line...), '\n')
			a.kept = a.kept[max(0, len(a.kept)-maxAlarms):]
		}
		a.rest = rest
	}
}

// tail is the end of what was kept.
func (a *alarms) tail(n int) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return string(a.kept[max(0, len(a.kept)-n):])
}
