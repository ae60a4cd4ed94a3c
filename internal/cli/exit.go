package cli

import (
	"fmt"
	"slices"
	"strconv"
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

// exitAnnotation and a code stand for its meaning among a command's annotations.
const exitAnnotation = "exit-code-"

// SetExitCodes documents the codes of a command that has its own: one that judges,
// and whose judgement programs want to have. They take the place of ExitCodes.
func SetExitCodes(cmd *cobra.Command, codes ...ExitCode) {
	if cmd.Annotations == nil {
		cmd.Annotations = make(map[string]string)
	}
	for _, c := range codes {
		cmd.Annotations[exitAnnotation+strconv.Itoa(c.Code)] = c.Meaning
	}
}

// ownExitCodes are what SetExitCodes was given, in their order as numbers.
func ownExitCodes(cmd *cobra.Command) (codes []ExitCode) {
	for key, meaning := range cmd.Annotations {
		number, ok := strings.CutPrefix(key, exitAnnotation)
		if code, err := strconv.Atoi(number); ok && err == nil {
			codes = append(codes, ExitCode{code, meaning})
		}
	}
	slices.SortFunc(codes, func(a, b ExitCode) int { return a.Code - b.Code })
	return codes
}

// newExitCodesTopic is the help topic "exit-codes".
func newExitCodesTopic(root *cobra.Command) *cobra.Command {
	var b strings.Builder
	b.WriteString("A code means the same for bkrp and bkrpd; which of them a command can end with\nfollows from what it does.\n\n")
	writeExitCodes(&b, ExitCodes())
	b.WriteString("\nA shell shows more than 128 for a program that a signal ended.\n")
	writeOwnExitCodes(&b, root)
	return &cobra.Command{
		Use:   "exit-codes",
		Short: "what the exit codes mean",
		Long:  strings.TrimSpace(b.String()),
	}
}

func writeExitCodes(b *strings.Builder, codes []ExitCode) {
	for _, c := range codes {
		fmt.Fprintf(b, "  %d  %s\n", c.Code, c.Meaning)
	}
}

// writeOwnExitCodes writes of each command below cmd that has codes of its own.
func writeOwnExitCodes(b *strings.Builder, cmd *cobra.Command) {
	if codes := ownExitCodes(cmd); len(codes) > 0 {
		fmt.Fprintf(b, "\n%q has codes of its own:\n\n", cmd.CommandPath())
		writeExitCodes(b, codes)
	}
	for _, c := range cmd.Commands() {
		writeOwnExitCodes(b, c)
	}
}
