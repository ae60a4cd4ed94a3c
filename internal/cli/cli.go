// Package cli runs a tree of cobra commands as both of our programs do: errors
// go to standard error behind the program's name, and a mistake in the command
// line is told apart from what went wrong while it was carried out.
package cli

import (
	"context"
	"errors"
	"fmt"

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

// Failures say what becomes of errors other than a UsageError. The zero value has
// ExitError for all of them, and no advice.
type Failures struct {
	// Code is the exit code.
	Code func(error) int
	// Advice is what to do about an error, or "".
	Advice func(error) string
}

// Run carries out one command line, with what root was given as its streams, and
// returns the exit code: ExitOK, ExitUsage for a UsageError and for what cobra finds
// wrong before the command begins, or what failures says of any other error.
func Run(ctx context.Context, root *cobra.Command, args []string, failures Failures) int {
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
	stderr := root.ErrOrStderr()
	printError(stderr, root.Name(), err)
	var usage UsageError
	if errors.As(err, &usage) {
		fmt.Fprintln(stderr, usageHint(cmd))
		return ExitUsage
	}
	if failures.Advice != nil {
		if next := failures.Advice(err); next != "" {
			fmt.Fprintf(stderr, "%s %s\n", Paint(stderr, Bold, "next:"), OneLine(next))
		}
	}
	if failures.Code != nil {
		return failures.Code(err)
	}
	return ExitError
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
