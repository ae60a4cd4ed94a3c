package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
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
	t := cli.NewTable()
	t.Row(cli.Bold.Cell("machine"), r.Machine)
	t.Row(cli.Bold.Cell("load"), r.Load)
	for i, s := range r.Servers {
		t.Row(cli.Bold.Cell([...]string{"server", "compared"}[i]), fmt.Sprintf("%s, SMB %s signed, %s, RPC sealed", s.Server, s.Dialect, s.Mechanism))
	}
	if err := t.Print(w); err != nil {
		return err
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
			fmt.Fprintf(w, "\n%s %s: %s", cli.OneLine(s.Server+":"), cli.Paint(w, cli.Red, fmt.Sprintf("%d calls failed", s.Errors[kind])), cli.OneLine(kind))
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
	t := cli.NewTable("server", "calls", "failed", "calls/s", "calls/server CPU s", "memory MiB", "processes")
	t.Right = 1
	for _, s := range r.Servers {
		rate, memory, processes := "-", "-", "-"
		if p := s.Process; p != nil {
			// Without a rate no CPU time was counted, perhaps because the process is
			// another one's.
			if p.CallsPerCPUSecond > 0 {
				rate = fmt.Sprintf("%.0f", p.CallsPerCPUSecond)
			}
			memory, processes = fmt.Sprintf("%.1f", float64(p.MemoryOctets)/(1<<20)), fmt.Sprint(p.Processes)
		}
		failed := cli.Plain
		if s.Failed > 0 {
			failed = cli.Red
		}
		t.Row(s.Server, s.Calls, failed.Cell(s.Failed), fmt.Sprintf("%.0f", s.CallsPerSecond), rate, memory, processes)
	}
	if q := r.Ratio; q != nil {
		t.StyledRow(cli.Cyan, "ratio", "", "", ratioText(q.CallsPerSecond), ratioText(q.CallsPerCPUSecond), ratioText(q.Memory), "")
	}
	return t.Print(w)
}

// printLatency prints a line for each action of each server, in microseconds.
func (r *benchReport) printLatency(w io.Writer) error {
	t := cli.NewTable("microseconds", "server", "calls", "p50", "p99", "p99.9", "max")
	t.Right = 2
	line := func(action, server string, calls uint64, l benchLatency) {
		t.Row(action, server, calls, whole(l.P50), whole(l.P99), whole(l.P999), whole(l.Max))
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
		t.StyledRow(cli.Cyan, "ratio", "", "", ratioText(q.P50), ratioText(q.P99), ratioText(q.P999), ratioText(q.Max))
	}
	return t.Print(w)
}

// whole is a figure without what is behind its point.
func whole(v float64) string { return fmt.Sprintf("%.0f", v) }

// ratioText is a ratio, or "-" where there is none.
func ratioText(v float64) string {
	if v == 0 {
		return "-"
	}
	return fmt.Sprintf("%.3g", v)
}
