package interop

import (
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/seed05845750/bkrp/interop/peers"
)

var loadFor = flag.Duration("load", 0, "print the tables of docs/bench.md, with each server under load for so long, such as 20s")

// benchOutput is what bkrp bench --json prints, as far as it is looked at.
type benchOutput struct {
	Machine struct {
		CPU  string `json:"cpu"`
		CPUs int    `json:"cpus"`
		Go   string `json:"go"`
	} `json:"machine"`
	Load struct {
		Mix   map[string]int `json:"mix"`
		Error float64        `json:"percentile_error"`
	} `json:"load"`
	Servers []struct {
		Server         string            `json:"server"`
		Dialect        string            `json:"dialect"`
		Mechanism      string            `json:"mechanism"`
		Seconds        float64           `json:"seconds"`
		Calls          uint64            `json:"calls"`
		Failed         uint64            `json:"failed"`
		Errors         map[string]uint64 `json:"errors"`
		CallsPerSecond float64           `json:"calls_per_second"`
		Latency        benchTimes        `json:"latency"`
		Actions        []struct {
			Action  string     `json:"action"`
			Calls   uint64     `json:"calls"`
			Latency benchTimes `json:"latency"`
		} `json:"actions"`
		Process struct {
			CPUSeconds        float64 `json:"cpu_seconds"`
			CallsPerCPUSecond float64 `json:"calls_per_cpu_second"`
			Processes         int     `json:"processes"`
			MemoryOctets      int64   `json:"memory_octets"`
		} `json:"process"`
	} `json:"servers"`
	Ratio struct {
		CallsPerSecond    float64 `json:"calls_per_second"`
		CallsPerCPUSecond float64 `json:"calls_per_cpu_second"`
		P50               float64 `json:"p50"`
	} `json:"ratio"`
	Interrupted bool `json:"interrupted"`
}

type benchTimes struct {
	P50  float64 `json:"p50_us"`
	P99  float64 `json:"p99_us"`
	P999 float64 `json:"p999_us"`
	Max  float64 `json:"max_us"`
}

