package peers

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// EtcdPrograms are what [StartEtcd] needs to find.
var EtcdPrograms = []string{"etcd", "bash"}

// Ports of a member.
const (
	etcdClientPort = "2379"
	etcdPeerPort   = "2380"
)

// Etcd is a running cluster of etcd, over TLS with client certificates.
type Etcd struct {
	// Client are the files that a client of the cluster needs.
	Client EtcdClientFiles

	dir     string
	ca      *etcdAuthority
	members []*etcdMember
}

// EtcdClientFiles are files in PEM: the authority of the members' certificates,
// and a certificate with its key (mode 0600) whose common name is "bkrpd".
type EtcdClientFiles struct{ CA, Cert, Key string }

// etcdMember is one member and, while it runs, its process.
type etcdMember struct {
	name, addr string
	args       []string

	mu      sync.Mutex
	process *Process // nil while it does not run
	log     bytes.Buffer
}

// StartEtcd starts a cluster of n members, on loopback addresses of their own or
// on the first n of hosts, with their data in memory where the system has
// /dev/shm. It takes 2 to 5 seconds. [Etcd.Close] ends it; so does the end of
// this process.
func StartEtcd(ctx context.Context, n int, hosts ...*Host) (*Etcd, error) {
	dir, err := os.MkdirTemp(memoryDir(), "bkrp-etcd-")
	if err != nil {
		return nil, fmt.Errorf("making the cluster's directory: %w", err)
	}
	e := &Etcd{dir: dir, Client: EtcdClientFiles{
		CA: filepath.Join(dir, "ca.crt"), Cert: filepath.Join(dir, "client.crt"), Key: filepath.Join(dir, "client.key"),
	}}
	err = e.prepare(n, hosts)
	for _, m := range e.members {
		if err == nil {
			err = m.start()
		}
	}
	if err == nil {
		err = e.Ready(ctx)
	}
	if err != nil {
		err = errors.Join(err, e.Close())
		for i, m := range e.members {
			err = fmt.Errorf("%w\n%s: %s", err, m.name, tail(e.Log(i), 2048))
		}
		return nil, err
	}
	return e, nil
}

// memoryDir is a file system in memory, or the system's temporary directory.
func memoryDir() string {
	const shm = "/dev/shm"
	if info, err := os.Stat(shm); err == nil && info.IsDir() {
		return shm
	}
	return ""
}

// prepare draws addresses, makes certificates, and settles each member's
// command.
func (e *Etcd) prepare(n int, hosts []*Host) error {
	if len(hosts) != 0 && len(hosts) < n {
		return fmt.Errorf("peers: %d hosts are too few for %d members of etcd", len(hosts), n)
	}
	var err error
	if e.ca, err = newEtcdAuthority(e.Client.CA); err != nil {
		return err
	}
	if err := e.ca.issue("bkrpd", "", e.Client.Cert, e.Client.Key); err != nil {
		return err
	}
	var cluster []string
	for i := range n {
		m := &etcdMember{name: "m" + strconv.Itoa(i)}
		if len(hosts) != 0 {
			m.addr, m.args = hosts[i].Addr, hosts[i].Command()
		} else if m.addr, err = freeEtcdAddress(); err != nil {
			return err
		}
		e.members = append(e.members, m)
		cluster = append(cluster, m.name+"=https://"+net.JoinHostPort(m.addr, etcdPeerPort))
	}
	for _, m := range e.members {
		cert, key := filepath.Join(e.dir, m.name+".crt"), filepath.Join(e.dir, m.name+".key")
		if err := e.ca.issue(m.name, m.addr, cert, key); err != nil {
			return err
		}
		client, peer := e.url(m), "https://"+net.JoinHostPort(m.addr, etcdPeerPort)
		m.args = append(m.args, "etcd", "--name", m.name, "--data-dir", filepath.Join(e.dir, m.name),
			"--listen-client-urls", client, "--advertise-client-urls", client,
			"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
			"--initial-cluster", strings.Join(cluster, ","), "--initial-cluster-state", "new",
			"--initial-cluster-token", filepath.Base(e.dir),
			"--cert-file", cert, "--key-file", key, "--trusted-ca-file", e.Client.CA, "--client-cert-auth",
			"--peer-cert-file", cert, "--peer-key-file", key, "--peer-trusted-ca-file", e.Client.CA, "--peer-client-cert-auth",
			// The default from 3.5 on: a member that comes back does not depose
			// the leader.
			"--pre-vote",
			"--logger", "zap", "--log-outputs", "stderr")
	}
	return nil
}

