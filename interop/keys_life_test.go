package interop

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/interop/peers"
)

// keysCluster is two daemons on a store in etcd.
type keysCluster struct {
	t     *testing.T
	bkrpd string
	one   *server
	two   *server
}

func startKeysCluster(t *testing.T) *keysCluster {
	t.Helper()
	e := startEtcd(t)
	c := &keysCluster{t: t, bkrpd: build(t, "bkrpd")}
	dir := t.TempDir()
	for _, name := range []string{"one", "two"} {
		s := &server{dir: filepath.Join(dir, name), passwords: map[string]string{peers.Alice: "Correct.Horse.2"}}
		if c.one == nil {
			command(t, "", c.bkrpd, "init", "--dir", s.dir, "--domain", "bkrp.test", "--netbios", "BKRP",
				"--set", "store.backend=etcd", "--set", "store.etcd.endpoints="+strings.Join(e.Endpoints(), ","), "--set", "store.replica=one",
				"--set", "store.etcd.ca_file="+e.Client.CA, "--set", "store.etcd.cert_file="+e.Client.Cert, "--set", "store.etcd.key_file="+e.Client.Key)
			command(t, s.passwords[peers.Alice]+"\n", c.bkrpd, "user", "add", peers.Alice, "--config", s.config())
			c.one = s
		} else {
			(&clusterServer{dir: s.dir}).copyFrom(t, c.one.dir)
			c.two = s
			c.set(s, "store.replica", `"two"`)
		}
		s.serve(t, c.bkrpd, "127.0.0.1:0")
	}
	return c
}

// set changes a key of a server's configuration.
func (c *keysCluster) set(s *server, key, value string) {
	c.t.Helper()
	text, err := os.ReadFile(s.config())
	if err != nil {
		c.t.Fatal(err)
	}
	if err := os.WriteFile(s.config(), []byte(setKey(c.t, string(text), key, value)), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// run runs a command that has to succeed, on one server.
func (c *keysCluster) run(s *server, args ...string) string {
	c.t.Helper()
	return command(c.t, "", append(append([]string{c.bkrpd}, args...), "--config", s.config())...)
}

// refused runs a command that has to fail and say why.
func (c *keysCluster) refused(why string, s *server, args ...string) {
	c.t.Helper()
	_, stderr, code := try(c.t, nil, "", append(append([]string{c.bkrpd}, args...), "--config", s.config())...)
	if code == 0 || !strings.Contains(stderr, why) {
		c.t.Errorf("%s: exit code %d, %s", strings.Join(args, " "), code, stderr)
	}
}

func (c *keysCluster) dial(s *server) *bkrpclient.Client {
	c.t.Helper()
	client, err := bkrpclient.Dial(c.t.Context(), bkrpclient.Config{Server: s.addr, Credential: bkrpclient.Credential{
		Domain: "BKRP", User: peers.Alice, Password: bkrpclient.Password(s.passwords[peers.Alice]),
	}})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { client.Close() })
	return client
}

// Two daemons share a store in etcd: a key is rotated, counted, retired and
// locked on both, a server that hangs holds a rotation up and is named, and the
// key-encryption key is replaced when both are configured with the new one.
func TestLifeOfKeysInCluster(t *testing.T) {
	c := startKeysCluster(t)
	servers := []*server{c.one, c.two}
	clients := []*bkrpclient.Client{c.dial(c.one), c.dial(c.two)}
	secret := []byte("a master key")
	wrap := func(i int) []byte {
		t.Helper()
		blob, err := clients[i].Wrap(t.Context(), secret, bkrpclient.WrapOptions{Mode: bkrpclient.ModeServer})
		if err != nil {
			t.Fatal(err)
		}
		return blob
	}
	opens := func(i int, blob []byte) error {
		t.Helper()
		got, err := clients[i].Unwrap(t.Context(), blob)
		if err == nil && !bytes.Equal(got, secret) {
			t.Error("another secret came out")
		}
		return err
	}
	keyOf := func(blob []byte) string {
		w, err := bkrp.ParseServerWrapped(blob)
		if err != nil {
			t.Fatal(err)
		}
		return w.KeyGUID.String()
	}
	old := wrap(0)
	if keyOf(wrap(1)) != keyOf(old) {
		t.Error("the servers have different keys")
	}
	c.run(c.one, "keys", "rotate", "server")
	comesTrue(t, "wraps under the new key", func() bool { return keyOf(wrap(1)) != keyOf(old) })
	for i := range clients {
		if err := opens(i, old); err != nil {
			t.Errorf("server %d: %v", i, err)
		}
	}

	// What one counted, the other one sees when it is written down.
	comesTrue(t, "the use on both servers is counted", func() bool {
		return strings.Contains(c.run(c.one, "keys", "show", keyOf(old), "--json"), `"unwraps": 2,`)
	})
	c.run(c.two, "keys", "retire", keyOf(old))
	comesTrue(t, "an alarm", func() bool {
		if err := opens(0, old); err != nil {
			t.Fatal(err)
		}
		return strings.Contains(c.one.log.String(), "alarm: a retired key was used")
	})
	c.run(c.one, "keys", "lock", keyOf(old))
	comesTrue(t, "the key is locked", func() bool { return opens(1, old) != nil })
	c.run(c.two, "keys", "activate", keyOf(old))
	comesTrue(t, "the key is active", func() bool { return opens(0, old) == nil && opens(1, old) == nil })

	// A server that hangs holds a rotation up, and is named.
	hang(t, c.two, syscall.SIGSTOP)
	c.refused("two did not get key", c.one, "keys", "rotate", "server", "--wait", "2s")
	c.refused("is not served by two yet", c.one, "keys", "rotate", "server", "--phase", "prefer")
	hang(t, c.two, syscall.SIGCONT)
	c.run(c.one, "keys", "rotate", "server")

	kek := filepath.Join(t.TempDir(), "kek.bin")
	c.run(c.one, "rekey", "--to", "file:"+kek, "--create")
	c.set(c.one, "seal.kek", `"file:`+kek+`"`)
	c.refused("two must be configured with it first", c.one, "rekey", "--finish", "--wait", "1s")
	c.set(c.two, "seal.kek", `"file:`+kek+`"`)
	c.run(c.two, "rekey", "--finish")
	for i, s := range servers {
		if err := opens(i, old); err != nil {
			t.Errorf("server %d: %v", i, err)
		}
		if out := c.run(s, "rekey", "--status"); strings.Count(out, "\n") != 1 || !strings.Contains(out, "in the configuration") {
			t.Errorf("server %d: %s", i, out)
		}
	}
}

// hang sends a signal to the daemon, which is a child of the shell that it runs
// under.
func hang(t *testing.T, s *server, sig syscall.Signal) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", s.pid, s.pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, child := range strings.Fields(string(text)) {
		pid, err := strconv.Atoi(child)
		if err != nil {
			t.Fatal(err)
		}
		if name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); strings.TrimSpace(string(name)) != "bkrpd" {
			continue
		}
		if err := syscall.Kill(pid, sig); err != nil {
			t.Fatal(err)
		}
		if sig == syscall.SIGSTOP {
			t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) }) // or it could not be stopped
		}
		return
	}
	t.Fatal("the shell has no daemon")
}

// comesTrue waits for what happens soon in a server.
func comesTrue(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it did not come true: ", what)
		}
	}
}
