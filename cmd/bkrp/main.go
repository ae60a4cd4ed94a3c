// Command bkrp is a BackupKey client: it wraps and unwraps secrets, and says
// what a file of the protocol is.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/seed05845750/bkrp/bkrpclient"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// Exit codes; the help of the command lists them.
const (
	exitOK      = 0
	exitError   = 1
	exitUsage   = 2
	exitLogon   = 3
	exitRefused = 4
)

// usageError is a mistake in how a command was called.
type usageError struct{ error }

// Unwrap gives the mistake.
func (e usageError) Unwrap() error { return e.error }

// run executes one command line and returns its exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRootCommand(stdin, stdout, stderr)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	fmt.Fprintf(stderr, "bkrp: %v\n", err)
	code := exitCode(err)
	if code == exitUsage {
		fmt.Fprintln(stderr, "Run it with --help to see how it is used.")
	}
	return code
}

func exitCode(err error) int {
	var usage usageError
	var refused *bkrpclient.ServerError
	switch {
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, bkrpclient.ErrLogon):
		return exitLogon
	case errors.As(err, &refused):
		return exitRefused
	}
	return exitError
}

func newRootCommand(stdin io.Reader, stdout, stderr io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:   "bkrp",
		Short: "a BackupKey client",
		Long: `bkrp has a secret wrapped so that only its owner gets it back, from any BackupKey
server of the owner's domain: bkrpd, Samba, or Windows.

The password is asked for on the terminal, or is the first line of the file that
BKRP_PASSWORD_FILE names. It never stands on the command line.

Exit codes: 0 done, 1 an error, 2 a mistake in the command line, 3 the server
refused the log-on, 4 the server refused the call.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},
	}
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(
		newCertCommand(stdout, stderr),
		newWrapCommand(stdin, stdout, stderr),
		newUnwrapCommand(stdin, stdout, stderr),
		newSIDCommand(stdout, stderr),
		newInspectCommand(stdin, stdout),
	)
	return root
}
