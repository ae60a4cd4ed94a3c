package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// Exit codes. A code means the same in every program.
const (
	ExitOK      = 0
	ExitError   = 1
	ExitUsage   = 2
	ExitLogon   = 3
	ExitRefused = 4
)

// ExitCode is one row of the documentation of exit codes.
type ExitCode struct {
	// Code is the number.
	Code int
	// Meaning says when a program ends with it.
	Meaning string
}

// ExitCodes is every code there is, for the help and the manual pages.
func ExitCodes() []ExitCode {
	return []ExitCode{
		{ExitOK, "all was done"},
		{ExitError, "something went wrong while it was done; standard error says what"},
		{ExitUsage, "the command line is wrong, and nothing was done"},
		{ExitLogon, "the server refused the log-on, or no Kerberos ticket was to be had"},
		{ExitRefused, "the server refused the call"},
	}
}

// newExitCodesTopic is the help topic "exit-codes".
func newExitCodesTopic(program string) *cobra.Command {
	var b strings.Builder
	fmt.Fprintf(&b, "A code means the same for bkrp and bkrpd; which of them a command can end with\nfollows from what it does.\n\n")
	for _, c := range ExitCodes() {
		fmt.Fprintf(&b, "  %d  %s\n", c.Code, c.Meaning)
	}
	fmt.Fprintf(&b, "\nA shell shows more than 128 for a program that a signal ended.")
	return &cobra.Command{
		Use:     "exit-codes",
		Short:   "what the exit codes mean",
		Long:    b.String(),
		Example: "  " + program + " help exit-codes",
	}
}
