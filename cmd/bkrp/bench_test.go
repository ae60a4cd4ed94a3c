package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/bkrptest"
	"github.com/seed05845750/bkrp/internal/cli"
)

func TestParseMix(t *testing.T) {
	for text, want := range map[string]benchMix{
		"wrap":                                   {1, 0, 0, 0},
		"wrap=4,unwrap=4,retrieve=1,restore=1":   {4, 4, 1, 1},
		" restore=1000, wrap=0":                  {0, 0, 0, 1000},
		"retrieve,restore":                       {0, 0, 1, 1},
		"":                                       {},
		"wrap=0":                                 {},
		"wrap=-1":                                {},
		"wrap=1001":                              {},
		"wrap=1,wrap=2":                          {},
		"steal=1":                                {},
		"wrap=":                                  {},
		"wrap=4;unwrap=4":                        {},
		"wrap=1," + strings.Repeat("x", 100_000): {},
	} {
		got, err := parseMix(text)
		if want == (benchMix{}) {
			if !errors.As(err, new(cli.UsageError)) {
				t.Errorf("%.40q: no mistake in the command line: %v", text, err)
			}
			continue
		}
		if err != nil || got != want {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
		if again, err := parseMix(got.String()); err != nil || again != got {
			t.Errorf("%q is written as %q, which is read as %v, %v", text, got, again, err)
		}
	}
}

// Each action is there as often as its weight says, and not in a heap.
func TestMixRound(t *testing.T) {
	round := benchMix{4, 4, 1, 1}.round()
	var count benchMix
	for i, a := range round {
		count[a]++
		if i > 1 && a == round[i-1] && a == round[i-2] {
			t.Errorf("%v three times in a row: %v", a, round)
		}
	}
	if count != (benchMix{4, 4, 1, 1}) {
		t.Errorf("the round %v has %v", round, count)
	}
}

// What is left over is not lost, whatever the number of turns.
func TestBenchTurns(t *testing.T) {
	two := []*benchServer{nil, nil}
	for _, test := range []struct {
		servers  []*benchServer
		duration time.Duration
		count    uint64
		want     int
	}{
		{two[:1], 10 * time.Second, 0, 1},
		{two, 10 * time.Second, 0, 10},
		{two, 100 * time.Millisecond, 0, 2},
		{two, 0, 23, 10},
		{two, 0, 3, 3},
		{two, 5 * time.Second, 23, 5},
	} {
		r := benchRun{servers: test.servers, options: &benchOptions{duration: test.duration, count: test.count}}
		turns := r.turns()
		if len(turns) != test.want {
			t.Errorf("%v, %d calls: %d turns, want %d", test.duration, test.count, len(turns), test.want)
		}
		var count uint64
		for _, turn := range turns {
			count += turn.count
			if test.count > 0 && turn.count == 0 {
				t.Errorf("%v, %d calls: a turn without bound", test.duration, test.count)
			}
		}
		if count != test.count {
			t.Errorf("%v, %d calls: the turns have %d", test.duration, test.count, count)
		}
	}
}

// benchArgs are those of a run as alice.
func benchArgs(t *testing.T, addr string, args ...string) []string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(name, []byte(passwords["alice"]+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv(passwordFileEnv, name)
	return append([]string{"bench", "--server", addr, "-U", `BKRP\alice`}, args...)
}

func runJSON(t *testing.T, code int, args ...string) (report benchReport) {
	t.Helper()
	var out, stderr bytes.Buffer
	if got := run(t.Context(), append(args, "--json"), strings.NewReader(""), &out, &stderr); got != code {
		t.Fatalf("exit code %d, want %d: %s", got, code, &stderr)
	}
	if err := json.Unmarshal(out.Bytes(), &report); err != nil {
		t.Fatalf("%v: %q", err, &out)
	}
	return report
}

// The number of calls and the mix are kept to exactly, warm and cold, on one server
// and on two.
func TestBenchCounts(t *testing.T) {
	addr, second := startServer(t), startServer(t)
	for name, args := range map[string][]string{
		"warm":     {},
		"cold":     {"--cold", "-c", "3"},
		"rate":     {"--rate", "5000"},
		"compared": {"--compare", second},
	} {
		t.Run(name, func(t *testing.T) {
			r := runJSON(t, 0, benchArgs(t, addr, append(args, "--count", "60", "--duration", "0s", "--pid", fmt.Sprint(os.Getpid()))...)...)
			for _, s := range r.Servers {
				got := make(map[string]uint64)
				for _, a := range s.Actions {
					got[a.Action] = a.Calls
				}
				if diff := cmp.Diff(map[string]uint64{"wrap": 24, "unwrap": 24, "retrieve": 6, "restore": 6}, got); diff != "" {
					t.Errorf("%s: calls (-want +got):\n%s", s.Server, diff)
				}
				if s.Calls != 60 || s.Failed != 0 || s.Dialect != "3.1.1" || s.Mechanism != "NTLM" {
					t.Errorf("%+v", s)
				}
				if s.Latency.P50 <= 0 || s.Latency.P50 > s.Latency.P99 || s.Latency.P99 > s.Latency.P999 || s.Latency.P999 > s.Latency.Max {
					t.Errorf("%s: percentiles: %+v", s.Server, s.Latency)
				}
			}
			if p := r.Servers[0].Process; p == nil || p.MemoryOctets < 1<<20 || p.Processes < 1 {
				t.Errorf("process: %+v", p)
			}
			if (r.Ratio != nil) != (len(r.Servers) == 2) {
				t.Errorf("%d servers, ratio %v", len(r.Servers), r.Ratio)
			}
		})
	}
}

// What is printed for people has each figure, and nothing for terminals.
func TestBenchTable(t *testing.T) {
	var out, stderr bytes.Buffer
	args := benchArgs(t, startServer(t), "--count", "20", "--mix", "wrap,restore")
	if code := run(t.Context(), args, strings.NewReader(""), &out, &stderr); code != 0 || stderr.Len() > 0 {
		t.Fatalf("exit code %d: %s", code, &stderr)
	}
	for _, want := range []string{"machine\t", "\nload\twrap=1,restore=1, 4 connections, warm, 10s, 20 calls, secrets of 64 octets\n",
		"SMB 3.1.1 signed, NTLM, RPC sealed\n", "\nserver\tcalls\tfailed\tcalls/s\tcalls/server CPU s\tmemory MiB\tprocesses\n", "\nmicroseconds\tserver\tcalls\tp50\tp99\tp99.9\tmax\n", "\nwrap\t", "\nall\t"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing:\n%s", want, &out)
		}
	}
	if strings.ContainsAny(out.String(), "\r\x1b") || strings.Contains(out.String(), "unwrap") {
		t.Errorf("what does not belong there:\n%s", &out)
	}
}

// The line of progress says how far the run is.
func TestBenchProgress(t *testing.T) {
	s := newBenchServer(bkrpclient.Config{Server: "dc1"}, 0)
	r := benchRun{options: &benchOptions{duration: 10 * time.Second}, servers: []*benchServer{s, s}}
	s.record(benchWrap, time.Millisecond, nil)
	s.record(benchWrap, time.Millisecond, errWrongAnswer)
	if got, want := r.progressLine(3*time.Second), "3s of 20s  dc1: 1 calls, 1 failed  dc1: 1 calls, 1 failed"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// A run that is ended early prints what it measured.
func TestBenchInterrupted(t *testing.T) {
	addr := startServer(t)
	o := benchOptions{mix: benchMix{benchWrap: 1}, connections: 2, duration: time.Hour, size: 8}
	r := benchRun{options: &o, servers: []*benchServer{newBenchServer(bkrpclient.Config{
		Server: addr, Timeout: time.Minute,
		Credential: bkrpclient.Credential{Domain: "BKRP", User: "alice", Password: bkrpclient.Password(passwords["alice"])},
	}, 0)}}
	t.Cleanup(r.close)
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() {
		for r.servers[0].calls.Load() < 10 {
			time.Sleep(time.Millisecond)
		}
		cancel()
	})
	report, err := r.do(ctx)
	group.Wait()
	if err != nil {
		t.Fatal(err)
	}
	if s := report.Servers[0]; !report.Interrupted || s.Calls < 10 || s.Failed != 0 || !errors.Is(report.err(), errInterrupted) {
		t.Errorf("%+v", report)
	}
}

// A connection that broke is made again, and the call is counted as failed; a
// server's refusal leaves the connection.
func TestBenchFailures(t *testing.T) {
	addr := startServer(t)
	o := benchOptions{mix: benchMix{benchUnwrap: 1}, connections: 1, count: 4, size: 8}
	s := newBenchServer(bkrpclient.Config{
		Server: addr, Timeout: time.Minute,
		Credential: bkrpclient.Credential{Domain: "BKRP", User: "alice", Password: bkrpclient.Password(passwords["alice"])},
	}, 0)
	t.Cleanup(s.close)
	if err := s.prepare(t.Context(), &o); err != nil {
		t.Fatal(err)
	}
	s.conns[0].Close()
	s.work(t.Context(), &o, turn{count: 4}, time.Now())
	if diff := cmp.Diff(map[string]uint64{"connection broke": 1}, s.errors); diff != "" || s.calls.Load() != 3 || s.reconnects.Load() != 1 {
		t.Errorf("%d calls, %d reconnects, errors (-want +got):\n%s", s.calls.Load(), s.reconnects.Load(), diff)
	}
	good := s.serverBlob
	s.serverBlob = slices.Clone(good)
	s.serverBlob[len(good)-1] ^= 1
	s.work(t.Context(), &o, turn{count: 2}, time.Now())
	s.serverBlob, s.secret = good, []byte("another")
	s.work(t.Context(), &o, turn{count: 1}, time.Now())
	want := map[string]uint64{"connection broke": 1, bkrp.StatusInvalidAccess.String(): 2, "wrong secret": 1}
	if diff := cmp.Diff(want, s.errors); diff != "" || s.reconnects.Load() != 1 {
		t.Errorf("%d reconnects, errors (-want +got):\n%s", s.reconnects.Load(), diff)
	}
	report := benchReport{Servers: []benchResult{s.result(o.mix)}}
	if err := report.err(); !errors.Is(err, errFailedCalls) || report.Servers[0].Failed != 4 {
		t.Errorf("%v, %+v", err, report.Servers[0])
	}
}

// A run keeps to one mechanism, which the report names: Kerberos where there are
// tickets, NTLM where there are none and a password is at hand.
func TestBenchMechanism(t *testing.T) {
	domain := bkrptest.NewDomain(t)
	alice := domain.User("alice")
	noTickets := alice.NTLM()
	noTickets.Credential.Kerberos = &bkrpclient.Kerberos{CCache: filepath.Join(t.TempDir(), "none"), Conf: domain.Krb5Conf()}
	both := alice.Kerberos()
	ntlm := alice.NTLM()
	both.Credential.Domain, both.Credential.User, both.Credential.Password = ntlm.Credential.Domain, ntlm.Credential.User, ntlm.Credential.Password
	for name, test := range map[string]struct {
		cfg  bkrpclient.Config
		want string
	}{
		"Kerberos": {alice.Kerberos(), "Kerberos"}, "NTLM": {ntlm, "NTLM"}, "both": {both, "Kerberos"}, "no tickets": {noTickets, "NTLM"},
	} {
		t.Run(name, func(t *testing.T) {
			test.cfg.Timeout = time.Minute
			o := benchOptions{mix: benchMix{1, 1, 1, 1}, connections: 2, count: 8, size: 8, cold: true}
			r := benchRun{options: &o, servers: []*benchServer{newBenchServer(test.cfg, 0)}}
			t.Cleanup(r.close)
			report, err := r.do(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if s := report.Servers[0]; s.Mechanism != test.want || s.Calls != 8 || s.Failed != 0 {
				t.Errorf("%+v, want 8 calls by %s", s, test.want)
			}
		})
	}
}

// What goes wrong with a server is counted for what it is.
func TestBenchFaults(t *testing.T) {
	domain := bkrptest.NewDomain(t)
	cfg := domain.User("alice").NTLM()
	cfg.Timeout = time.Minute
	o := benchOptions{mix: benchMix{benchUnwrap: 1}, connections: 2, size: 8}
	s := newBenchServer(cfg, 0)
	t.Cleanup(s.close)
	if err := s.prepare(t.Context(), &o); err != nil {
		t.Fatal(err)
	}
	for _, fault := range []bkrptest.Fault{bkrptest.Refuse(), bkrptest.WrongResult(), bkrptest.Drop(bkrptest.Response)} {
		injected := domain.Inject(fault.Times(1))
		s.work(t.Context(), &o, turn{count: 6}, time.Now())
		injected.Mend()
	}
	want := map[string]uint64{bkrp.StatusAccessDenied.String(): 1, "wrong secret": 1, "connection broke": 1}
	if diff := cmp.Diff(want, s.errors); diff != "" || s.calls.Load() != 15 {
		t.Errorf("%d calls, errors (-want +got):\n%s", s.calls.Load(), diff)
	}
}

// However many statuses a server thinks of, their number is bounded.
func TestBenchErrorKinds(t *testing.T) {
	s := newBenchServer(bkrpclient.Config{}, 0)
	for i := range 1000 {
		s.record(benchWrap, 0, &bkrpclient.ServerError{Status: bkrp.Status(i + 1)})
	}
	if len(s.errors) > maxErrorKinds+1 || s.failed.Load() != 1000 {
		t.Errorf("%d kinds of %d errors", len(s.errors), s.failed.Load())
	}
}

func TestBenchRefusals(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"--server", "192.0.2.1"}, "--yes-load-this-server"},
		{[]string{"--server", "127.0.0.1:9", "--compare", "[2001:db8::1]:445"}, "--yes-load-this-server"},
		{[]string{"--server", "127.0.0.1:9", "--compare-pid", "1"}, "--compare"},
		{[]string{"--server", "127.0.0.1:9", "--connections", "0"}, "--connections 0"},
		{[]string{"--server", "127.0.0.1:9", "--duration", "0s"}, "--count"},
		{[]string{"--server", "127.0.0.1:9", "--rate", "NaN"}, "--rate"},
		{[]string{"--server", "127.0.0.1:9", "--rate", "1e-12"}, "--rate"},
		{[]string{"--server", "127.0.0.1:9", "--rate", "-1"}, "--rate"},
		{[]string{"--server", "127.0.0.1:9", "--size", "0"}, "--size"},
		{[]string{"--server", "127.0.0.1:9", "--mix", "all"}, "--mix"},
		{[]string{"--server", ""}, "--server"},
	} {
		var out, stderr bytes.Buffer
		args := append([]string{"bench", "-U", `BKRP\alice`}, test.args...)
		if code := run(t.Context(), args, strings.NewReader(""), &out, &stderr); code != cli.ExitUsage || !strings.Contains(stderr.String(), test.want) {
			t.Errorf("%q: exit code %d, %q", test.args, code, &stderr)
		}
	}
}

func TestBenchNoProcess(t *testing.T) {
	var out, stderr bytes.Buffer
	// The kernel gives no process a number above 2^22.
	args := benchArgs(t, startServer(t), "--pid", fmt.Sprint(1<<22+1))
	if code := run(t.Context(), args, strings.NewReader(""), &out, &stderr); code != cli.ExitError || !strings.Contains(stderr.String(), "process") || out.Len() > 0 {
		t.Errorf("exit code %d, %q, %q", code, &stderr, &out)
	}
}
