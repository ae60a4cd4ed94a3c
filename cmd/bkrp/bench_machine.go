package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
)

// benchMachine is where the load came from; a figure means little without it.
type benchMachine struct {
	CPU    string `json:"cpu"`
	CPUs   int    `json:"cpus"`
	OS     string `json:"os"`
	Kernel string `json:"kernel,omitempty"`
	Go     string `json:"go"`
	// Load is how many were busy in the minute before, this load not among
	// them; "" where the system does not say.
	Load string `json:"load,omitempty"`
}

// thisMachine describes it, before the load begins.
func thisMachine() benchMachine {
	m := benchMachine{CPU: runtime.GOARCH, CPUs: runtime.NumCPU(), OS: runtime.GOOS, Go: runtime.Version()}
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(info)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			m.CPU = strings.TrimSpace(value)
			break
		}
	}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	m.Kernel = strings.TrimSpace(string(kernel))
	load, _ := os.ReadFile("/proc/loadavg")
	m.Load, _, _ = strings.Cut(string(load), " ")
	return m
}

// String is the machine on one line.
func (m benchMachine) String() string {
	s := fmt.Sprintf("%s, %d CPUs, %s", m.CPU, m.CPUs, strings.TrimSpace(m.OS+" "+m.Kernel))
	s += ", " + m.Go
	if m.Load != "" {
		s += ", load " + m.Load
	}
	return s
}
