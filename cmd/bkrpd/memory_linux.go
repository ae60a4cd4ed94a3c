package main

import (
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// capIPCLock is CAP_IPC_LOCK of capabilities(7).
const capIPCLock = 14

// forbidCore keeps the process's memory, in which keys are, out of core images.
// The debugger of another user does not get at the process either.
func forbidCore() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("switching core dumps off: %w", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("switching core dumps off: %w", err)
	}
	return nil
}

// guardMemory keeps the process's memory out of the swap. With lock "auto" a
// system that does not let it lock memory gets a warning, with "require" it is an
// error, and with "off" it is not tried.
func guardMemory(lock string, log *slog.Logger) error {
	if lock == "off" {
		return nil
	}
	err := lockMemory()
	if err == nil || lock == "require" {
		return err
	}
	log.Warn("memory is not locked: keys may be written to the swap; let the server lock memory, or switch the swap off", "err", err)
	return nil
}

// lockMemory locks what the process has in memory, and what it comes to have as
// it uses it.
func lockMemory() error {
	// Under a limit, memory that is asked for later could not be had, and the
	// process would end.
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
		return fmt.Errorf("locking memory: %w", err)
	}
	if limit.Max != unix.RLIM_INFINITY && !mayLock() {
		return fmt.Errorf("locking memory: the limit is %d octets, and must be infinite (systemd: LimitMEMLOCK=infinity), or the server needs CAP_IPC_LOCK", limit.Max)
	}
	if limit.Max == unix.RLIM_INFINITY && limit.Cur != unix.RLIM_INFINITY {
		limit.Cur = limit.Max
		if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
			return fmt.Errorf("locking memory: %w", err)
		}
	}
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); err != nil {
		return fmt.Errorf("locking memory: %w", err)
	}
	return nil
}

// mayLock reports whether the process has CAP_IPC_LOCK.
func mayLock() bool {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(status)) {
		if text, ok := strings.CutPrefix(line, "CapEff:"); ok {
			set, err := strconv.ParseUint(strings.TrimSpace(text), 16, 64)
			return err == nil && set&(1<<capIPCLock) != 0
		}
	}
	return false
}
