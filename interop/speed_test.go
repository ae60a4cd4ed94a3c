package interop

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/interop/peers"
)

var (
	speedFor = flag.Duration("speed", 0, "measure the server beside Samba's, each figure for so long, such as 5s")
	idleConn = flag.Int("speed.idle", 1000, "connections to hold when measuring what an idle one costs")
)

// speedServer is one of the two servers that are measured.
type speedServer struct {
	name string
	pid  int // the root of its process tree
	cfg  bkrpclient.Config
}

// TestSpeed prints what a second of server CPU is good for, for our server and
// for Samba's domain controller in one run, and the ratio. CPU is that of the
// whole process tree as the kernel counts it; the clients are ours in both
// cases, and their CPU is not in it.
func TestSpeed(t *testing.T) {
	if *speedFor == 0 {
		t.Skip("takes minutes and judges nothing; run it by hand with -speed 5s")
	}
	dc := DC(t)
	ours := startBkrpd(t, options{settings: map[string]string{
		"smb.max_connections": "8192", "smb.max_connections_per_address": "8192",
	}})
	servers := []speedServer{
		{"bkrpd", ours.pid, speedConfig(ours.addr, ours.credentials(peers.Alice))},
		{"samba", dc.PID(), speedConfig(dc.Addr, dc.Credentials(peers.Alice))},
	}
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(os.Stdout, "%s, %d CPUs, %s; calls per second of server CPU, secret of 64 octets, NTLM, sealed\n",
		cpuModel(), runtime.NumCPU(), runtime.Version())
	fmt.Fprintf(out, "\tbkrpd\tsamba\tratio\t\n")
	for _, m := range speedMeasures {
		var rate [2]float64
		for i, s := range servers {
			rate[i] = measureSpeed(t, s, m)
		}
		fmt.Fprintf(out, "%s\t%.0f\t%.0f\t%.1f\t\n", m.name, rate[0], rate[1], rate[0]/rate[1])
	}
	out.Flush()
	fmt.Printf("crypto/rsa, RSA-2048 private operations per second of CPU: %.0f\n", rsaRate(t))
	idle(t, servers[0])
}

func speedConfig(server string, who peers.Credentials) bkrpclient.Config {
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
// were answered for each second of the server's CPU.
func measureSpeed(t *testing.T, s speedServer, m speedMeasure) float64 {
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
	before := treeCPU(t, s.pid)
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
	spent := treeCPU(t, s.pid) - before
	total := 0
	for _, n := range calls {
		total += n
	}
	if spent <= 0 {
		t.Fatalf("%s: %s: no CPU time was counted", s.name, m.name)
	}
	return float64(total) / spent.Seconds()
}

// clockTick is USER_HZ, which is 100 on every Linux that Go runs on.
const clockTick = 10 * time.Millisecond

// treeCPU is the CPU time of a process, its descendants, and those of them that
// have ended and been waited for.
func treeCPU(t *testing.T, pid int) time.Duration {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0 // gone, and counted by its parent
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	var ticks int
	for _, f := range fields[11:15] { // utime, stime, cutime, cstime
		n, err := strconv.Atoi(f)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	total := time.Duration(ticks) * clockTick
	tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	for _, task := range tasks {
		children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pid, task.Name()))
		for _, child := range strings.Fields(string(children)) {
			n, err := strconv.Atoi(child)
			if err != nil {
				t.Fatal(err)
			}
			total += treeCPU(t, n)
		}
	}
	return total
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

// threadCPU is the CPU time of the calling thread.
func threadCPU(t *testing.T) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &u); err != nil {
		t.Error(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// idle prints what an authenticated, bound connection without calls costs.
func idle(t *testing.T, s speedServer) {
	t.Helper()
	child := onlyChild(t, s.pid)
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

// onlyChild is the server under the shell that ends it.
func onlyChild(t *testing.T, pid int) int {
	t.Helper()
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, child := range strings.Fields(string(children)) {
		comm, _ := os.ReadFile("/proc/" + child + "/comm")
		if strings.TrimSpace(string(comm)) == "bkrpd" {
			n, err := strconv.Atoi(child)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("no bkrpd under process %d", pid)
	return 0
}

// resident is the resident memory of a process, in octets.
func resident(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(status), "\n") {
		if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, err := strconv.Atoi(strings.Fields(v)[0])
			if err != nil {
				t.Fatal(err)
			}
			return n << 10
		}
	}
	t.Fatal("no VmRSS")
	return 0
}

func cpuModel() string {
	info, _ := os.ReadFile("/proc/cpuinfo")
	for _, line := range strings.Split(string(info), "\n") {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}
