package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// clockTick is USER_HZ, which is 100 on every Linux that Go runs on.
const clockTick = 10 * time.Millisecond

// treeUsage is what a process and its descendants cost.
type treeUsage struct {
	// cpu has in it what descendants used that have ended and been waited for.
	cpu time.Duration
	// memory is in octets. Where proportional is set, what processes share is
	// divided among them; otherwise it is counted for each.
	memory       int64
	proportional bool
	processes    int
}

// readTree reads the usage of the process pid and all below it, from /proc.
func readTree(pid int) (treeUsage, error) {
	u := treeUsage{proportional: true}
	if err := u.cpuOf(pid); err != nil {
		return treeUsage{}, fmt.Errorf("reading the CPU time of process %d (it is in /proc of Linux): %w", pid, err)
	}
	for _, p := range descendants(pid) {
		// One that ends meanwhile is counted by its parent the next time.
		_ = u.cpuOf(p)
	}
	return u, nil
}

// readTreeMemory is readTree with the memory.
func readTreeMemory(pid int) (treeUsage, error) {
	u, err := readTree(pid)
	if err != nil {
		return u, err
	}
	pids := append(descendants(pid), pid)
	for _, p := range pids {
		pss, err := procKiB(p, "smaps_rollup", "Pss:")
		if err != nil && p == pid {
			u.proportional = false // it is for the owner and root alone
			break
		}
		u.memory += pss
	}
	if !u.proportional {
		u.memory = 0
		for _, p := range pids {
			rss, _ := procKiB(p, "status", "VmRSS:")
			u.memory += rss
		}
	}
	return u, nil
}

// cpuOf adds the CPU time of one process and of its children that were waited for.
func (u *treeUsage) cpuOf(pid int) error {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return err
	}
	// The name before the last parenthesis may have anything in it.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 15 {
		return fmt.Errorf("/proc/%d/stat has only %d fields", pid, len(fields))
	}
	var ticks int64
	for _, f := range fields[11:15] { // utime, stime, cutime, cstime
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return err
		}
		ticks += n
	}
	u.cpu += time.Duration(ticks) * clockTick
	u.processes++
	return nil
}

// descendants are all processes below pid.
func descendants(pid int) (all []int) {
	tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	for _, task := range tasks {
		children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pid, task.Name()))
		for _, child := range strings.Fields(string(children)) {
			if n, err := strconv.Atoi(child); err == nil {
				all = append(append(all, n), descendants(n)...)
			}
		}
	}
	return all
}

// procKiB is a line of a file of a process that gives KiB, in octets.
func procKiB(pid int, file, key string) (int64, error) {
	name := fmt.Sprintf("/proc/%d/%s", pid, file)
	text, err := os.ReadFile(name)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) >= 2 && fields[0] == key {
			n, err := strconv.ParseInt(fields[1], 10, 64)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("%s has no %s", name, key)
}
