package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/seed05845750/bkrp/internal/cli"
)

// benchReport is what --json prints.
type benchReport struct {
	Machine benchMachine  `json:"machine"`
	Load    benchLoad     `json:"load"`
	Servers []benchResult `json:"servers"`
	Ratio   *benchRatio   `json:"ratio,omitempty"`
	// Interrupted is a run that was ended before its time.
	Interrupted bool `json:"interrupted"`
}

// benchLoad is what was asked for; zeros bound nothing.
type benchLoad struct {
	Mix          map[string]int `json:"mix"`
	Connections  int            `json:"connections"`
	Cold         bool           `json:"cold"`
	Seconds      float64        `json:"seconds"`
	Count        uint64         `json:"count"`
	Rate         float64        `json:"rate"`
	SecretOctets int            `json:"secret_octets"`
	// Error is by how much a percentile may be too high, as a part of it.
	Error float64 `json:"percentile_error"`
}

// benchResult is what was measured of one server. Calls are those that were
// answered rightly; the others are in Failed, and in no rate or percentile.
type benchResult struct {
	Server         string              `json:"server"`
	Dialect        string              `json:"dialect"`
	Mechanism      string              `json:"mechanism"`
	Seconds        float64             `json:"seconds"`
	Calls          uint64              `json:"calls"`
	Failed         uint64              `json:"failed"`
	Errors         map[string]uint64   `json:"errors"`
	Reconnects     uint64              `json:"reconnects"`
	CallsPerSecond float64             `json:"calls_per_second"`
	Latency        benchLatency        `json:"latency"`
	Actions        []benchActionResult `json:"actions"`
	Process        *benchProcess       `json:"process,omitempty"`
}

// benchActionResult is the part of one action in it.
type benchActionResult struct {
	Action  string       `json:"action"`
	Calls   uint64       `json:"calls"`
	Latency benchLatency `json:"latency"`
}

// benchLatency is how long calls took, in microseconds.
type benchLatency struct {
	P50  float64 `json:"p50_us"`
	P99  float64 `json:"p99_us"`
	P999 float64 `json:"p999_us"`
	Max  float64 `json:"max_us"`
}

// benchProcess is what the server's processes cost. Memory is that at the end,
// with the connections of a warm run open; where it is proportional, what
// processes share is divided among them, otherwise counted for each.
type benchProcess struct {
	PID                int     `json:"pid"`
	CPUSeconds         float64 `json:"cpu_seconds"`
	CallsPerCPUSecond  float64 `json:"calls_per_cpu_second"`
	Processes          int     `json:"processes"`
	MemoryOctets       int64   `json:"memory_octets"`
	MemoryProportional bool    `json:"memory_proportional"`
}

// benchRatio is each figure of the first server divided by that of the second;
// 0 where there is none.
type benchRatio struct {
	CallsPerSecond    float64 `json:"calls_per_second"`
	CallsPerCPUSecond float64 `json:"calls_per_cpu_second,omitempty"`
	P50               float64 `json:"p50"`
	P99               float64 `json:"p99"`
	P999              float64 `json:"p999"`
	Max               float64 `json:"max"`
	Memory            float64 `json:"memory,omitempty"`
}

func newBenchReport(machine benchMachine, r *benchRun, interrupted bool) *benchReport {
	o := r.options
	report := &benchReport{
		Machine: machine,
		Load: benchLoad{
			Mix: make(map[string]int), Connections: o.connections, Cold: o.cold, Seconds: o.duration.Seconds(),
			Count: o.count, Rate: o.rate, SecretOctets: o.size, Error: histogramError,
		},
		Interrupted: interrupted,
	}
	for a, n := range o.mix {
		if n > 0 {
			report.Load.Mix[benchAction(a).String()] = n
		}
	}
	for _, s := range r.servers {
		report.Servers = append(report.Servers, s.result(o.mix))
	}
	if len(report.Servers) == 2 {
		report.Ratio = newBenchRatio(&report.Servers[0], &report.Servers[1])
	}
	return report
}

// result sums up, after the run.
func (s *benchServer) result(mix benchMix) benchResult {
	r := benchResult{
		Server: s.cfg.Server, Dialect: s.dialect, Mechanism: s.mechanism, Seconds: s.elapsed.Seconds(),
		Calls: s.calls.Load(), Failed: s.failed.Load(), Errors: s.errors, Reconnects: s.reconnects.Load(),
	}
	r.CallsPerSecond = per(float64(r.Calls), r.Seconds)
	all := new(histogram)
	for a := range s.latency {
		if mix[a] == 0 {
			continue
		}
		h := &s.latency[a]
		r.Actions = append(r.Actions, benchActionResult{benchAction(a).String(), h.count(), latencyOf(h)})
		all.merge(h)
	}
	r.Latency = latencyOf(all)
	if s.pid != 0 {
		r.Process = &benchProcess{
			PID: s.pid, CPUSeconds: s.cpu.Seconds(), CallsPerCPUSecond: per(float64(r.Calls), s.cpu.Seconds()),
			Processes: s.memory.processes, MemoryOctets: s.memory.memory, MemoryProportional: s.memory.proportional,
		}
	}
	return r
}

