package interop

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/interop/peers"
)

var (
	speedFor = flag.Duration("speed", 0, "measure the server beside Samba's, each figure for so long, such as 5s")
	idleConn = flag.Int("speed.idle", 1000, "connections to hold when measuring what an idle one costs")
)

// speedServer is one of the servers that are measured.
type speedServer struct {
	name string
	pids []int // the roots of the process trees whose CPU is counted
	cfg  bkrpclient.Config
}

// TestSpeed prints what a second of server CPU is good for, for our server and
// for Samba's domain controller in one run, and the ratio. CPU is that of whole
// process trees as the kernel counts it; the clients are ours in all cases, and
// their CPU is not in it.
func TestSpeed(t *testing.T) {
	if *speedFor == 0 {
		t.Skip("takes minutes and judges nothing; run it by hand with -speed 5s")
	}
	dc := DC(t)
	ours := startBkrpd(t, options{settings: map[string]string{
		"smb.max_connections": "8192", "smb.max_connections_per_address": "8192",
	}})
	fmt.Printf("%s, %d CPUs, %s, load %s; calls per second of server CPU, secret of 64 octets, sealed\n",
		cpuModel(), runtime.NumCPU(), runtime.Version(), loadAverage())
	bkrpd := speedServer{"bkrpd", []int{ours.pid}, ntlmConfig(ours.addr, ours.credentials(peers.Alice))}
	samba := speedServer{"samba", []int{dc.PID()}, ntlmConfig(dc.Addr, dc.Credentials(peers.Alice))}
	sambaRates := compareSpeed(t, "NTLM", bkrpd, samba, speedMeasures)
	kerberosSpeed(t, dc)
	behindSpeed(t, sambaRates)
	fmt.Printf("crypto/rsa, RSA-2048 private operations per second of CPU: %.0f\n", rsaRate(t))
	idle(t, bkrpd)
}

// compareSpeed prints a table of measures of two servers, and gives those of
// the second one by their names.
func compareSpeed(t *testing.T, title string, ours, peer speedServer, measures []speedMeasure) map[string]float64 {
	t.Helper()
	rates := make(map[string]float64)
	out := speedTable()
	fmt.Fprintf(out, "%s\t%s\t%s\tratio\t\n", title, ours.name, peer.name)
	for _, m := range measures {
		a, b := measureSpeed(t, ours, m)[0], measureSpeed(t, peer, m)[0]
		fmt.Fprintf(out, "%s\t%.0f\t%.0f\t%.1f\t\n", m.name, a, b, a/b)
		rates[m.name] = b
	}
	out.Flush()
	return rates
}

func speedTable() *tabwriter.Writer {
	return tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
}

// kerberosSpeed compares our server as a member of the domain with the domain
// controller itself. Each call has an AP-REQ of its own, for two tickets that
// the client has from the start, so that the KDC has no part in it.
func kerberosSpeed(t *testing.T, dc *peers.Domain) {
	t.Helper()
	_, m := member(t)
	// Clients call servers by the names of their principals, and this process
	// does not resolve the domain's names.
	const here = "127.0.0.1"
	conf := filepath.Join(filepath.Dir(dc.Krb5Conf()), "etc", "smb.conf")
	var services []string
	for _, p := range [][2]string{{here, m.Account}, {dc.Addr, "DC1$"}} {
		for _, class := range []string{"cifs/", "host/"} {
			services = append(services, class+p[0])
			inDomain(t, dc, "samba-tool", "spn", "add", class+p[0], p[1], "-s", conf)
			if p[0] == here {
				inDomain(t, dc, "samba-tool", "domain", "exportkeytab", m.Keytab, "--principal="+class+here, "-s", conf)
			}
		}
	}
	cache, err := dc.Kinit(t.Context(), peers.Alice, services...)
	if err != nil {
		t.Fatal(err)
	}
	ours, _ := startMember(t, options{})
	config := func(server string) bkrpclient.Config {
		return bkrpclient.Config{Server: server, RequireMutual: true, Credential: bkrpclient.Credential{
			Kerberos: &bkrpclient.Kerberos{CCache: "FILE:" + cache, Conf: dc.Krb5Conf()}}}
	}
	compareSpeed(t, "Kerberos", speedServer{"bkrpd", []int{ours.pid}, config(net.JoinHostPort(here, ours.port))},
		speedServer{"samba", []int{dc.PID()}, config(dc.Addr)}, wrapMeasures)
}

func inDomain(t *testing.T, dc *peers.Domain, args ...string) {
	t.Helper()
	if out, err := dc.Exec(t.Context(), args...); err != nil || out.Code != 0 {
		t.Fatalf("%s: %v, %v", strings.Join(args, " "), err, out)
	}
}

// behindSpeed measures our server behind the smbd of another domain controller:
// its own CPU, and that of both, which is what compares with Samba's.
func behindSpeed(t *testing.T, samba map[string]float64) {
	t.Helper()
	dc, ours := behindSamba(t)
	s := speedServer{"bkrpd behind smbd", []int{ours.pid, dc.PID()}, ntlmConfig(dc.Addr, dc.Credentials(peers.Alice))}
	out := speedTable()
	fmt.Fprintf(out, "behind smbd, NTLM\tbkrpd\tbkrpd and smbd\tsamba\tratio\t\n")
	for _, m := range wrapMeasures {
		rates := measureSpeed(t, s, m)
		fmt.Fprintf(out, "%s\t%.0f\t%.0f\t%.0f\t%.1f\t\n", m.name, rates[0], rates[1], samba[m.name], rates[1]/samba[m.name])
	}
	out.Flush()
}