// benchBoth runs bkrp bench on our server beside Samba's domain controller.
func benchBoth(t *testing.T, ours *server, dc *peers.Domain, args ...string) string {
	t.Helper()
	files := make([]string, 2)
	who := []peers.Credentials{ours.credentials(peers.Alice), dc.Credentials(peers.Alice)}
	for i, w := range who {
		files[i] = filepath.Join(t.TempDir(), "password")
		if err := os.WriteFile(files[i], []byte(w.Password+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	args = append([]string{build(t, "bkrp"), "bench",
		"--server", ours.addr, "-U", who[0].Domain + `\` + who[0].User, "--pid", strconv.Itoa(onlyChild(t, ours.pid)),
		"--compare", dc.Addr, "--compare-user", who[1].Domain + `\` + who[1].User, "--compare-pid", strconv.Itoa(dc.PID())}, args...)
	out, stderr, code := try(t, []string{"BKRP_PASSWORD_FILE=" + files[0], "BKRP_COMPARE_PASSWORD_FILE=" + files[1]}, "", args...)
	if code != bkrpOK || stderr != "" {
		t.Fatalf("exit code %d: %s\n%s", code, stderr, out)
	}
	return out
}

// TestBench runs bkrp bench briefly on our server and on Samba's domain
// controller in one run, warm and cold, and checks its arithmetic. How fast
// either is is not judged.
func TestBench(t *testing.T) {
	dc := DC(t)
	ours := startBkrpd(t, options{})
	for name, args := range map[string][]string{
		"warm": {"--duration", "2s", "-c", "2"},
		"cold": {"--cold", "--count", "30", "--duration", "0s", "-c", "2"},
	} {
		t.Run(name, func(t *testing.T) {
			var out benchOutput
			text := benchBoth(t, ours, dc, append(args, "--json")...)
			if err := json.Unmarshal([]byte(text), &out); err != nil {
				t.Fatalf("%v: %s", err, text)
			}
			out.check(t)
			if name == "cold" && (out.Servers[0].Calls != 30 || out.Servers[1].Calls != 30) {
				t.Errorf("%d and %d calls, not 30 each", out.Servers[0].Calls, out.Servers[1].Calls)
			}
		})
	}
	if *loadFor == 0 {
		return
	}
	// The tables stand in docs/bench.md with the machine they are from.
	for _, args := range [][]string{{}, {"--mix", "restore"}, {"--mix", "wrap", "--cold"}} {
		fmt.Println(benchBoth(t, ours, dc, append(args, "--duration", loadFor.String())...))
	}
}

// check recomputes what can be recomputed.
func (o *benchOutput) check(t *testing.T) {
	t.Helper()
	if o.Interrupted || len(o.Servers) != 2 || o.Machine.CPU == "" || o.Machine.CPUs < 1 || o.Machine.Go == "" {
		t.Fatalf("%+v", o)
	}
	same := func(what string, got, want float64) {
		t.Helper()
		if math.Abs(got-want) > 1e-6*math.Abs(want) || math.IsNaN(got) {
			t.Errorf("%s is %v, and should be %v", what, got, want)
		}
	}
	round := 0
	for _, weight := range o.Load.Mix {
		round += weight
	}
	for _, s := range o.Servers {
		if s.Calls == 0 || s.Failed != 0 || len(s.Errors) != 0 || s.Dialect != "3.1.1" || s.Mechanism != "NTLM" {
			t.Fatalf("%+v", s)
		}
		same(s.Server+": calls per second", s.CallsPerSecond, float64(s.Calls)/s.Seconds)
		if s.Process.CPUSeconds > 0 { // the kernel counts in steps of 10 ms
			same(s.Server+": calls per CPU second", s.Process.CallsPerCPUSecond, float64(s.Calls)/s.Process.CPUSeconds)
		}
		// The CPUs of all processes cannot be busier than there are CPUs, give or
		// take what is spent after a turn; cold processes are waited for, 2 s a turn.
		if most := float64(o.Machine.CPUs) * (s.Seconds + 20*time.Second.Seconds()); s.Process.CPUSeconds > most {
			t.Errorf("%s: %v s of CPU in %v s on %d CPUs", s.Server, s.Process.CPUSeconds, s.Seconds, o.Machine.CPUs)
		}
		if s.Process.MemoryOctets < 1<<20 || s.Process.Processes < 1 {
			t.Errorf("%s: %+v", s.Server, s.Process)
		}
		var calls uint64
		longest := 0.0
		for _, a := range s.Actions {
			calls += a.Calls
			longest = max(longest, a.Latency.Max)
			a.Latency.check(t, s.Server+": "+a.Action)
			// Each round of the mix has its part, but for the last, unfinished one.
			part := float64(s.Calls) * float64(o.Load.Mix[a.Action]) / float64(round)
			if math.Abs(float64(a.Calls)-part) > float64(o.Load.Mix[a.Action])+1 {
				t.Errorf("%s: %d calls of %s, and the mix has %.1f", s.Server, a.Calls, a.Action, part)
			}
		}
		s.Latency.check(t, s.Server)
		if calls != s.Calls || longest != s.Latency.Max || len(s.Actions) != len(o.Load.Mix) {
			t.Errorf("%s: the actions add up to %d calls, the longest of %v us; the whole has %d and %v", s.Server, calls, longest, s.Calls, s.Latency.Max)
		}
	}
	a, b := o.Servers[0], o.Servers[1]
	same("the ratio of calls per second", o.Ratio.CallsPerSecond, a.CallsPerSecond/b.CallsPerSecond)
	if b.Process.CPUSeconds > 0 {
		same("the ratio of calls per CPU second", o.Ratio.CallsPerCPUSecond, a.Process.CallsPerCPUSecond/b.Process.CallsPerCPUSecond)
	}
	same("the ratio of medians", o.Ratio.P50, a.Latency.P50/b.Latency.P50)
}

func (l benchTimes) check(t *testing.T, what string) {
	t.Helper()
	if l.P50 <= 0 || l.P50 > l.P99 || l.P99 > l.P999 || l.P999 > l.Max {
		t.Errorf("%s: the percentiles do not rise: %+v", what, l)
	}
}