func latencyOf(h *histogram) benchLatency {
	us := func(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
	return benchLatency{us(h.quantile(0.5)), us(h.quantile(0.99)), us(h.quantile(0.999)), us(h.quantile(1))}
}

func newBenchRatio(a, b *benchResult) *benchRatio {
	r := &benchRatio{
		CallsPerSecond: per(a.CallsPerSecond, b.CallsPerSecond),
		P50:            per(a.Latency.P50, b.Latency.P50),
		P99:            per(a.Latency.P99, b.Latency.P99),
		P999:           per(a.Latency.P999, b.Latency.P999),
		Max:            per(a.Latency.Max, b.Latency.Max),
	}
	if a.Process != nil && b.Process != nil {
		r.CallsPerCPUSecond = per(a.Process.CallsPerCPUSecond, b.Process.CallsPerCPUSecond)
		r.Memory = per(float64(a.Process.MemoryOctets), float64(b.Process.MemoryOctets))
	}
	return r
}

// per is a / b, and 0 where b is.
func per(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

// err tells a run in which all went well from others.
func (r *benchReport) err() error {
	if r.Interrupted {
		return errInterrupted
	}
	for _, s := range r.Servers {
		if s.Failed > 0 {
			return errFailedCalls
		}
	}
	return nil
}

func (r *benchReport) print(w io.Writer, asJSON bool) error {
	if asJSON {
		return cli.PrintJSON(w, r)
	}
	fmt.Fprintf(w, "machine  %v\n", r.Machine)
	fmt.Fprintf(w, "load     %v\n", r.Load)
	for i, s := range r.Servers {
		fmt.Fprintf(w, "%-8s %s, SMB %s signed, %s, RPC sealed\n", [...]string{"server", "compared"}[i], s.Server, s.Dialect, s.Mechanism)
	}
	fmt.Fprintln(w)
	if err := r.printRates(w); err != nil {
		return err
	}
	fmt.Fprintln(w)
	if err := r.printLatency(w); err != nil {
		return err
	}
	for _, s := range r.Servers {
		for _, kind := range slices.Sorted(maps.Keys(s.Errors)) {
			fmt.Fprintf(w, "\n%s: %d calls failed: %s", s.Server, s.Errors[kind], kind)
		}
		if len(s.Errors) > 0 {
			fmt.Fprintln(w)
		}
	}
	return nil
}

// String is the load on one line.
func (l benchLoad) String() string {
	var mix benchMix
	for a := range mix {
		mix[a] = l.Mix[benchAction(a).String()]
	}
	parts := []string{mix.String(), fmt.Sprintf("%d connections", l.Connections), "warm"}
	if l.Cold {
		parts[2] = "cold"
	}
	if l.Seconds > 0 {
		parts = append(parts, fmt.Sprintf("%gs", l.Seconds))
	}
	if l.Count > 0 {
		parts = append(parts, fmt.Sprintf("%d calls", l.Count))
	}
	if l.Rate > 0 {
		parts = append(parts, fmt.Sprintf("%g calls/s", l.Rate))
	}
	return strings.Join(append(parts, fmt.Sprintf("secrets of %d octets", l.SecretOctets)), ", ")
}

// printRates prints a line for each server, and the ratio.
func (r *benchReport) printRates(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "server\tcalls\tfailed\tcalls/s\tcalls/server CPU s\tmemory MiB\tprocesses\t\n")
	for _, s := range r.Servers {
		fmt.Fprintf(t, "%s\t%d\t%d\t%.0f\t", s.Server, s.Calls, s.Failed, s.CallsPerSecond)
		if p := s.Process; p != nil {
			rate := "-" // no CPU time was counted, perhaps because the process is another one's
			if p.CallsPerCPUSecond > 0 {
				rate = fmt.Sprintf("%.0f", p.CallsPerCPUSecond)
			}
			fmt.Fprintf(t, "%s\t%.1f\t%d\t\n", rate, float64(p.MemoryOctets)/(1<<20), p.Processes)
		} else {
			fmt.Fprint(t, "-\t-\t-\t\n")
		}
	}
	if q := r.Ratio; q != nil {
		fmt.Fprintf(t, "ratio\t\t\t%s\t%s\t%s\t\t\n", ratioText(q.CallsPerSecond), ratioText(q.CallsPerCPUSecond), ratioText(q.Memory))
	}
	return t.Flush()
}

// printLatency prints a line for each action of each server, in microseconds.
func (r *benchReport) printLatency(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "microseconds\tserver\tcalls\tp50\tp99\tp99.9\tmax\t\n")
	line := func(action, server string, calls uint64, l benchLatency) {
		fmt.Fprintf(t, "%s\t%s\t%d\t%.0f\t%.0f\t%.0f\t%.0f\t\n", action, server, calls, l.P50, l.P99, l.P999, l.Max)
	}
	for i, first := range r.Servers[0].Actions {
		for _, s := range r.Servers {
			line(first.Action, s.Server, s.Actions[i].Calls, s.Actions[i].Latency)
		}
	}
	for _, s := range r.Servers {
		if len(s.Actions) > 1 {
			line("all", s.Server, s.Calls, s.Latency)
		}
	}
	if q := r.Ratio; q != nil {
		fmt.Fprintf(t, "ratio\t\t\t%s\t%s\t%s\t%s\t\n", ratioText(q.P50), ratioText(q.P99), ratioText(q.P999), ratioText(q.Max))
	}
	return t.Flush()
}

// ratioText is a ratio, or "-" where there is none.
func ratioText(v float64) string {
	if v == 0 {
		return "-"
	}
	return fmt.Sprintf("%.3g", v)
}