// freeEtcdAddress draws loopback addresses until nothing listens on the ports
// of a member.
func freeEtcdAddress() (string, error) {
	for range 20 {
		addr, err := freeAddress()
		if err != nil {
			return "", err
		}
		if portFree(addr, etcdClientPort) && portFree(addr, etcdPeerPort) {
			return addr, nil
		}
	}
	return "", errors.New("peers: no loopback address with the ports of etcd free")
}

func portFree(addr, port string) bool {
	l, err := net.Listen("tcp", net.JoinHostPort(addr, port))
	return err == nil && l.Close() == nil
}

func (e *Etcd) url(m *etcdMember) string {
	return "https://" + net.JoinHostPort(m.addr, etcdClientPort)
}

// Endpoints are the members' client URLs, in the order of their numbers.
func (e *Etcd) Endpoints() []string {
	var urls []string
	for _, m := range e.members {
		urls = append(urls, e.url(m))
	}
	return urls
}

// ClientTLS is the configuration of a client, with the certificate of Client.
func (e *Etcd) ClientTLS() (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(e.Client.Cert, e.Client.Key)
	if err != nil {
		return nil, fmt.Errorf("reading the client's certificate: %w", err)
	}
	return &tls.Config{RootCAs: e.ca.pool(), Certificates: []tls.Certificate{cert}}, nil
}

// start runs the member's process, which goes on where its data ends.
func (m *etcdMember) start() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.process != nil {
		return fmt.Errorf("peers: etcd %s runs already", m.name)
	}
	m.log.Reset()
	var err error
	m.process, err = StartProcess(nil, &m.log, m.args...)
	return err
}

// kill ends the member's process by SIGKILL and waits for it.
func (m *etcdMember) kill() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.process == nil {
		return nil
	}
	err := m.process.Kill()
	m.process = nil
	if err != nil {
		return fmt.Errorf("killing etcd %s: %w", m.name, err)
	}
	return nil
}

// Kill ends member i by SIGKILL; its data stays as it is.
func (e *Etcd) Kill(i int) error { return e.members[i].kill() }

// Restart starts member i again on its data, after Kill, and does not wait
// until it is ready.
func (e *Etcd) Restart(i int) error { return e.members[i].start() }

// Pause stops member i without ending it (SIGSTOP): its connections stay, and
// nothing answers on them. Resume lets it go on.
func (e *Etcd) Pause(i int) error { return e.members[i].signal(syscall.SIGSTOP) }

// Resume lets member i go on after Pause.
func (e *Etcd) Resume(i int) error { return e.members[i].signal(syscall.SIGCONT) }

func (m *etcdMember) signal(signal syscall.Signal) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.process == nil {
		return fmt.Errorf("peers: etcd %s does not run", m.name)
	}
	return m.process.Signal(signal)
}

// Ready waits until each member that runs says that it is healthy, which it is
// in a cluster with a leader.
func (e *Etcd) Ready(ctx context.Context) error {
	cfg, err := e.ClientTLS()
	if err != nil {
		return err
	}
	transport := &http.Transport{TLSClientConfig: cfg}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 2 * time.Second}
	for _, m := range e.members {
		if !m.running() {
			continue
		}
		for {
			err := healthy(ctx, client, e.url(m))
			if err == nil {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("peers: etcd %s did not get ready: %w", m.name, err)
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	return nil
}

func (m *etcdMember) running() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.process != nil
}

func healthy(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/health", nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, body)
	}
	return err
}

// Log is what member i wrote since it was last started, once it has ended.
func (e *Etcd) Log(i int) string {
	m := e.members[i]
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.process != nil {
		return ""
	}
	return m.log.String()
}

// Close kills the members and removes their data.
func (e *Etcd) Close() error {
	var errs []error
	for _, m := range e.members {
		errs = append(errs, m.kill())
	}
	return errors.Join(append(errs, os.RemoveAll(e.dir))...)
}
