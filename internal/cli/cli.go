// Package cli runs a tree of cobra commands as both of our programs do: errors
// go to standard error behind the program's name, and a mistake in the command
// line is told apart from what went wrong while it was carried out.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"

	"github.com/spf13/cobra"
)

// UsageError is a mistake in how a command was called.
type UsageError struct {
	// Err is the mistake.
	Err error
}

// Error says what the mistake is.
func (e UsageError) Error() string { return e.Err.Error() }

// Unwrap gives the mistake.
func (e UsageError) Unwrap() error { return e.Err }

// Usagef makes a UsageError.
func Usagef(format string, args ...any) error { return UsageError{fmt.Errorf(format, args...)} }

// Run carries out one command line and returns the exit code: ExitOK, ExitUsage
// for a UsageError and for what cobra finds wrong before the command begins, or
// what code says of any other error; ExitError if code is nil.
func Run(ctx context.Context, root *cobra.Command, args []string, stderr io.Writer, code func(error) int) int {
	began := false
	noticeBegin(root, &began)
	checkArguments(root)
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return ExitOK
	}
	if !began {
		err = UsageError{reword(cmd, err)}
	}
	fmt.Fprintf(stderr, "%s: %s\n", root.Name(), printable(err.Error()))
	var usage UsageError
	switch {
	case errors.As(err, &usage):
		fmt.Fprintln(stderr, usageHint(cmd))
		return ExitUsage
	case code != nil:
		return code(err)
	}
	return ExitError
}

// printable keeps what somebody else has sent, and stands in an error, from doing
// anything to the terminal.
func printable(text string) string {
	return strings.Map(func(c rune) rune {
		if c == '\n' || c == '\t' || unicode.IsPrint(c) {
			return c
		}
		return unicode.ReplacementChar
	}, text)
}

// noticeBegin has every command say that it began: required flags and
// arguments are then known to be right.
func noticeBegin(cmd *cobra.Command, began *bool) {
	if run := cmd.RunE; run != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			*began = true
			return run(cmd, args)
		}
	}
	for _, c := range cmd.Commands() {
		noticeBegin(c, began)
	}
}
