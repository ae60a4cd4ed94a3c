//go:build !linux

package main

import (
	"errors"
	"log/slog"
)

// forbidCore can do nothing on this system.
func forbidCore() error { return nil }

// guardMemory can do nothing on this system.
func guardMemory(lock string, log *slog.Logger) error {
	if lock == "require" {
		return errors.New("memory can be locked on Linux only: set memory.lock to another value")
	}
	if lock == "auto" {
		log.Warn("memory is not locked, and core dumps are not off: this is done on Linux only")
	}
	return nil
}