func ntlmConfig(server string, who peers.Credentials) bkrpclient.Config {
	return bkrpclient.Config{Server: server, Credential: bkrpclient.Credential{
		Domain: who.Domain, User: who.User, Password: bkrpclient.Password(who.Password)}}
}

// speedMeasure is one kind of call. Warm calls are repeated on connections that
// stand; a cold one connects, logs on, binds, calls and closes.
type speedMeasure struct {
	name    string
	cold    bool
	prepare func(context.Context, *bkrpclient.Client) ([]byte, error)
	action  bkrp.Action
}

var speedMeasures = []speedMeasure{
	{name: "ServerWrap wrap", action: bkrp.ActionBackup, prepare: plainSecret},
	{name: "ServerWrap unwrap", action: bkrp.ActionRestoreWin2K, prepare: wrappedBy(bkrpclient.ModeServer)},
	{name: "retrieve key", action: bkrp.ActionRetrieve, prepare: func(context.Context, *bkrpclient.Client) ([]byte, error) { return nil, nil }},
	{name: "ClientWrap unwrap", action: bkrp.ActionRestore, prepare: wrappedBy(bkrpclient.ModeClient)},
	{name: "cold wrap", cold: true, action: bkrp.ActionBackup, prepare: plainSecret},
}

// wrapMeasures are one warm and one cold call, for ways to connect that differ
// in nothing else.
var wrapMeasures = []speedMeasure{speedMeasures[0], speedMeasures[4]}

func plainSecret(context.Context, *bkrpclient.Client) ([]byte, error) {
	b := make([]byte, 64)
	rand.Read(b)
	b[0] = 1
	return b, nil
}

func wrappedBy(mode bkrpclient.Mode) func(context.Context, *bkrpclient.Client) ([]byte, error) {
	return func(ctx context.Context, c *bkrpclient.Client) ([]byte, error) {
		secret, _ := plainSecret(ctx, c)
		return c.Wrap(ctx, secret, bkrpclient.WrapOptions{Mode: mode})
	}
}

// measureSpeed makes calls from four clients at a time and returns how many
// were answered for each second of CPU: of the server's first process tree, of
// the first two together, and so on.
func measureSpeed(t *testing.T, s speedServer, m speedMeasure) []float64 {
	t.Helper()
	ctx := t.Context()
	const clients = 4
	conns := make([]*bkrpclient.Client, clients)
	for i := range conns {
		c, err := bkrpclient.Dial(ctx, s.cfg)
		if err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		defer c.Close()
		conns[i] = c
	}
	in, err := m.prepare(ctx, conns[0])
	if err != nil {
		t.Fatalf("%s: %s: %v", s.name, m.name, err)
	}
	call := func(c *bkrpclient.Client) error {
		_, err := c.BackuprKey(ctx, m.action, in)
		return err
	}
	if m.cold {
		call = func(*bkrpclient.Client) error {
			c, err := bkrpclient.Dial(ctx, s.cfg)
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = c.BackuprKey(ctx, m.action, in)
			return err
		}
	}
	for _, c := range conns { // warm up
		if err := call(c); err != nil {
			t.Fatalf("%s: %s: %v", s.name, m.name, err)
		}
	}
	var (
		group sync.WaitGroup
		calls [clients]int
	)
	before := make([]time.Duration, len(s.pids))
	for i, pid := range s.pids {
		before[i] = treeCPU(t, pid)
	}
	until := time.Now().Add(*speedFor)
	for i, c := range conns {
		group.Go(func() {
			for time.Now().Before(until) {
				if err := call(c); err != nil {
					t.Errorf("%s: %s: %v", s.name, m.name, err)
					return
				}
				calls[i]++
			}
		})
	}
	group.Wait()
	if m.cold {
		time.Sleep(time.Second) // for processes of closed connections to be counted
	}
	total := 0
	for _, n := range calls {
		total += n
	}
	var spent time.Duration
	rates := make([]float64, len(s.pids))
	for i, pid := range s.pids {
		spent += treeCPU(t, pid) - before[i]
		if spent <= 0 {
			t.Fatalf("%s: %s: no CPU time was counted", s.name, m.name)
		}
		rates[i] = float64(total) / spent.Seconds()
	}
	return rates
}

// rsaRate is what a second of CPU is good for in crypto/rsa, the limit for
// ClientWrap, with every CPU busy, as under the server's load: CPUs that share
// a core are slower together.
func rsaRate(t *testing.T) float64 {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	//lint:ignore SA1019 what the protocol does (3.2.4.1)
	c, err := rsa.EncryptPKCS1v15(rand.Reader, &key.PublicKey, make([]byte, 104))
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	rates := make([]float64, runtime.NumCPU())
	for i := range rates {
		group.Go(func() {
			// The thread's CPU time, since others may share the machine.
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			n, began := 0, threadCPU(t)
			for threadCPU(t)-began < *speedFor {
				//lint:ignore SA1019 as above
				if _, err := rsa.DecryptPKCS1v15(nil, key, c); err != nil {
					t.Error(err)
					return
				}
				n++
			}
			rates[i] = float64(n) / (threadCPU(t) - began).Seconds()
		})
	}
	group.Wait()
	mean := 0.0
	for _, r := range rates {
		mean += r / float64(len(rates))
	}
	return mean
}

// idle prints what an authenticated, bound connection without calls costs.
func idle(t *testing.T, s speedServer) {
	t.Helper()
	child := onlyChild(t, s.pids[0])
	before := resident(t, child)
	for range *idleConn {
		c, err := bkrpclient.Dial(t.Context(), s.cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	grown := resident(t, child) - before
	fmt.Printf("%s: %d idle connections, logged on and bound: %.1f KiB of resident memory each\n",
		s.name, *idleConn, float64(grown)/float64(*idleConn)/1024)
}
