package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/internal/cli"
	"github.com/seed05845750/bkrp/internal/dclocator"
)

// comparePasswordFileEnv names a file whose first line is the password of
// --compare-user.
const comparePasswordFileEnv = "BKRP_COMPARE_PASSWORD_FILE"

// Bounds of what bench is asked for.
const (
	maxBenchConnections = 4096
	maxBenchSecret      = 1 << 20 // octets
	minBenchRate        = 0.001   // calls in a second
	maxBenchRate        = 1e6
)

// benchOptions are the flags of "bkrp bench" beside those that say who calls.
type benchOptions struct {
	mixText     string
	mix         benchMix
	connections int
	cold        bool
	duration    time.Duration
	count       uint64
	rate        float64
	size        int
	pid         int

	compare, compareUser string
	comparePID           int

	anyServer, asJSON bool
}

// newBenchCommand is "bkrp bench".
func newBenchCommand(stdout, stderr io.Writer) *cobra.Command {
	var (
		flags clientFlags
		o     benchOptions
	)
	cmd := &cobra.Command{
		Use:   "bench --server HOST[:PORT] -U DOMAIN\\NAME [--compare HOST[:PORT]]",
		Short: "measure a server under load, alone or beside another one",
		Long: `Bench calls one server from several connections at a time and says how many calls
it answered in a second, and how long they took. Each answer is looked at: a
secret that comes back has to be the one that went in.

The mix of calls says how often each of the four actions is called:

  wrap       ServerWrap: the server wraps a secret
  unwrap     ServerWrap: the server unwraps it
  retrieve   the server hands out the domain's public key
  restore    ClientWrap: the server opens a secret wrapped under that key

Connections stand during the run. With --cold each call has one of its own:
connect, log on, bind, call, close, and all of that is its time. With --rate the
calls begin at that rate, as far as there are connections for them, and are timed
from when they were due: waiting for slow ones is then in the figures.

With --pid, the process of a server on this machine, bench counts the CPU time of
that process and all below it, those included that ended and were waited for, and
says how many calls a second of it was good for. The client's own CPU time is in
none of the figures, though it takes CPUs from a server on the same machine.

--compare has a second server put under the same load in the same run, by turns of
a second, and prints the ratio.

Percentiles may be too high by up to 0.8 %, and are never too low. Ctrl-C ends the
run, and what was measured so far is printed. Load is for servers of your own: one
that is not on this machine needs --yes-load-this-server. The exit code is 1 when
any call failed.`,
		Example: `  bkrp bench --server 127.0.0.1:4445 -U 'EXAMPLE\alice' --pid $(pidof bkrpd)
  bkrp bench --server 127.0.0.1:4445 -U 'EXAMPLE\alice' --mix restore --cold --duration 30s
  bkrp bench --server 127.0.0.1:4445 -U 'EXAMPLE\alice' --pid $(pidof bkrpd) \
    --compare 127.0.0.2 --compare-user 'SAMDOM\alice' --compare-pid $(cat /run/samba/samba.pid) --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(&flags); err != nil {
				return err
			}
			return runBench(cmd.Context(), &flags, &o, stdout, stderr)
		},
	}
	flags.registerServer(cmd)
	o.register(cmd)
	return cmd
}

// registerServer adds the flags for a command that talks to the one server it is
// told, and finds none.
func (f *clientFlags) registerServer(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.server, "server", "", "the server, HOST or HOST:PORT (port 445 if none is given)")
	cmd.Flags().StringVarP(&f.user, "user", "U", "", `who calls, DOMAIN\NAME or NAME@DOMAIN; not needed with --kerberos`)
	cmd.Flags().BoolVarP(&f.kerberos, "kerberos", "k", false, "log on by the Kerberos tickets of kinit; with -U and BKRP_PASSWORD_FILE, by NTLM when there are none")
	cmd.Flags().StringVar(&f.keytab, "keytab", "", "log on by Kerberos with the keys that this keytab has for -U NAME@REALM")
	cmd.Flags().BoolVar(&f.requireMutual, "require-mutual", false, "refuse servers that do not prove who they are, which leaves Kerberos alone")
	cmd.Flags().StringVar(&f.pipe, "pipe", "", "the only pipe to try, protected_storage or ntsvcs (default: both, in this order)")
	cmd.Flags().BoolVar(&f.ndr64, "ndr64", false, "use the 64-bit transfer syntax")
	cmd.Flags().DurationVar(&f.timeout, "timeout", bkrpclient.DefaultTimeout, "the longest a log-on or a call may take")
	cmd.MarkFlagRequired("server")
	cmd.MarkFlagsOneRequired("user", "kerberos")
}

func (o *benchOptions) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.mixText, "mix", "wrap=4,unwrap=4,retrieve=1,restore=1", "the calls, and how often each is made")
	cmd.Flags().IntVarP(&o.connections, "connections", "c", 4, "how many calls are under way at a time, each on a connection of its own")
	cmd.Flags().BoolVar(&o.cold, "cold", false, "connect, log on, bind, call and close for each call")
	cmd.Flags().DurationVarP(&o.duration, "duration", "d", 10*time.Second, "how long each server is put under load; 0s with --count is as long as that takes")
	cmd.Flags().Uint64VarP(&o.count, "count", "n", 0, "how many calls to make to each server; 0 is any number")
	cmd.Flags().Float64Var(&o.rate, "rate", 0, "how many calls to begin in a second; 0 is each as soon as the one before is answered")
	cmd.Flags().IntVar(&o.size, "size", 64, "the length of the secrets, in octets; those of restore are at most 205 for a key of 2048 bits")
	cmd.Flags().IntVar(&o.pid, "pid", 0, "the server's process on this machine, whose CPU time and memory are counted with those of all below it")
	cmd.Flags().StringVar(&o.compare, "compare", "", "a second server, HOST or HOST:PORT, for the same load in turns")
	cmd.Flags().StringVar(&o.compareUser, "compare-user", "", "who calls the second server (default: the same); "+comparePasswordFileEnv+" names the file with the password")
	cmd.Flags().IntVar(&o.comparePID, "compare-pid", 0, "the second server's process on this machine")
	cmd.Flags().BoolVar(&o.anyServer, "yes-load-this-server", false, "put a server under load that is not on this machine")
	cli.AddJSONFlag(cmd, &o.asJSON)
}

// check looks at what does not need a server.
func (o *benchOptions) check(f *clientFlags) (err error) {
	if o.mix, err = parseMix(o.mixText); err != nil {
		return err
	}
	switch {
	case f.server == "":
		return cli.Usagef("--server: it is empty")
	case f.timeout <= 0:
		return cli.Usagef("--timeout %v: it is to be more than 0s", f.timeout)
	case o.connections < 1 || o.connections > maxBenchConnections:
		return cli.Usagef("--connections %d: it is to be 1 to %d", o.connections, maxBenchConnections)
	case o.duration < 0 || o.duration == 0 && o.count == 0:
		return cli.Usagef("--duration %v: it is to be more than 0s, or --count is to say when the end is", o.duration)
	case o.rate != 0 && !(o.rate >= minBenchRate && o.rate <= maxBenchRate):
		return cli.Usagef("--rate %v: it is to be 0, or %v to %v", o.rate, minBenchRate, int(maxBenchRate))
	case o.size < 1 || o.size > maxBenchSecret:
		return cli.Usagef("--size %d: it is to be 1 to %d", o.size, maxBenchSecret)
	case o.pid < 0 || o.comparePID < 0:
		return cli.Usagef("--pid, --compare-pid: a process has a number above 0")
	case o.compare == "" && (o.compareUser != "" || o.comparePID != 0):
		return cli.Usagef("--compare-user and --compare-pid go with --compare")
	}
	return nil
}

// runBench runs the load and prints the report.
func runBench(ctx context.Context, f *clientFlags, o *benchOptions, stdout, stderr io.Writer) error {
	for _, server := range []string{f.server, o.compare} {
		if server != "" && !o.anyServer {
			if err := onThisMachine(ctx, server); err != nil {
				return err
			}
		}
	}
	servers, err := benchServers(f, o)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	run := benchRun{options: o, servers: servers, progress: stderr}
	defer run.close()
	report, err := run.do(ctx)
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	if err := report.print(stdout, o.asJSON); err != nil {
		return err
	}
	return report.err()
}

// benchServers are the servers to call, and as whom.
func benchServers(f *clientFlags, o *benchOptions) ([]*benchServer, error) {
	cfg, err := f.config()
	if err != nil {
		return nil, err
	}
	servers := []*benchServer{newBenchServer(cfg, o.pid)}
	if o.compare == "" {
		return servers, nil
	}
	cfg.Server = o.compare
	if o.compareUser != "" {
		if cfg.Credential, err = compareCredential(f, o.compareUser); err != nil {
			return nil, err
		}
	}
	if err := checkServer(&cfg); err != nil {
		return nil, err
	}
	return append(servers, newBenchServer(cfg, o.comparePID)), nil
}

// compareCredential is who calls the second server.
func compareCredential(f *clientFlags, user string) (c bkrpclient.Credential, err error) {
	second := *f
	second.user = user
	name := os.Getenv(comparePasswordFileEnv)
	if name == "" || f.kerberos || f.keytab != "" {
		return second.credential()
	}
	if c.Domain, c.User, err = splitUser(user); err != nil {
		return c, err
	}
	c.Password, err = passwordFromFile(name)
	return c, err
}

// hostPort is where a server is reached.
func hostPort(server string) string {
	host, port, _ := dclocator.SplitServer(server)
	return net.JoinHostPort(host, cmp.Or(port, bkrpclient.DefaultPort))
}

// onThisMachine refuses a server that is reached over a network.
func onThisMachine(ctx context.Context, server string) error {
	host, _, ok := dclocator.SplitServer(server)
	if !ok {
		return cli.Usagef("server %q: it is HOST or HOST:PORT", server)
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return err
	}
	for _, a := range addrs {
		if !a.Unmap().IsLoopback() {
			return cli.Usagef("%s is not on this machine (%v is no loopback address): give --yes-load-this-server if it is yours to put under load", server, a.Unmap())
		}
	}
	return nil
}

// errFailedCalls ends a run in which not every call was answered rightly.
var errFailedCalls = errors.New("bench: calls failed; the report says how")

// errInterrupted ends a run that was ended early.
var errInterrupted = errors.New("bench: interrupted; the report is of what was measured until then")
